//! Batches: copied whole, checked in the copy, submitted from the copy.

use hwio::Submission as Answer;
use hwspec::dsa::Operation;
use hwspec::pci::Pasid;

use super::check::{Limits, check, check_handle};
use super::fault::Fault;
use super::in_flight::{Entry, Kind};
use super::operations::{ADDRESS_1_TC, INTERRUPT, RECORD, RECORD_VALID};
use super::replacement::replacement;
use super::report::{Origin, error_record};
use super::window::{DESCRIPTOR, Layout};
use super::{Notices, Rule, Submission, TRUSTED};
use crate::{GuestAddr, Host};

/// Members that are copied at a time.
const CHUNK: usize = CHUNK_POSITIONS as usize;
const CHUNK_POSITIONS: u16 = 32;
/// Words of a descriptor.
const WORDS: usize = DESCRIPTOR / 8;

/// What becomes of a submission that needs a slot.
pub(super) enum Fate {
    /// The device has it.
    Submitted(Notices),
    /// There is no free slot, or the queue is full.
    Full,
    /// It is refused.
    Refused(Fault),
}

/// The guest's descriptor, and what it takes to run it with a record of Weir's own.
pub(super) struct Watched<'a> {
    pub(super) words: &'a [u64; 8],
    pub(super) origin: Origin,
    pub(super) pasid: Pasid,
    pub(super) vector: Option<u16>,
    /// The interrupt handle of Weir's own.
    pub(super) own_handle: Option<u16>,
}

impl Submission {
    /// Submits a batch that passed its check.
    pub(super) fn submit_batch(
        &mut self,
        batch: &Watched<'_>,
        limits: &Limits<'_>,
        host: &mut impl Host,
    ) -> Fate {
        let Some(slot) = self.slots.free(Kind::Batch) else {
            self.counters.without_slot += 1;
            return Fate::Full;
        };
        let layout = self.layout;
        let list = layout.list_offset(slot);
        // The check has bounded it by the room for a list.
        let count = usize::try_from(batch.words[4] & 0xffff_ffff).unwrap_or(0);
        let mut notices = Notices::default();
        let members_refused = self.counters.members_refused;
        if let Err(fault) = self.copy_list(batch, count, list, limits, host, &mut notices) {
            return Fate::Refused(fault);
        }
        let mut words = [0; 8];
        words[0] = batch.words[0] & ADDRESS_1_TC | u64::from(Operation::BATCH.0) << 56;
        words[2] = layout.address(list);
        words[4] = count as u64;
        if self.submit_watched(batch, words, slot, host) == Answer::Retry {
            // It will come again, or never: its members do not count.
            self.counters.members_refused = members_refused;
            return Fate::Full;
        }
        self.counters.batches += 1;
        self.counters.members += count as u64;
        Fate::Submitted(notices)
    }

    /// Submits a drain that passed its check, so that its end is seen here first.
    pub(super) fn submit_drain(&mut self, drain: &Watched<'_>, host: &mut impl Host) -> Fate {
        let Some(slot) = self.slots.free(Kind::Drain) else {
            self.counters.without_slot += 1;
            return Fate::Full;
        };
        let mut words = [0; 8];
        words[0] = drain.words[0] & !(TRUSTED | INTERRUPT);
        match self.submit_watched(drain, words, slot, host) {
            Answer::Accepted => Fate::Submitted(Notices::default()),
            Answer::Retry => Fate::Full,
        }
    }

    /// Submits `words` with the record of `slot` and an interrupt to Weir.
    fn submit_watched(
        &mut self,
        watched: &Watched<'_>,
        mut words: [u64; 8],
        slot: usize,
        host: &mut impl Host,
    ) -> Answer {
        let record = Layout::record_offset(slot);
        words[0] |= RECORD_VALID | RECORD | u64::from(watched.pasid.into_bits());
        words[1] = self.layout.address(record);
        if let Some(handle) = watched.own_handle {
            words[0] |= INTERRUPT;
            words[4] |= u64::from(handle) << 32;
        }
        host.write_window(record, &[0; 4]);
        let answer = host.submit(watched.origin.queue, &words);
        if answer == Answer::Accepted {
            self.slots.occupy(
                slot,
                Entry {
                    words: *watched.words,
                    origin: watched.origin,
                    pasid: watched.pasid,
                    vector: watched.vector,
                    sequence: 0,
                },
            );
        }
        answer
    }

    /// Copies the list to `offset` of the window, each word read once, and checks what
    /// was read.
    fn copy_list(
        &mut self,
        batch: &Watched<'_>,
        count: usize,
        mut offset: usize,
        limits: &Limits<'_>,
        host: &mut impl Host,
        notices: &mut Notices,
    ) -> Result<(), Fault> {
        let list = batch.words[2];
        let unreadable = |_| Fault::new(Rule::ListMemory, list);
        let mut address = list;
        let mut position: u16 = 0;
        let mut buffer = [0; CHUNK * WORDS];
        let mut left = count;
        while left != 0 {
            let members = left.min(CHUNK);
            let Some(words) = buffer.get_mut(..members * WORDS) else {
                break;
            };
            host.read_guest(GuestAddr(address), words)
                .map_err(unreadable)?;
            for (index, member) in (0..).zip(words.as_chunks_mut::<WORDS>().0) {
                if let Err(rule) = check::<true>(member, limits) {
                    let origin = Origin {
                        member: Some(position.wrapping_add(index)),
                        ..batch.origin
                    };
                    self.replace(member, rule, origin, limits, notices);
                } else {
                    // A device that took a member's own PASID or Priv would be broken;
                    // it gets neither.
                    member[0] &= !TRUSTED;
                }
            }
            // No list is longer than 1,024.
            position = position.wrapping_add(CHUNK_POSITIONS);
            host.write_window(offset, words);
            address = address.wrapping_add((members * DESCRIPTOR) as u64);
            offset += members * DESCRIPTOR;
            left -= members;
        }
        Ok(())
    }

    #[cold]
    fn replace(
        &mut self,
        member: &mut [u64; 8],
        rule: Rule,
        origin: Origin,
        limits: &Limits<'_>,
        notices: &mut Notices,
    ) {
        let fault = Fault::find::<true>(rule, member, limits);
        self.record(member, &fault, origin);
        self.counters.members_refused += 1;
        if rule == Rule::RecordInWindow {
            let error = error_record(member, rule.status(), origin, 0);
            notices.is_error_lost |= notices.error.is_some();
            notices.error.get_or_insert(error);
        }
        let may_interrupt = member[0] & INTERRUPT != 0 && check_handle(member, limits).is_ok();
        *member = replacement(member, &fault, may_interrupt, &self.layout);
    }
}
