//! What was refused, and why.

use core::fmt;

use arrayvec::ArrayVec;
use dsa::InterruptHandle;
use vdsa::{Named, Refusal, Rule};

use super::{Next, World, put};
use crate::host::service::SlotUse;
use crate::monitor::text::Line;
use crate::virt::backend::Backend;

/// How many of the last refusals of a guest are shown.
const SHOWN: usize = 8;

#[derive(Clone, Copy, Debug)]
enum At {
    Guest,
    Rule(usize),
    Advice(usize),
    Recent(usize),
}

#[derive(Debug)]
pub(super) struct Why {
    guest: usize,
    /// The guest behind the last one.
    end: Option<usize>,
    at: At,
    /// As it was when the guest's part began.
    counts: [u64; Rule::COUNT],
    recent: ArrayVec<(usize, Refusal), SHOWN>,
}

/// A rule, and how often it was broken.
struct RuleRow {
    rule: Rule,
    count: u64,
}

impl fmt::Display for RuleRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, count } = self;
        write!(
            f,
            "{count:>10} x  {}; field {}, completed with {:#04x}",
            rule.title(),
            rule.field(),
            rule.status().0
        )
    }
}

/// Who has what a descriptor named and must not.
#[derive(Clone, Copy, Debug)]
enum Owner<'r> {
    /// Nobody, or that does not matter.
    Nobody,
    /// An interrupt slot, of this guest.
    Slot(&'r str, SlotUse),
    /// A host PASID, of this guest.
    Pasid(&'r str),
}

/// A descriptor that was refused.
struct RefusalRow<'r> {
    vdsa: usize,
    refusal: &'r Refusal,
    owner: Owner<'r>,
}

impl fmt::Display for RefusalRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vdsa,
            refusal,
            owner,
        } = self;
        write!(
            f,
            "  vDSA {vdsa} queue {}, {}",
            refusal.queue.value(),
            refusal.operation
        )?;
        if let Some(member) = refusal.member {
            write!(f, ", member {member} of a batch")?;
        }
        write!(
            f,
            ": {}; {} = {:#x}",
            refusal.rule.title(),
            refusal.rule.field(),
            refusal.value
        )?;
        match refusal.named {
            Named::Nothing | Named::NobodysHandle => {}
            Named::HandleOf {
                vector,
                pasid: Some(pasid),
                descriptor,
            } => write!(
                f,
                ", its own virtual vector {vector} with PASID {pasid}, but the descriptor has {descriptor}"
            )?,
            Named::HandleOf { vector, .. } => write!(
                f,
                ", its own virtual vector {vector}, which it gave a PASID that is not declared"
            )?,
            Named::GuestPasid(pasid) => write!(f, ", guest PASID {pasid}")?,
        }
        match owner {
            Owner::Nobody if refusal.named == Named::NobodysHandle => f.write_str(", of nobody"),
            Owner::Nobody => Ok(()),
            Owner::Slot(name, slot) => write!(
                f,
                ", of {name}: IMS slot {}, {}",
                slot.index.0,
                Purpose(slot)
            ),
            Owner::Pasid(name) => write!(f, "; the host PASID of that number is of {name}"),
        }
    }
}

/// What a slot is for.
struct Purpose<'r>(&'r SlotUse);

impl fmt::Display for Purpose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::host::routes::Completion;
        match self.0.target.completion {
            Completion::Vector(vector) => write!(f, "virtual vector {vector}"),
            Completion::Batch(_) => f.write_str("for Weir's batches"),
        }
    }
}

impl Why {
    /// Of one guest, or of all.
    pub(super) fn new(guest: Option<usize>) -> Self {
        Self {
            guest: guest.unwrap_or(0),
            end: guest.map(|guest| guest + 1),
            at: At::Guest,
            counts: [0; Rule::COUNT],
            recent: ArrayVec::new(),
        }
    }

