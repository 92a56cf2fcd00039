//! The account of a run: the report of `docs/report.md` from what was counted.
//!
//! For boot and life-cycle code: it allocates, and waits for guests where they use
//! their accelerators.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use vtd::Stage;

use crate::arch::serial::Serial;
use crate::arch::{clock, features, percpu};
use crate::config::plan::GuestPlan;
use crate::host::Host;
use crate::host::accelerator::Accelerator;
use crate::host::service::Health;
use crate::mm::{frames, heap_use};
use crate::platform::hypercall::Key;
use crate::report::{
    BenchReport, Books, DsaReport, GuestReport, Held, HeldReport, IommuReport, MachineReport,
    Report, VERSION, VmPolicy, VmReport, VmResult,
};
use crate::virt::backend::Backend;
use crate::warn;

use super::counters::Reason;
use super::guest::Ending;
use super::hypervisor::{Hypervisor, Record};
use super::start;
use super::summary::Summary;

/// What the IOMMUs refused until now, by whoever keeps the book of it.
pub struct Faults<'f> {
    /// All.
    pub total: u64,
    /// Those of a guest, by its number.
    pub of_guest: &'f dyn Fn(usize) -> u64,
}

impl fmt::Debug for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

/// Writes the report to the second serial port, if the configuration wants it there.
pub fn write_report<B: Backend>(hypervisor: &Hypervisor<B>, faults: &Faults<'_>) {
    if !hypervisor.plan.report {
        return;
    }
    settle(hypervisor.host);
    let report = report(hypervisor, faults);
    match Serial::second() {
        Some(mut port) => {
            if report.write(&mut port).is_err() {
                warn!("report", "the second serial port takes nothing any more");
            }
        }
        None => warn!(
            "report",
            "there is no second serial port to write it to; \
             give the machine one (QEMU: -serial), or say report = false in weir.toml"
        ),
    }
}

/// Lets what guests had and housekeeping gives back be given back, within bounds.
fn settle(host: &Host) {
    /// Each closes several lines.
    const ROUNDS: usize = 256;
    for _ in 0..ROUNDS {
        let mut accelerators = host.accelerators.iter();
        if accelerators.all(|accelerator| accelerator.count_retired() == 0) {
            return;
        }
        host.housekeep(|_| {});
    }
}

/// All that there is to tell.
pub fn report<B: Backend>(hypervisor: &Hypervisor<B>, faults: &Faults<'_>) -> Report {
    let host = hypervisor.host;
    // Before the report itself takes memory.
    let held = HeldReport {
        before: hypervisor.held_before(),
        after: held(host),
    };
    let records = hypervisor.records.lock();
    let vms = hypervisor.plan.guests.iter().zip(records.iter());
    let vms: Vec<_> = vms
        .map(|(plan, record)| (plan, sum(record), record))
        .collect();
    let sums = vms.iter().filter_map(|(_, sum, _)| sum.as_ref());
    Report {
        version: VERSION,
        weir: env!("CARGO_PKG_VERSION"),
        machine: MachineReport {
            cpu: features::brand().as_str().trim().into(),
            cpus: percpu::all().len(),
            virtualisation: B::NAME.to_ascii_lowercase(),
            memory_bytes: hypervisor.ram_bytes,
            iommu: iommu(host, faults),
            dsa: host.accelerators.iter().map(dsa).collect(),
        },
        bench: bench(sums),
        vms: vms
            .into_iter()
            .enumerate()
            .map(|(number, (plan, sum, record))| VmReport {
                iommu_faults: (faults.of_guest)(number),
                ..vm(plan, sum, record)
            })
            .collect(),
        held,
    }
}

