//! What the reasons mean for which SVM leaves a guest.

use hwspec::x86::svm::{EventKind, IoExit, NestedFault, exit_code};

use super::nmi::NmiMask;
use super::vcpu::SvmVcpu;
use crate::arch::trap;
use crate::virt::address::GuestPhysAddr;
use crate::virt::backend::Vcpu;
use crate::virt::decode::{self, Opcode};
use crate::virt::exit::{Event, Exception, Exit, MemoryAccess, MemoryFault, PortAccess};
use crate::virt::fetch;
use crate::virt::registers::Width;

/// EXITCODE of exceptions.
const DEBUG: u64 = exit_code::EXCEPTION_0 + 1;
const INVALID_OPCODE: u64 = exit_code::EXCEPTION_0 + 6;
const ALIGNMENT_CHECK: u64 = exit_code::EXCEPTION_0 + 17;
const MACHINE_CHECK: u64 = exit_code::EXCEPTION_0 + 18;

/// EXITINFO1 of VMEXIT_MSR: WRMSR.
const MSR_WRITE: u64 = 1;

impl SvmVcpu {
    /// What was being delivered when the guest was left is delivered again, but
    /// for what an instruction will raise again by itself.
    #[inline]
    pub(super) fn keep_undelivered(&mut self) {
        let event = self.vmcb().control.exit_int_info;
        if event.valid() && event.kind() != EventKind::SOFTWARE {
            // INT3 and INTO come as exceptions, and are instructions too.
            let is_instruction =
                event.kind() == EventKind::EXCEPTION && matches!(event.vector(), 3 | 4);
            if !is_instruction {
                self.event = Some(event);
            }
        }
    }

    /// Why the guest was left.
    #[inline]
    pub(super) fn take_exit(&mut self) -> Exit {
        let control = &self.vmcb().control;
        match control.exit_code {
            exit_code::INTR => {
                trap::take_pending();
                Exit::Interrupt
            }
            exit_code::NPF => Exit::Memory(memory_fault(
                control.exit_info_1.into(),
                GuestPhysAddr(control.exit_info_2),
                control.exit_int_info.valid(),
            )),
            exit_code::MSR if control.exit_info_1 == MSR_WRITE => Exit::WriteMsr,
            exit_code::MSR => Exit::ReadMsr,
            exit_code::HLT => Exit::Halt,
            exit_code::VMMCALL => Exit::Hypercall,
            exit_code::CPUID => Exit::Cpuid,
            exit_code::VINTR => {
                self.close_interrupt_window();
                Exit::InterruptWindow
            }
            code => self.take_rare_exit(code),
        }
    }

    #[cold]
    fn take_rare_exit(&mut self, code: u64) -> Exit {
        let control = &self.vmcb().control;
        match code {
            exit_code::IOIO => port_access(control.exit_info_1.into()).map_or(
                // No size at all.
                Exit::Unknown(code),
                Exit::Port,
            ),
            exit_code::IRET => {
                self.nmi_mask = NmiMask::Returns(self.rip());
                self.vmcb_mut().control.intercept_1.set_iret(false);
                Exit::InterruptWindow
            }
            exit_code::XSETBV => Exit::WriteXcr,
            exit_code::INVD | exit_code::WBINVD => Exit::FlushCaches,
            exit_code::SHUTDOWN => Exit::Shutdown,
            // Still pending then, and taken as soon as GIF was set.
            exit_code::NMI..=exit_code::INIT => Exit::Interrupt,
            exit_code::RDPMC | exit_code::RDPRU => Exit::NotAllowed,
            INVALID_OPCODE
            | exit_code::RSM
            | exit_code::INVLPGA
            | exit_code::VMRUN
            | exit_code::VMLOAD..=exit_code::SKINIT
            | exit_code::MONITOR..=exit_code::MWAIT_CONDITIONAL => Exit::InvalidOpcode,
            // These are stopped only so that they cannot go on for ever, each raised by
            // the delivery of the last, without an interrupt of ours being let in.
            DEBUG => self.return_exception(Exception::DEBUG),
            ALIGNMENT_CHECK => self.return_exception(Exception::ALIGNMENT_CHECK),
            MACHINE_CHECK => panic!("machine check in a guest"),
            code => Exit::Unknown(code),
        }
    }