    pub(super) fn next<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        match self.at {
            At::Guest => self.begin(world, line),
            At::Rule(number) => {
                let rule = Rule::ALL.get(number).copied();
                let count = self.counts.get(number).copied();
                let Some((rule, count)) = rule.zip(count) else {
                    self.at = At::Recent(0);
                    return Next::Skip;
                };
                if count == 0 {
                    self.at = At::Rule(number + 1);
                    return Next::Skip;
                }
                self.at = At::Advice(number);
                let row = RuleRow { rule, count };
                put!(line, "{row}")
            }
            At::Advice(number) => {
                self.at = At::Rule(number + 1);
                match Rule::ALL.get(number) {
                    Some(rule) => put!(line, "{:>14}{}", "", rule.advice()),
                    None => Next::Skip,
                }
            }
            At::Recent(place) => self.recent(place, world, line),
        }
    }

    fn begin<B: Backend>(&mut self, world: &World<'_, B>, line: &mut Line) -> Next {
        let is_over = self.end.is_some_and(|end| self.guest >= end);
        let (Some(record), false) = (world.records.get(self.guest), is_over) else {
            return Next::End;
        };
        let name = world.name(self.guest).unwrap_or("?");
        self.counts = [0; Rule::COUNT];
        self.recent.clear();
        let mut is_busy = false;
        if let Some(guest) = record.guest() {
            for (_, unit) in guest.bus.functions() {
                let looked = unit.try_look(|device, backing| {
                    let refusals = device.refusals();
                    for (count, &rule) in self.counts.iter_mut().zip(Rule::ALL) {
                        *count += refusals.count(rule);
                    }
                    for &refusal in refusals.recent() {
                        keep(&mut self.recent, (backing.vdsa, refusal));
                    }
                });
                is_busy |= looked.is_none();
            }
        } else if let Some(last) = record.last() {
            for &(rule, count) in &last.refused {
                if let Some(place) = self.counts.get_mut(rule as usize) {
                    *place = count;
                }
            }
            for &refusal in &last.last_refused {
                keep(&mut self.recent, refusal);
            }
        }
        if is_busy && world.is_patient {
            return Next::Busy;
        }
        let count: u64 = self.counts.iter().sum();
        if is_busy {
            self.guest += 1;
            return put!(line, "{name}: busy, ask again");
        }
        if count == 0 {
            self.guest += 1;
            return put!(line, "{name}: nothing was refused");
        }
        self.at = At::Rule(0);
        put!(line, "{name}: {count} descriptors refused")
    }

    fn recent<B: Backend>(&mut self, place: usize, world: &World<'_, B>, line: &mut Line) -> Next {
        let Some(number) = place.checked_sub(1) else {
            self.at = At::Recent(1);
            return put!(line, "the last of them:");
        };
        let Some((vdsa, refusal)) = self.recent.get(number) else {
            self.guest += 1;
            self.at = At::Guest;
            return Next::Skip;
        };
        let Some(owner) = owner(world, self.guest, *vdsa, refusal) else {
            return Next::Busy;
        };
        self.at = At::Recent(place + 1);
        let row = RefusalRow {
            vdsa: *vdsa,
            refusal,
            owner,
        };
        put!(line, "{row}")
    }
}

/// Keeps the last ones.
fn keep(recent: &mut ArrayVec<(usize, Refusal), SHOWN>, refusal: (usize, Refusal)) {
    if recent.is_full() {
        recent.remove(0);
    }
    recent.push(refusal);
}

/// Who has what the descriptor of a guest named; nothing while that is not to be found
/// out.
fn owner<'w, B: Backend>(
    world: &'w World<'_, B>,
    guest: usize,
    vdsa: usize,
    refusal: &Refusal,
) -> Option<Owner<'w>> {
    match refusal.named {
        Named::NobodysHandle => {
            let plan = world.hypervisor.plan.guests.get(guest);
            let dsa = plan.and_then(|plan| Some(plan.dsas.get(vdsa)?.dsa));
            let accelerator = dsa.and_then(|dsa| world.hypervisor.host.accelerators.get(dsa));
            let handle = u16::try_from(refusal.value);
            let (Some(accelerator), Ok(handle)) = (accelerator, handle) else {
                return Some(Owner::Nobody);
            };
            match accelerator.try_slot_of_handle(InterruptHandle(handle)) {
                Some(Some(slot)) => {
                    let name = world.name(slot.target.vm.into()).unwrap_or("?");
                    Some(Owner::Slot(name, slot))
                }
                Some(None) => Some(Owner::Nobody),
                None if world.is_patient => None,
                None => Some(Owner::Nobody),
            }
        }
        Named::GuestPasid(pasid) => Some(world.owner(pasid).map_or(Owner::Nobody, Owner::Pasid)),
        _ => Some(Owner::Nobody),
    }
}

