//! Which frames of physical memory are free: one bit each.
//!
//! This is the arithmetic only; [`super::frames`] keeps the one map of the
//! machine, behind a lock.
#![forbid(unsafe_code)]

use core::ops::Range;

const BITS: u64 = u64::BITS as u64;

/// A bit for each frame from 0 on, set while the frame is in use.
#[derive(Debug)]
pub(super) struct FrameMap<'m> {
    words: &'m mut [u64],
    free: u64,
    /// No frame below this one is free.
    lowest: u64,
}

impl<'m> FrameMap<'m> {
    /// How many words a map needs for frames 0 up to `end`.
    pub(super) fn words_for(end: u64) -> u64 {
        end.div_ceil(BITS)
    }

    /// A map in `words` in which every frame is in use.
    pub(super) fn all_used(words: &'m mut [u64]) -> Self {
        words.fill(u64::MAX);
        Self {
            words,
            free: 0,
            lowest: u64::MAX,
        }
    }

    /// How many frames are free.
    pub(super) fn count_free(&self) -> u64 {
        self.free
    }

    /// One behind the last frame that the map knows.
    fn end(&self) -> u64 {
        self.words.len() as u64 * BITS
    }

    /// Marks the frames as free, those that were and those that were not.
    /// Frames beyond the map stay in use.
    pub(super) fn set_free(&mut self, frames: Range<u64>) {
        self.for_each_word(frames.clone(), |free, word, mask| {
            *free += u64::from((*word & mask).count_ones());
            *word &= !mask;
        });
        self.lowest = self.lowest.min(frames.start);
    }

    /// Marks the frames as used, those that were and those that were not.
    pub(super) fn set_used(&mut self, frames: Range<u64>) {
        self.for_each_word(frames, |free, word, mask| {
            *free -= u64::from((!*word & mask).count_ones());
            *word |= mask;
        });
    }

    /// Takes `count` adjacent frames that end below `limit`, the first of which
    /// is a multiple of `alignment`: the lowest that there are.
    pub(super) fn allocate(&mut self, count: u64, alignment: u64, limit: u64) -> Option<u64> {
        assert!(count > 0 && alignment.is_power_of_two());
        let limit = limit.min(self.end());
        let mut first = self.first_free(self.lowest, limit)?;
        self.lowest = first;
        loop {
            first = first.checked_next_multiple_of(alignment)?;
            let end = first.checked_add(count).filter(|&end| end <= limit)?;
            match self.last_used(first..end) {
                None => {
                    self.set_used(first..end);
                    return Some(first);
                }
                // The run cannot begin at or before a used frame.
                Some(used) => first = self.first_free(used + 1, limit)?,
            }
        }
    }

    /// Takes back `count` frames from `first` on.
    ///
    /// # Panics
    /// If one of them was free already.
    pub(super) fn release(&mut self, first: u64, count: u64) {
        let before = self.free;
        self.set_free(first..first + count);
        assert_eq!(
            self.free,
            before + count,
            "frames {first:#x} and on were given back twice"
        );
    }

    /// The lowest free frame of `from..limit`.
    fn first_free(&self, from: u64, limit: u64) -> Option<u64> {
        let mut frame = from;
        while frame < limit {
            let word = self.word(frame / BITS);
            let candidates = !word >> (frame % BITS);
            if candidates != 0 {
                let found = frame + u64::from(candidates.trailing_zeros());
                return (found < limit).then_some(found);
            }
            frame = (frame / BITS + 1) * BITS;
        }
        None
    }

    /// The highest used frame of a range.
    fn last_used(&self, frames: Range<u64>) -> Option<u64> {
        let mut end = frames.end;
        while end > frames.start {
            let base = (end - 1) / BITS * BITS;
            let word = self.word(base / BITS);
            let mask = mask(frames.start.max(base) - base, end - base);
            if let Some(bit) = (word & mask).checked_ilog2() {
                return Some(base + u64::from(bit));
            }
            end = base;
        }
        None
    }

    fn word(&self, index: u64) -> u64 {
        // What is beyond the map is in use.
        let word = usize::try_from(index).ok().and_then(|i| self.words.get(i));
        word.copied().unwrap_or(u64::MAX)
    }

    fn for_each_word(
        &mut self,
        frames: Range<u64>,
        mut change: impl FnMut(&mut u64, &mut u64, u64),
    ) {
        let end = frames.end.min(self.end());
        let mut frame = frames.start;
        while frame < end {
            let base = frame / BITS * BITS;
            let stop = end.min(base + BITS);
            let index = usize::try_from(frame / BITS).ok();
            if let Some(word) = index.and_then(|i| self.words.get_mut(i)) {
                change(&mut self.free, word, mask(frame - base, stop - base));
            }
            frame = stop;
        }
    }
}

