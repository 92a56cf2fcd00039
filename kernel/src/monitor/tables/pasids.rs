//! The host PASIDs.

use core::fmt;

use hwspec::pci::Pasid;

use super::{Next, World, put};
use crate::config::plan::{GuestPlan, Policy};
use crate::host::pasids::PasidUse;
use crate::monitor::text::{Cell, Line};
use crate::virt::backend::Backend;
use crate::vm::build::HeldPasid;

const HEADER: &str = "PASID    VM              DSA    DOMAIN HOLDERS FOR";

#[derive(Debug, Default)]
pub(super) struct Pasids {
    has_header: bool,
    last: Option<Pasid>,
    count: usize,
    is_over: bool,
}

/// A host PASID.
struct Row<'r> {
    pasid: PasidUse,
    owner: Option<&'r GuestPlan>,
    /// Nothing if the guest has gone without giving it back.
    held: Option<HeldPasid>,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pasid, owner, held } = self;
        write!(
            f,
            "{:<8} {:<15} {:<6} {:>6} {:>7} ",
            Cell::Shows(pasid.pasid),
            owner.map_or("?", |owner| &owner.name),
            Cell::of(held.map(|held| held.dsa)).map(Dsa),
            Cell::of(held.map(|held| held.domain)),
            pasid.holders,
        )?;
        let found = held.zip(*owner).and_then(|(held, owner)| {
            let queues = &owner.dsas.get(held.vdsa)?.queues;
            Some((held, owner, queues))
        });
        let Some((held, owner, queues)) = found else {
            return f.write_str("nothing: it could not be given back");
        };
        match queues.get(held.place) {
            Some(queue) => write!(
                f,
                "queue {} of vDSA {} (wq{}.{}, {})",
                held.place,
                held.vdsa,
                held.dsa,
                queue.physical.index,
                match queue.policy {
                    Policy::Checked => "checked",
                    Policy::Direct => "direct",
                }
            ),
            None => match owner.pasids.get(held.place - queues.len()) {
                Some(guest) => write!(f, "guest PASID {guest:#x} on vDSA {}", held.vdsa),
                None => f.write_str("?"),
            },
        }
    }
}

/// The number of a physical DSA.
#[derive(Clone, Copy)]
struct Dsa(u8);

impl fmt::Display for Dsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dsa{}", self.0)
    }
}

impl Pasids {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        if !self.has_header {
            self.has_header = true;
            return put!(line, "{HEADER}");
        }
        if self.is_over {
            return Next::End;
        }
        let Some(pasid) = world.hypervisor.host.iommu.next_pasid(self.last) else {
            self.is_over = true;
            return put!(line, "{} host PASIDs in use", self.count);
        };
        self.last = Some(pasid.pasid);
        self.count += 1;
        let parts = world.records.get(usize::from(pasid.vm));
        let parts = parts.and_then(|record| record.parts());
        let row = Row {
            pasid,
            owner: world.hypervisor.plan.guests.get(usize::from(pasid.vm)),
            held: parts.and_then(|parts| parts.find_pasid(pasid.pasid)),
        };
        put!(line, "{row}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::super::shown;
    use super::*;
    use crate::config::plan::{
        BootPlan, Mode, QueuePlan, Restart, VirtualDsaPlan, VirtualQueuePlan,
    };

    fn plan() -> GuestPlan {
        let queue = VirtualQueuePlan {
            physical: QueuePlan {
                index: 3,
                mode: Mode::Dedicated,
                size: 16,
                threshold: 16,
                priority: 10,
                group: 0,
                max_transfer_log2: 31,
                max_batch_log2: 10,
            },
            mode: Mode::Dedicated,
            reserved: 0,
            policy: Policy::Direct,
            batches: 4,
        };
        GuestPlan {
            name: "demo0".to_string(),
            boot: BootPlan::Pvh {
                image: "demo".to_string(),
                input: None,
            },
            command_line: "".to_string(),
            memory_bytes: 32 << 20,
            cpus: vec![0],
            restart: Restart::Never,
            trusted: true,
            pasids: vec![5, 0xfffff],
            share_rate: 250,
            dsas: vec![VirtualDsaPlan {
                dsa: 1,
                queues: vec![queue],
            }],
        }
    }

    #[test]
    fn pasids_stand_below_the_header() {
        let plan = plan();
        let row = |place: Option<usize>| {
            shown(&Row {
                pasid: PasidUse {
                    pasid: Pasid::new(0x1a).unwrap(),
                    vm: 0,
                    holders: 2,
                },
                owner: Some(&plan),
                held: place.map(|place| HeldPasid {
                    vdsa: 0,
                    place,
                    dsa: 1,
                    domain: 4,
                }),
            })
        };
        assert_eq!(
            [HEADER, &row(Some(0)), &row(Some(2)), &row(None)],
            [
                "PASID    VM              DSA    DOMAIN HOLDERS FOR",
                "0x1a     demo0           dsa1        4       2 queue 0 of vDSA 0 (wq1.3, direct)",
                "0x1a     demo0           dsa1        4       2 guest PASID 0xfffff on vDSA 0",
                "0x1a     demo0           -           -       2 nothing: it could not be given back",
            ]
        );
    }
}
