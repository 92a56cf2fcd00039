//! The virtual accelerator against the model of a real one that has the same shape, both
//! read and written with the hypervisor's layouts: what a guest's driver finds, and what
//! happens when it writes, is the same but for the differences that are listed here.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

use hwio::{Registers, Submission};
use hwspec::dsa::{
    CMD, CMDCAP, CMDSTATUS, Cmd, CommandCode, ENGCAP, GENCAP, GENCTRL, GENSTS, GRPCAP, GenCap,
    GenCtrl, GroupConfig, INTCAUSE, IntCause, MsixPermission, OFFSETS_0, OFFSETS_1, SWERROR_0,
    SWERROR_1, SWERROR_2, SwError0, VERSION, WQCAP, WqCap, WqConfig, WqMode, WqThreshold,
    msix_permission, opcap,
};
use hwspec::pci::{MsixEntry, MsixVectorControl, Pasid};
use hwspec::register::Bits;
use vdsa::{
    Answer, GuestAddr, Host, Message, NotRam, OPERATIONS, Policy, QueueIndex, QueueMode,
    QueueShape, Request, Shape, VirtualDsa, Window,
};

#[expect(dead_code, reason = "the tests of the driver use the rest")]
mod model;

use model::{Model, ModelRegisters};

const QUEUES: usize = 3;

/// A model with the shape of [`virtual_device`].
const OPTIONS: &str = "queues=3;entries=48;groups=1;engines=1;ims=0;configurable=off;\
                       handle-commands=on;modes=dedicated;ats-disable=off";

/// A host that does everything at once and keeps what is injected.
#[derive(Debug, Default)]
struct ObligingHost {
    out: Option<Request>,
    next_handle: u16,
    injected: usize,
}

impl Host for ObligingHost {
    fn read_guest(&self, _: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        into.fill(0);
        Ok(())
    }

    fn write_guest(&mut self, _: GuestAddr, _: &[u64]) -> Result<(), NotRam> {
        Ok(())
    }

    fn read_window(&self, _: usize, into: &mut [u64]) {
        into.fill(0);
    }

    fn write_window(&mut self, _: usize, _: &[u64]) {}

    fn submit(&mut self, _: QueueIndex, _: &[u64; 8]) -> Submission {
        Submission::Accepted
    }

    fn set_masked(&mut self, _: u16, _: bool) {}

    fn set_ignored(&mut self, _: u16, _: bool) {}

    fn set_slot_pasid(&mut self, _: u16, _: Pasid) {}

    fn is_pending(&self, _: u16) -> bool {
        false
    }

    fn set_message(&mut self, _: u16, _: Option<Message>) {}

    fn inject(&mut self, _: Message) {
        self.injected += 1;
    }

    fn request(&mut self, request: Request) {
        self.out = Some(request);
    }
}

/// The virtual accelerator as a window of registers.
#[derive(Debug)]
struct VirtualRegisters {
    dsa: VirtualDsa,
    host: ObligingHost,
}

impl Registers for VirtualRegisters {
    fn len_bytes(&self) -> usize {
        usize::try_from(self.dsa.bar_size(0)).unwrap()
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        let (offset, width) = (offset.try_into().unwrap(), B::BYTES.try_into().unwrap());
        B::from_low_bits(self.dsa.read_register(&self.host, offset, width))
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        let (offset, width) = (offset.try_into().unwrap(), B::BYTES.try_into().unwrap());
        self.dsa
            .write_register(&mut self.host, offset, width, value.to_u64());
    }
}

/// A device of which a test can wait for the command.
trait Device: Registers {
    fn finish_command(&mut self);
    fn msix_table(&self) -> usize;
    fn vector_0_count(&mut self) -> usize;

    fn command(&mut self, code: CommandCode, operand: u32) -> u32 {
        self.write(CMD, Cmd::new().with_code(code).with_operand(operand));
        self.finish_command();
        self.read(CMDSTATUS).into_bits()
    }
}

impl Device for VirtualRegisters {
    fn finish_command(&mut self) {
        while let Some(request) = self.host.out.take() {
            let answer = match request {
                Request::AllocateHandle { .. } => {
                    self.host.next_handle += 1;
                    Answer::Handle(self.host.next_handle)
                }
                _ => Answer::Done,
            };
            self.dsa.answer(&mut self.host, answer);
        }
    }

    fn msix_table(&self) -> usize {
        usize::try_from(self.dsa.read_config(0x44, 4)).unwrap()
    }

