//! The virtual accelerator as a whole: its state, and what happens to it from outside.

use alloc::boxed::Box;

use hwspec::dsa::{DeviceState, GenCtrl, IntCause, ResetType, Status};
use hwspec::pci::Pasid;

use crate::commands::CommandUnit;
use crate::config_space::ConfigSpace;
use crate::msix::MsixTable;
use crate::physical::{Outcome, Physical};
use crate::registers::Capabilities;
use crate::software_error::SoftwareError;
use crate::work_queue::{State, WorkQueue};
use crate::{
    Answer, HandleTable, Host, PasidMap, QueueIndex, Shape, ShapeError, SoftwareErrorRecord,
    Submission, Window,
};

/// One guest's virtual accelerator.
#[derive(Debug)]
pub struct VirtualDsa {
    pub(crate) config: ConfigSpace,
    pub(crate) capabilities: Capabilities,
    pub(crate) pasids: PasidMap,
    pub(crate) window: Window,
    pub(crate) state: DeviceState,
    /// What a halted device needs.
    pub(crate) reset_type: ResetType,
    pub(crate) control: GenCtrl,
    pub(crate) causes: IntCause,
    pub(crate) software_error: SoftwareError,
    pub(crate) command: CommandUnit,
    pub(crate) queues: Box<[WorkQueue]>,
    pub(crate) msix: MsixTable,
    pub(crate) handles: HandleTable,
    pub(crate) physical: Physical,
    pub(crate) submission: Submission,
    /// How often the guest asked for a handle that it had.
    pub(crate) handles_asked_again: u64,
    dropped: DroppedAccesses,
}

/// What the guest did that had no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedAccesses {
    /// Writes to configuration space: to what cannot be written, or misaligned.
    pub config_writes: u64,
    /// Writes to BAR0: likewise.
    pub register_writes: u64,
    /// Interrupts for which the MSI-X table had no interrupt message.
    pub messages: u64,
}

impl VirtualDsa {
    /// An accelerator as after power-up.
    ///
    /// # Errors
    /// If the shape is one that the registers cannot express, or that would let
    /// queues or guest PASIDs share a host PASID.
    pub fn new(shape: &Shape<'_>) -> Result<Self, ShapeError> {
        shape.validate()?;
        let operations = shape.offered_operations();
        let count = shape.queues.len();
        Ok(Self {
            config: ConfigSpace::new(count, shape.bars),
            capabilities: Capabilities::new(shape.queues, operations),
            pasids: PasidMap::new(shape.guest_pasids),
            window: shape.window,
            state: DeviceState::Disabled,
            reset_type: ResetType::ResetDevice,
            control: GenCtrl::new(),
            causes: IntCause::new(),
            software_error: SoftwareError::default(),
            command: CommandUnit::default(),
            queues: shape.queues.iter().copied().map(WorkQueue::new).collect(),
            msix: MsixTable::new(u16::try_from(count + 1).unwrap_or(u16::MAX)),
            handles: HandleTable::default(),
            physical: Physical::default(),
            submission: Submission::new(shape.window, shape.max_batch_log2()),
            handles_asked_again: 0,
            dropped: DroppedAccesses::default(),
        })
    }

    /// How often the guest asked for an interrupt handle that it had: as it does for all
    /// of them when it was told that some were revoked.
    pub const fn handles_asked_again(&self) -> u64 {
        self.handles_asked_again
    }

    /// What the guest did that had no effect.
    pub const fn dropped_accesses(&self) -> DroppedAccesses {
        DroppedAccesses {
            messages: self.msix.lost(),
            ..self.dropped
        }
    }

    pub(crate) fn count_dropped_write(&mut self) {
        self.dropped.register_writes = self.dropped.register_writes.saturating_add(1);
    }

    /// Reads 1, 2 or 4 bytes of configuration space. Any other access, a misaligned
    /// one, and one beyond the 4 KiB read as all ones.
    pub fn read_config(&self, offset: u16, width: u8) -> u32 {
        self.config.read(offset, width)
    }

    /// Writes 1, 2 or 4 bytes of configuration space.
    pub fn write_config(&mut self, host: &mut impl Host, offset: u16, width: u8, value: u32) {
        let effects = self.config.write(offset, width, value);
        if effects.dropped {
            self.dropped.config_writes = self.dropped.config_writes.saturating_add(1);
        }
        if effects.msix_changed {
            let (is_enabled, is_masked) = self.config.msix_control();
            self.msix.set_control(is_enabled, is_masked);
            self.settle_vectors(host);
        }
        // [DSA 3.0, 9.1 "PCI Configuration Registers"]
        let is_running = matches!(self.state, DeviceState::Enabled | DeviceState::Draining);
        if effects.bus_master_lost && is_running {
            self.halt(host, ResetType::FunctionLevel);
            self.record_device_error(host, Status::CONFIGURATION_CHANGED);
        }
        if effects.function_level_reset {
            self.reset_function(host, ResetType::FunctionLevel);
        }
    }

    /// Where BAR 0 or 2 is in the guest's memory, if it is decoded.
    pub fn bar(&self, index: usize) -> Option<u64> {
        self.config.bar(index)
    }