/// What is taken of the machine at this moment.
pub fn held(host: &Host) -> Held {
    let slots = host.accelerators.iter().map(|accelerator| {
        let counts = accelerator.slot_counts();
        (counts.total - counts.free) as u64
    });
    let processors = 0..percpu::all().len();
    let vectors = processors.map(|cpu| host.routes.count_used(cpu) as u64);
    Held {
        ims_slots: slots.sum(),
        remapping_entries: host.iommu.count_interrupts() as u64,
        vectors: vectors.sum(),
        pasids: host.iommu.count_pasids() as u64,
        domains: host.iommu.count_domains() as u64,
        free_pages: frames::count_free(),
        heap_bytes: heap_use().used_bytes as u64,
    }
}

fn iommu(host: &Host, faults: &Faults<'_>) -> IommuReport {
    IommuReport {
        units: host.iommu.count_units(),
        // Weir runs nowhere else.
        scalable_mode: true,
        tables: match host.iommu.stage() {
            Some(Stage::First) => "first-stage",
            Some(Stage::Second) | None => "second-stage",
        },
        interrupt_remapping: true,
        faults: faults.total,
    }
}

fn dsa(accelerator: &Accelerator) -> DsaReport {
    let function = accelerator.function();
    let slots = accelerator.slot_counts();
    let counters = accelerator.counters();
    let halts = counters.recoveries.load(Ordering::Relaxed)
        + u32::from(accelerator.health() != Health::Works);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    DsaReport {
        name: format!("dsa{}", accelerator.number()),
        address: format!("{:04x}:{}", function.segment, function.source),
        id: format!("{:04x}:{:04x}", function.vendor, function.device),
        ims_slots: count(slots.total),
        ims_allocated: count(slots.total - slots.free),
        ims_peak: count(slots.peak),
        software_errors: counters.software_errors.load(Ordering::Relaxed).into(),
        halts: halts.into(),
    }
}

/// What came of all lives of a guest, up to now.
fn sum<B: Backend>(record: &Record<B>) -> Option<Summary> {
    let Some(mut current) = record.current_summary() else {
        return record.total().cloned();
    };
    if let Some(earlier) = record.total() {
        current.add_earlier(earlier);
    }
    Some(current)
}

/// The figures, if a guest measured something. How large the image is, only whoever
/// loaded it knows.
fn bench<'s>(mut sums: impl Iterator<Item = &'s Summary>) -> Option<BenchReport> {
    let (sum, measured) = sums.find_map(|sum| Some((sum, sum.measured?)))?;
    Some(BenchReport {
        entry_to_guest: start::entry_to_guest(),
        guest_overhead_bytes: Some(sum.overhead_bytes),
        ..measured.report()
    })
}

fn vm<B: Backend>(plan: &GuestPlan, sum: Option<Summary>, record: &Record<B>) -> VmReport {
    let (result, reason) = result(record, sum.as_ref());
    let mut report = VmReport {
        name: plan.name.clone(),
        policy: VmPolicy::of(plan),
        result,
        code: None,
        reason,
        cpus: plan.cpus.len(),
        restarts: record.starts.saturating_sub(1).into(),
        ..VmReport::default()
    };
    if let Some(sum) = sum {
        fill(&mut report, &sum);
    }
    report
}

/// How it ended, and why.
fn result<B: Backend>(record: &Record<B>, sum: Option<&Summary>) -> (VmResult, Option<String>) {
    if record.guest().is_some_and(|guest| !guest.has_ended()) {
        return (VmResult::Running, Some("it had not ended".into()));
    }
    if let Some(failure) = &record.failure {
        return (VmResult::Stopped, Some(format!("not started: {failure}")));
    }
    match sum.and_then(|sum| sum.ending) {
        None => (VmResult::Stopped, Some("not started".into())),
        Some(Ending::Passed) => (VmResult::Passed, None),
        Some(ending) => {
            let result = match ending {
                Ending::Failed(_) => VmResult::Failed,
                Ending::PoweredOff => VmResult::Off,
                Ending::Stopped | Ending::DeviceLost(_) => VmResult::Stopped,
                _ => VmResult::Crashed,
            };
            (result, Some(ending.to_string()))
        }
    }
}

