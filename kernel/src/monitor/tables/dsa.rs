//! The accelerators.

use core::fmt;

use dsa::QueueMode;

use super::{Next, World, put};
use crate::config::plan::{Policy, QueuePlan};
use crate::host::accelerator::{Accelerator, Cause, NeededReset};
use crate::host::service::Health;
use crate::monitor::text::{Bytes, Cell, Line, List};
use crate::virt::backend::Backend;

const HEADER: &str = "  QUEUE   MODE       STATE     PASID      SIZE THRESHOLD PRIORITY GROUP     \
                      ENGINES  TRANSFER  BATCH POLICY   GUESTS";

#[derive(Debug, Default)]
pub(super) struct Dsa {
    device: usize,
    line: usize,
}

/// A work queue.
struct Row<'r> {
    dsa: u8,
    queue: &'r QueuePlan,
    /// As the device is set up: a plan may show a shared queue where there is none.
    mode: QueueMode,
    engines: &'r [u8],
    /// How it is enabled.
    enabled: Cell<dsa::QueuePasid>,
    policy: Cell<Policy>,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dsa, queue, .. } = self;
        let (mode, threshold) = match self.mode {
            QueueMode::Dedicated => ("dedicated", Cell::Nothing),
            QueueMode::Shared => ("shared", Cell::Shows(queue.threshold)),
        };
        let state = match self.enabled {
            Cell::Shows(_) => "enabled",
            Cell::Nothing => "disabled",
            Cell::Busy => "busy",
        };
        let pasid = match (self.enabled, self.mode) {
            // Each descriptor brings its own.
            (Cell::Shows(_), QueueMode::Shared) => Cell::Nothing,
            (enabled, _) => enabled.map(|enabled| enabled.pasid),
        };
        write!(
            f,
            "  {:<7} {mode:<10} {state:<9} {pasid:<10} {:>4} {threshold:>9} {:>8} {:<9} {:<8} {:>8} \
             {:>6} {:<8}",
            format_args!("wq{dsa}.{}", queue.index).padded(),
            queue.size,
            queue.priority,
            format_args!("group{dsa}.{}", queue.group).padded(),
            List(self.engines.iter()),
            Bytes(1 << queue.max_transfer_log2.min(63)),
            1_u32 << queue.max_batch_log2.min(31),
            self.policy.map(|policy| match policy {
                Policy::Checked => "checked",
                Policy::Direct => "direct",
            }),
        )
    }
}

/// Formatted text that keeps a width.
trait Padded: Sized {
    fn padded(self) -> Cell<Self>;
}

impl Padded for fmt::Arguments<'_> {
    fn padded(self) -> Cell<Self> {
        Cell::Shows(self)
    }
}

/// Whether a device works.
struct HealthText(Health, Option<dsa::Error>);

impl fmt::Display for HealthText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Health::Works => f.write_str("works"),
            Health::Recovers => f.write_str("halted, is being reset"),
            Health::Halted(reset) => write!(f, "halted; needs {}", NeededReset(reset)),
            Health::Failed => write!(f, "failed: {}; restart the machine", Cause(self.1)),
        }
    }
}

impl Dsa {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        let Some(accelerator) = world.hypervisor.host.accelerators.get(self.device) else {
            return Next::End;
        };
        let plan = world.hypervisor.plan.dsas.get(self.device);
        let queues = plan.map_or(&[][..], |plan| &plan.queues);
        let next = match self.line {
            0 => introduce(accelerator, line),
            1 => status(world, accelerator, line),
            2 => last_error(world, accelerator, line),
            3 if queues.is_empty() => {
                put!(
                    line,
                    "  no queues: the configuration uses none of this device"
                )
            }
            3 => put!(line, "{HEADER}"),
            number => match queues.get(number - 4) {
                Some(queue) => row(world, self.device, accelerator, queue, line),
                None => {
                    self.device += 1;
                    self.line = 0;
                    return Next::Skip;
                }
            },
        };
        if next != Next::Busy {
            self.line += 1;
        }
        next
    }
}

fn introduce(accelerator: &Accelerator, line: &mut Line) -> Next {
    let has = accelerator.capabilities();
    let function = accelerator.function();
    put!(
        line,
        "dsa{}  {}  {:04x}:{:04x}  {} queues, {} entries, {} groups, {} engines, {} IMS slots, \
         handles by {}",
        accelerator.number(),
        accelerator.address(),
        function.vendor,
        function.device,
        has.count_queues(),
        has.count_entries(),
        has.count_groups(),
        has.count_engines(),
        has.count_ims_entries(),
        match has.has_handle_commands() {
            true => "command",
            false => "index",
        },
    )
}

fn status<B: Backend>(world: &World<'_, B>, accelerator: &Accelerator, line: &mut Line) -> Next {
    use core::sync::atomic::Ordering::Relaxed;
    let counters = accelerator.counters();
    match accelerator.try_status() {
        Some(status) => put!(
            line,
            "  {}; {} of {} IMS slots in use; ",
            HealthText(status.health, status.cause),
            status.slots.total - status.slots.free,
            status.slots.total,
        ),
        None if world.is_patient => return Next::Busy,
        None => put!(line, "  busy; "),
    };
    put!(
        line,
        "software errors {} (nobody's {}, lost {}), commands refused {}, recoveries {}",
        counters.software_errors.load(Relaxed),
        counters.unowned_errors.load(Relaxed),
        counters.lost_errors.load(Relaxed),
        counters.refused_commands.load(Relaxed),
        counters.recoveries.load(Relaxed),
    )
}