    fn vector_0_count(&mut self) -> usize {
        std::mem::take(&mut self.host.injected)
    }
}

/// The model, with a hand on its time.
struct RealRegisters {
    model: Model,
    registers: ModelRegisters,
}

impl Registers for RealRegisters {
    fn len_bytes(&self) -> usize {
        self.registers.len_bytes()
    }

    fn read_raw<B: Bits>(&self, offset: usize) -> B {
        self.registers.read_raw(offset)
    }

    fn write_raw<B: Bits>(&mut self, offset: usize, value: B) {
        self.registers.write_raw(offset, value);
    }
}

impl Device for RealRegisters {
    fn finish_command(&mut self) {
        self.model.run();
    }

    fn msix_table(&self) -> usize {
        0x2000
    }

    fn vector_0_count(&mut self) -> usize {
        let messages = self.model.take_messages();
        assert!(messages.iter().all(|message| *message == Model::VECTOR_0));
        messages.len()
    }
}

fn real_device() -> RealRegisters {
    let model = Model::new(OPTIONS);
    let registers = model.registers(0..model.bar_bytes());
    RealRegisters { model, registers }
}

/// Three dedicated queues of 16 entries; memory space, bus mastering, MSI-X and vector 0
/// are on.
fn virtual_device() -> VirtualRegisters {
    let queues: Vec<QueueShape> = (1..=3)
        .map(|default_pasid| QueueShape {
            mode: QueueMode::Dedicated,
            size: 16,
            threshold: 16,
            priority: 1,
            max_transfer_log2: 31,
            max_batch_log2: 10,
            default_pasid: Pasid::new(default_pasid).unwrap(),
            policy: Policy::Checked,
            batch_handle: None,
            is_stand_in: false,
            submission_interval_ns: 0,
            is_slice: false,
        })
        .collect();
    let shape = Shape {
        queues: &queues,
        guest_pasids: &[],
        operations: OPERATIONS,
        window: Window {
            base: 1 << 38,
            len_bytes: 0,
        },
        bars: [0xf000_0000, 0xf020_0000],
    };
    let mut device = VirtualRegisters {
        dsa: VirtualDsa::new(&shape).unwrap(),
        host: ObligingHost::default(),
    };
    let VirtualRegisters { dsa, host } = &mut device;
    dsa.write_config(host, 0x04, 2, 0x0006);
    dsa.write_config(host, 0x42, 2, 0x8000);
    let entry = MsixEntry::at(device.msix_table(), 0);
    device.write(entry.address(), Model::VECTOR_0.0);
    device.write(entry.data(), Model::VECTOR_0.1);
    device.write(entry.control(), MsixVectorControl::new());
    device
}

/// Does the same to both, and compares what comes of it.
fn on_both<T: PartialEq + std::fmt::Debug>(
    virtual_device: &mut VirtualRegisters,
    real_device: &mut RealRegisters,
    what: &str,
    step: impl Fn(&mut dyn FnMut(Step) -> u64) -> T,
) {
    let ours = step(&mut |step| step.take(virtual_device));
    let theirs = step(&mut |step| step.take(real_device));
    assert_eq!(ours, theirs, "{what}");
}

/// One access, at a place that each device has elsewhere.
#[derive(Clone, Copy, Debug)]
enum Step {
    Command(CommandCode, u32),
    /// All bits of CMD.
    CommandWord(u32),
    /// The command with an interrupt; returns how many vector 0 raised.
    CommandWithInterrupt(CommandCode),
    /// CMD twice without time between them.
    CommandTwice(CommandCode),
    ReadState,
    ReadCauses,
    ClearCauses(u32),
    ReadError(usize),
    ClearError(u64),
    WriteControl(u32),
    ReadControl,
    WritePermission(usize, u32),
    ReadPermission(usize),
    WriteEntry(usize, u64, u32, u32),
    ReadEntry(usize, usize),
    WriteQueue(usize, usize, u32),
    ReadQueue(usize, usize),
    ReadGroup(usize),
}

