//! The local APIC of a virtual processor, in x2APIC mode from the beginning and
//! for good. [Intel SDM, vol. 3, ch. 12 "Advanced Programmable Interrupt
//! Controller (APIC)", 12.12 "Extended xAPIC (x2APIC)"]
//!
//! [`Pending`] is what has been sent to it, from anywhere; [`LocalApic`] the rest,
//! which only the processor changes that runs it. What it sends to others comes
//! out as an [`Ipi`]. The task priority is not here: CR8 is its upper half, and
//! the backend keeps that, as [`Vcpu::task_priority`]; so it is given to the
//! functions that depend on it.
//!
//! Interrupts are edge-triggered: nothing on this machine is not, so the Trigger
//! Mode Register is 0.
//!
//! [`Vcpu::task_priority`]: crate::virt::backend::Vcpu::task_priority

mod ipi;
mod pending;
mod timer;

use hwspec::x86::apic::{self, InterruptCommand, Spurious, TimerMode};

pub use ipi::{Delivery, Ipi, VcpuSet, logical_id, message};
pub use pending::{Pending, Signals};

use super::BadAccess;
use crate::virt::space::MAX_VCPUS;
use ipi::Command;
use pending::{half, highest_bit};
use timer::Timer;

/// Version 14h of an integrated APIC, without EOI-broadcast suppression; the
/// highest of its LVT entries is number 5.
const VERSION: u64 = 0x0005_0014;
/// As processors start: not enabled.
const INITIAL_SPURIOUS: u32 = 0xff;

/// IA32_APIC_BASE. [Intel SDM, vol. 3, 12.12.1 "Detecting and Enabling x2APIC
/// Mode", figure 12-27]
const BASE: u64 = 0xfee0_0000;
const BASE_BSP: u64 = 1 << 8;
const BASE_EXTD: u64 = 1 << 10;
const BASE_EN: u64 = 1 << 11;

/// Bits of an LVT entry. [Intel SDM, vol. 3, 12.5.1 "Local Vector Table", figure
/// 12-8]
const LVT_VECTOR: u32 = 0xff;
const LVT_DELIVERY_MODE: u32 = 0x700;
/// Delivery status, read only.
const LVT_STATUS: u32 = 1 << 12;
const LVT_POLARITY: u32 = 1 << 13;
/// Remote IRR, read only.
const LVT_REMOTE_IRR: u32 = 1 << 14;
const LVT_TRIGGER_MODE: u32 = 1 << 15;
const LVT_MASK: u32 = 1 << 16;
const LVT_TIMER_MODE: u32 = 0b11 << 17;
const LVT_TIMER_MODE_SHIFT: u32 = 17;
/// The bits that are read only: writing them does nothing.
const LVT_READ_ONLY: u32 = LVT_STATUS | LVT_REMOTE_IRR;

/// Bits of the Error Status Register. [Intel SDM, vol. 3, 12.5.3 "Error
/// Handling"]
const ERROR_SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const ERROR_RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;

/// Bits 3, 1 and 0.
const DIVIDE_BITS: u32 = 0b1011;

/// Bits of the Interrupt Command Register that must be 0.
const COMMAND_RESERVED: u64 = 0xfff3_2000;
/// Where the delivery status was before x2APIC: writing it does nothing.
const COMMAND_STATUS: u64 = 1 << 12;

/// What a write does beyond the APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ApicEffect {
    /// Nothing; though an interrupt may have become deliverable.
    None,
    /// This is sent. The sender is among the targets only if it is not an
    /// interrupt: those have been raised already.
    Ipi(Ipi),
    /// [`LocalApic::timer_deadline`] has changed.
    TimerChanged,
    /// The task priority is this now, to be kept as CR8 by the backend.
    TaskPriority(u8),
}

/// The entries of the local vector table, by their numbers.
#[derive(Clone, Copy, Debug)]
enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl Lvt {
    const fn of_register(register: u32) -> Option<Self> {
        Some(match register {
            apic::TIMER => Self::Timer,
            apic::THERMAL => Self::Thermal,
            apic::PERFORMANCE => Self::Performance,
            apic::LINT0 => Self::Lint0,
            apic::LINT1 => Self::Lint1,
            apic::ERROR => Self::Error,
            _ => return None,
        })
    }

    /// The bits that there are.
    const fn bits(self) -> u32 {
        let common = LVT_VECTOR | LVT_STATUS | LVT_MASK;
        match self {
            Self::Timer => common | LVT_TIMER_MODE,
            Self::Thermal | Self::Performance => common | LVT_DELIVERY_MODE,
            Self::Lint0 | Self::Lint1 => {
                common | LVT_DELIVERY_MODE | LVT_POLARITY | LVT_REMOTE_IRR | LVT_TRIGGER_MODE
            }
            Self::Error => common,
        }
    }
}

