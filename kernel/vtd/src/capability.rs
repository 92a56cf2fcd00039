//! What a unit must have, and what it may have.

use hwio::{PAGE_SIZE, Registers};
use hwspec::pci::Pasid;
use hwspec::vtd::{CAP, Cap, ECAP, Ecap, FRCD_STRIDE};

use crate::error::RegisterName;
use crate::{Error, Stage};

/// How many bits of a PASID the directories of this driver cover: one page of
/// directory has 512 entries, each for a table of 64.
const DIRECTORY_PASID_BITS: u32 = 9 + 6;

/// What the driver knows of its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// CAP_REG.
    pub cap: Cap,
    /// ECAP_REG.
    pub ecap: Ecap,
    /// Which of the two kinds of page tables is used: the second stage if there is
    /// one.
    pub stage: Stage,
    /// How many levels page tables have.
    pub levels: u32,
    /// How many bits an address has that a device may use.
    pub address_bits: u32,
    /// The highest level that may map a page. 0: 4 KiB, 1: 2 MiB, 2: 1 GiB.
    pub largest_page: u32,
    /// How many bits a domain-id has.
    pub domain_id_bits: u32,
    /// The highest PASID that a device may use.
    pub highest_pasid: Pasid,
}

impl Capabilities {
    /// Reads what the unit says of itself, and checks it.
    pub(crate) fn read(registers: &impl Registers, needed_bits: u32) -> Result<Self, Error> {
        let len_bytes = registers.len_bytes();
        if len_bytes < PAGE_SIZE {
            return Err(Error::WindowTooSmall { len_bytes });
        }
        let cap = registers.read(CAP);
        if cap.into_bits() == !0 {
            let register = RegisterName::Cap;
            return Err(Error::DeviceGone { register });
        }
        let ecap = registers.read(ECAP);
        if ecap.into_bits() == !0 {
            let register = RegisterName::Ecap;
            return Err(Error::DeviceGone { register });
        }
        let capabilities = Self::check(cap, ecap, needed_bits)?;
        let end = cap.fault_recording_offset() + cap.fault_recording_count() * FRCD_STRIDE;
        if end > len_bytes {
            return Err(Error::FaultRegistersOutside { end, len_bytes });
        }
        Ok(capabilities)
    }

    /// Whether a unit with these registers will do for addresses of `needed_bits`
    /// bits.
    ///
    /// # Errors
    /// One for each feature that is missing.
    pub fn check(cap: Cap, ecap: Ecap, needed_bits: u32) -> Result<Self, Error> {
        // Without a queue neither of the next two can be there, so it is named first.
        if !ecap.qi() {
            return Err(Error::NoQueuedInvalidation(ecap));
        }
        if !ecap.smts() {
            return Err(Error::NoScalableMode(ecap));
        }
        if !ecap.pasid() {
            return Err(Error::NoPasid(ecap));
        }
        if !ecap.ir() {
            return Err(Error::NoInterruptRemapping(ecap));
        }
        if !ecap.eim() {
            return Err(Error::NoExtendedInterruptMode(ecap));
        }
        if cap.rwbf() {
            return Err(Error::WriteBufferFlushing(cap));
        }
        let domain_id_bits = cap.domain_id_bits().ok_or(Error::UnknownDomainCount(cap))?;

        let (stage, levels, table_bits, largest_page) = if ecap.ssts() {
            let (levels, bits) = second_stage_depth(cap).ok_or(Error::NoTableDepth(cap))?;
            // [VT-d 5.10, 11.4.2 "Capability Register", SSLPS]: a unit that has the
            // larger page has the smaller one too.
            let largest_page = match cap.sslps() & 0b11 {
                0b11 => 2,
                0b01 => 1,
                _ => 0,
            };
            (Stage::Second, levels, bits, largest_page)
        } else if ecap.fsts() {
            // Addresses stay in the lower canonical half. [VT-d 5.10, 3.6 "First-Stage
            // Translation"]
            (Stage::First, 4, 47, if cap.fs1gp() { 2 } else { 1 })
        } else {
            return Err(Error::NoTranslation(ecap));
        };
        let address_bits = table_bits.min(cap.guest_address_bits());
        if address_bits < needed_bits {
            return Err(Error::AddressWidth {
                offered_bits: address_bits,
                needed_bits,
            });
        }
        let pasid_bits = ecap.pasid_bits().min(DIRECTORY_PASID_BITS);
        Ok(Self {
            cap,
            ecap,
            stage,
            levels,
            address_bits,
            largest_page,
            domain_id_bits,
            highest_pasid: Pasid::from_bits((1 << pasid_bits) - 1),
        })
    }
}

impl Capabilities {
    /// The depth of second-stage tables as PASID entries have it.
    /// [VT-d 5.10, 9.6 "Scalable-Mode PASID Table Entry", AW]
    pub(crate) fn address_width_code(&self) -> u8 {
        u8::try_from(self.levels - 2).expect("there are three to five levels")
    }
}

