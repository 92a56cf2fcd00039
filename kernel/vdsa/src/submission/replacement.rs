//! What stands in a batch in the place of a refused member.
//!
//! The device itself has to refuse it with the same code, so that the record, the
//! interrupt, the batch's status, its count and fences come out as if it had checked
//! the member. The replacement keeps what decides about those: the fence flag, the
//! completion record, and the interrupt if the member may have it. Everything else is
//! chosen so that one thing alone is wrong, since a device may check in any order, and
//! so that nothing of the guest is touched should it be executed after all: operands
//! are in the part of the window that the device only reads.
//!
//! | code | replacement |
//! |---|---|
//! | 0x10 | operation 0xff, which no device has |
//! | 0x11, flags that must be 0 | no-op with the same flags, which are reserved there too |
//! | 0x11, flags that must be 1 | DIF Check, which requires them too |
//! | 0x12 | no-op with its last byte set |
//! | 0x13 | the same operation and flags, of no bytes |
//! | 0x15 | the same operation and flags, with a delta record of a wrong size |
//! | 0x16 | the same operation and flags, with the buffers at one address |
//! | 0x17 | dualcast to two addresses 64 bytes apart |
//! | 0x19 | no-op with interrupt handle 0xffff |
//! | 0x1a | move from where nothing is, and a record there (see below) |
//! | 0x1b | no-op with the misaligned record |
//! | 0x1c | the same operation and flags, with one address misaligned |
//! | 0x20 | move from where nothing is |
//!
//! Without ATS no device reports code 0x1a, a page fault on a completion record: it
//! loses the record without notice. The replacement does lose it, and fails; the code
//! itself goes to the guest's SWERROR when the batch is submitted.
//!
//! 0x20 is what a device without ATS says of a read that faults. With ATS it would
//! be 0x03.

use hwspec::dsa::{Operation, Status};

use super::check::{operation, row};
use super::fault::Fault;
use super::operations::{
    FENCE, FLAGS, INTERRUPT, Kind, READ_SEED, RECORD, RECORD_TC, RECORD_VALID,
};
use super::window::Layout;

/// An operation that no specification defines.
const NO_OPERATION: Operation = Operation(0xff);
/// A handle that no table is large enough for.
const NO_HANDLE: u64 = 0xffff << 32;
/// The interrupt handle, in word 4.
const HANDLE: u64 = 0xffff << 32;

const fn operation_bits(operation: Operation) -> u64 {
    (operation.0 as u64) << 56
}

/// The descriptor for the place of `member`, which has `fault`. `may_interrupt` says
/// that the handle is one that the member may use, if it asks for an interrupt.
#[cold]
pub(super) fn replacement(
    member: &[u64; 8],
    fault: &Fault,
    may_interrupt: bool,
    layout: &Layout,
) -> [u64; 8] {
    let mut keep = FENCE;
    if member[0] & RECORD_VALID != 0 {
        keep |= RECORD_VALID | RECORD | RECORD_TC;
    }
    let mut words = [0; 8];
    if may_interrupt {
        keep |= INTERRUPT;
        words[4] = member[4] & HANDLE;
    }
    words[0] = member[0] & keep;
    if words[0] & RECORD_VALID != 0 {
        words[1] = member[1];
    }
    let no_op = operation_bits(Operation::NO_OP);

    match fault.rule.status() {
        Status::INVALID_FLAGS => wrong_flags(member, fault, layout, &mut words),
        Status::RESERVED_FIELD => {
            words[0] |= no_op;
            words[7] = 1 << 56;
        }
        Status::INTERRUPT_HANDLE => {
            words[0] |= no_op | INTERRUPT;
            words[4] = NO_HANDLE;
        }
        Status::RECORD_ALIGNMENT => words[0] |= no_op,
        Status::HARDWARE_ERROR => read_of_nothing(layout, &mut words),
        Status::RECORD_PAGE_FAULT => {
            read_of_nothing(layout, &mut words);
            words[1] = layout.hole();
        }
        Status::TRANSFER_SIZE
        | Status::UNSUPPORTED_VALUE
        | Status::OVERLAP
        | Status::DUALCAST_ALIGNMENT
        | Status::ALIGNMENT => wrong_operands(member, fault, layout, &mut words),
        _ => words[0] |= operation_bits(NO_OPERATION),
    }
    words
}