/// The local APIC of one virtual processor, but for what is [`Pending`].
#[derive(Debug)]
pub struct LocalApic {
    /// Its APIC ID: the number of the virtual processor.
    id: u32,
    /// How many virtual processors the guest has.
    count: usize,
    /// In service: a bit for each vector.
    in_service: [u64; 4],
    /// The highest vector in service, 0 if none is.
    servicing: u8,
    /// Interrupts of this class and those below wait, whatever the task priority
    /// is: others are in service, or software has not enabled the APIC.
    floor: u8,
    /// The task priority as it was last written here.
    task_priority: u8,
    spurious: u32,
    lvt: [u32; 6],
    command: u64,
    /// Errors since the Error Status Register was last written.
    errors: u32,
    /// Those that it shows.
    shown_errors: u32,
    timer: Timer,
}

impl LocalApic {
    /// That of virtual processor `index` of `count`, as after a reset.
    ///
    /// # Panics
    /// If there are more than [`MAX_VCPUS`], or not so many.
    pub fn new(index: usize, count: usize) -> Self {
        assert!(
            index < count && count <= MAX_VCPUS,
            "no guest has a virtual processor {index} of {count}"
        );
        Self {
            id: u32::try_from(index).expect("the number is below 64"),
            count,
            in_service: [0; 4],
            servicing: 0,
            floor: 0xf,
            task_priority: 0,
            spurious: INITIAL_SPURIOUS,
            lvt: [LVT_MASK; 6],
            command: 0,
            errors: 0,
            shown_errors: 0,
            timer: Timer::new(),
        }
    }

    /// As INIT leaves it. The backend's task priority is to be reset too.
    pub fn reset(&mut self, pending: &Pending) {
        pending.reset();
        *self = Self::new(self.id as usize, self.count);
    }

    /// Whether the APIC keeps an MSR: its registers, IA32_APIC_BASE and
    /// IA32_TSC_DEADLINE.
    #[inline]
    pub const fn keeps(register: u32) -> bool {
        register >> 8 == 0x8 || matches!(register, apic::APIC_BASE | apic::TSC_DEADLINE)
    }

    /// The highest interrupt that can be delivered now. `task_priority` is CR8.
    /// [Intel SDM, vol. 3, 12.8.3 "Interrupt, Task, and Processor Priority"]
    #[inline]
    pub fn highest(&self, pending: &Pending, task_priority: u8) -> Option<u8> {
        let vector = pending.highest()?;
        (vector >> 4 > task_priority.max(self.floor)).then_some(vector)
    }

    /// The interrupt that would be delivered if CR8 were lower, and is not: the
    /// guest may set CR8 without leaving. It comes when CR8 is below the class
    /// of this vector, its bits 7:4.
    #[inline]
    pub fn held_by_task_priority(&self, pending: &Pending, task_priority: u8) -> Option<u8> {
        let vector = pending.highest()?;
        let class = vector >> 4;
        (class > self.floor && class <= task_priority).then_some(vector)
    }

    /// Takes an interrupt into service, as it is injected: one that
    /// [`highest`](Self::highest) gave.
    #[inline]
    pub fn accept(&mut self, pending: &Pending, vector: u8) {
        pending.clear(vector);
        if let Some(word) = self.in_service.get_mut(usize::from(vector >> 6)) {
            *word |= 1 << (vector & 63);
        }
        self.servicing = vector;
        self.floor = vector >> 4;
    }

    /// The highest interrupt in service, 0 if none is.
    #[inline]
    pub const fn servicing(&self) -> u8 {
        self.servicing
    }

    /// Ends the service of the highest interrupt, as writing EOI does.
    #[inline]
    pub fn end_of_interrupt(&mut self) {
        let vector = self.servicing;
        if let Some(word) = self.in_service.get_mut(usize::from(vector >> 6)) {
            *word &= !(1 << (vector & 63));
        }
        let [a, b, c, d] = self.in_service;
        let words = [(192, d), (128, c), (64, b), (0, a)];
        let highest = words.into_iter().find(|&(_, word)| word != 0);
        self.servicing = highest.map_or(0, |(first, word)| first + highest_bit(word));
        self.update_floor();
    }

    #[inline]
    fn update_floor(&mut self) {
        self.floor = if self.is_enabled() {
            self.servicing >> 4
        } else {
            0xf
        };
    }

    #[inline]
    const fn is_enabled(&self) -> bool {
        Spurious::from_bits(self.spurious as u64).enable()
    }

    /// When the timer fires, in ticks of the time-stamp counter, if it runs.
    #[inline]
    pub const fn timer_deadline(&self) -> Option<u64> {
        self.timer.deadline()
    }