    /// Bytes of BAR 0 or 2; 0 of any other.
    pub fn bar_size(&self, index: usize) -> u64 {
        self.config.bar_size(index)
    }

    /// Answers the request that is out.
    pub fn answer(&mut self, host: &mut impl Host, answer: Answer) {
        match self.physical.answer(host, answer) {
            Outcome::Command(request, answer) => {
                self.close_books(host, request, answer);
                self.complete_command(host, answer);
            }
            Outcome::Stopped(queues) => self.submission.abandon(queues),
            Outcome::CleanupFailed => {
                self.show_halt(host, ResetType::FunctionLevel);
                self.fail_command(host);
            }
            Outcome::Nothing => {}
        }
    }

    /// Whether nothing physical belongs to the accelerator: no queue is enabled, no slot
    /// allocated, and no request out. So it is some time after [`reset`](Self::reset),
    /// unless an answer was a failure.
    pub const fn is_idle(&self) -> bool {
        self.physical.is_idle()
    }

    /// The physical device stopped; so does this one.
    pub fn report_halt(&mut self, host: &mut impl Host, reset_type: ResetType) {
        self.collect_first(host);
        self.halt(host, reset_type);
    }

    /// The physical device recorded an error about a descriptor of this guest: from
    /// virtual queue `queue`, and with a host PASID.
    pub fn report_error(
        &mut self,
        host: &mut impl Host,
        queue: Option<QueueIndex>,
        record: SoftwareErrorRecord,
    ) {
        self.collect_first(host);
        let mut record = record;
        let word0 = &mut record.word0;
        word0.set_wq_index_valid(queue.is_some());
        word0.set_wq_index(queue.map_or(0, QueueIndex::value));
        let pasid = self.pasids.guest(Pasid::from_bits(word0.pasid()));
        word0.set_pasid(pasid.map_or(0, Pasid::value));
        if self.window.contains(record.address) {
            record.address = 0;
        }
        self.record_error(host, record);
    }

    /// The physical device lost errors, which may have been this guest's.
    pub fn report_lost_errors(&mut self) {
        self.software_error.set_overflow();
    }

    /// Records an error as the guest is to see it.
    pub(crate) fn record_error(&mut self, host: &mut impl Host, record: SoftwareErrorRecord) {
        if self.software_error.record(record) && self.control.software_error() {
            self.raise_cause(host, |cause| cause.set_software_error(true));
        }
    }

    pub(crate) fn record_device_error(&mut self, host: &mut impl Host, error: Status) {
        self.record_error(host, SoftwareErrorRecord::of_device(error));
    }

    /// Stops until a reset of at least this type.
    pub(crate) fn halt(&mut self, host: &mut impl Host, reset_type: ResetType) {
        let is_command_gone = self.physical.stop_queues(host);
        self.show_halt(host, reset_type);
        if is_command_gone {
            self.fail_command(host);
        }
    }

    /// Shows that the device is halted.
    fn show_halt(&mut self, host: &mut impl Host, reset_type: ResetType) {
        let is_halted = self.state == DeviceState::Halted;
        // Of two reasons the one counts that needs more.
        if !is_halted || reset_strength(reset_type) > reset_strength(self.reset_type) {
            self.reset_type = reset_type;
        }
        self.state = DeviceState::Halted;
        for queue in &mut self.queues {
            queue.state = State::Disabled;
        }
        if !is_halted && self.control.halt_state() {
            self.raise_cause(host, |cause| cause.set_halt_state(true));
        }
    }

    /// Power-up, with everything physical that belongs to this accelerator given back.
    pub fn reset(&mut self, host: &mut impl Host) {
        self.reset_function(host, ResetType::Cold);
    }

    fn reset_function(&mut self, host: &mut impl Host, strength: ResetType) {
        let stays_halted = self.state == DeviceState::Halted
            && reset_strength(self.reset_type) > reset_strength(strength);
        let reset_type = self.reset_type;
        self.drop_handles(host);
        self.physical.reset(host);
        self.config.reset();
        self.command = CommandUnit::default();
        self.software_error = SoftwareError::default();
        self.msix = self.msix.after_reset();
        self.reset_by_command(host);
        if stays_halted {
            self.state = DeviceState::Halted;
            self.reset_type = reset_type;
        }
    }

    /// What the Reset Device command resets. CMD, CMDSTATUS, SWERROR and the MSI-X
    /// table stay, and in WQCFG what the guest cannot write.
    /// [DSA 3.0, 5.5 "Reset", Table 9-3]
    pub(crate) fn reset_by_command(&mut self, host: &mut impl Host) {
        self.drop_handles(host);
        self.msix.reset_by_command();
        for queue in &mut self.queues {
            queue.reset();
        }
        self.control = GenCtrl::new();
        self.causes = IntCause::new();
        self.state = DeviceState::Disabled;
        self.reset_type = ResetType::ResetDevice;
    }
}

/// Which of two resets is the stronger one.
const fn reset_strength(reset: ResetType) -> u8 {
    match reset {
        ResetType::ResetDevice => 0,
        ResetType::FunctionLevel => 1,
        ResetType::Warm => 2,
        ResetType::Cold => 3,
    }
}
