//! Operations against independent implementations of them, and checks against
//! a second reading of the specification's tables.

mod case;
mod checks;
mod dif;
mod flag_checks;
mod machine;
mod oracle;
mod random;
mod rows;
mod vectors;

use super::{Capabilities, Execution};
use crate::bits::mask;
use crate::bus::Requester;
use crate::completion::Outcome;
use crate::descriptor::{Descriptor, Flags, Opcode};
use crate::memory::{DmaFaultInjection, Memory};

use machine::Machine;

/// Everything that a second-generation device can offer, on a dedicated queue
/// without PASID.
const EVERYTHING: Capabilities = Capabilities {
    // All support bits that operations know, the durable writes included, but
    // none of the limitations in bits 53 and 54.
    gencap: mask(12, 0) | 1 << 15 | 1 << 52,
    version: 0x200,
    operations: [0x1_00bf_07ff, 0, 0, 0],
    max_transfer_bytes: 1 << 21,
    max_batch: 32,
    block_on_fault: true,
    shared_queue: false,
    pasid_enabled: false,
    privileged: true,
    privileged_mode_enabled: true,
    user_interrupts: true,
    ats: true,
    reports_page_faults: true,
    traffic_classes: [true, true],
    in_batch: false,
};

/// Where the completion record of test descriptors is.
const RECORD: u64 = 0x5000_0020;

/// The flags of a descriptor that asks for its record.
fn record_flags() -> Flags {
    Flags::COMPLETION_ADDRESS_VALID | Flags::REQUEST_COMPLETION_RECORD
}

/// A descriptor under construction.
#[derive(Clone, Copy)]
struct Build([u8; 64]);

impl Build {
    fn new(opcode: Opcode, flags: Flags) -> Self {
        let mut bytes = [0; 64];
        bytes[4..8].copy_from_slice(&(flags.bits() | u32::from(opcode.0) << 24).to_le_bytes());
        let build = Self(bytes);
        if flags.contains(Flags::COMPLETION_ADDRESS_VALID) {
            build.u64(8, RECORD)
        } else {
            build
        }
    }

    fn put(mut self, offset: usize, value: &[u8]) -> Self {
        self.0[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    fn u8(self, offset: usize, value: u8) -> Self {
        self.put(offset, &[value])
    }

    fn u16(self, offset: usize, value: u16) -> Self {
        self.put(offset, &value.to_le_bytes())
    }

    fn u32(self, offset: usize, value: u32) -> Self {
        self.put(offset, &value.to_le_bytes())
    }

    fn u64(self, offset: usize, value: u64) -> Self {
        self.put(offset, &value.to_le_bytes())
    }

    /// Source, destination and transfer size.
    fn transfer(self, source: u64, destination: u64, size: u64) -> Self {
        self.u64(16, source)
            .u64(24, destination)
            .u32(32, u32::try_from(size).unwrap())
    }

    fn done(self) -> Descriptor {
        Descriptor::from_bytes(self.0)
    }
}

/// Carries out `descriptor`, which passes the checks, in steps of
/// `budget_bytes`.
fn run(machine: &mut Machine, descriptor: &Descriptor, budget_bytes: usize) -> Outcome {
    run_under(&EVERYTHING, machine, descriptor, budget_bytes)
}

fn run_under(
    capabilities: &Capabilities,
    machine: &mut Machine,
    descriptor: &Descriptor,
    budget_bytes: usize,
) -> Outcome {
    assert_eq!(
        super::check(descriptor, capabilities),
        Ok(()),
        "{descriptor:x?}"
    );
    let mut injection = DmaFaultInjection::default();
    let requester = Requester {
        pasid: None,
        privileged: false,
    };
    let mut memory = Memory::new(machine, requester, &mut injection);
    let mut execution = Execution::new(descriptor, capabilities);
    for _ in 0..1_000_000 {
        if let Some(outcome) = execution.advance(&mut memory, budget_bytes) {
            return outcome;
        }
    }
    panic!("{descriptor:x?} does not come to an end");
}
