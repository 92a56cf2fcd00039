//! CPUID, model-specific registers, XCR0 and I/O ports.

use core::arch::x86_64::__cpuid_count;

use hwspec::x86::apic;

use crate::arch::{clock, pasid};
use crate::platform::cpuid::{self, GuestCpu};
use crate::platform::kvm_eoi::{self, WORD_BYTES};
use crate::platform::local_apic::{ApicEffect, LocalApic};
use crate::platform::power::PowerRequest;
use crate::trace::{self, Kind};
use crate::virt::backend::{Backend, Loaded, Vcpu};
use crate::virt::exit::{Exception, Exit, PortAccess};
use crate::virt::extended_state;
use crate::virt::registers::{Register, RegisterPart, Width};

use super::super::counters::Reason;
use super::super::guest::Ending;
use super::super::schedule::Turn;
use super::{Context, Next};

/// EDX:EAX.
fn pair(vcpu: &impl Vcpu) -> u64 {
    let low = |register| Width::Double.truncate(vcpu.registers().get(register));
    low(Register::RDX) << 32 | low(Register::RAX)
}

fn set_pair(vcpu: &mut impl Vcpu, value: u64) {
    let registers = vcpu.registers_mut();
    registers.set(Register::RAX, Width::Double.truncate(value));
    registers.set(Register::RDX, value >> 32);
}

/// ECX.
fn number(vcpu: &impl Vcpu) -> u32 {
    low(vcpu.registers().get(Register::RCX))
}

