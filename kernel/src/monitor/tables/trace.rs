//! The last events of all processors, in the order of their times.

use core::fmt;

use hwspec::dsa::{CommandCode, Status};

use super::{Next, World, put};
use crate::arch::{clock, percpu};
use crate::monitor::text::{Cell, Line, Nanoseconds};
use crate::trace::{self, Event, Kind};
use crate::virt::backend::Backend;

const HEADER: &str = "AGO          CPU VM              EVENT        WHAT";

/// How many processors are looked at.
pub const MAX_PROCESSORS: usize = 64;
/// How many events of each are shown.
const SHOWN: u64 = 32;

#[derive(Debug)]
pub(super) struct Trace {
    has_header: bool,
    /// The number of the next event of each processor, and of the one behind the last.
    places: [(u64, u64); MAX_PROCESSORS],
    now: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            has_header: false,
            places: [(0, 0); MAX_PROCESSORS],
            now: 0,
        }
    }
}

/// An event.
struct Row<'r> {
    ago: Nanoseconds,
    cpu: usize,
    guest: Option<&'r str>,
    event: Event,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event {
            kind, index, value, ..
        } = self.event;
        write!(
            f,
            "{:<12} {:>3} {:<15} {kind:<12} ",
            self.ago,
            self.cpu,
            Cell::of(self.guest)
        )?;
        match kind {
            Kind::COMMAND => {
                let [code, ..] = value.to_le_bytes();
                write!(f, "vDSA {index}, {}", CommandCode(code))
            }
            Kind::ANSWER if value == 0 => write!(f, "vDSA {index}, done"),
            Kind::ANSWER => write!(f, "vDSA {index}, failed"),
            Kind::START => write!(f, "number {value}"),
            Kind::END => f.write_str("'vms' says how"),
            Kind::FAULT => f.write_str("'iommu' says which"),
            Kind::DEVICE_ERROR if value == 0 => {
                write!(f, "vDSA {index}, a slot does not keep what is written")
            }
            Kind::DEVICE_ERROR => {
                let [code, ..] = value.to_le_bytes();
                write!(f, "vDSA {index}, {}", Status(code))
            }
            Kind::HALT => {
                let what = match value {
                    0 => "the device halted and was reset",
                    1 => "the device halted and needs a reset",
                    _ => "the device failed",
                };
                write!(f, "vDSA {index}, {what}")
            }
            Kind::NO_MSR => write!(f, "vCPU {index}, MSR {value:#x}"),
            _ => Ok(()),
        }
    }
}

impl Trace {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        if !self.has_header {
            self.has_header = true;
            self.now = clock::now();
            for (cpu, place) in self.places.iter_mut().enumerate() {
                let kept = trace::kept(cpu);
                *place = (kept.start.max(kept.end.saturating_sub(SHOWN)), kept.end);
            }
            return put!(line, "{HEADER}");
        }
        let cpus = percpu::all().len().min(MAX_PROCESSORS);
        let places = self.places.iter_mut().take(cpus).enumerate();
        let mut oldest: Option<(usize, Event)> = None;
        for (cpu, (next, end)) in places {
            // What was overwritten meanwhile is passed over.
            let found = (*next..*end).find_map(|number| Some((number, trace::event(cpu, number)?)));
            *next = found.map_or(*end, |(number, _)| number);
            if let Some((_, event)) = found
                && oldest.is_none_or(|(_, oldest)| event.ticks < oldest.ticks)
            {
                oldest = Some((cpu, event));
            }
        }
        let Some((cpu, event)) = oldest else {
            return Next::End;
        };
        if let Some((next, _)) = self.places.get_mut(cpu) {
            *next += 1;
        }
        let row = Row {
            ago: Nanoseconds(clock::nanoseconds(self.now.saturating_sub(event.ticks))),
            cpu,
            guest: world.name(event.guest.into()),
            event,
        };
        put!(line, "{row}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::shown;
    use super::*;

    #[test]
    fn events_stand_below_the_header() {
        let row = |kind, value| {
            shown(&Row {
                ago: Nanoseconds(12_345),
                cpu: 1,
                guest: Some("demo0"),
                event: Event {
                    ticks: 0,
                    kind,
                    guest: 0,
                    index: 2,
                    value,
                },
            })
        };
        assert_eq!(
            [
                HEADER,
                &row(Kind::START, 3),
                &row(Kind::COMMAND, 6),
                &row(Kind::ANSWER, 1),
                &row(Kind::DEVICE_ERROR, 0x19),
                &row(Kind::HALT, 1),
                &row(Kind::NO_MSR, 0xc001_0117),
                &row(Kind::END, 0),
            ],
            [
                "AGO          CPU VM              EVENT        WHAT",
                "12.345 us      1 demo0           start        number 3",
                "12.345 us      1 demo0           command      vDSA 2, enable WQ (0x06)",
                "12.345 us      1 demo0           answer       vDSA 2, failed",
                "12.345 us      1 demo0           device-error vDSA 2, invalid interrupt handle (0x19)",
                "12.345 us      1 demo0           halt         vDSA 2, the device halted and needs a reset",
                "12.345 us      1 demo0           no-msr       vCPU 2, MSR 0xc0010117",
                "12.345 us      1 demo0           end          'vms' says how",
            ]
        );
    }
}