fn fill(report: &mut VmReport, sum: &Summary) {
    let exits = |reason: Reason| sum.exits.get(reason as usize).copied().unwrap_or(0);
    let told = |key: Key| sum.results.get(key as usize).copied().flatten();
    let books = books(&sum.submissions);
    report.code = match sum.ending {
        Some(Ending::Passed) => Some(0),
        Some(Ending::Failed(code)) => Some(code),
        _ => None,
    };
    let since_entry = |ticks: u64| clock::nanoseconds(ticks.wrapping_sub(start::entered())) / 1000;
    report.console_us = sum.console.map(since_entry);
    report.shell_us = sum.shell.map(since_entry);
    report.panicked = sum.panic.is_some();
    report.last_lines = sum.last_lines.iter().map(|line| line.to_string()).collect();
    report.submitted = books.submitted;
    report.completed = books.completed;
    report.handed_over = sum.submissions.accepted + sum.submissions.members;
    report.interrupts_injected =
        sum.interrupts + sum.submissions.refused_interrupts + sum.submissions.handed_on_interrupts;
    report.interrupts_merged = sum.interrupts_merged;
    let completions = sum.submissions.refused_interrupts + sum.submissions.handed_on_interrupts;
    report.interrupts_vector_0 = sum.software_interrupts.saturating_sub(completions);
    report.handles_moved = sum.handles_moved;
    report.handles_asked_again = sum.handles_asked_again;
    report.exits_submission = exits(Reason::Submission);
    report.exits_completion = exits(Reason::Interrupt) + exits(Reason::EndOfInterrupt);
    report.exits = Reason::ALL
        .into_iter()
        .map(|(reason, name)| (name, exits(reason)))
        .filter(|&(_, count)| count > 0)
        .collect();
    let refused = sum.refused.iter().filter(|(_, count)| *count > 0);
    report.refused = refused
        .map(|&(rule, count)| (rule.title(), count))
        .collect();
    report.strays = sum.strays;
    report.crc32c = told(Key::Crc32c).and_then(|crc| u32::try_from(crc).ok());
    report.reported = GuestReport {
        submitted: told(Key::Submitted),
        completed: told(Key::Completed),
        interrupts: told(Key::Interrupts),
        checks: told(Key::Checks),
        failed: told(Key::Failed),
        retried: told(Key::Retried),
        errors: told(Key::Errors),
    };
    report.books = books;
    report.pasids = sum.pasids.iter().map(|pasid| pasid.value()).collect();
    report.overhead_bytes = sum.overhead_bytes;
}

/// What became of what a guest submitted, as far as Weir can know.
fn books(counters: &vdsa::Counters) -> Books {
    let abandoned = counters.abandoned + counters.members_abandoned;
    let taken = counters.accepted + counters.members;
    Books {
        submitted: counters.submitted + counters.members,
        completed: taken.saturating_sub(counters.members_refused + abandoned),
        refused: counters.refused + counters.members_refused,
        retried: counters.retried,
        dropped: counters.dropped,
        abandoned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_count_batches_and_their_members() {
        // 10 portal writes: 5 taken, of which two are batches with 8 members each, 2
        // refused, 2 retried, 1 dropped. 3 members are refused; one batch was given up.
        let counters = vdsa::Counters {
            submitted: 10,
            accepted: 5,
            refused: 2,
            retried: 2,
            dropped: 1,
            batches: 2,
            members: 16,
            members_refused: 3,
            abandoned: 1,
            members_abandoned: 8,
            ..vdsa::Counters::default()
        };
        let books = books(&counters);
        let expected = Books {
            submitted: 26,
            completed: 9,
            refused: 5,
            retried: 2,
            dropped: 1,
            abandoned: 9,
        };
        assert_eq!(books, expected);
        assert!(books.balance());
        // A submission that nobody knows the fate of.
        let lost = vdsa::Counters {
            submitted: 11,
            ..counters
        };
        assert!(!super::books(&lost).balance());
    }
}
