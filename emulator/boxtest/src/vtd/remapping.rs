//! The interrupt remapping table. [VT-d 5.10, 5.1 "Interrupt Remapping", 9.9
//! "Interrupt Remapping Table Entry (IRTE) for Remapped Interrupts"]

use bitfield_struct::bitfield;

use crate::memory::Pages;
use crate::pci::SourceId;

/// Lower half of an entry. Delivery is fixed, edge, physical destination.
#[bitfield(u64)]
struct EntryLow {
    /// P
    present: bool,
    /// FPD
    fault_processing_disable: bool,
    /// DM: logical destination.
    destination_mode: bool,
    /// RH
    redirection_hint: bool,
    /// TM: level.
    trigger_mode: bool,
    /// DLM
    #[bits(3)]
    delivery_mode: u8,
    /// AVAIL
    #[bits(4)]
    available: u8,
    #[bits(3)]
    _reserved_14_12: u8,
    /// IM: posted.
    mode: bool,
    /// V
    vector: u8,
    #[bits(8)]
    _reserved_31_24: u8,
    /// DST: APIC id.
    destination: u32,
}

const _: () = assert!(EntryLow::VECTOR_OFFSET == 16 && EntryLow::DESTINATION_OFFSET == 32);

/// Upper half of an entry.
#[bitfield(u64)]
struct EntryHigh {
    /// SID
    source: u16,
    /// SQ: which bits of the source-id count.
    #[bits(2)]
    qualifier: u8,
    /// SVT: how the source-id is validated.
    #[bits(2)]
    validation: u8,
    #[bits(44)]
    _reserved_127_84: u64,
}

/// Who may use an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// This function only.
    Function(SourceId),
    /// Any function of these buses.
    Buses { first: u8, last: u8 },
}

/// The table: 256 entries of 16 bytes, one page.
#[derive(Debug)]
pub(crate) struct Table(Pages);

impl Table {
    /// IRTA_REG 3:0: 2^(S + 1) entries.
    pub(super) const SIZE_CODE: u64 = 7;
    /// The first index that is not in the table.
    pub(crate) const ENTRIES: u16 = 256;

    /// No entry is present.
    pub(crate) fn new() -> Self {
        Self(Pages::one())
    }

    pub(super) fn address(&self) -> u64 {
        self.0.address()
    }

    /// Sets entry `index`: interrupts from `source` go to `vector` of the
    /// processor with this APIC id. The caller invalidates.
    pub(crate) fn set(&self, index: u16, source: Source, destination: u32, vector: u8) {
        let low = EntryLow::new()
            .with_present(true)
            .with_vector(vector)
            .with_destination(destination);
        let high = match source {
            Source::Function(id) => EntryHigh::new().with_source(id.0).with_validation(1),
            Source::Buses { first, last } => EntryHigh::new()
                .with_source(u16::from_be_bytes([first, last]))
                .with_validation(2),
        };
        self.write(index, low.into_bits(), high.into_bits());
    }

    /// Sets a reserved bit of a present entry.
    pub(crate) fn spoil(&self, index: u16) {
        const RESERVED: u64 = 1 << 12;
        let at = u64::from(index) * 16;
        self.0.write(at, self.0.read(at) | RESERVED);
    }

    /// Turns a present entry into one for a posted interrupt.
    pub(crate) fn post(&self, index: u16) {
        let at = u64::from(index) * 16;
        let entry = EntryLow::from_bits(self.0.read(at));
        self.0.write(at, entry.with_mode(true).into_bits());
    }

    /// Takes entry `index` away.
    pub(crate) fn clear(&self, index: u16) {
        self.write(index, 0, 0);
    }

    fn write(&self, index: u16, low: u64, high: u64) {
        assert!(index < Self::ENTRIES, "no entry {index} in the table");
        let at = u64::from(index) * 16;
        self.0.write(at, 0);
        self.0.write(at + 8, high);
        self.0.write(at, low);
    }
}

/// An interrupt message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) address: u64,
    pub(crate) data: u32,
}

impl Message {
    const RANGE: u64 = 0xfee0_0000;

    /// In remappable format, to be looked up at `index`.
    /// [VT-d 5.10, 5.1.2.2 "Interrupt Requests in Remappable Format"]
    pub(crate) fn remappable(index: u16) -> Self {
        const REMAPPABLE: u64 = 1 << 4;
        let index = u64::from(index);
        Self {
            address: Self::RANGE | (index & 0x7fff) << 5 | REMAPPABLE | index >> 15 << 2,
            data: 0,
        }
    }

    /// The same with a subhandle: `base` and `offset` together are the index.
    pub(crate) fn remappable_with_subhandle(base: u16, offset: u16) -> Self {
        const SUBHANDLE_VALID: u64 = 1 << 3;
        Self {
            address: Self::remappable(base).address | SUBHANDLE_VALID,
            data: u32::from(offset),
        }
    }

    /// In the format from before there was remapping.
    /// [VT-d 5.10, 5.1.2.1 "Interrupt Requests in Compatibility Format"]
    pub(crate) fn compatible(destination: u8, vector: u8) -> Self {
        Self {
            address: Self::RANGE | u64::from(destination) << 12,
            data: u32::from(vector),
        }
    }
}
