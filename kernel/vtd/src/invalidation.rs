//! Which invalidations a change of a table takes.
//!
//! One function for each change that the driver makes, each following a row of
//! [VT-d 5.10, 6.5.3.3 "Guidance to Software for Invalidations", Table 28]. The rows'
//! device-TLB invalidations are not there: ATS is off. All are carried out in the order
//! given: the unit does a PASID-cache invalidation after context-cache ones that are
//! ahead of it, and an IOTLB invalidation after both.
//! [VT-d 5.10, 6.5.2.12 "Queued Invalidation Ordering Considerations"]

use hwspec::pci::{Pasid, SourceId};
use hwspec::vtd::{
    AddressMask, Cap, ContextCacheInvalidate, Granularity, InterruptEntryCacheInvalidate,
    InvalidationDescriptor, IotlbInvalidate, PasidCacheGranularity, PasidCacheInvalidate,
    PasidIotlbInvalidate,
};

use crate::{DomainId, InterruptIndex, Iova, Stage};

/// The root table: everything. Also what a unit needs to hear that caches entries that
/// are not there (CAP.CM), after one of them has come.
pub(crate) fn everything() -> [InvalidationDescriptor; 3] {
    [
        ContextCacheInvalidate::new()
            .with_g(Granularity::GLOBAL)
            .into(),
        PasidCacheInvalidate::new()
            .with_g(PasidCacheGranularity::GLOBAL)
            .into(),
        iotlb(Granularity::GLOBAL, 0).into(),
    ]
}

/// "Changes to a scalable-mode context-table entry": to not present, whatever domains
/// its PASIDs had. The row's domain-selective ones are widened to global ones, which
/// the order of granularities allows.
/// [VT-d 5.10, 6.5.2.1 "Context-cache Invalidate Descriptor"]
pub(crate) fn context_cleared(source: SourceId) -> [InvalidationDescriptor; 3] {
    [
        ContextCacheInvalidate::new()
            .with_g(Granularity::DEVICE)
            .with_sid(source.into_bits())
            .into(),
        PasidCacheInvalidate::new()
            .with_g(PasidCacheGranularity::GLOBAL)
            .into(),
        iotlb(Granularity::GLOBAL, 0).into(),
    ]
}

/// "Present bit transition from 1 to 0 in a PASID-table entry", with the domain that
/// the entry had.
pub(crate) fn pasid_cleared(
    stage: Stage,
    domain: DomainId,
    pasid: Pasid,
) -> [InvalidationDescriptor; 2] {
    let tables = match stage {
        Stage::Second => iotlb(Granularity::DOMAIN, domain.number()).into(),
        Stage::First => PasidIotlbInvalidate::new()
            .with_g(Granularity::DOMAIN)
            .with_did(domain.number())
            .with_pasid(pasid.value())
            .into(),
    };
    [
        PasidCacheInvalidate::new()
            .with_g(PasidCacheGranularity::PASID)
            .with_did(domain.number())
            .with_pasid(pasid.value())
            .into(),
        tables,
    ]
}

/// "Re-use Domain-ID in a scalable-mode PASID-table entry", done when the domain ends.
pub(crate) fn domain_ended(domain: DomainId) -> [InvalidationDescriptor; 2] {
    [
        PasidCacheInvalidate::new()
            .with_g(PasidCacheGranularity::DOMAIN)
            .with_did(domain.number())
            .into(),
        iotlb(Granularity::DOMAIN, domain.number()).into(),
    ]
}

/// "Changes to Second-stage page-tables": page-selective if one aligned block of pages
/// that the unit can take covers the range, else the whole domain. "Changes to
/// First-stage Page-tables": the whole domain, which spares looking for its PASIDs and
/// is named there as an alternative.
pub(crate) fn pages_changed(
    cap: Cap,
    stage: Stage,
    domain: DomainId,
    iova: Iova,
    len_bytes: u64,
) -> InvalidationDescriptor {
    let first = iova.0 >> 12;
    let last = (iova.0 + (len_bytes - 1)) >> 12;
    // So many low bits differ between the first and the last page number.
    let mask = u64::BITS - (first ^ last).leading_zeros();
    let is_selective = stage == Stage::Second && cap.psi() && mask <= u32::from(cap.mamv());
    let mask = u8::try_from(mask).expect("there are 64 bits at most");
    if is_selective {
        // IH stays 0: entries of tables may be among what changed.
        let pages = AddressMask::new()
            .with_am(mask)
            .with_addr(first >> mask << mask);
        (iotlb(Granularity::PAGE, domain.number()), pages).into()
    } else {
        iotlb(Granularity::DOMAIN, domain.number()).into()
    }
}

/// One interrupt remapping entry. The unit delivers what was on its way first.
/// [VT-d 5.10, 6.5.2.8 "Interrupt Entry Cache Invalidate Descriptor"; 6.5.5 "Interrupt
/// Draining"]
pub(crate) fn interrupt_changed(index: InterruptIndex) -> InvalidationDescriptor {
    InterruptEntryCacheInvalidate::new()
        .with_g(true)
        .with_iidx(index.number())
        .into()
}

/// All interrupt remapping entries.
pub(crate) fn all_interrupts() -> InvalidationDescriptor {
    InterruptEntryCacheInvalidate::new().into()
}

/// With the draining that units of version 2 and later do anyway: requests that use
/// what is forgotten are done when it is.
fn iotlb(granularity: Granularity, domain: u16) -> IotlbInvalidate {
    IotlbInvalidate::new()
        .with_g(granularity)
        .with_dr(true)
        .with_dw(true)
        .with_did(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PSI, MAMV 18.
    const SELECTIVE: Cap = Cap::from_bits(0x0012_0080_0000_0000);

    fn pages(cap: Cap, stage: Stage, iova: u64, len_bytes: u64) -> [u64; 4] {
        pages_changed(cap, stage, DomainId::new(5), Iova(iova), len_bytes).0
    }

    #[test]
    fn pages_are_covered_by_one_aligned_block() {
        let second = |iova, len_bytes| pages(SELECTIVE, Stage::Second, iova, len_bytes);
        assert_eq!(second(0x7000, 0x1000), [0x500f2, 0x7000, 0, 0]);
        assert_eq!(second(0x4020_0000, 0x20_0000), [0x500f2, 0x4020_0009, 0, 0]);
        // Pages 7 and 8 differ in four bits, so pages 0 to 15.
        assert_eq!(second(0x7000, 0x2000), [0x500f2, 0x0004, 0, 0]);
        assert_eq!(
            second(0x4000_0000, 0x4000_0000),
            [0x500f2, 0x4000_0012, 0, 0]
        );
    }

    #[test]
    fn what_no_block_covers_takes_the_whole_domain() {
        let domain = [0x500e2, 0, 0, 0];
        assert_eq!(pages(SELECTIVE, Stage::Second, 0, 0x8000_0000), domain);
        assert_eq!(pages(Cap::new(), Stage::Second, 0x7000, 0x1000), domain);
        assert_eq!(pages(SELECTIVE, Stage::First, 0x7000, 0x1000), domain);
    }
}
