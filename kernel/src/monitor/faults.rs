//! What the IOMMUs refused: counted, said in words, and remembered for a while.
//!
//! A guest can cause any number of faults, so few of them are printed in a second, and
//! the others are counted. [`FaultLog::note`] only stores.

use core::fmt;

use arrayvec::ArrayVec;
use hwspec::vtd::FaultReason;
use vtd::{FaultTarget, RequestKind};

use crate::host::iommu::FaultReport;
use crate::vm::shared::MAX_GUESTS;

/// How many faults are remembered.
pub const KEPT: usize = 16;
/// How many are printed in a second.
const PRINTED: usize = 2;
const SECOND_NS: u64 = 1_000_000_000;

/// A fault, and when it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// In nanoseconds since the monitor began.
    pub at_ns: u64,
    /// What it was.
    pub report: FaultReport,
    /// The PCI segment of the device.
    pub segment: u16,
}

/// The book of faults.
#[derive(Debug)]
pub struct FaultLog {
    total: u64,
    by_guest: [u64; MAX_GUESTS],
    last: [Option<Seen>; KEPT],
    next: usize,
    /// To be printed.
    waiting: ArrayVec<Seen, PRINTED>,
    /// How many were taken for printing in the second that began then.
    count: usize,
    second_began: u64,
    not_printed: u64,
}

/// A line for the log.
#[derive(Clone, Copy, Debug)]
pub enum News {
    /// A fault.
    Fault(Seen),
    /// So many more were not printed.
    More(u64),
}

impl FaultLog {
    /// An empty one.
    pub const fn new() -> Self {
        Self {
            total: 0,
            by_guest: [0; MAX_GUESTS],
            last: [None; KEPT],
            next: 0,
            waiting: ArrayVec::new_const(),
            count: 0,
            second_began: 0,
            not_printed: 0,
        }
    }

    /// Keeps a fault.
    pub fn note(&mut self, seen: Seen) {
        self.total += 1;
        let guest = seen.report.vm.map(usize::from);
        if let Some(count) = guest.and_then(|guest| self.by_guest.get_mut(guest)) {
            *count += 1;
        }
        if let Some(place) = self.last.get_mut(self.next) {
            *place = Some(seen);
        }
        self.next = (self.next + 1) % KEPT;
        if self.count < PRINTED && self.waiting.try_push(seen).is_ok() {
            self.count += 1;
        } else {
            self.not_printed += 1;
        }
    }

    /// What is to be printed at `now_ns`, one line at a time.
    pub fn take_news(&mut self, now_ns: u64) -> Option<News> {
        if let Some(seen) = self.waiting.pop_at(0) {
            return Some(News::Fault(seen));
        }
        if now_ns.saturating_sub(self.second_began) < SECOND_NS {
            return None;
        }
        self.second_began = now_ns;
        self.count = 0;
        let more = core::mem::take(&mut self.not_printed);
        (more > 0).then_some(News::More(more))
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many a guest caused.
    pub fn of_guest(&self, number: usize) -> u64 {
        self.by_guest.get(number).copied().unwrap_or(0)
    }

    /// The last ones: `place` 0 is the newest.
    pub fn recent(&self, place: usize) -> Option<&Seen> {
        if place >= KEPT {
            return None;
        }
        self.last
            .get((self.next + KEPT - 1 - place) % KEPT)?
            .as_ref()
    }
}

impl Default for FaultLog {
    fn default() -> Self {
        Self::new()
    }
}

/// A fault as a log line has it.
#[derive(Clone, Copy, Debug)]
pub struct Described<'n> {
    /// The fault.
    pub seen: &'n Seen,
    /// The guest's name.
    pub guest: Option<&'n str>,
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = &self.seen.report.fault;
        write!(f, "guest={}", self.guest.unwrap_or("none"))?;
        if let Some(pasid) = fault.pasid {
            write!(f, " pasid={pasid}")?;
        }
        write!(f, " device={:04x}:{}", self.seen.segment, fault.source)?;
        match fault.target {
            FaultTarget::Memory { kind, address } => {
                write!(f, " access={} address={address:#x}", access(kind))?;
            }
            FaultTarget::Interrupt(Some(index)) => write!(f, " interrupt={index}")?,
            FaultTarget::Interrupt(None) => f.write_str(" interrupt=unknown")?,
        }
        write!(
            f,
            ": {}; {}",
            fault.reason,
            meaning(fault.reason, self.guest.is_some())
        )
    }
}

/// What a device wanted to do.
pub const fn access(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Write => "write",
        RequestKind::Read => "read",
        RequestKind::Atomic => "atomic",
        RequestKind::PageRequest => "page-request",
    }
}

