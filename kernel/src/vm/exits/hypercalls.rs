//! What a guest tells the hypervisor.

use crate::platform::hypercall::{self, Call, Key};
use crate::virt::backend::{Backend, Vcpu};
use crate::virt::exit::{Exception, Exit};
use crate::virt::registers::Register;

use super::super::counters::Reason;
use super::super::guest::Ending;
use super::{Context, Next};

impl<B: Backend> Context<'_, B> {
    pub(super) fn hypercall(&mut self, vcpu: &mut B::Vcpu) -> Next {
        self.door.exits.add(Reason::Hypercall);
        let call = hypercall::decode(vcpu.registers(), vcpu.paging().cpl);
        let answer = match call {
            Call::NotAllowed => {
                self.raise(vcpu, Exception::INVALID_OPCODE);
                return Next::Enter;
            }
            Call::Report {
                key: Key::End,
                value,
            } => {
                vcpu.skip(Exit::Hypercall);
                return self.end(match value {
                    0 => Ending::Passed,
                    code => Ending::Failed(code),
                });
            }
            Call::Report { key, value } => {
                self.guest.results.set(key, value);
                self.measure(key, value);
                hypercall::KNOWN
            }
            Call::Unknown => hypercall::UNKNOWN,
        };
        vcpu.skip(Exit::Hypercall);
        vcpu.registers_mut().set(Register::RAX, answer);
        Next::Enter
    }
    /// Keeps what a bench finds.
    fn measure(&self, key: Key, value: u64) {
        let measurements = &self.guest.measurements;
        match key {
            Key::BenchBegin => measurements.begin(self.guest.count_own_exits()),
            Key::BenchEnd => measurements.end(value, self.guest.count_own_exits()),
            Key::BenchCost => measurements.set_cost(value & 0xff, value >> 8),
            _ => {}
        }
    }
}
