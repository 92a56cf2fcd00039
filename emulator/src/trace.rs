//! The descriptor trace: one JSON line for each descriptor that ended.

use std::io::Write;

use serde::Serialize;

use crate::bus::Pasid;
use crate::completion::Outcome;
use crate::descriptor::Flags;
use crate::engine::Submission;
use crate::interrupt::Table;

/// How a descriptor ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate<'a> {
    /// It ran to an end, with whatever status.
    Completed {
        outcome: &'a Outcome,
        /// A completion interrupt was raised.
        interrupted: bool,
    },
    /// An abort or a reset threw it away, or a fence before it did.
    Abandoned,
    /// A posted write that no queue took.
    Dropped,
    /// A deferrable write that was answered with retry.
    Retried,
}

/// One line of the trace.
#[derive(Serialize)]
struct Line<'a> {
    queue: usize,
    pasid: Option<u32>,
    privileged: bool,
    operation: &'a str,
    flags: String,
    /// Bytes, or the number of members of a batch.
    size: u32,
    /// Position in a batch.
    member: Option<u16>,
    portal: &'a str,
    handle: Option<u16>,
    fate: &'a str,
    status: Option<u8>,
    bytes_completed: Option<u32>,
    interrupt: bool,
}

/// Writes the line of one descriptor.
pub(crate) fn write_line(
    sink: &mut dyn Write,
    submission: &Submission,
    fate: Fate<'_>,
) -> std::io::Result<()> {
    let Submission { descriptor, origin } = submission;
    let flags = descriptor.flags();
    let (name, outcome, interrupt) = match fate {
        Fate::Completed {
            outcome,
            interrupted,
        } => ("completed", Some(outcome), interrupted),
        Fate::Abandoned => ("abandoned", None, false),
        Fate::Dropped => ("dropped", None, false),
        Fate::Retried => ("retried", None, false),
    };
    let line = Line {
        queue: origin.queue,
        pasid: origin.requester.pasid.map(Pasid::get),
        privileged: origin.requester.privileged,
        operation: descriptor.opcode().name(),
        flags: format!("{:#08x}", flags.bits()),
        size: descriptor.transfer_size(),
        member: origin.member_of.map(|(_, position)| position),
        portal: if origin.table == Table::Ims {
            "ims"
        } else {
            "msix"
        },
        handle: flags
            .contains(Flags::REQUEST_COMPLETION_INTERRUPT)
            .then(|| descriptor.interrupt_handle()),
        fate: name,
        status: outcome.map(|outcome| outcome.status.0),
        bytes_completed: outcome.map(|outcome| outcome.bytes_completed),
        interrupt,
    };
    serde_json::to_writer(&mut *sink, &line)?;
    sink.write_all(b"\n")
}
