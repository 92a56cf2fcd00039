use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A queue that counts.
#[derive(Default)]
struct Queue {
    /// Whose the entries are, the oldest first.
    entries: VecDeque<usize>,
    accepted: Accepted,
}

impl Queue {
    fn waiting(&self) -> Option<u16> {
        u16::try_from(self.entries.len()).ok()
    }

    fn count(&self, owner: usize) -> usize {
        self.entries.iter().filter(|&&other| other == owner).count()
    }

    /// Guest `owner` submits, if its slice has room.
    fn submit(&mut self, owner: usize, slice: &mut Slice) -> bool {
        if !slice.has_room(&self.accepted, || self.waiting()) {
            return false;
        }
        self.entries.push_back(owner);
        slice.occupy(self.accepted.add());
        true
    }

    fn fill(&mut self, owner: usize) {
        self.entries.push_back(owner);
        self.accepted.add();
    }
}

#[test]
fn the_device_is_asked_when_all_entries_are_taken_and_not_before() {
    let accepted = Accepted::default();
    let mut slice = Slice::new(2, 1);
    for _ in 0..2 {
        assert!(slice.has_room(&accepted, || panic!("an entry is free")));
        slice.occupy(accepted.add());
    }
    assert!(!slice.has_room(&accepted, || Some(2)));
    assert!(!slice.has_room(&accepted, || None));
    assert_eq!(slice.count_taken(), 2);
    // One of two is left: the newer one.
    assert!(slice.has_room(&accepted, || Some(1)));
    assert_eq!(slice.count_taken(), 1);
}

/// Three of the guest's, then two of another; three wait: of the guest's the last one.
#[test]
fn what_others_submitted_later_does_not_count_against_a_guest() {
    let mut queue = Queue::default();
    let mut slice = Slice::new(3, 1);
    for _ in 0..3 {
        assert!(queue.submit(0, &mut slice));
    }
    queue.fill(1);
    queue.fill(1);
    assert!(!slice.has_room(&queue.accepted, || Some(5)));
    assert!(slice.has_room(&queue.accepted, || Some(3)));
    assert_eq!(slice.count_taken(), 1);
}

/// With other processors one that was accepted earlier may be counted later; so the same
/// numbers say less. An empty queue says that nothing is left in any case.
#[test]
fn what_is_not_counted_yet_is_allowed_for() {
    let mut queue = Queue::default();
    let mut slice = Slice::new(3, 3);
    for _ in 0..3 {
        assert!(queue.submit(0, &mut slice));
    }
    assert!(!slice.has_room(&queue.accepted, || Some(1)));
    assert!(slice.has_room(&queue.accepted, || Some(0)));
    assert_eq!(slice.count_taken(), 0);
}

/// All-ones, as from a device that is gone, is a queue that is full.
#[test]
fn a_device_that_is_gone_has_no_room() {
    let accepted = Accepted::default();
    let mut slice = Slice::new(1, 1);
    slice.occupy(accepted.add());
    assert!(!slice.has_room(&accepted, || Some(u16::MAX)));
}

#[test]
#[should_panic(expected = "an entry was taken that was not free")]
fn an_entry_is_taken_once() {
    let mut slice = Slice::new(1, 1);
    slice.occupy(1);
    slice.occupy(2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

    /// Two slices and guests that share what is below the threshold, on a queue that is
    /// left in its order at any time: nobody has more than it may, and who has room finds
    /// the queue with room.
    #[test]
    fn no_guest_has_more_than_its_entries_and_each_always_gets_them(
        steps in prop::collection::vec(0..5_usize, 1..400),
    ) {
        const SIZE: usize = 12;
        const THRESHOLD: usize = 5;
        let mut queue = Queue::default();
        let mut slices = [Slice::new(4, 1), Slice::new(3, 1)];
        for step in steps {
            match step {
                0 | 1 => {
                    let had = queue.count(step);
                    let limit = slices[step].marks.len();
                    let is_taken = queue.submit(step, &mut slices[step]);
                    prop_assert_eq!(is_taken, had < limit, "guest {}", step);
                    prop_assert!(queue.entries.len() <= SIZE);
                }
                2 | 3 if queue.entries.len() < THRESHOLD => queue.fill(2),
                2 | 3 => {}
                _ => drop(queue.entries.pop_front()),
            }
        }
    }
}
