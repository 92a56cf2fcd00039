//! Intel VT-d in scalable mode: DMA and interrupt remapping.
//!
//! A request's way through the structures: the source-id selects a
//! [`RootEntry`] and a [`ContextEntry`], the PASID a [`PasidDirectoryEntry`] and a
//! [`PasidEntry`], the address then the entries of [`paging`]. A message to
//! FEEx_xxxxh takes the short way: its index selects an [`Irte`].
//!
//! [VT-d 5.10, 3.4.3 "Scalable Mode Address Translation"]

mod fault;
mod interrupt;
mod invalidation;
pub mod paging;
mod registers;
mod tables;

pub use fault::{FRCD_STRIDE, FaultReason, FrcdHigh, FrcdLow, Fsts, frcd_high, frcd_low};
pub use interrupt::{
    EventAddress, EventControl, EventData, Irte, IrteHigh, IrteLow, RemappableAddress,
    SourceValidation,
};
pub use invalidation::{
    AddressMask, ContextCacheInvalidate, Granularity, InterruptEntryCacheInvalidate,
    InvalidationDescriptor, InvalidationWait, IotlbInvalidate, PasidCacheGranularity,
    PasidCacheInvalidate, PasidIotlbInvalidate, WaitAddress,
};
pub use registers::{
    CAP, Cap, ECAP, Ecap, FEADDR, FECTL, FEDATA, FEUADDR, FSTS, GCMD, GSTS, Gcmd, Gsts, ICS, IECTL,
    IQA, IQERCD, IQH, IQT, IRTA, Ics, Iqa, Iqercd, Irta, PMEN, Pmen, QueueErrorInfo, QueueOffset,
    RTADDR, Rtaddr, TranslationTableMode, VER, Ver,
};
pub use tables::{
    ContextEntry, ContextEntry0, ContextEntry1, ContextTablePointer, PasidDirectoryEntry,
    PasidEntry, PasidEntry0, PasidEntry1, PasidEntry2, Pgtt, RootEntry,
};
