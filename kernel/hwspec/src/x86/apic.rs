//! The local APIC in x2APIC mode, where each register is an MSR.
//! [Intel SDM, vol. 3, 12.12 "Extended xAPIC (x2APIC)", table 12-6 "Local APIC
//! Register Address Map Supported by x2APIC"]

use bitfield_struct::bitfield;

use crate::field::field;

/// Local APIC ID.
pub const ID: u32 = 0x802;
/// Local APIC Version.
pub const VERSION: u32 = 0x803;
/// Task Priority Register.
pub const TASK_PRIORITY: u32 = 0x808;
/// Processor Priority Register.
pub const PROCESSOR_PRIORITY: u32 = 0x80a;
/// EOI Register.
pub const EOI: u32 = 0x80b;
/// Logical Destination Register.
pub const LOGICAL_DESTINATION: u32 = 0x80d;
/// Spurious Interrupt Vector Register.
pub const SPURIOUS: u32 = 0x80f;
/// In-Service Register, the first of [`VECTOR_REGISTERS`].
pub const IN_SERVICE: u32 = 0x810;
/// Trigger Mode Register, likewise.
pub const TRIGGER_MODE: u32 = 0x818;
/// Interrupt Request Register, likewise.
pub const INTERRUPT_REQUEST: u32 = 0x820;
/// How many registers hold a bit for each vector.
pub const VECTOR_REGISTERS: u32 = 8;
/// Error Status Register.
pub const ERROR_STATUS: u32 = 0x828;
/// Interrupt Command Register.
pub const INTERRUPT_COMMAND: u32 = 0x830;
/// LVT Timer Register.
pub const TIMER: u32 = 0x832;
/// LVT Thermal Sensor Register.
pub const THERMAL: u32 = 0x833;
/// LVT Performance Monitoring Register.
pub const PERFORMANCE: u32 = 0x834;
/// LVT LINT0 Register.
pub const LINT0: u32 = 0x835;
/// LVT LINT1 Register.
pub const LINT1: u32 = 0x836;
/// LVT Error Register.
pub const ERROR: u32 = 0x837;
/// Initial Count Register.
pub const INITIAL_COUNT: u32 = 0x838;
/// Current Count Register.
pub const CURRENT_COUNT: u32 = 0x839;
/// Divide Configuration Register.
pub const DIVIDE_CONFIGURATION: u32 = 0x83e;
/// SELF IPI Register.
pub const SELF_IPI: u32 = 0x83f;
/// The MSRs of the local APIC's registers, whether there is one or not.
pub const REGISTERS: core::ops::RangeInclusive<u32> = 0x800..=0x8ff;
/// IA32_APIC_BASE, which is not among the APIC's MSRs.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE, which is not among the APIC's MSRs.
pub const TSC_DEADLINE: u32 = 0x6e0;

/// Divide Configuration Register: count every tick of the clock.
pub const DIVIDE_BY_1: u64 = 0b1011;

/// Spurious Interrupt Vector Register.
/// [Intel SDM, vol. 3, 12.9 "Spurious Interrupt", figure 12-23]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Spurious {
    /// The vector of spurious interrupts.
    pub vector: u8,
    /// APIC software enable.
    pub enable: bool,
    #[bits(55)]
    _unused_63_9: u64,
}

const _: () = assert!(Spurious::ENABLE_OFFSET == 8);

/// Interrupt Command Register.
/// [Intel SDM, vol. 3, 12.12.9 "ICR Operation in x2APIC Mode", figure 12-28]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptCommand {
    /// Vector; with start-up, the page number that execution begins at.
    pub vector: u8,
    /// Delivery mode.
    #[bits(3)]
    pub delivery_mode: DeliveryMode,
    /// Destination mode: set for logical destinations.
    pub logical: bool,
    #[bits(2)]
    _reserved_13_12: u8,
    /// Level: clear only for INIT level de-assert.
    pub assert: bool,
    /// Trigger mode: set for level.
    pub level: bool,
    #[bits(2)]
    _reserved_17_16: u8,
    /// Destination shorthand.
    #[bits(2)]
    pub shorthand: Shorthand,
    #[bits(12)]
    _reserved_31_20: u16,
    /// Destination field: the APIC ID.
    pub destination: u32,
}

const _: () = assert!(
    InterruptCommand::DELIVERY_MODE_OFFSET == 8
        && InterruptCommand::LOGICAL_OFFSET == 11
        && InterruptCommand::ASSERT_OFFSET == 14
        && InterruptCommand::LEVEL_OFFSET == 15
        && InterruptCommand::SHORTHAND_OFFSET == 18
        && InterruptCommand::DESTINATION_OFFSET == 32
);

/// What an inter-processor interrupt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryMode(u8);

impl DeliveryMode {
    /// Delivers the vector.
    pub const FIXED: Self = Self(0b000);
    /// Delivers the vector to one of the destinations.
    pub const LOWEST_PRIORITY: Self = Self(0b001);
    /// Non-maskable interrupt.
    pub const NMI: Self = Self(0b100);
    /// INIT: the processor waits for a start-up.
    pub const INIT: Self = Self(0b101);
    /// Start-up: the processor begins at the page that the vector numbers.
    pub const START_UP: Self = Self(0b110);
}
field!(DeliveryMode: u8);

/// Whom an inter-processor interrupt goes to without naming them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shorthand(u8);

impl Shorthand {
    /// The destination field counts.
    pub const NONE: Self = Self(0b00);
    /// The sender alone.
    pub const SELF: Self = Self(0b01);
    /// All processors, and the sender too.
    pub const ALL: Self = Self(0b10);
    /// All processors but the sender.
    pub const ALL_BUT_SELF: Self = Self(0b11);
}
field!(Shorthand: u8);

/// LVT Timer Register.
/// [Intel SDM, vol. 3, 12.5.1 "Local Vector Table", figure 12-8]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Timer {
    /// The vector of its interrupt.
    pub vector: u8,
    #[bits(8)]
    _unused_15_8: u8,
    /// Mask: no interrupts.
    pub masked: bool,
    /// Timer mode.
    #[bits(2)]
    pub mode: TimerMode,
    #[bits(45)]
    _reserved_63_19: u64,
}

const _: () = assert!(Timer::MASKED_OFFSET == 16 && Timer::MODE_OFFSET == 17);

/// How the timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerMode(u8);

impl TimerMode {
    /// Counts down once.
    pub const ONE_SHOT: Self = Self(0b00);
    /// Counts down again and again.
    pub const PERIODIC: Self = Self(0b01);
    /// Fires when the time-stamp counter reaches a value.
    pub const TSC_DEADLINE: Self = Self(0b10);
}
field!(TimerMode: u8);
