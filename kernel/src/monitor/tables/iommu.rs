//! The remapping units, and what they refused.

use core::fmt;

use vtd::{FaultTarget, Stage};

use super::{Next, World, put};
use crate::host::iommu::UnitIndex;
use crate::monitor::faults::{Seen, access};
use crate::monitor::text::{Bytes, Cell, Line, Nanoseconds};
use crate::virt::backend::Backend;
use crate::vm::build::Reach;

const DOMAINS: &str = "  DOMAIN VM              PASIDS   TABLES REACHES";
const DEVICES: &str = "  DEVICE       NAME  PASIDS";
const FAULTS: &str =
    "  AGO          VM              PASID    DEVICE       ACCESS ADDRESS            REASON";

/// Where in the answer.
#[derive(Clone, Copy, Debug)]
enum At {
    Unit,
    Devices(usize),
    Domains(usize),
    Faults(usize),
    Counts(usize),
}

#[derive(Debug)]
pub(super) struct Units {
    unit: usize,
    at: At,
}

impl Default for Units {
    fn default() -> Self {
        Self {
            unit: 0,
            at: At::Unit,
        }
    }
}

/// A fault that is remembered.
struct FaultRow<'r> {
    seen: &'r Seen,
    now_ns: u64,
    guest: Option<&'r str>,
}

impl fmt::Display for FaultRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = &self.seen.report.fault;
        write!(
            f,
            "  {:<12} {:<15} {:<8} {:04x}:{} ",
            Nanoseconds(self.now_ns.saturating_sub(self.seen.at_ns)),
            self.guest.unwrap_or("-"),
            Cell::of(fault.pasid),
            self.seen.segment,
            fault.source,
        )?;
        match fault.target {
            FaultTarget::Memory { kind, address } => write!(
                f,
                "{:<6} {:<18} ",
                access(kind),
                Cell::Shows(format_args!("{address:#x}"))
            )?,
            FaultTarget::Interrupt(index) => {
                write!(f, "{:<6} {:<18} ", "int", Cell::of(index))?;
            }
        }
        write!(f, "{}", fault.reason)
    }
}