fn last_error<B: Backend>(
    world: &World<'_, B>,
    accelerator: &Accelerator,
    line: &mut Line,
) -> Next {
    match accelerator.try_status() {
        Some(status) => match status.last_error {
            Some(error) => {
                let pasid = error.descriptor.map(|descriptor| descriptor.pasid);
                let owner = pasid.and_then(|pasid| world.owner(pasid));
                put!(line, "  last software error: {error}");
                match owner {
                    Some(owner) => put!(line, " (now of {owner})"),
                    None => Next::Line,
                }
            }
            None => Next::Skip,
        },
        None if world.is_patient => Next::Busy,
        None => Next::Skip,
    }
}

fn row<B: Backend>(
    world: &World<'_, B>,
    device: usize,
    accelerator: &Accelerator,
    queue: &QueuePlan,
    line: &mut Line,
) -> Next {
    let enabled = match accelerator.try_queue(queue.index) {
        Some(enabled) => Cell::of(enabled),
        None if world.is_patient => return Next::Busy,
        None => Cell::Busy,
    };
    let plan = &world.hypervisor.plan;
    let owners = || {
        plan.guests.iter().flat_map(move |guest| {
            let dsas = guest.dsas.iter().filter(move |dsa| dsa.dsa == device);
            let queues = dsas.flat_map(|dsa| &dsa.queues);
            queues
                .filter(|own| own.physical.index == queue.index)
                .map(|own| (guest.name.as_str(), own.policy))
        })
    };
    let groups = plan.dsas.get(device).map_or(&[][..], |dsa| &dsa.groups);
    let group = groups.iter().find(|group| group.index == queue.group);
    let row = Row {
        dsa: accelerator.number(),
        queue,
        mode: accelerator
            .mode(queue.index)
            .unwrap_or(QueueMode::Dedicated),
        engines: group.map_or(&[], |group| &group.engines),
        enabled,
        policy: Cell::of(owners().map(|(_, policy)| policy).next()),
    };
    put!(line, "{row}");
    for (place, (name, _)) in owners().enumerate() {
        let comma = if place == 0 { " " } else { ", " };
        put!(line, "{comma}{name}");
    }
    Next::Line
}

#[cfg(test)]
mod tests {
    use dsa::QueuePasid;
    use hwspec::pci::Pasid;

    use super::super::shown;
    use super::*;
    use crate::config::plan::Mode;

    #[test]
    fn queues_stand_below_the_header() {
        let queue = QueuePlan {
            index: 1,
            mode: Mode::Shared,
            size: 32,
            threshold: 16,
            priority: 10,
            group: 3,
            max_transfer_log2: 31,
            max_batch_log2: 10,
        };
        let enabled = QueuePasid::unprivileged(Pasid::new(0x1a).unwrap());
        let shared = Row {
            dsa: 0,
            queue: &queue,
            mode: QueueMode::Shared,
            engines: &[1, 3],
            enabled: Cell::Shows(enabled),
            policy: Cell::Shows(Policy::Checked),
        };
        let dedicated = Row {
            dsa: 12,
            mode: QueueMode::Dedicated,
            enabled: Cell::Shows(enabled),
            policy: Cell::Shows(Policy::Direct),
            ..shared
        };
        let disabled = Row {
            enabled: Cell::Nothing,
            policy: Cell::Nothing,
            ..shared
        };
        assert_eq!(
            [
                HEADER,
                &shown(&shared),
                &shown(&dedicated),
                &shown(&disabled)
            ],
            [
                "  QUEUE   MODE       STATE     PASID      SIZE THRESHOLD PRIORITY GROUP     ENGINES  TRANSFER  BATCH POLICY   GUESTS",
                "  wq0.1   shared     enabled   -            32        16       10 group0.3  1,3         2 GiB   1024 checked ",
                "  wq12.1  dedicated  enabled   0x1a         32         -       10 group12.3 1,3         2 GiB   1024 direct  ",
                "  wq0.1   shared     disabled  -            32        16       10 group0.3  1,3         2 GiB   1024 -       ",
            ]
        );
    }

    #[test]
    fn health_says_what_to_do() {
        use hwspec::dsa::{CmdStatus, CommandCode, ResetType};
        assert_eq!(shown(&HealthText(Health::Works, None)), "works");
        let halted = HealthText(Health::Halted(ResetType::FunctionLevel), None);
        assert_eq!(shown(&halted), "halted; needs a function-level reset");
        let cause = dsa::Error::Timeout {
            command: CommandCode::ABORT_PASID,
            status: CmdStatus::from_bits(0x8000_0000),
        };
        assert_eq!(
            shown(&HealthText(Health::Failed, Some(cause))),
            "failed: abort PASID (0x0c) has not ended, CMDSTATUS is 0x80000000; restart the machine"
        );
    }
}