/// The low half.
fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl<B: Backend> Context<'_, B> {
    pub(super) fn cpuid(&mut self, vcpu: &mut B::Vcpu) {
        self.door.exits.add(Reason::Cpuid);
        let leaf = low(vcpu.registers().get(Register::RAX));
        let subleaf = number(vcpu);
        let guest = GuestCpu {
            index: u32::try_from(self.index).unwrap_or(0),
            count: u32::try_from(self.guest.count_vcpus).unwrap_or(1),
            // By the processor, or by us where it has no such instruction.
            has_enqcmd: true,
            tsc_hz: clock::tsc_hz(),
            cr4: vcpu.paging().cr4,
            xcr0: vcpu.xcr0(),
            supported_xcr0: extended_state::supported_xcr0(),
        };
        let answer = cpuid::answer(__cpuid_count, &guest, leaf, subleaf);
        let registers = vcpu.registers_mut();
        for (register, value) in [
            (Register::RAX, answer.eax),
            (Register::RBX, answer.ebx),
            (Register::RCX, answer.ecx),
            (Register::RDX, answer.edx),
        ] {
            registers.set(register, value.into());
        }
        vcpu.skip(Exit::Cpuid);
    }

    pub(super) fn read_msr(&mut self, vcpu: &mut B::Vcpu) {
        self.door.exits.add(Reason::Msr);
        self.settle_end();
        let register = number(vcpu);
        let now = clock::now();
        let value = if LocalApic::keeps(register) {
            let priority = vcpu.task_priority();
            let value = self.apic.read(&self.door.pending, register, priority, now);
            value.ok()
        } else {
            let kept = vcpu.read_msr(register);
            kept.or_else(|| self.msrs.read(register, now).ok())
        };
        match value {
            Some(value) => {
                set_pair(vcpu, value);
                vcpu.skip(Exit::ReadMsr);
            }
            None => self.refuse_msr(vcpu, register),
        }
    }

    pub(super) fn write_msr(&mut self, vcpu: &mut Loaded<'_, B::Vcpu>, turn: &Turn<'_>) -> Next {
        self.settle_end();
        let register = number(&**vcpu);
        let value = pair(&**vcpu);
        if register == apic::EOI && value == 0 {
            // On the way of every completion.
            self.door.exits.add(Reason::EndOfInterrupt);
            if self.guest.awaits_end() {
                self.guest.interrupt_ended(self.apic.servicing());
            }
            self.apic.end_of_interrupt();
            vcpu.skip(Exit::WriteMsr);
            return Next::Enter;
        }
        self.door.exits.add(Reason::Msr);
        let is_taken = if LocalApic::keeps(register) {
            self.write_apic(vcpu, register, value, turn)
        } else {
            match vcpu.write_msr(register, value) {
                Some(is_taken) => is_taken,
                None => self.write_other_msr(register, value),
            }
        };
        if is_taken {
            vcpu.skip(Exit::WriteMsr);
        } else {
            self.refuse_msr(vcpu, register);
        }
        // An INIT to oneself is done between two turns.
        match self.door.has_requests() {
            true => Next::Leave,
            false => Next::Enter,
        }
    }

    fn write_other_msr(&mut self, register: u32, value: u64) -> bool {
        if register == kvm_eoi::END_OF_INTERRUPT {
            return self.set_end_of_interrupt(value);
        }
        let is_taken = self.msrs.write(register, value).is_ok();
        self.guest.write_clock(register, value);
        pasid::set_valid(self.msrs.pasid().is_some());
        is_taken
    }

    /// Sets by which word the guest ends interrupts. It must be RAM.
    fn set_end_of_interrupt(&mut self, value: u64) -> bool {
        let memory = &self.guest.space.memory;
        match kvm_eoi::word_address(value) {
            Ok(word) if word.is_none_or(|at| memory.check(at, WORD_BYTES).is_ok()) => {
                self.held.end_by(word);
                self.msrs.write(kvm_eoi::END_OF_INTERRUPT, value).is_ok()
            }
            _ => false,
        }
    }

    #[cold]
    fn refuse_msr(&mut self, vcpu: &mut B::Vcpu, register: u32) {
        self.guest.strays.msrs.add_shared();
        trace::record(Kind::NO_MSR, self.guest.number, self.index, register);
        self.raise(vcpu, Exception::GENERAL_PROTECTION);
    }

    fn write_apic(
        &mut self,
        vcpu: &mut B::Vcpu,
        register: u32,
        value: u64,
        turn: &Turn<'_>,
    ) -> bool {
        let pending = &self.door.pending;
        match self.apic.write(pending, register, value, clock::now()) {
            Ok(ApicEffect::None) => {}
            Ok(ApicEffect::TaskPriority(priority)) => vcpu.set_task_priority(priority),
            Ok(ApicEffect::TimerChanged) => turn.set_timer(self.apic.timer_deadline()),
            Ok(ApicEffect::Ipi(ipi)) => self.guest.place.send(&ipi),
            Err(_) => return false,
        }
        true
    }

    pub(super) fn write_xcr(&mut self, vcpu: &mut Loaded<'_, B::Vcpu>) {
        self.door.exits.add(Reason::Other);
        let value = pair(&**vcpu);
        let is_privileged = vcpu.paging().cpl == 0;
        if is_privileged && number(&**vcpu) == 0 && vcpu.set_xcr0(value) {
            vcpu.skip(Exit::WriteXcr);
        } else {
            self.raise(vcpu, Exception::GENERAL_PROTECTION);
        }
    }

    pub(super) fn port(&mut self, vcpu: &mut B::Vcpu, access: PortAccess) -> Next {
        self.door.exits.add(Reason::Port);
        let exit = Exit::Port(access);
        // String instructions are not emulated: nothing is read, nothing is written.
        if access.is_string {
            self.guest.strays.accesses.add_shared();
            vcpu.skip(exit);
            return Next::Enter;
        }
        let part = RegisterPart::Low(Register::RAX, access.width);
        if access.is_input {
            let value = self.guest.read_port(access.port, access.width);
            vcpu.registers_mut().set_part(part, value);
        } else {
            let value = vcpu.registers().get_part(part);
            let request = self.guest.write_port(access.port, access.width, value);
            if let Some(request) = request {
                return self.end(match request {
                    PowerRequest::Off => Ending::PoweredOff,
                    PowerRequest::Reset => Ending::Reset,
                });
            }
        }
        vcpu.skip(exit);
        Next::Enter
    }
}
