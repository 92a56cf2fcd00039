//! Accesses that the nested tables stopped: devices, and addresses where nothing is.

use crate::platform::{io_apic, memory_map};
use crate::virt::address::{GuestPhysAddr, GuestVirtAddr};
use crate::virt::backend::{Backend, Vcpu};
use crate::virt::decode::{Instruction, Operation, StringStep};
use crate::virt::exit::{Exception, MemoryAccess, MemoryFault};
use crate::virt::fetch::{self, AccessError};
use crate::virt::registers::{Register, RegisterPart, Width};
use crate::virt::walk::{self, Purpose};

use super::super::counters::Reason;
use super::super::guest::Ending;
use super::{Context, Next};

impl<B: Backend> Context<'_, B> {
    /// A guest's access to `fault.address` was stopped.
    pub(super) fn memory(&mut self, vcpu: &mut B::Vcpu, fault: MemoryFault) -> Next {
        if fault.is_table_walk {
            // The guest has its page tables where it has no memory.
            return self.end(Ending::TablesOutsideRam(fault.address.0));
        }
        if fault.is_delivery {
            // It would be tried again for ever, and no interrupt of ours comes in between.
            return self.end(Ending::DeliveryOutsideRam(fault.address.0));
        }
        if fault.access == MemoryAccess::Execute {
            return self.end(Ending::CodeOutsideRam(fault.address.0));
        }
        let memory = &self.guest.space.memory;
        let instruction = match fetch::decode(vcpu, memory) {
            Ok(Some(instruction)) => instruction,
            Ok(None) => {
                self.door.exits.add(Reason::InvalidOpcode);
                self.guest.strays.instructions.add_shared();
                self.raise(vcpu, Exception::INVALID_OPCODE);
                return Next::Enter;
            }
            // The guest has changed its tables meanwhile: the instruction is fetched
            // anew by the processor, which raises what there is to raise.
            Err(AccessError::PageFault(_)) => return Next::Enter,
            Err(AccessError::NotRam(at)) => return self.end(Ending::CodeOutsideRam(at.0)),
        };
        match instruction.operation {
            Operation::Submit { kind, source, .. } => {
                self.submit(vcpu, fault.address, kind, source, instruction.length)
            }
            _ => {
                self.access(vcpu, fault, &instruction);
                Next::Enter
            }
        }
    }

    /// A load or a store of up to eight bytes.
    #[inline(never)]
    fn access(&mut self, vcpu: &mut B::Vcpu, fault: MemoryFault, instruction: &Instruction) {
        let address = fault.address;
        match instruction.operation {
            Operation::Load {
                width,
                into,
                is_signed,
                ..
            } => {
                let value = self.read(address, width);
                let value = if is_signed {
                    width.sign_extend(value)
                } else {
                    width.truncate(value)
                };
                vcpu.registers_mut().set_part(into, value);
            }
            Operation::Store { width, value, .. } => self.write(address, width, value),
            Operation::Move {
                source,
                destination,
                width,
            } => {
                let result = self.transfer(vcpu, fault, source, destination, width);
                if let Err(error) = result {
                    self.raise_access_error(vcpu, error);
                    return;
                }
            }
            Operation::Submit { .. } => {}
        }
        let is_done = instruction.step.is_none_or(|step| advance(vcpu, step));
        if is_done {
            let rip = vcpu.rip().wrapping_add(instruction.length);
            vcpu.set_rip(rip);
        }
    }

    /// One element of a string instruction, of which one side is a device.
    fn transfer(
        &mut self,
        vcpu: &B::Vcpu,
        fault: MemoryFault,
        source: GuestVirtAddr,
        destination: GuestVirtAddr,
        width: Width,
    ) -> Result<(), AccessError> {
        let memory = &self.guest.space.memory;
        let paging = vcpu.paging();
        let mut bytes = [0; 8];
        let length = usize::try_from(width.bytes()).unwrap_or(bytes.len());
        let part = bytes.get_mut(..length).unwrap_or_default();
        let value = match fault.access {
            MemoryAccess::Write => {
                fetch::read(memory, &paging, source, part)?;
                let value = u64::from_le_bytes(bytes);
                self.write(fault.address, width, value);
                return Ok(());
            }
            _ => self.read(fault.address, width),
        };
        let from = value.to_le_bytes();
        let from = from.get(..length).unwrap_or_default();
        match fetch::write(memory, &paging, destination, from) {
            // From one device to another.
            Err(AccessError::NotRam(_)) => {
                let to = walk::translate(&**memory, &paging, destination, Purpose::Write)?;
                self.write(to, width, value);
                Ok(())
            }
            result => result,
        }
    }

    fn read(&mut self, address: GuestPhysAddr, width: Width) -> u64 {
        if let Some(place) = self.guest.bus.find(address) {
            self.door.exits.add(Reason::Register);
            return place.function.read(place.bar, place.offset, width);
        }
        if let Some(offset) = configuration_offset(address) {
            self.door.exits.add(Reason::Configuration);
            return self.guest.bus.read_config(offset, width);
        }
        if let Some(offset) = io_apic_offset(address) {
            self.door.exits.add(Reason::IoApic);
            return width.truncate(self.guest.read_io_apic(offset).into());
        }
        self.stray();
        u64::MAX
    }

    fn write(&mut self, address: GuestPhysAddr, width: Width, value: u64) {
        if let Some(place) = self.guest.bus.find(address) {
            self.door.exits.add(Reason::Register);
            place.function.write(place.bar, place.offset, width, value);
        } else if let Some(offset) = configuration_offset(address) {
            self.door.exits.add(Reason::Configuration);
            self.guest.bus.write_config(offset, width, value);
        } else if let Some(offset) = io_apic_offset(address) {
            self.door.exits.add(Reason::IoApic);
            let [a, b, c, d, ..] = width.truncate(value).to_le_bytes();
            let value = u32::from_le_bytes([a, b, c, d]);
            self.guest.write_io_apic(offset, value);
        } else {
            self.stray();
        }
    }

    /// Nothing is at the address: reads give ones, writes are lost.
    fn stray(&mut self) {
        self.door.exits.add(Reason::Nowhere);
        self.guest.strays.accesses.add_shared();
    }
}

/// How far an address is into configuration space.
fn configuration_offset(address: GuestPhysAddr) -> Option<u64> {
    let offset = address.0.wrapping_sub(memory_map::ECAM.0);
    (offset < memory_map::ECAM_BYTES).then_some(offset)
}

/// How far an address is into the I/O APIC's page.
fn io_apic_offset(address: GuestPhysAddr) -> Option<u64> {
    let offset = address.0.wrapping_sub(memory_map::IO_APIC.0);
    (offset < io_apic::BYTES).then_some(offset)
}

/// Moves the index registers by one element. True if the instruction is done.
fn advance(vcpu: &mut impl Vcpu, step: StringStep) -> bool {
    let registers = vcpu.registers_mut();
    let mut add = |register, by: i64| {
        let part = RegisterPart::Low(register, step.address_width);
        let value = registers.get_part(part).wrapping_add_signed(by);
        registers.set_part(part, value);
        step.address_width.truncate(value)
    };
    add(Register::RDI, step.by);
    if step.moves_source {
        add(Register::RSI, step.by);
    }
    !step.repeats || add(Register::RCX, -1) == 0
}
