//! What became of submissions, for the books.

use core::ops::AddAssign;

macro_rules! counters {
    ($(#[$about:meta])* $type:ident: $($(#[$doc:meta])* $field:ident, $name:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $type {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $type {
            /// What they are called where people read them.
            pub const NAMES: [&str; [$($name),*].len()] = [$($name),*];

            /// Their values, in the order of [`NAMES`](Self::NAMES).
            pub const fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),*]
            }
        }

        impl AddAssign for $type {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

counters! {
    /// Counters of one virtual accelerator.
    ///
    /// `submitted = accepted + refused + retried + dropped`; a batch counts once there, and
    /// what has to be executed again counts when it is.
    Counters:
    /// Portal writes of 64 bytes.
    submitted, "submitted";
    /// Handed to the device, batches included.
    accepted, "accepted";
    /// Refused and reported as a failed descriptor.
    refused, "refused";
    /// Answered with Retry.
    retried, "retried";
    /// Dropped, as a posted write is that no queue takes.
    dropped, "dropped";
    /// ENQCMD or ENQCMDS that faulted; not submitted.
    faulted, "faulted";
    /// Executed again because the entries that are reserved for the guest were taken; not
    /// submitted.
    waited, "waited for entries";
    /// Of those retried: held back by the rate of the shared queue.
    held_back, "held back by rate";
    /// Of those retried and dropped: batches and drains that found no free slot.
    without_slot, "without batch slot";
    /// Batches handed to the device.
    batches, "batches";
    /// Members of these.
    members, "members";
    /// Of these, replaced by a descriptor that the device refuses.
    members_refused, "members refused";
    /// Batches and drains whose completion was handed on to the guest.
    handed_on, "handed on";
    /// Batches and drains that an abort or a reset threw away.
    abandoned, "abandoned";
    /// Members of such batches, and of batches that ended before their last member.
    members_abandoned, "members abandoned";
    /// Interrupts of refused descriptors, raised by software.
    refused_interrupts, "interrupts refused";
    /// Interrupts of batches and drains, raised by software.
    handed_on_interrupts, "interrupts handed on";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_one_by_one_and_have_names() {
        let mut sum = Counters {
            submitted: 5,
            handed_on: 2,
            ..Counters::default()
        };
        sum += Counters {
            submitted: 3,
            held_back: 7,
            ..Counters::default()
        };
        assert_eq!(
            sum.values(),
            [8, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 2, 0, 0, 0, 0]
        );
        assert_eq!(Counters::NAMES[7], "held back by rate");
        assert_eq!(Counters::NAMES[12], "handed on");
    }
}
