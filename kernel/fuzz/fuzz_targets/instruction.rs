//! The way of an instruction that a guest was stopped at: through tables of any
//! content, out of memory of any content, to what it names.
#![no_main]

mod input;

use std::cell::RefCell;
use std::collections::HashMap;

use input::Input;
use kernel::virt::address::{GuestPhysAddr, GuestVirtAddr};
use kernel::virt::decode::{self, Context, InstructionBytes, MAX_INSTRUCTION, Opcode, Operation};
use kernel::virt::registers::GeneralRegisters;
use kernel::virt::walk::{self, Paging, Purpose, TableMemory};
use libfuzzer_sys::fuzz_target;

/// More reads than the longest walk needs: four levels, and one look before.
const MAX_READS: usize = 8;

/// Few words that are everywhere, so that walks get far; a part of the address space
/// is no RAM.
struct Memory {
    words: RefCell<HashMap<u64, u64>>,
    reads: RefCell<usize>,
}

impl Memory {
    fn place(address: GuestPhysAddr) -> Option<u64> {
        assert!(address.0.is_multiple_of(8));
        (address.0 >> 40 & 1 == 0).then_some(address.0 % 0x4000)
    }

    fn word(&self, place: u64) -> u64 {
        self.words.borrow().get(&place).copied().unwrap_or(0)
    }

    fn translate(
        &self,
        paging: &Paging,
        at: GuestVirtAddr,
        purpose: Purpose,
    ) -> Option<GuestPhysAddr> {
        *self.reads.borrow_mut() = 0;
        match walk::translate(self, paging, at, purpose) {
            Ok(found) => {
                // Nothing moves within a page.
                assert_eq!(found.0 % 4096, at.0 % 4096);
                Some(found)
            }
            Err(fault) => {
                assert_eq!(fault.address, at);
                None
            }
        }
    }
}

impl TableMemory for Memory {
    fn read_u64(&self, address: GuestPhysAddr) -> Option<u64> {
        *self.reads.borrow_mut() += 1;
        assert!(*self.reads.borrow() <= MAX_READS, "a walk without end");
        Self::place(address).map(|place| self.word(place))
    }

    fn set_bits(&self, address: GuestPhysAddr, expected: u64, bits: u64) -> bool {
        let Some(place) = Self::place(address) else {
            return false;
        };
        let is_expected = self.word(place) == expected;
        if is_expected {
            self.words.borrow_mut().insert(place, expected | bits);
        }
        is_expected
    }
}

fn run(input: &mut Input<'_>) -> Option<()> {
    let flags = input.u8()?;
    let paging = Paging {
        cr0: u64::from(input.u32()?),
        cr3: input.u64()?,
        cr4: u64::from(input.u32()?),
        // LMA, and NXE.
        efer: u64::from(flags & 1) << 10 | u64::from(flags >> 1 & 1) << 11,
        rflags: u64::from(flags >> 2 & 1) << 18,
        cpl: flags >> 3 & 3,
    };
    let bits = [16, 32, 64, 64][usize::from(flags >> 5 & 3)];
    let rip = input.u64()?;
    let mut registers = GeneralRegisters {
        by_number: [0x0123_4567_89ab_cdef; 16],
    };
    for register in &mut registers.by_number[..4] {
        *register = input.u64()?;
    }
    let length = usize::from(input.u8()? % 20);
    let code = InstructionBytes::from_slice(input.bytes(length)?);
    let mut words = HashMap::new();
    while let (Some(place), Some(word)) = (input.u16(), input.u64()) {
        words.insert(u64::from(place) % 0x800 * 8, word);
    }
    let memory = Memory {
        words: RefCell::new(words),
        reads: RefCell::new(0),
    };

    let _ = memory.translate(&paging, GuestVirtAddr(rip), Purpose::Execute);
    let context = Context {
        bits,
        rip,
        goes_down: flags >> 7 != 0,
        registers: &registers,
        segment_bases: [0, 0, 0, 0, rip, !rip],
    };
    for opcode in [Opcode::Wrmsr, Opcode::Hlt, Opcode::Vmmcall] {
        if let Some(found) = decode::length_of(bits, &code, opcode) {
            assert_eq!(Some(found), decode::length(bits, code.as_slice()));
        }
    }
    let instruction = decode::decode(&context, &code)?;
    assert!(instruction.length <= MAX_INSTRUCTION as u64);
    assert_eq!(
        Some(instruction.length),
        decode::length(bits, code.as_slice())
    );
    match instruction.operation {
        Operation::Submit {
            source,
            destination,
            ..
        }
        | Operation::Move {
            source,
            destination,
            ..
        } => {
            memory.translate(&paging, source, Purpose::Read);
            memory.translate(&paging, destination, Purpose::Write);
        }
        Operation::Load { address, .. } => {
            memory.translate(&paging, address, Purpose::Read);
        }
        Operation::Store { address, .. } => {
            memory.translate(&paging, address, Purpose::Write);
        }
    }
    Some(())
}

fuzz_target!(|bytes: &[u8]| {
    run(&mut Input(bytes));
});
