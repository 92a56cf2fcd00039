//! A model that is set up register by register, with the hypervisor's layouts.

use dsa_model::Transaction;
use hwio::{Portal, Registers, Submission};
use hwspec::dsa::{
    CMD, CMDSTATUS, Cmd, CmdStatus, CommandCode, CommandError, CompletionRecord, Descriptor,
    DescriptorWord0, DescriptorWord4, Flags, GENCFG, GroupConfig, ImsControl, ImsEntry, OFFSETS_0,
    Operation, PortalPage, Status, WQCAP, WqConfig, WqLimits, WqMode, WqSize, WqThreshold,
};

use crate::model::{Model, ModelRegisters};

pub(crate) const PASID: u32 = 7;
pub(crate) const RECORD: u64 = 0x8000;

pub(crate) struct Bench {
    pub(crate) model: Model,
    pub(crate) registers: ModelRegisters,
}

impl Bench {
    pub(crate) fn new(options: &str) -> Self {
        let model = Model::new(options);
        let registers = model.registers(0..model.bar_bytes());
        model.map(Some(PASID), RECORD);
        Self { model, registers }
    }

    pub(crate) fn group(&self, index: usize) -> GroupConfig {
        GroupConfig::at(self.registers.read(OFFSETS_0).grpcfg_offset(), index)
    }

    pub(crate) fn queue(&self, index: usize) -> WqConfig {
        let table = self.registers.read(OFFSETS_0).wqcfg_offset();
        WqConfig::at(table, self.registers.read(WQCAP).wqcfg_bytes(), index)
    }

    pub(crate) fn slot(&self, index: usize) -> ImsEntry {
        ImsEntry::at(self.registers.read(OFFSETS_0).ims_offset(), index)
    }

    pub(crate) fn command(&mut self, code: CommandCode, operand: u32) -> CmdStatus {
        self.registers
            .write(CMD, Cmd::new().with_code(code).with_operand(operand));
        self.model.run();
        self.registers.read(CMDSTATUS)
    }

    /// Queue 0 of 16 entries in group 0 with engine 0, its limits set; the mode is left.
    pub(crate) fn set_up(&mut self) {
        let (group, queue) = (self.group(0), self.queue(0));
        self.registers.write(group.wqs(0), 1);
        self.registers.write(group.engines(), 1);
        self.registers
            .write(queue.size(), WqSize::new().with_size(16));
        self.registers
            .write(queue.threshold(), WqThreshold::new().with_threshold(16));
        let limits = WqLimits::new()
            .with_max_transfer_size(20)
            .with_max_batch_size(5);
        self.registers.write(queue.limits(), limits);
        self.registers
            .modify(GENCFG, |gencfg| gencfg.with_user_interrupts(true));
    }

    /// A dedicated queue for [`PASID`].
    pub(crate) fn mode() -> WqMode {
        WqMode::new()
            .with_dedicated(true)
            .with_priority(1)
            .with_pasid(PASID)
            .with_pasid_enable(true)
    }

    pub(crate) fn enable_device(&mut self) -> CommandError {
        self.command(CommandCode::ENABLE_DEVICE, 0).error()
    }

    pub(crate) fn enable_queue(&mut self, mode: WqMode) -> CommandError {
        self.registers.write(self.queue(0).mode(), mode);
        self.command(CommandCode::ENABLE_WQ, 0).error()
    }

    /// A bench whose queue 0 runs.
    pub(crate) fn running(options: &str) -> Self {
        let mut bench = Self::new(options);
        bench.set_up();
        assert_eq!(bench.enable_device(), CommandError::NONE);
        assert_eq!(bench.enable_queue(Self::mode()), CommandError::NONE);
        bench
    }

    /// Gives slot 0 a message and lets [`PASID`] use it.
    pub(crate) fn open_slot(&mut self) {
        let slot = self.slot(0);
        let control = ImsControl::new().with_pasid_enable(true).with_pasid(PASID);
        self.registers.write(slot.address(), 0xfee0_1000);
        self.registers.write(slot.data(), 5);
        self.registers.write(slot.control(), control);
    }

    pub(crate) fn post(&self, page: PortalPage, descriptor: &Descriptor) {
        let portal = self.model.portal(0, page, Transaction::Posted);
        assert_eq!(portal.submit(&descriptor.words()), Submission::Accepted);
    }

    /// Runs a descriptor on queue 0 and returns the status in its record.
    pub(crate) fn run(&self, page: PortalPage, descriptor: &Descriptor) -> Status {
        self.model
            .write_memory(Some(PASID), RECORD, &[0; CompletionRecord::SIZE]);
        self.post(page, descriptor);
        self.model.run();
        self.model.record(Some(PASID), RECORD).word0.status()
    }
}

/// A no-op with a completion record, and these flags besides.
pub(crate) fn no_op(more: Flags) -> Descriptor {
    let flags = more
        .with_completion_record_address_valid(true)
        .with_request_completion_record(true);
    Descriptor {
        word0: DescriptorWord0::new()
            .with_flags(flags)
            .with_operation(Operation::NO_OP)
            .with_pasid(PASID),
        completion_record_address: RECORD,
        word4: DescriptorWord4::new(),
        ..Descriptor::default()
    }
}