    /// Whether the timer has fired by `now`: then the vector of its interrupt, if
    /// that is not masked, which is still to be raised.
    pub fn take_expired_timer(&mut self, now: u64) -> Option<u8> {
        if self.timer.take_expired(now) {
            unmasked_vector(self.entry(Lvt::Timer))
        } else {
            None
        }
    }

    /// RDMSR of a register that it [`keeps`](Self::keeps). `task_priority` is CR8,
    /// `now` the time-stamp counter.
    ///
    /// # Errors
    /// If there is no such register, or it is write-only.
    pub fn read(
        &self,
        pending: &Pending,
        register: u32,
        task_priority: u8,
        now: u64,
    ) -> Result<u64, BadAccess> {
        if let Some(entry) = Lvt::of_register(register) {
            return Ok(self.entry(entry).into());
        }
        let value: u32 = match register {
            apic::APIC_BASE => return Ok(self.base()),
            apic::VERSION => return Ok(VERSION),
            apic::INTERRUPT_COMMAND => return Ok(self.command),
            apic::TSC_DEADLINE => return Ok(self.timer.tsc_deadline()),
            apic::ID => self.id,
            apic::TASK_PRIORITY => self.full_task_priority(task_priority).into(),
            apic::PROCESSOR_PRIORITY => self.processor_priority(task_priority).into(),
            apic::LOGICAL_DESTINATION => logical_id(self.id),
            apic::SPURIOUS => self.spurious,
            apic::ERROR_STATUS => self.shown_errors,
            apic::INITIAL_COUNT => self.timer.initial(),
            apic::CURRENT_COUNT => self.timer.current(now),
            apic::DIVIDE_CONFIGURATION => self.timer.divide(),
            _ => return self.read_vectors(pending, register).map(u64::from),
        };
        Ok(value.into())
    }

    /// ISR, TMR or IRR.
    fn read_vectors(&self, pending: &Pending, register: u32) -> Result<u32, BadAccess> {
        const COUNT: u32 = apic::VECTOR_REGISTERS;
        let number = |first: u32| register.checked_sub(first).filter(|&number| number < COUNT);
        if let Some(number) = number(apic::IN_SERVICE) {
            let word = self.in_service.get(number as usize / 2);
            Ok(word.map_or(0, |&word| half(word, number)))
        } else if let Some(number) = number(apic::INTERRUPT_REQUEST) {
            Ok(pending.request_register(number))
        } else if number(apic::TRIGGER_MODE).is_some() {
            Ok(0)
        } else {
            Err(BadAccess)
        }
    }

    /// WRMSR of a register that it [`keeps`](Self::keeps).
    ///
    /// # Errors
    /// If there is no such register, it is read-only, or `value` has bits that
    /// must be 0.
    #[inline]
    pub fn write(
        &mut self,
        pending: &Pending,
        register: u32,
        value: u64,
        now: u64,
    ) -> Result<ApicEffect, BadAccess> {
        // By far the most frequent.
        if register == apic::EOI && value == 0 {
            self.end_of_interrupt();
            return Ok(ApicEffect::None);
        }
        self.write_another(pending, register, value, now)
    }

    /// WRMSR of a register other than EOI.
    fn write_another(
        &mut self,
        pending: &Pending,
        register: u32,
        value: u64,
        now: u64,
    ) -> Result<ApicEffect, BadAccess> {
        match register {
            apic::TSC_DEADLINE => {
                self.timer.set_tsc_deadline(value);
                return Ok(ApicEffect::TimerChanged);
            }
            apic::INTERRUPT_COMMAND => return self.send(pending, value),
            // The mode cannot be changed, and the address is of no use in it.
            apic::APIC_BASE if value == self.base() => return Ok(ApicEffect::None),
            _ => {}
        }
        let value = u32::try_from(value).map_err(|_| BadAccess)?;
        if let Some(entry) = Lvt::of_register(register) {
            return self.write_entry(entry, value);
        }
        match register {
            apic::TASK_PRIORITY => {
                self.task_priority = u8::try_from(value).map_err(|_| BadAccess)?;
                Ok(ApicEffect::TaskPriority(self.task_priority >> 4))
            }
            apic::SPURIOUS if value <= 0x1ff => {
                self.set_spurious(pending, value);
                Ok(ApicEffect::None)
            }
            apic::ERROR_STATUS if value == 0 => {
                let mut errors = core::mem::take(&mut self.errors);
                if pending.take_illegal_vector() {
                    errors |= ERROR_RECEIVE_ILLEGAL_VECTOR;
                }
                self.shown_errors = errors;
                Ok(ApicEffect::None)
            }
            apic::SELF_IPI => {
                let vector = u8::try_from(value).map_err(|_| BadAccess)?;
                self.raise_own(pending, vector);
                Ok(ApicEffect::None)
            }
            apic::INITIAL_COUNT => {
                self.timer.set_initial(value, now);
                Ok(ApicEffect::TimerChanged)
            }
            apic::DIVIDE_CONFIGURATION if value & !DIVIDE_BITS == 0 => {
                self.timer.set_divide(value, now);
                Ok(ApicEffect::TimerChanged)
            }
            _ => Err(BadAccess),
        }
    }

