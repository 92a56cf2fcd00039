//! The interrupt slots.

use core::fmt;

use dsa::ims::SlotPasid;

use super::{Next, World, put};
use crate::host::routes::Completion;
use crate::host::service::{SlotPlace, SlotUse};
use crate::monitor::text::{Cell, Line};
use crate::virt::backend::Backend;
use crate::vm::vdsa_unit::backing::{FIRST_BATCH_VECTOR, FIRST_PASID_VECTOR};

const HEADER: &str = "DSA    SLOT HANDLE PASID    MASK   CPU VECTOR VM              VDSA FOR";

#[derive(Debug, Default)]
pub(super) struct Ims {
    has_header: bool,
    device: usize,
    place: SlotPlace,
    count: usize,
}

/// A slot.
struct Row<'r> {
    dsa: u8,
    slot: &'r SlotUse,
    owner: &'r str,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dsa, slot, owner } = self;
        let pasid = match slot.pasid {
            SlotPasid::Checked(pasid) => Cell::Shows(pasid),
            SlotPasid::Unchecked(_) => Cell::Nothing,
        };
        write!(
            f,
            "{:<6} {:>4} {:<6} {pasid:<8} {:<6} {:>3} {:<6} {owner:<15} {:<4} ",
            Cell::Shows(format_args!("dsa{dsa}")),
            slot.index.0,
            Cell::Shows(format_args!("{:#x}", slot.handle.0)),
            if slot.is_masked { "masked" } else { "-" },
            slot.cpu,
            Cell::Shows(format_args!("{:#x}", slot.vector)),
            slot.target.device,
        )?;
        match slot.target.completion {
            Completion::Vector(vector) => write!(f, "virtual vector {vector}"),
            Completion::Batch(vector) if vector < FIRST_PASID_VECTOR.into() => {
                let queue = vector.saturating_sub(FIRST_BATCH_VECTOR.into());
                write!(f, "batches of queue {queue}")
            }
            Completion::Batch(_) => f.write_str("batches of a guest PASID"),
        }
    }
}

impl Ims {
    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        if !self.has_header {
            self.has_header = true;
            return put!(line, "{HEADER}");
        }
        let Some(accelerator) = world.hypervisor.host.accelerators.get(self.device) else {
            return Next::End;
        };
        match accelerator.try_next_slot(self.place) {
            Some(Some((slot, next))) => {
                self.place = next;
                self.count += 1;
                let row = Row {
                    dsa: accelerator.number(),
                    slot: &slot,
                    owner: world.name(slot.target.vm.into()).unwrap_or("?"),
                };
                put!(line, "{row}")
            }
            Some(None) => {
                let total = accelerator.capabilities().count_ims_entries();
                put!(
                    line,
                    "dsa{}: {} of {total} slots in use",
                    accelerator.number(),
                    self.count
                );
                self.go_on();
                Next::Line
            }
            None if world.is_patient => Next::Busy,
            None => {
                put!(line, "dsa{}: busy, ask again", accelerator.number());
                self.go_on();
                Next::Line
            }
        }
    }

    /// Goes on with the next device.
    fn go_on(&mut self) {
        self.device += 1;
        self.place = SlotPlace::default();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use dsa::InterruptHandle;
    use dsa::ims::ImsIndex;
    use hwspec::pci::Pasid;

    use super::super::shown;
    use super::*;
    use crate::host::routes::GuestTarget;

    #[test]
    fn slots_stand_below_the_header() {
        let slot = SlotUse {
            index: ImsIndex(2047),
            handle: InterruptHandle(0x1ff),
            pasid: SlotPasid::Checked(Pasid::new(0x1a).unwrap()),
            is_masked: false,
            cpu: 1,
            vector: 0x31,
            target: GuestTarget {
                vm: 2,
                device: 1,
                completion: Completion::Vector(3),
            },
        };
        let of_weir = |vector| SlotUse {
            index: ImsIndex(0),
            handle: InterruptHandle(0),
            is_masked: true,
            target: GuestTarget {
                completion: Completion::Batch(vector),
                ..slot.target
            },
            ..slot
        };
        let row = |slot: &SlotUse| {
            shown(&Row {
                dsa: 0,
                slot,
                owner: "demo0",
            })
        };
        assert_eq!(
            [HEADER, &row(&slot), &row(&of_weir(17)), &row(&of_weir(24))],
            [
                "DSA    SLOT HANDLE PASID    MASK   CPU VECTOR VM              VDSA FOR",
                "dsa0   2047 0x1ff  0x1a     -        1 0x31   demo0           1    virtual vector 3",
                "dsa0      0 0x0    0x1a     masked   1 0x31   demo0           1    batches of queue 1",
                "dsa0      0 0x0    0x1a     masked   1 0x31   demo0           1    batches of a guest PASID",
            ]
        );
    }
}
