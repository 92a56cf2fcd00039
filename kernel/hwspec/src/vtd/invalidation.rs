//! Invalidation descriptors, all in the 256-bit form that scalable mode needs.
//!
//! The 7-bit type is in two places, bits 11:9 and bits 3:0; the types here have 0
//! in the upper three. Words that a type does not define are 0.
//! [VT-d 5.10, 6.5.2 "Queued Invalidation Interface"]

use bitfield_struct::bitfield;

use crate::field::field;

/// A descriptor as it lies in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InvalidationDescriptor(pub [u64; 4]);
const _: () = assert!(size_of::<InvalidationDescriptor>() == 32);

/// G: Granularity of context-cache and IOTLB invalidations; of a PASID-based one
/// the last two, where "domain" is "PASID".
/// [VT-d 5.10, 11.4.6.1 "Context Command Register", CIRG; 6.5.2.3 "IOTLB
/// Invalidate"; 6.5.2.4 "PASID-based IOTLB Invalidate Descriptor (P_IOTLB)"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granularity(u8);

impl Granularity {
    /// Everything.
    pub const GLOBAL: Self = Self(0b01);
    /// Domain-selective, or PASID-selective.
    pub const DOMAIN: Self = Self(0b10);
    /// Device-selective for a context-cache invalidation.
    pub const DEVICE: Self = Self(0b11);
    /// Page-selective for an IOTLB invalidation.
    pub const PAGE: Self = Self(0b11);
}
field!(Granularity: u8);

/// G: Granularity of a PASID-cache invalidation, coded unlike the others.
/// [VT-d 5.10, 6.5.2.2 "PASID-cache Invalidate Descriptor"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidCacheGranularity(u8);

impl PasidCacheGranularity {
    /// Domain-Selective.
    pub const DOMAIN: Self = Self(0b00);
    /// PASID-Selective-within-Domain.
    pub const PASID: Self = Self(0b01);
    /// Global.
    pub const GLOBAL: Self = Self(0b11);
}
field!(PasidCacheGranularity: u8);

/// Context-cache Invalidate Descriptor (cc_inv_dsc), bits 63:0.
/// [VT-d 5.10, 6.5.2.1 "Context-cache Invalidate Descriptor"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ContextCacheInvalidate {
    /// `Type[3:0]`.
    #[bits(4, default = 0x1)]
    pub kind: u8,
    /// G: Granularity.
    #[bits(2)]
    pub g: Granularity,
    #[bits(3)]
    _reserved_8_6: u8,
    #[bits(3)]
    _type_6_4: u8,
    #[bits(4)]
    _reserved_15_12: u8,
    /// DID: Domain-ID, ignored in scalable mode.
    pub did: u16,
    /// SID: Source-ID.
    pub sid: u16,
    /// FM: Function Mask.
    #[bits(2)]
    pub fm: u8,
    #[bits(14)]
    _reserved_63_50: u16,
}
const _: () = {
    assert!(ContextCacheInvalidate::G_OFFSET == 4 && ContextCacheInvalidate::DID_OFFSET == 16);
    assert!(ContextCacheInvalidate::SID_OFFSET == 32 && ContextCacheInvalidate::FM_OFFSET == 48);
};

/// PASID-cache Invalidate Descriptor (pc_inv_dsc), bits 63:0.
/// [VT-d 5.10, 6.5.2.2 "PASID-cache Invalidate Descriptor"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidCacheInvalidate {
    /// `Type[3:0]`.
    #[bits(4, default = 0x7)]
    pub kind: u8,
    /// G: Granularity.
    #[bits(2)]
    pub g: PasidCacheGranularity,
    #[bits(3)]
    _reserved_8_6: u8,
    #[bits(3)]
    _type_6_4: u8,
    #[bits(4)]
    _reserved_15_12: u8,
    /// DID: Domain-ID.
    pub did: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    _reserved_63_52: u16,
}
const _: () = {
    assert!(PasidCacheInvalidate::G_OFFSET == 4 && PasidCacheInvalidate::DID_OFFSET == 16);
    assert!(PasidCacheInvalidate::PASID_OFFSET == 32);
};

/// IOTLB Invalidate Descriptor (iotlb_inv_dsc), bits 63:0.
/// [VT-d 5.10, 6.5.2.3 "IOTLB Invalidate"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IotlbInvalidate {
    /// `Type[3:0]`.
    #[bits(4, default = 0x2)]
    pub kind: u8,
    /// G: Granularity.
    #[bits(2)]
    pub g: Granularity,
    /// DW: Drain Writes.
    pub dw: bool,
    /// DR: Drain Reads.
    pub dr: bool,
    _reserved_8: bool,
    #[bits(3)]
    _type_6_4: u8,
    #[bits(4)]
    _reserved_15_12: u8,
    /// DID: Domain-ID.
    pub did: u16,
    _reserved_63_32: u32,
}
const _: () = {
    assert!(IotlbInvalidate::G_OFFSET == 4 && IotlbInvalidate::DW_OFFSET == 6);
    assert!(IotlbInvalidate::DR_OFFSET == 7 && IotlbInvalidate::DID_OFFSET == 16);
};