/// What that means for whoever reads it, and what there is to do.
const fn meaning(reason: FaultReason, is_of_guest: bool) -> &'static str {
    if reason.is_interrupt() {
        return "the interrupt was blocked; if this goes on, the device is not as it was set up";
    }
    match reason {
        FaultReason::PASID_DIRECTORY_NOT_PRESENT
        | FaultReason::PASID_NOT_PRESENT
        | FaultReason::PASID_BEYOND_DIRECTORY
        | FaultReason::PASID_TOO_WIDE => {
            "the access was blocked, for this PASID leads nowhere; a guest that just ended may \
             have left it behind"
        }
        FaultReason::ROOT_NOT_PRESENT | FaultReason::CONTEXT_NOT_PRESENT => {
            "the access was blocked, for nobody let this device reach memory"
        }
        FaultReason::FIRST_STAGE_NOT_PRESENT
        | FaultReason::SECOND_STAGE_NOT_PRESENT
        | FaultReason::NOT_CANONICAL
        | FaultReason::PRIVILEGE
        | FaultReason::HOST_ADDRESS
        | FaultReason::GUEST_ADDRESS
        | FaultReason::NO_WRITE
        | FaultReason::NO_READ => {
            if is_of_guest {
                "the access was blocked; the guest gave its accelerator an address outside of its \
                 memory"
            } else {
                "the access was blocked; no guest has this PASID, so a device acts by itself"
            }
        }
        _ => "the access was blocked; tables or hardware are not as Weir left them, report this",
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use hwspec::pci::{Pasid, SourceId};
    use vtd::Fault;

    use super::*;
    use crate::host::iommu::UnitIndex;

    fn seen(vm: Option<u16>, address: u64) -> Seen {
        Seen {
            at_ns: address,
            report: FaultReport {
                unit: UnitIndex::FIRST,
                fault: Fault {
                    reason: FaultReason::SECOND_STAGE_NOT_PRESENT,
                    source: SourceId::from_bits(0x20),
                    pasid: Pasid::new(9),
                    target: FaultTarget::Memory {
                        kind: RequestKind::Write,
                        address,
                    },
                },
                vm,
            },
            segment: 0,
        }
    }

    fn news(log: &mut FaultLog, now_ns: u64) -> Vec<Result<u64, u64>> {
        let mut all = Vec::new();
        while let Some(news) = log.take_news(now_ns) {
            all.push(match news {
                News::Fault(seen) => Ok(seen.at_ns),
                News::More(count) => Err(count),
            });
        }
        all
    }

    #[test]
    fn a_line_names_guest_pasid_device_address_and_meaning() {
        let of_guest = seen(Some(2), 0x4000_0000);
        let described = Described {
            seen: &of_guest,
            guest: Some("adversary"),
        };
        assert_eq!(
            described.to_string(),
            "guest=adversary pasid=0x9 device=0000:00:04.0 access=write address=0x40000000: \
             second-stage entry not present (79h); the access was blocked; the guest gave its \
             accelerator an address outside of its memory"
        );
        let mut interrupt = seen(None, 0);
        interrupt.segment = 1;
        interrupt.report.fault = Fault {
            reason: FaultReason::INTERRUPT_SOURCE,
            source: SourceId::from_bits(0x6aff),
            pasid: None,
            target: FaultTarget::Interrupt(Some(7)),
        };
        let described = Described {
            seen: &interrupt,
            guest: None,
        };
        assert_eq!(
            described.to_string(),
            "guest=none device=0001:6a:1f.7 interrupt=7: interrupt from a source that may not use \
             the entry (26h); the interrupt was blocked; if this goes on, the device is not as it \
             was set up"
        );
    }

    #[test]
    fn every_reason_has_a_meaning_that_fits() {
        assert!(meaning(FaultReason::NO_WRITE, true).contains("the guest gave"));
        assert!(meaning(FaultReason::NO_WRITE, false).contains("no guest has this PASID"));
        assert!(meaning(FaultReason::PASID_NOT_PRESENT, false).contains("leads nowhere"));
        assert!(meaning(FaultReason::CONTEXT_NOT_PRESENT, false).contains("nobody let"));
        assert!(meaning(FaultReason::ROOT_RESERVED, true).contains("report this"));
        assert!(meaning(FaultReason(0xee), true).contains("report this"));
    }

    #[test]
    fn few_are_printed_in_a_second_and_the_others_counted() {
        let mut log = FaultLog::new();
        for address in 0..10 {
            log.note(seen(Some(1), address));
        }
        assert_eq!(news(&mut log, 5), [Ok(0), Ok(1)]);
        log.note(seen(None, 10));
        assert_eq!(news(&mut log, 999_999_999), []);
        assert_eq!(news(&mut log, 1_000_000_000), [Err(9)]);
        log.note(seen(Some(40_000), 11));
        assert_eq!(news(&mut log, 1_000_000_001), [Ok(11)]);
        assert_eq!(news(&mut log, 2_000_000_000), []);
        assert_eq!(log.total(), 12);
        assert_eq!((log.of_guest(1), log.of_guest(0)), (10, 0));
        assert_eq!(log.of_guest(MAX_GUESTS), 0);
    }

    #[test]
    fn the_last_are_remembered_newest_first() {
        let mut log = FaultLog::new();
        assert!(log.recent(0).is_none());
        for address in 0..20 {
            log.note(seen(None, address));
        }
        let recent: Vec<_> = (0..=KEPT)
            .map_while(|place| Some(log.recent(place)?.at_ns))
            .collect();
        assert_eq!(recent, (4..20).rev().collect::<Vec<_>>());
    }
}
