//! Non-maskable interrupts: from the delivery of one to the end of the IRET that follows
//! no other is delivered. [AMD64 Architecture Programmer's Manual, vol. 2, 8.1.3
//! "Masking External and NMI Interrupts"; 15.21.6 "Interrupt Shadows"]
#![forbid(unsafe_code)]

/// Whether a guest takes non-maskable interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NmiMask {
    /// It does.
    #[default]
    Open,
    /// One was delivered. The guest is left at the next IRET.
    Delivered,
    /// The guest is at this address, with the IRET: as soon as it is elsewhere it is
    /// behind it. One that returns to itself stays masked.
    Returns(u64),
}

impl NmiMask {
    /// Whether one can be delivered to a guest that is at `rip`.
    pub(super) fn is_open(self, rip: u64) -> bool {
        match self {
            Self::Open => true,
            Self::Delivered => false,
            Self::Returns(from) => from != rip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_ends_behind_the_iret_and_not_before() {
        assert!(NmiMask::Open.is_open(0x1000));
        assert!(!NmiMask::Delivered.is_open(0x1000));
        assert!(!NmiMask::Returns(0x1000).is_open(0x1000));
        assert!(NmiMask::Returns(0x1000).is_open(0x2000));
    }
}