impl Step {
    fn take(self, device: &mut impl Device) -> u64 {
        let offsets = device.read(OFFSETS_0);
        let permission = |index| msix_permission(offsets.msixperm_offset(), index);
        let entry = |index| MsixEntry::at(device.msix_table(), index);
        let stride = device.read(WQCAP).wqcfg_bytes();
        let queue = |index| WqConfig::at(offsets.wqcfg_offset(), stride, index);
        match self {
            Self::Command(code, operand) => return device.command(code, operand).into(),
            Self::CommandWord(bits) => {
                device.write(CMD, Cmd::from_bits(bits));
                device.finish_command();
                return device.read(CMDSTATUS).into_bits().into();
            }
            Self::CommandWithInterrupt(code) => {
                let command = Cmd::new().with_code(code).with_request_interrupt(true);
                device.write(CMD, command);
                device.finish_command();
                return u64::try_from(device.vector_0_count()).unwrap();
            }
            Self::CommandTwice(code) => {
                device.write(CMD, Cmd::new().with_code(code));
                device.write(CMD, Cmd::new().with_code(code));
                device.finish_command();
                return device.read(CMDSTATUS).into_bits().into();
            }
            Self::ReadState => return device.read(GENSTS).into_bits().into(),
            Self::ReadCauses => return device.read(INTCAUSE).into_bits().into(),
            Self::ClearCauses(bits) => {
                device.acknowledge(INTCAUSE, IntCause::from_bits(bits));
            }
            Self::ReadError(0) => return device.read(SWERROR_0).into_bits(),
            Self::ReadError(1) => return device.read(SWERROR_1).into_bits(),
            Self::ReadError(_) => return device.read(SWERROR_2),
            Self::ClearError(bits) => {
                device.acknowledge(SWERROR_0, SwError0::from_bits(bits));
            }
            Self::WriteControl(bits) => device.write(GENCTRL, GenCtrl::from_bits(bits)),
            Self::ReadControl => return device.read(GENCTRL).into_bits().into(),
            Self::WritePermission(index, bits) => {
                let permission = permission(index);
                device.write(permission, MsixPermission::from_bits(bits));
            }
            Self::ReadPermission(index) => {
                return device.read(permission(index)).into_bits().into();
            }
            Self::WriteEntry(index, address, data, control) => {
                let entry = entry(index);
                device.write(entry.address(), address);
                device.write(entry.data(), data);
                device.write(entry.control(), MsixVectorControl::from_bits(control));
            }
            Self::ReadEntry(index, 0) => return device.read(entry(index).address()),
            Self::ReadEntry(index, 1) => return device.read(entry(index).data()).into(),
            Self::ReadEntry(index, _) => {
                return device.read(entry(index).control()).into_bits().into();
            }
            Self::WriteQueue(index, 1, bits) => {
                let threshold = queue(index).threshold();
                device.write(threshold, WqThreshold::from_bits(bits));
            }
            Self::WriteQueue(index, _, bits) => {
                let mode = queue(index).mode();
                device.write(mode, WqMode::from_bits(bits));
            }
            Self::ReadQueue(index, word) => {
                let base = queue(index).size().offset();
                return device.read_raw::<u32>(base + 4 * word).into();
            }
            Self::ReadGroup(word) => {
                let group = GroupConfig::at(offsets.grpcfg_offset(), 0);
                return device.read_raw::<u64>(group.wqs(0).offset() + 8 * word);
            }
        }
        0
    }
}

#[test]
fn capabilities_are_those_of_a_real_device() {
    let (ours, real) = (virtual_device(), real_device());
    assert_eq!(ours.read(VERSION), real.read(VERSION));
    for word in 0..4 {
        assert_eq!(ours.read(opcap(word)), real.read(opcap(word)));
    }
    assert_eq!(ours.read(CMDCAP), real.read(CMDCAP));
    // The model blocks on faults, and has a bit that the specification does not define.
    let undefined = 1 << 38;
    let general = GenCap::from_bits(real.read(GENCAP).into_bits() & !undefined);
    assert!(general.block_on_fault());
    assert_eq!(ours.read(GENCAP), general.with_block_on_fault(false));
    // The model has priorities and occupancy.
    let queues: WqCap = real.read(WQCAP);
    assert!(queues.priority() && queues.occupancy() && queues.occupancy_interrupt());
    let queues = queues
        .with_priority(false)
        .with_occupancy(false)
        .with_occupancy_interrupt(false);
    assert_eq!(ours.read(WQCAP), queues);
    // Groups and engines are as many; the model says more about them.
    assert_eq!(ours.read(GRPCAP).count(), real.read(GRPCAP).count());
    assert_eq!(ours.read(ENGCAP).count(), real.read(ENGCAP).count());
    // The tables are at places of their own, which do not overlap, in the window.
    let offsets = ours.read(OFFSETS_0);
    assert_eq!((offsets.ims(), ours.read(OFFSETS_1).into_bits()), (0, 0));
    let vectors = QUEUES + 1;
    let mut tables = [
        (0, 0x200),
        (offsets.msixperm_offset(), 8 * vectors),
        (offsets.grpcfg_offset(), GroupConfig::STRIDE),
        (
            offsets.wqcfg_offset(),
            QUEUES * ours.read(WQCAP).wqcfg_bytes(),
        ),
        (ours.msix_table(), MsixEntry::STRIDE * vectors),
        (usize::try_from(ours.dsa.read_config(0x48, 4)).unwrap(), 8),
        (hwspec::dsa::DUMMY_PORTAL, 0x1000),
    ];
    tables.sort_unstable();
    for pair in tables.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
    }
    let (last, len_bytes) = tables[tables.len() - 1];
    assert!(last + len_bytes <= ours.len_bytes());
}