/// PASID-based-IOTLB Invalidate Descriptor (p_iotlb_inv_dsc), bits 63:0.
/// [VT-d 5.10, 6.5.2.4 "PASID-based IOTLB Invalidate Descriptor (P_IOTLB)"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct PasidIotlbInvalidate {
    /// `Type[3:0]`.
    #[bits(4, default = 0x6)]
    pub kind: u8,
    /// G: Granularity.
    #[bits(2)]
    pub g: Granularity,
    #[bits(3)]
    _reserved_8_6: u8,
    #[bits(3)]
    _type_6_4: u8,
    #[bits(4)]
    _reserved_15_12: u8,
    /// DID: Domain-ID.
    pub did: u16,
    /// PASID.
    #[bits(20)]
    pub pasid: u32,
    #[bits(12)]
    _reserved_63_52: u16,
}
const _: () = {
    assert!(PasidIotlbInvalidate::G_OFFSET == 4 && PasidIotlbInvalidate::DID_OFFSET == 16);
    assert!(PasidIotlbInvalidate::PASID_OFFSET == 32);
};

/// Bits 127:64 of the two IOTLB invalidate descriptors, for page granularity.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct AddressMask {
    /// AM: Address Mask, so many low bits of the page number do not count.
    #[bits(6)]
    pub am: u8,
    /// IH: Invalidation Hint. 1: no entry but of pages was changed.
    pub ih: bool,
    #[bits(5)]
    _reserved_75_71: u8,
    /// ADDR: bits 63:12 of the address.
    #[bits(52)]
    pub addr: u64,
}
const _: () = assert!(AddressMask::IH_OFFSET == 70 - 64 && AddressMask::ADDR_OFFSET == 76 - 64);

/// Interrupt Entry Cache Invalidate Descriptor (iec_inv_dsc), bits 63:0.
/// [VT-d 5.10, 6.5.2.8 "Interrupt Entry Cache Invalidate Descriptor"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptEntryCacheInvalidate {
    /// `Type[3:0]`.
    #[bits(4, default = 0x4)]
    pub kind: u8,
    /// G: Granularity. 0: global, 1: index-selective.
    pub g: bool,
    #[bits(4)]
    _reserved_8_5: u8,
    #[bits(3)]
    _type_6_4: u8,
    #[bits(15)]
    _reserved_26_12: u16,
    /// IM: Index Mask, so many low bits of the index do not count.
    #[bits(5)]
    pub im: u8,
    /// IIDX: Interrupt Index.
    pub iidx: u16,
    _reserved_63_48: u16,
}
const _: () = {
    assert!(InterruptEntryCacheInvalidate::G_OFFSET == 4);
    assert!(InterruptEntryCacheInvalidate::IM_OFFSET == 27);
    assert!(InterruptEntryCacheInvalidate::IIDX_OFFSET == 32);
};

/// Invalidation Wait Descriptor (inv_wait_dsc), bits 63:0.
/// [VT-d 5.10, 6.5.2.9 "Invalidation Wait Descriptor"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InvalidationWait {
    /// `Type[3:0]`.
    #[bits(4, default = 0x5)]
    pub kind: u8,
    /// IF: Interrupt Flag.
    pub interrupt: bool,
    /// SW: Status Write.
    pub sw: bool,
    /// FN: Fence Flag.
    pub fence: bool,
    /// PD: Page-request Drain; reserved if ECAP_REG.PDS is 0.
    pub pd: bool,
    _reserved_8: bool,
    #[bits(3)]
    _type_6_4: u8,
    #[bits(20)]
    _reserved_31_12: u32,
    /// Status Data.
    pub status_data: u32,
}
const _: () = {
    assert!(InvalidationWait::INTERRUPT_OFFSET == 4 && InvalidationWait::SW_OFFSET == 5);
    assert!(InvalidationWait::FENCE_OFFSET == 6 && InvalidationWait::PD_OFFSET == 7);
    assert!(InvalidationWait::STATUS_DATA_OFFSET == 32);
};

/// Invalidation Wait Descriptor, bits 127:64.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct WaitAddress {
    #[bits(2)]
    _reserved_65_64: u8,
    /// Status Address: bits 63:2.
    #[bits(62)]
    pub status_address: u64,
}
const _: () = assert!(WaitAddress::STATUS_ADDRESS_OFFSET == 66 - 64);

macro_rules! one_word {
    ($($layout:ty),*) => {$(
        impl From<$layout> for InvalidationDescriptor {
            fn from(word: $layout) -> Self {
                Self([word.into_bits(), 0, 0, 0])
            }
        }
    )*};
}
one_word!(
    ContextCacheInvalidate,
    PasidCacheInvalidate,
    IotlbInvalidate,
    PasidIotlbInvalidate,
    InterruptEntryCacheInvalidate,
    InvalidationWait
);

macro_rules! two_words {
    ($($layout:ty, $second:ty);*) => {$(
        impl From<($layout, $second)> for InvalidationDescriptor {
            fn from((first, second): ($layout, $second)) -> Self {
                Self([first.into_bits(), second.into_bits(), 0, 0])
            }
        }
    )*};
}
two_words!(
    IotlbInvalidate, AddressMask;
    PasidIotlbInvalidate, AddressMask;
    InvalidationWait, WaitAddress
);