impl Units {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        let mut units = world.hypervisor.host.iommu.unit_indices();
        let unit = units.nth(self.unit);
        match (self.at, unit) {
            (At::Faults(place), _) => self.faults(place, world, line),
            (At::Counts(guest), _) => self.counts(guest, world, line),
            (_, None) => {
                self.at = At::Faults(0);
                Next::Skip
            }
            (At::Unit, Some(unit)) => self.unit(unit, world, line),
            (At::Devices(place), Some(unit)) => self.device(unit, place, world, line),
            (At::Domains(place), Some(unit)) => self.domain(unit, place, world, line),
        }
    }

    fn unit<B: Backend>(
        &mut self,
        index: UnitIndex,
        world: &World<'_, B>,
        line: &mut Line,
    ) -> Next {
        let Some(unit) = world.hypervisor.host.iommu.try_unit(index) else {
            if world.is_patient {
                return Next::Busy;
            }
            self.unit += 1;
            return put!(line, "unit {}: busy, ask again", index.number());
        };
        self.at = At::Devices(0);
        put!(
            line,
            "unit {} at {:#x}, segment {:04x}: {} tables, PASIDs to {}, {} domains, {} of {} \
             remapping entries in use",
            index.number(),
            unit.base.as_u64(),
            unit.segment,
            match unit.capabilities.stage {
                Stage::First => "first-stage",
                Stage::Second => "second-stage",
            },
            unit.capabilities.highest_pasid,
            unit.count_domains,
            unit.interrupts.used,
            unit.interrupts.total,
        )
    }

    fn device<B: Backend>(
        &mut self,
        unit: UnitIndex,
        place: usize,
        world: &World<'_, B>,
        line: &mut Line,
    ) -> Next {
        let Some(number) = place.checked_sub(1) else {
            self.at = At::Devices(1);
            return put!(line, "{DEVICES}");
        };
        let host = world.hypervisor.host;
        match host.iommu.try_device(unit, number) {
            Some(Some(device)) => {
                self.at = At::Devices(place + 1);
                let mut accelerators = host.accelerators.iter();
                let accelerator = accelerators.find(|accelerator| {
                    accelerator.unit() == unit && accelerator.source() == device.source
                });
                put!(
                    line,
                    "  {:04x}:{} ",
                    host.iommu.segment(unit),
                    device.source
                );
                match accelerator {
                    Some(accelerator) => put!(
                        line,
                        "{:<5} {:>6}",
                        Cell::Shows(format_args!("dsa{}", accelerator.number())),
                        // The one of requests without PASID leads nowhere.
                        device.count_pasids.saturating_sub(1)
                    ),
                    None => put!(line, "-          - what firmware reserved for it"),
                }
            }
            None if world.is_patient => Next::Busy,
            _ => {
                self.at = At::Domains(0);
                Next::Skip
            }
        }
    }

    fn domain<B: Backend>(
        &mut self,
        unit: UnitIndex,
        place: usize,
        world: &World<'_, B>,
        line: &mut Line,
    ) -> Next {
        let Some(number) = place.checked_sub(1) else {
            self.at = At::Domains(1);
            return put!(line, "{DOMAINS}");
        };
        match world.hypervisor.host.iommu.try_domain(unit, number) {
            Some(Some(domain)) => {
                self.at = At::Domains(place + 1);
                let mut owners = (0..).zip(world.records);
                let owner = owners.find_map(|(guest, record)| {
                    let reach = record.parts()?.find_domain(unit, domain.id.number())?;
                    Some((world.name(guest)?, reach))
                });
                let (name, reaches) = match owner {
                    Some((name, Reach::Ram)) => (name, "its RAM"),
                    Some((name, Reach::RamAndWindow)) => {
                        (name, "its RAM, and the window of its checked queues")
                    }
                    None if number == 0 => ("-", "nothing"),
                    None => ("-", "what firmware reserved, or it could not be given back"),
                };
                put!(
                    line,
                    "  {:>6} {name:<15} {:>6} {:>8} {reaches}",
                    domain.id.number(),
                    domain.count_pasids,
                    Bytes(domain.count_tables as u64 * 4096),
                )
            }
            None if world.is_patient => Next::Busy,
            _ => {
                self.unit += 1;
                self.at = At::Unit;
                Next::Skip
            }
        }
    }

    fn faults<B: Backend>(&mut self, place: usize, world: &World<'_, B>, line: &mut Line) -> Next {
        self.at = At::Faults(place + 1);
        match place {
            0 => {
                let (events, overflows) = world.hypervisor.host.iommu.fault_events();
                put!(
                    line,
                    "faults: {} seen, {events} events, {overflows} times some were lost",
                    world.faults.total()
                )
            }
            1 if world.faults.total() == 0 => Next::End,
            1 => put!(line, "{FAULTS}"),
            place => match world.faults.recent(place - 2) {
                Some(seen) => {
                    let guest = seen.report.vm.and_then(|vm| world.name(vm.into()));
                    let row = FaultRow {
                        seen,
                        now_ns: world.own.now_ns,
                        guest,
                    };
                    put!(line, "{row}")
                }
                None => {
                    self.at = At::Counts(0);
                    Next::Skip
                }
            },
        }
    }

    /// How many faults each guest caused.
    fn counts<B: Backend>(&mut self, guest: usize, world: &World<'_, B>, line: &mut Line) -> Next {
        let Some(name) = world.name(guest) else {
            return Next::End;
        };
        self.at = At::Counts(guest + 1);
        match world.faults.of_guest(guest) {
            0 => Next::Skip,
            count => put!(line, "  {name}: {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use hwspec::pci::{Pasid, SourceId};
    use hwspec::vtd::FaultReason;
    use vtd::{Fault, RequestKind};

    use super::super::shown;
    use super::*;
    use crate::host::iommu::FaultReport;

    #[test]
    fn faults_stand_below_the_header() {
        let seen = |target, pasid| Seen {
            at_ns: 1_000_000,
            report: FaultReport {
                unit: UnitIndex::FIRST,
                fault: Fault {
                    reason: FaultReason::NO_WRITE,
                    source: SourceId::from_bits(0x20),
                    pasid,
                    target,
                },
                vm: None,
            },
            segment: 0,
        };
        let memory = FaultTarget::Memory {
            kind: RequestKind::Write,
            address: 0x40_0000_1000,
        };
        let row = |seen: &Seen, guest| {
            shown(&FaultRow {
                seen,
                now_ns: 3_500_000,
                guest,
            })
        };
        assert_eq!(
            [
                FAULTS,
                &row(&seen(memory, Pasid::new(9)), Some("adversary")),
                &row(&seen(FaultTarget::Interrupt(Some(7)), None), None),
            ],
            [
                "  AGO          VM              PASID    DEVICE       ACCESS ADDRESS            REASON",
                "  2.500 ms     adversary       0x9      0000:00:04.0 write  0x4000001000       page not writable (85h)",
                "  2.500 ms     -               -        0000:00:04.0 int    7                  page not writable (85h)",
            ]
        );
    }
}