/// A move that fails on its first byte.
fn read_of_nothing(layout: &Layout, words: &mut [u64; 8]) {
    words[0] |= operation_bits(Operation::MEMORY_MOVE);
    words[2] = layout.hole();
    words[3] = layout.read_only();
    words[4] |= 1;
}

fn wrong_flags(member: &[u64; 8], fault: &Fault, layout: &Layout, words: &mut [u64; 8]) {
    let invalid = fault.invalid_flags;
    if invalid & !member[0] == 0 {
        words[0] |= operation_bits(Operation::NO_OP) | invalid;
        return;
    }
    // Of the operations that require the record's flags, the one that allows the fewest
    // others: none that are invalid for one that requires them.
    words[0] |= operation_bits(Operation::DIF_CHECK) | invalid & member[0];
    words[2] = layout.read_only();
    words[4] |= 520;
}

/// The member's operation and flags, with operands that are right but for one thing.
fn wrong_operands(member: &[u64; 8], fault: &Fault, layout: &Layout, words: &mut [u64; 8]) {
    let code = fault.rule.status();
    let Some(row) = row(member) else {
        words[0] |= operation_bits(NO_OPERATION);
        return;
    };
    let source = layout.read_only();
    let destination = source + 0x800;
    let size;
    words[2] = source;
    words[3] = destination;
    match row.kind {
        Kind::CreateDelta => {
            size = 8;
            words[5] = if code == Status::OVERLAP {
                source
            } else {
                source + 0x400
            };
            words[6] = if code == Status::UNSUPPORTED_VALUE {
                10
            } else {
                80
            };
        }
        Kind::ApplyDelta => {
            size = 8;
            words[5] = if code == Status::UNSUPPORTED_VALUE {
                1
            } else {
                10
            };
        }
        Kind::Dualcast => {
            size = 8;
            let apart = if code == Status::DUALCAST_ALIGNMENT {
                64
            } else {
                0x1000
            };
            words[5] = destination + apart;
        }
        Kind::Crc | Kind::CopyCrc => {
            size = 8;
            if row.kind == Kind::Crc {
                words[3] = 0;
            }
            if member[0] & READ_SEED != 0 {
                words[6] = source;
            }
        }
        Kind::DifCheck => {
            size = 520;
            words[3] = 0;
        }
        Kind::DifStrip | Kind::DifUpdate => size = 520,
        Kind::DifInsert => size = 512,
        Kind::ComparePattern => {
            size = 8;
            words[3] = 0;
        }
        Kind::Fill | Kind::CacheFlush => {
            size = 8;
            words[2] = 0;
        }
        Kind::NoOp | Kind::Batch | Kind::Drain | Kind::Move | Kind::Compare => size = 8,
    }
    match code {
        Status::TRANSFER_SIZE => {}
        Status::OVERLAP => {
            words[4] |= size;
            if row.kind != Kind::CreateDelta {
                words[3] = source;
            }
            if row.kind == Kind::Dualcast {
                words[5] = source;
            }
        }
        Status::ALIGNMENT => {
            words[4] |= size;
            match row.kind {
                Kind::ApplyDelta => words[3] += 4,
                Kind::Crc | Kind::CopyCrc => words[6] += 2,
                _ => words[2] += 4,
            }
        }
        _ => words[4] |= size,
    }
    // Interrupts stay as they were decided before.
    words[0] |= member[0] & (FLAGS & !INTERRUPT) | operation_bits(operation(member));
}