#[test]
fn tables_read_alike() {
    let (mut ours, mut real) = (virtual_device(), real_device());
    on_both(&mut ours, &mut real, "GRPCFG", |take| {
        // Queues and engines; the flags are read buffers, of which there are none.
        (0..5)
            .map(|word| take(Step::ReadGroup(word)))
            .collect::<Vec<_>>()
    });
    for index in 0..QUEUES {
        on_both(&mut ours, &mut real, "WQCFG", |take| {
            let words = (0..8).map(|word| take(Step::ReadQueue(index, word)));
            words.collect::<Vec<_>>()
        });
    }
    for index in 0..=QUEUES {
        on_both(&mut ours, &mut real, "MSI-X", |take| {
            let words = (0..3).map(|word| take(Step::ReadEntry(index, word)));
            (words.collect::<Vec<_>>(), take(Step::ReadPermission(index)))
        });
    }
}

#[test]
fn tables_take_writes_alike() {
    let (mut ours, mut real) = (virtual_device(), real_device());
    for (index, bits) in [(0, 0x0000_5004), (1, 0xffff_f00c), (3, 0x1234_5008)] {
        on_both(&mut ours, &mut real, "MSIXPERM", |take| {
            take(Step::WritePermission(index, bits));
            take(Step::ReadPermission(index))
        });
    }
    for control in [0, 1] {
        on_both(&mut ours, &mut real, "MSI-X", |take| {
            take(Step::WriteEntry(2, 0xfee1_2304, 0x1234, control));
            [0, 1, 2].map(|word| take(Step::ReadEntry(2, word)))
        });
    }
    on_both(&mut ours, &mut real, "WQCFG", |take| {
        take(Step::WriteQueue(0, 1, 7));
        take(Step::WriteQueue(0, 2, 0x3000_5611));
        take(Step::WriteQueue(1, 2, 0x0fff_ff11));
        let words = (0..2).flat_map(|index| (0..8).map(move |word| (index, word)));
        words
            .map(|(index, word)| take(Step::ReadQueue(index, word)))
            .collect::<Vec<_>>()
    });
    on_both(&mut ours, &mut real, "GENCTRL", |take| {
        take(Step::WriteControl(3));
        take(Step::ReadControl)
    });
}