    fn send(&mut self, pending: &Pending, value: u64) -> Result<ApicEffect, BadAccess> {
        if value & COMMAND_RESERVED != 0 {
            return Err(BadAccess);
        }
        self.command = value & !COMMAND_STATUS;
        let command = InterruptCommand::from(self.command);
        match ipi::command(command, self.id, self.count) {
            Command::Nothing => {}
            Command::IllegalVector => self.report(pending, ERROR_SEND_ILLEGAL_VECTOR),
            Command::Send(mut sent) => {
                let own = VcpuSet::one(self.id);
                if let Delivery::Fixed(vector) = sent.delivery
                    && !sent.targets.and(own).is_empty()
                {
                    pending.raise(vector);
                    sent.targets = sent.targets.without(own);
                }
                if !sent.targets.is_empty() {
                    return Ok(ApicEffect::Ipi(sent));
                }
            }
        }
        Ok(ApicEffect::None)
    }

    fn raise_own(&mut self, pending: &Pending, vector: u8) {
        if vector < 16 {
            self.report(pending, ERROR_SEND_ILLEGAL_VECTOR);
        } else {
            pending.raise(vector);
        }
    }

    /// Notes an error, and raises the interrupt for it.
    fn report(&mut self, pending: &Pending, error: u32) {
        self.errors |= error;
        if let Some(vector) = unmasked_vector(self.entry(Lvt::Error)) {
            pending.raise(vector);
        }
    }

    fn set_spurious(&mut self, pending: &Pending, value: u32) {
        self.spurious = value;
        let is_enabled = self.is_enabled();
        pending.set_enabled(is_enabled);
        if !is_enabled {
            // [Intel SDM, vol. 3, 12.4.7.2 "Local APIC State After It Has Been
            // Software Disabled"]
            for entry in &mut self.lvt {
                *entry |= LVT_MASK;
            }
        }
        self.update_floor();
    }

    fn entry(&self, entry: Lvt) -> u32 {
        self.lvt.get(entry as usize).copied().unwrap_or(LVT_MASK)
    }

    fn write_entry(&mut self, entry: Lvt, value: u32) -> Result<ApicEffect, BadAccess> {
        if value & !entry.bits() != 0 {
            return Err(BadAccess);
        }
        let mut effect = ApicEffect::None;
        if let Lvt::Timer = entry {
            let mode = match (value & LVT_TIMER_MODE) >> LVT_TIMER_MODE_SHIFT {
                0b00 => TimerMode::ONE_SHOT,
                0b01 => TimerMode::PERIODIC,
                0b10 => TimerMode::TSC_DEADLINE,
                _ => return Err(BadAccess),
            };
            self.timer.set_mode(mode);
            effect = ApicEffect::TimerChanged;
        }
        let mask = if self.is_enabled() { 0 } else { LVT_MASK };
        if let Some(place) = self.lvt.get_mut(entry as usize) {
            *place = value & !LVT_READ_ONLY | mask;
        }
        Ok(effect)
    }

    /// IA32_APIC_BASE.
    const fn base(&self) -> u64 {
        let bsp = if self.id == 0 { BASE_BSP } else { 0 };
        BASE | BASE_EN | BASE_EXTD | bsp
    }

    /// The Task Priority Register. Its lower half, which has no effect, is as it
    /// was written, unless CR8 has been set to something else since.
    const fn full_task_priority(&self, task_priority: u8) -> u8 {
        if self.task_priority >> 4 == task_priority & 0xf {
            self.task_priority
        } else {
            task_priority << 4
        }
    }

    /// The Processor Priority Register. [Intel SDM, vol. 3, 12.8.3.1 "Task and
    /// Processor Priorities"]
    const fn processor_priority(&self, task_priority: u8) -> u8 {
        let task = self.full_task_priority(task_priority);
        let service = self.servicing & 0xf0;
        if task >= service { task } else { service }
    }
}

/// The vector of an LVT entry that is not masked.
const fn unmasked_vector(entry: u32) -> Option<u8> {
    let [vector, ..] = entry.to_le_bytes();
    if entry & LVT_MASK == 0 {
        Some(vector)
    } else {
        None
    }
}

#[cfg(test)]
#[path = "local_apic_tests.rs"]
mod tests;