/// Bits `from` up to, but not including, `to`, which is at most 64.
fn mask(from: u64, to: u64) -> u64 {
    let below = |bit: u64| {
        if bit == BITS {
            u64::MAX
        } else {
            (1 << bit) - 1
        }
    };
    below(to) & !below(from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masks_cover_what_they_say() {
        assert_eq!(mask(0, 64), u64::MAX);
        assert_eq!(mask(4, 8), 0xf0);
        assert_eq!(mask(63, 64), 1 << 63);
        assert_eq!(mask(5, 5), 0);
    }

    #[test]
    fn nothing_is_free_until_it_is_said_to_be() {
        let mut words = [0; 4];
        let mut map = FrameMap::all_used(&mut words);
        assert_eq!(map.allocate(1, 1, u64::MAX), None);
        map.set_free(10..12);
        map.set_free(11..13);
        assert_eq!(map.count_free(), 3);
        map.set_used(12..200);
        assert_eq!(map.count_free(), 2);
        assert_eq!(map.allocate(2, 1, u64::MAX), Some(10));
        assert_eq!(map.allocate(1, 1, u64::MAX), None);
    }

    #[test]
    fn runs_are_aligned_and_below_their_limit() {
        let mut words = [0; 32];
        let mut map = FrameMap::all_used(&mut words);
        map.set_free(3..2000);
        assert_eq!(map.allocate(512, 512, u64::MAX), Some(512));
        assert_eq!(map.allocate(512, 512, u64::MAX), Some(1024));
        assert_eq!(map.allocate(512, 512, u64::MAX), None);
        assert_eq!(map.allocate(509, 1, u64::MAX), Some(3));
        assert_eq!(map.allocate(10, 1, 1540), None);
        assert_eq!(map.allocate(4, 1, 1540), Some(1536));
    }

    #[test]
    fn frames_beyond_the_map_cannot_be_freed() {
        let mut words = [0; 1];
        let mut map = FrameMap::all_used(&mut words);
        map.set_free(60..1 << 40);
        assert_eq!(map.count_free(), 4);
        assert_eq!(map.allocate(5, 1, u64::MAX), None);
        assert_eq!(map.allocate(u64::MAX, 1, u64::MAX), None);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_noticed() {
        let mut words = [0; 1];
        let mut map = FrameMap::all_used(&mut words);
        map.set_free(0..8);
        let first = map.allocate(2, 1, u64::MAX).unwrap();
        map.release(first, 2);
        map.release(first + 1, 1);
    }

    proptest! {
        /// Runs never overlap, never leave what was set free, and all come back.
        #[test]
        fn the_map_behaves_like_a_set_of_frames(
            holes in prop::collection::vec((0_u64..1000, 0_u64..80), 0..8),
            steps in prop::collection::vec((1_u64..70, 0_u32..7, 0_usize..8), 1..60),
        ) {
            let mut words = [0; 16];
            let mut map = FrameMap::all_used(&mut words);
            map.set_free(1..1000);
            for (start, length) in &holes {
                map.set_used(*start..*start + *length);
            }
            let free = map.count_free();
            let in_hole = |frame: u64| {
                holes.iter().any(|(start, length)| (*start..*start + *length).contains(&frame))
            };
            let mut live: BTreeMap<u64, u64> = BTreeMap::new();
            for (count, alignment, release) in steps {
                let alignment = 1 << alignment;
                if let Some(first) = map.allocate(count, alignment, u64::MAX) {
                    prop_assert_eq!(first % alignment, 0);
                    for frame in first..first + count {
                        prop_assert!((1..1000).contains(&frame) && !in_hole(frame));
                        prop_assert!(live.iter().all(|(at, n)| !(*at..*at + *n).contains(&frame)));
                    }
                    live.insert(first, count);
                } else {
                    let is_free = |frame: u64| {
                        (1..1000).contains(&frame)
                            && !in_hole(frame)
                            && live.iter().all(|(at, n)| !(*at..*at + *n).contains(&frame))
                    };
                    let starts: Vec<u64> = (0..1000).step_by(usize::try_from(alignment).unwrap()).collect();
                    prop_assert!(
                        !starts.iter().any(|at| (*at..*at + count).all(is_free)),
                        "a run was there"
                    );
                }
                if let Some((&first, &count)) = live.iter().nth(release) {
                    live.remove(&first);
                    map.release(first, count);
                }
                let used: u64 = live.values().sum();
                prop_assert_eq!(map.count_free(), free - used);
            }
        }
    }
}