#[test]
fn commands_end_alike() {
    use CommandCode as C;
    let (mut ours, mut real) = (virtual_device(), real_device());
    let script = [
        (C(0), 0),
        (C(15), 0),
        (C(31), 0),
        (C::ENABLE_WQ, 0),
        (C::DISABLE_DEVICE, 0),
        (C::DRAIN_ALL, 0),
        (C::ABORT_ALL, 1),
        (C::ENABLE_DEVICE, 2),
        (C::ENABLE_DEVICE, 0),
        (C::ENABLE_DEVICE, 0),
        (C::ENABLE_WQ, 3),
        (C::ENABLE_WQ, 0x100),
        (C::ENABLE_WQ, 2),
        (C::ENABLE_WQ, 2),
        (C::DISABLE_WQ, Cmd::wq_operand(0)),
        (C::DRAIN_WQ, 0b101),
        (C::ABORT_WQ, 0b1000),
        (C::RESET_WQ, Cmd::wq_operand(16)),
        (C::DRAIN_WQ, 0b100),
        (C::ABORT_WQ, 0b100),
        (C::DISABLE_WQ, 0b100),
        (C::DISABLE_WQ, 0b100),
        (C::DISABLE_WQ, 0),
        (C::ENABLE_WQ, 2),
        (C::RESET_WQ, 0b111),
        (C::ENABLE_WQ, 2),
        (C::ENABLE_WQ, 0),
        (C::DRAIN_ALL, 0),
        (C::ABORT_ALL, 0),
        (C::DRAIN_PASID, 5),
        (C::ABORT_PASID, 5),
        (C::REQUEST_INTERRUPT_HANDLE, Cmd::msix_operand(4)),
        (C::REQUEST_INTERRUPT_HANDLE, Cmd::ims_operand(0)),
        (C::REQUEST_INTERRUPT_HANDLE, 0x2_0001),
        (C::RELEASE_INTERRUPT_HANDLE, Cmd::msix_operand(1)),
        (C::DISABLE_DEVICE, 0),
        (C::DISABLE_DEVICE, 0),
        (C::DISABLE_WQ, 1),
        (C::ENABLE_DEVICE, 0),
        (C::ENABLE_WQ, 1),
        (C::RESET_DEVICE, 0),
        (C::ENABLE_WQ, 1),
    ];
    for (code, operand) in script {
        let what = format!("{code:?} {operand:#x}");
        on_both(&mut ours, &mut real, &what, |take| {
            let status = take(Step::Command(code, operand));
            let states = (0..QUEUES).map(|index| take(Step::ReadQueue(index, 6)));
            (status, states.collect::<Vec<_>>(), take(Step::ReadState))
        });
    }
    // Reserved bits 30:25.
    for bit in 25..31 {
        on_both(&mut ours, &mut real, "reserved bits", |take| {
            take(Step::CommandWord(3 << 20 | 1 << bit))
        });
    }
    let _ = real.model.take_violations();
}

#[test]
fn handles_are_given_and_taken_alike() {
    use CommandCode as C;
    let (mut ours, mut real) = (virtual_device(), real_device());
    on_both(&mut ours, &mut real, "handles", |take| {
        let request = Step::Command(C::REQUEST_INTERRUPT_HANDLE, Cmd::msix_operand(1));
        let release = |operand| Step::Command(C::RELEASE_INTERRUPT_HANDLE, operand);
        let status = take(request);
        let handle = u32::try_from(status >> 8 & 0xffff).unwrap();
        // The numbers are each device's own.
        let released = [take(release(handle)), take(release(handle))];
        take(request);
        take(Step::Command(C::RESET_DEVICE, 0));
        (status & 0xff, released, take(release(handle)))
    });
    let _ = real.model.take_violations();
}

#[test]
fn causes_and_errors_are_shown_and_cleared_alike() {
    use CommandCode as C;
    let (mut ours, mut real) = (virtual_device(), real_device());
    on_both(&mut ours, &mut real, "command completion", |take| {
        let raised = take(Step::CommandWithInterrupt(C::ENABLE_DEVICE));
        let causes = take(Step::ReadCauses);
        take(Step::ClearCauses(1));
        let kept = take(Step::ReadCauses);
        take(Step::ClearCauses(2));
        (raised, causes, kept, take(Step::ReadCauses))
    });
    take_device_errors(&mut ours, &mut real);
    on_both(&mut ours, &mut real, "Reset Device", |take| {
        let raised = take(Step::CommandWithInterrupt(C::RESET_DEVICE));
        let left = [take(Step::ReadCauses), take(Step::ReadControl)];
        (raised, left, take(Step::ReadError(0)))
    });
    let _ = real.model.take_violations();
}

/// CMD while a command is active: of a command that takes time on both devices.
fn take_device_errors(ours: &mut VirtualRegisters, real: &mut RealRegisters) {
    use CommandCode as C;
    on_both(ours, real, "command while active", |take| {
        take(Step::WriteControl(1));
        take(Step::CommandTwice(C::ENABLE_WQ));
        let causes = take(Step::ReadCauses);
        let first = [0, 1, 2].map(|word| take(Step::ReadError(word)));
        take(Step::Command(C::DISABLE_WQ, 1));
        take(Step::CommandTwice(C::ENABLE_WQ));
        let overflow = take(Step::ReadError(0));
        take(Step::ClearError(2));
        let valid = take(Step::ReadError(0));
        take(Step::ClearError(1));
        (causes, first, overflow, valid, take(Step::ReadError(0)))
    });
}