#[cfg(test)]
mod tests {
    use dsa::ims::{ImsIndex, SlotPasid};
    use hwspec::dsa::Operation;
    use hwspec::pci::Pasid;
    use vdsa::QueueIndex;

    use super::super::shown;
    use super::*;
    use crate::host::routes::{Completion, GuestTarget};

    fn pasid(value: u32) -> Pasid {
        Pasid::new(value).unwrap()
    }

    #[test]
    fn a_rule_says_count_field_and_code() {
        let row = RuleRow {
            rule: Rule::UnknownHandle,
            count: 12,
        };
        assert_eq!(
            shown(&row),
            "        12 x  interrupt handle is not one of this guest; field Completion Interrupt \
             Handle, completed with 0x19"
        );
    }

    #[test]
    fn a_refusal_says_whose_handle_or_pasid_it_named() {
        let refusal = Refusal {
            rule: Rule::UnknownHandle,
            value: 5,
            named: Named::NobodysHandle,
            queue: QueueIndex::new(1).unwrap(),
            operation: Operation::MEMORY_MOVE,
            member: Some(3),
        };
        let slot = SlotUse {
            index: ImsIndex(5),
            handle: InterruptHandle(5),
            pasid: SlotPasid::Checked(pasid(2)),
            is_masked: false,
            cpu: 0,
            vector: 0x30,
            target: GuestTarget {
                vm: 1,
                device: 0,
                completion: Completion::Vector(2),
            },
        };
        let row = |refusal: &Refusal, owner| {
            shown(&RefusalRow {
                vdsa: 0,
                refusal,
                owner,
            })
        };
        let begin = "  vDSA 0 queue 1, memory move (0x03), member 3 of a batch: ";
        let handle = "interrupt handle is not one of this guest; Completion Interrupt Handle = 0x5";
        assert_eq!(
            row(&refusal, Owner::Slot("demo1", slot)),
            std::format!("{begin}{handle}, of demo1: IMS slot 5, virtual vector 2")
        );
        assert_eq!(
            row(&refusal, Owner::Nobody),
            std::format!("{begin}{handle}, of nobody")
        );
        let own = Refusal {
            rule: Rule::ForeignHandle,
            named: Named::HandleOf {
                vector: 1,
                pasid: Some(pasid(3)),
                descriptor: pasid(4),
            },
            member: None,
            ..refusal
        };
        assert_eq!(
            row(&own, Owner::Nobody),
            "  vDSA 0 queue 1, memory move (0x03): interrupt handle belongs to another PASID; \
             Completion Interrupt Handle = 0x5, its own virtual vector 1 with PASID 0x3, but the \
             descriptor has 0x4"
        );
        let unknown = Refusal {
            rule: Rule::UnknownPasid,
            value: 7,
            named: Named::GuestPasid(pasid(7)),
            member: None,
            ..refusal
        };
        assert_eq!(
            row(&unknown, Owner::Pasid("demo1")),
            "  vDSA 0 queue 1, memory move (0x03): guest PASID not declared; PASID = 0x7, guest \
             PASID 0x7; the host PASID of that number is of demo1"
        );
    }

    #[test]
    fn the_last_refusals_are_kept() {
        let mut recent = ArrayVec::new();
        let refusal = |value| Refusal {
            rule: Rule::Flags,
            value,
            named: Named::Nothing,
            queue: QueueIndex::new(0).unwrap(),
            operation: Operation::MEMORY_MOVE,
            member: None,
        };
        for value in 0..11 {
            keep(&mut recent, (0, refusal(value)));
        }
        let values: std::vec::Vec<_> = recent.iter().map(|(_, refusal)| refusal.value).collect();
        assert_eq!(values, [3, 4, 5, 6, 7, 8, 9, 10]);
    }
}