    /// Gives the guest an exception back, and lets interrupts in.
    fn return_exception(&mut self, exception: Exception) -> Exit {
        self.inject(Event::Exception(exception));
        trap::take_pending();
        Exit::Interrupt
    }

    fn close_interrupt_window(&mut self) {
        let control = &mut self.vmcb_mut().control;
        control.intercept_1.set_vintr(false);
        control.virtual_interrupt.set_v_irq(false);
    }

    /// Steps over the instruction that `exit` is about. TCG and older processors
    /// do not say how long it is, so it is looked at.
    pub(super) fn skip_instruction(&mut self, exit: Exit) -> bool {
        let opcode = match exit {
            Exit::Cpuid => Opcode::Cpuid,
            Exit::Halt => Opcode::Hlt,
            Exit::Hypercall => Opcode::Vmmcall,
            Exit::ReadMsr => Opcode::Rdmsr,
            Exit::WriteMsr => Opcode::Wrmsr,
            Exit::WriteXcr => Opcode::Xsetbv,
            Exit::FlushCaches => {
                let is_invd = self.vmcb().control.exit_code == exit_code::INVD;
                if is_invd {
                    Opcode::Invd
                } else {
                    Opcode::Wbinvd
                }
            }
            Exit::Port(_) => {
                // The one exit that says where it goes on.
                let next = self.vmcb().control.exit_info_2;
                self.set_rip(next);
                return true;
            }
            _ => return false,
        };
        let address = fetch::instruction_address(self);
        let memory = &self.space().memory;
        let Ok(bytes) = fetch::instruction(memory, &self.paging(), address) else {
            return false;
        };
        let bits = self.code_bits();
        let Some(length) = decode::length_of(bits, &bytes, opcode) else {
            return false;
        };
        let next = self.rip().wrapping_add(length);
        // Within the bits that it has.
        self.set_rip(if bits == 64 { next } else { next & 0xffff_ffff });
        true
    }
}

fn memory_fault(info: NestedFault, address: GuestPhysAddr, is_delivery: bool) -> MemoryFault {
    let access = if info.fetch() {
        MemoryAccess::Execute
    } else if info.write() {
        MemoryAccess::Write
    } else {
        MemoryAccess::Read
    };
    MemoryFault {
        address,
        access,
        is_table_walk: info.guest_tables(),
        is_delivery,
    }
}

fn port_access(info: IoExit) -> Option<PortAccess> {
    let width = match (info.is_byte(), info.is_word(), info.is_double()) {
        (true, ..) => Width::Byte,
        (_, true, _) => Width::Word,
        (_, _, true) => Width::Double,
        _ => return None,
    };
    Some(PortAccess {
        port: info.port(),
        width,
        is_input: info.is_input(),
        is_string: info.is_string() || info.repeats(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [AMD64 Architecture Programmer's Manual, vol. 2, figure 15-2]
    #[test]
    fn ports_are_read_from_their_bits() {
        let access = port_access(0x0cf9_0010_u64.into());
        assert_eq!(
            access,
            Some(PortAccess {
                port: 0xcf9,
                width: Width::Byte,
                is_input: false,
                is_string: false,
            })
        );
        let access = port_access(0x0060_0045_u64.into()).unwrap();
        assert_eq!(
            (access.width, access.is_input, access.is_string),
            (Width::Double, true, true)
        );
        assert_eq!(port_access(0x0060_0001_u64.into()), None);
    }

    #[test]
    fn nested_faults_say_what_was_attempted() {
        for (info, access, is_table_walk, is_delivery) in [
            (0x1_0000_0004_u64, MemoryAccess::Read, false, false),
            (0x1_0000_0004_u64, MemoryAccess::Read, false, true),
            (0x1_0000_0006, MemoryAccess::Write, false, false),
            (0x1_0000_0014, MemoryAccess::Execute, false, false),
            (0x2_0000_0006, MemoryAccess::Write, true, false),
        ] {
            let address = GuestPhysAddr(0xfe00_0040);
            let expected = MemoryFault {
                address,
                access,
                is_table_walk,
                is_delivery,
            };
            let fault = memory_fault(info.into(), address, is_delivery);
            assert_eq!(fault, expected);
        }
    }
}