/// Levels and address bits of second-stage tables: 4 levels where possible, for no
/// guest needs more and more make walks longer.
fn second_stage_depth(cap: Cap) -> Option<(u32, u32)> {
    let depths = [(2, 4, 48), (3, 5, 57), (1, 3, 39)];
    let supported = |&(bit, ..): &(u32, u32, u32)| cap.sagaw() >> bit & 1 == 1;
    depths
        .into_iter()
        .find(supported)
        .map(|(_, levels, bits)| (levels, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU's intel-iommu with second-stage tables.
    const SECOND_STAGE: (u64, u64) = (0x00d2_008c_222f_0606, 0x0000_4900_80f0_0f5a);
    /// QEMU's intel-iommu with first-stage tables.
    const FIRST_STAGE: (u64, u64) = (0x01d2_008c_222f_0606, 0x0000_8900_00f0_0f5a);
    /// What the lab box adds: PASIDs of 20 bits.
    const PSS_19: u64 = 19 << 35;

    fn check(cap: u64, ecap: u64) -> Result<Capabilities, Error> {
        Capabilities::check(Cap::from_bits(cap), Ecap::from_bits(ecap), 39)
    }

    #[test]
    fn both_forms_of_the_emulated_unit_will_do() {
        let (cap, ecap) = SECOND_STAGE;
        let found = check(cap, ecap | PSS_19).unwrap();
        assert_eq!((found.stage, found.levels), (Stage::Second, 4));
        assert_eq!((found.address_bits, found.largest_page), (48, 2));
        assert_eq!(found.domain_id_bits, 16);
        assert_eq!(found.highest_pasid.value(), 0x7fff);

        let (cap, ecap) = FIRST_STAGE;
        let found = check(cap, ecap | PSS_19).unwrap();
        assert_eq!((found.stage, found.levels), (Stage::First, 4));
        assert_eq!((found.address_bits, found.largest_page), (47, 2));
        assert_eq!(found.highest_pasid.value(), 0x7fff);
    }

    #[test]
    fn a_unit_is_believed_that_says_it_has_pasids_of_one_bit() {
        for (cap, ecap) in [SECOND_STAGE, FIRST_STAGE] {
            assert_eq!(check(cap, ecap).unwrap().highest_pasid.value(), 1);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let (cap, ecap) = SECOND_STAGE;
        let without = |bit: u32| ecap & !(1 << bit);
        let missing = |bit: u32| (check(cap, without(bit)), Ecap::from_bits(without(bit)));
        let (result, ecap_1) = missing(1);
        assert_eq!(result, Err(Error::NoQueuedInvalidation(ecap_1)));
        let (result, ecap_43) = missing(43);
        assert_eq!(result, Err(Error::NoScalableMode(ecap_43)));
        let (result, ecap_40) = missing(40);
        assert_eq!(result, Err(Error::NoPasid(ecap_40)));
        let (result, ecap_3) = missing(3);
        assert_eq!(result, Err(Error::NoInterruptRemapping(ecap_3)));
        let (result, ecap_4) = missing(4);
        assert_eq!(result, Err(Error::NoExtendedInterruptMode(ecap_4)));
        let (result, ecap_46) = missing(46);
        assert_eq!(result, Err(Error::NoTranslation(ecap_46)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let (cap, ecap) = SECOND_STAGE;
        let flushing = cap | 1 << 4;
        let expected = Error::WriteBufferFlushing(Cap::from_bits(flushing));
        assert_eq!(check(flushing, ecap), Err(expected));
        let domains = cap | 7;
        let expected = Error::UnknownDomainCount(Cap::from_bits(domains));
        assert_eq!(check(domains, ecap), Err(expected));
        let no_depth = cap & !(0x1f << 8);
        let expected = Error::NoTableDepth(Cap::from_bits(no_depth));
        assert_eq!(check(no_depth, ecap), Err(expected));
    }

    #[test]
    fn the_narrower_of_width_and_depth_counts() {
        let (cap, ecap) = SECOND_STAGE;
        // MGAW of 36 bits.
        let narrow = cap & !(0x3f << 16) | 35 << 16;
        let expected = Error::AddressWidth {
            offered_bits: 36,
            needed_bits: 39,
        };
        assert_eq!(check(narrow, ecap), Err(expected));
        // Three levels only.
        let shallow = check(cap & !(0x1f << 8) | 1 << 9, ecap).unwrap();
        assert_eq!((shallow.levels, shallow.address_bits), (3, 39));
        // Five levels only, of which MGAW lets 48 bits be used.
        let deep = check(cap & !(0x1f << 8) | 1 << 11, ecap).unwrap();
        assert_eq!((deep.levels, deep.address_bits), (5, 48));
    }

    #[test]
    fn large_pages_are_used_as_far_as_they_are_offered() {
        let (cap, ecap) = SECOND_STAGE;
        let with = |sslps: u64| check(cap & !(0xf << 34) | sslps << 34, ecap).unwrap();
        assert_eq!([0, 1, 3].map(|sslps| with(sslps).largest_page), [0, 1, 2]);
        let (cap, ecap) = FIRST_STAGE;
        assert_eq!(check(cap & !(1 << 56), ecap).unwrap().largest_page, 1);
    }
}
