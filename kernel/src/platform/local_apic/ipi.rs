//! Whom an interrupt goes to, and what it brings.

use hwspec::x86::apic::{DeliveryMode, InterruptCommand, Shorthand};

use crate::virt::space::MAX_VCPUS;

/// The destination that means all processors, physical or logical.
const BROADCAST: u32 = u32::MAX;
/// The same in the eight bits of a device's message.
const MESSAGE_BROADCAST: u64 = 0xff;

/// Some of the virtual processors of a guest, by their numbers, which are their
/// APIC IDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuSet(u64);

const _: () = assert!(MAX_VCPUS == 64, "a set has a bit for each");

impl VcpuSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// The first `count`.
    pub const fn first(count: usize) -> Self {
        Self(if count >= 64 {
            u64::MAX
        } else {
            (1 << count) - 1
        })
    }

    /// The one of this number, if a set can hold it.
    pub const fn one(index: u32) -> Self {
        Self(if index < 64 { 1 << index } else { 0 })
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The one with the lowest number alone.
    #[must_use]
    pub const fn lowest(self) -> Self {
        Self(self.0 & self.0.wrapping_neg())
    }

    /// The numbers, from the lowest on.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let lowest = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            usize::try_from(lowest).ok()
        })
    }

    /// The processors among the first `count` that a destination names.
    /// [Intel SDM, vol. 3, 12.12.10 "Determining IPI Destination in x2APIC Mode"]
    const fn destination(destination: u32, is_logical: bool, count: usize) -> Self {
        let all = Self::first(count);
        if destination == BROADCAST {
            all
        } else if is_logical {
            let cluster = destination >> 16;
            if cluster < 4 {
                Self(((destination & 0xffff) as u64) << (16 * cluster)).and(all)
            } else {
                Self::EMPTY
            }
        } else {
            Self::one(destination).and(all)
        }
    }
}

/// The Logical Destination Register of the processor with this APIC ID: its
/// cluster of 16, and its bit in it.
/// [Intel SDM, vol. 3, 12.12.10.2 "Deriving Logical x2APIC ID from the Local
/// x2APIC ID"]
pub const fn logical_id(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xf)
}

/// What an interrupt brings to a virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The interrupt of this vector.
    Fixed(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up, at this page.
    StartUp(u8),
}

/// An interrupt for some virtual processors. Each of them gets it, by
/// [`Pending::deliver`](super::Pending::deliver).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// For whom. Never empty.
    pub targets: VcpuSet,
    /// What.
    pub delivery: Delivery,
}

/// What writing the Interrupt Command Register does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Sends this.
    Send(Ipi),
    /// There is nobody to send it to, or it is a combination that is not valid,
    /// which is ignored.
    Nothing,
    /// The vector is below 16.
    IllegalVector,
}

/// What processor `own` of `count` sends with `command`.
/// [Intel SDM, vol. 3, 12.6.1 "Interrupt Command Register (ICR)", table 12-3
/// "Valid Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC
/// Interrupt Command Register"]
pub(super) fn command(command: InterruptCommand, own: u32, count: usize) -> Command {
    let mode = command.delivery_mode();
    let delivery = match mode {
        DeliveryMode::FIXED | DeliveryMode::LOWEST_PRIORITY => {
            if command.vector() < 16 {
                return Command::IllegalVector;
            }
            Delivery::Fixed(command.vector())
        }
        DeliveryMode::NMI => Delivery::Nmi,
        // INIT level de-assert, which processors have not known for long.
        DeliveryMode::INIT if command.level() && !command.assert() => return Command::Nothing,
        DeliveryMode::INIT => Delivery::Init,
        DeliveryMode::START_UP => Delivery::StartUp(command.vector()),
        // There is no system management mode, and the others are reserved.
        _ => return Command::Nothing,
    };
    let all = VcpuSet::first(count);
    let mut targets = match command.shorthand() {
        Shorthand::NONE => VcpuSet::destination(command.destination(), command.logical(), count),
        Shorthand::ALL_BUT_SELF => all.without(VcpuSet::one(own)),
        // These two are for interrupts alone.
        _ if mode != DeliveryMode::FIXED => VcpuSet::EMPTY,
        Shorthand::SELF => VcpuSet::one(own),
        _ => all,
    };
    if mode == DeliveryMode::LOWEST_PRIORITY {
        targets = one_of(targets);
    }
    if targets.is_empty() {
        return Command::Nothing;
    }
    Command::Send(Ipi { targets, delivery })
}

/// Of several that could take an interrupt of lowest priority, the one with the
/// lowest number does: which is chosen is up to the model, and priorities of
/// others are out of date as soon as they are read.
const fn one_of(targets: VcpuSet) -> VcpuSet {
    targets.lowest()
}

/// What a device of a guest with `count` processors sends with a message: the
/// address and the data that the guest wrote into the device. None if it is no
/// interrupt message, or goes nowhere.
/// [Intel SDM, vol. 3, 12.11.1 "Message Address Register Format" and 12.11.2
/// "Message Data Register Format"]
pub fn message(address: u64, data: u32, count: usize) -> Option<Ipi> {
    const PREFIX: u64 = 0xfee;
    /// RH, redirection hint: one of the destinations is enough.
    const REDIRECTION_HINT: u64 = 1 << 3;
    /// DM: the destination is logical.
    const LOGICAL: u64 = 1 << 2;
    if address >> 20 != PREFIX {
        return None;
    }
    let destination = match address >> 12 & 0xff {
        MESSAGE_BROADCAST => BROADCAST,
        id => u32::try_from(id).ok()?,
    };
    let is_logical = address & LOGICAL != 0;
    let mut targets = VcpuSet::destination(destination, is_logical, count);
    // The delivery mode and the vector are where a command has them.
    let data = InterruptCommand::from(u64::from(data));
    let mode = data.delivery_mode();
    let delivery = match mode {
        DeliveryMode::FIXED | DeliveryMode::LOWEST_PRIORITY if data.vector() >= 16 => {
            Delivery::Fixed(data.vector())
        }
        DeliveryMode::NMI => Delivery::Nmi,
        DeliveryMode::INIT => Delivery::Init,
        _ => return None,
    };
    if mode == DeliveryMode::LOWEST_PRIORITY || address & REDIRECTION_HINT != 0 {
        targets = one_of(targets);
    }
    (!targets.is_empty()).then_some(Ipi { targets, delivery })
}
