//! An IOMMU in scalable mode.
//! [Intel VT-d Architecture Specification, Rev. 5.10, order number D51397-018]
//!
//! [`Iommu`] holds the registers and the invalidation queue; [`tables`] leads
//! from a requester and its PASID to an address space, [`translation`] is that
//! address space, [`remapping`] the interrupt remapping table.
//!
//! The tables are read by the box's IOMMU, which snoops or not as ECAP says;
//! here the processor's caches are never in the way, so nothing is flushed.

pub(crate) mod remapping;
pub(crate) mod tables;
pub(crate) mod translation;

use bitfield_struct::bitfield;

use crate::cpu;
use crate::memory::{Pages, Window};
use crate::paging;
use crate::pci::SourceId;
use remapping::Message;

/// The registers in use all lie in the first page.
const REGISTERS_SIZE: u64 = 0x1000;

// Byte offsets. [VT-d 5.10, 11.4 "Register Descriptions"]
const CAP: u64 = 0x08;
const ECAP: u64 = 0x10;
const GCMD: u64 = 0x18;
const GSTS: u64 = 0x1c;
const RTADDR: u64 = 0x20;
const FSTS: u64 = 0x34;
const FECTL: u64 = 0x38;
const FEDATA: u64 = 0x3c;
const FEADDR: u64 = 0x40;
const IQH: u64 = 0x80;
const IQT: u64 = 0x88;
const IQA: u64 = 0x90;
const IRTA: u64 = 0xb8;

/// Extended Capability Register, ECAP_REG, as far as the checks look at it.
/// [VT-d 5.10, 11.4.3 "Extended Capability Register"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub(crate) struct ExtendedCapabilities {
    #[bits(3)]
    _other_2_0: u8,
    /// IR: interrupt remapping.
    pub(crate) interrupt_remapping: bool,
    /// EIM: 32-bit APIC ids.
    pub(crate) extended_interrupt_mode: bool,
    _other_5: bool,
    /// PT: pass-through.
    pub(crate) pass_through: bool,
    #[bits(28)]
    _other_34_7: u32,
    /// PSS: PASIDs have this many bits, and one more.
    #[bits(5)]
    pub(crate) pasid_size: u8,
    /// PASID: requests may carry one.
    pub(crate) pasid: bool,
    #[bits(2)]
    _other_42_41: u8,
    /// SMTS: scalable mode.
    pub(crate) scalable_mode: bool,
    #[bits(2)]
    _other_45_44: u8,
    /// SSTS: second-stage translation.
    pub(crate) second_stage: bool,
    /// FSTS: first-stage translation.
    pub(crate) first_stage: bool,
    #[bits(16)]
    _other_63_48: u16,
}

const _: () = assert!(
    ExtendedCapabilities::PASS_THROUGH_OFFSET == 6
        && ExtendedCapabilities::PASID_SIZE_OFFSET == 35
        && ExtendedCapabilities::PASID_OFFSET == 40
        && ExtendedCapabilities::SCALABLE_MODE_OFFSET == 43
        && ExtendedCapabilities::FIRST_STAGE_OFFSET == 47
);

/// One bit of GCMD_REG and GSTS_REG. [VT-d 5.10, 11.4.4 "Global Command
/// Interface Registers"]
#[derive(Clone, Copy, Debug)]
enum Global {
    TranslationEnable = 31,
    SetRootTablePointer = 30,
    QueuedInvalidationEnable = 26,
    InterruptRemappingEnable = 25,
    SetInterruptRemapTablePointer = 24,
    CompatibilityFormatInterrupt = 23,
}

/// The bits of GSTS_REG that are no one-shot commands.
const GSTS_LASTING: u32 = 0x96ff_ffff;
/// RTADDR_REG 11:10, TTM: scalable mode.
const RTADDR_SCALABLE_MODE: u64 = 1 << 10;
/// IQA_REG 11, DW: descriptors of 256 bits. QS of 0: one page.
const IQA_WIDE: u64 = 1 << 11;
/// IRTA_REG 11, EIME: destinations are 32-bit APIC ids.
const IRTA_EXTENDED: u64 = 1 << 11;

const QUEUE_SIZE: u64 = 4096;
const DESCRIPTOR_SIZE: u64 = 32;

/// FSTS_REG: fault overflow, pending fault, queue error.
const FSTS_OVERFLOW: u32 = 1 << 0;
const FSTS_PENDING: u32 = 1 << 1;
const FSTS_QUEUE_ERROR: u32 = 1 << 4;

/// FECTL_REG: the fault event is masked.
const FECTL_MASK: u32 = 1 << 31;

const FRCD_SIZE: u64 = 16;
/// The upper half of a Fault Recording Register, FRCD_REG, bits 127:64.
/// [VT-d 5.10, 11.4.7.6 "Fault Recording Registers"]
#[bitfield(u64)]
struct FaultHigh {
    /// SID: who made the request.
    sid: u16,
    #[bits(12)]
    _reserved_91_80: u16,
    /// T2: with T1 a page request or an atomic operation.
    t2: bool,
    /// PRIV: supervisor privilege was requested.
    privilege: bool,
    /// EXE: execute permission was requested.
    execute: bool,
    /// PP: the request had a PASID.
    pp: bool,
    /// FR: the fault reason.
    fr: u8,
    /// PV: the PASID.
    #[bits(20)]
    pv: u32,
    /// AT: address type.
    #[bits(2)]
    at: u8,
    /// T1: a read, not a write.
    t1: bool,
    /// F: a fault is recorded; writing 1 clears it.
    f: bool,
}

const _: () = assert!(
    FaultHigh::PP_OFFSET == 95 - 64
        && FaultHigh::FR_OFFSET == 96 - 64
        && FaultHigh::PV_OFFSET == 104 - 64
        && FaultHigh::T1_OFFSET == 126 - 64
);

/// Fault reasons.
pub(crate) mod reason {
    use core::ops::RangeInclusive;

    /// [VT-d 5.10, table 15 "Interrupt Remapping Fault Conditions"]
    pub(crate) const INTERRUPTS: RangeInclusive<u8> = 0x20..=0x2f;
    pub(crate) const INTERRUPT_INDEX: u8 = 0x21;
    pub(crate) const INTERRUPT_NOT_PRESENT: u8 = 0x22;
    pub(crate) const INTERRUPT_RESERVED: u8 = 0x24;
    pub(crate) const INTERRUPT_COMPATIBILITY: u8 = 0x25;
    pub(crate) const INTERRUPT_SOURCE: u8 = 0x26;
    // [VT-d 5.10, table 30 "Fault Conditions and Remapping Hardware Behavior
    // for Various Requests"], by condition code.
    /// RTA.2: in legacy mode, a request with a PASID.
    pub(crate) const PASID_IN_LEGACY_MODE: u8 = 0x31;
    /// SRT.2
    pub(crate) const ROOT_NOT_PRESENT: u8 = 0x39;
    /// SRT.3
    pub(crate) const ROOT_RESERVED: u8 = 0x3a;
    /// SCT.2
    pub(crate) const CONTEXT_NOT_PRESENT: u8 = 0x41;
    /// SCT.3
    pub(crate) const CONTEXT_RESERVED: u8 = 0x42;
    /// SCT.4: fields of the context entry do not go together.
    pub(crate) const CONTEXT_INVALID: u8 = 0x43;
    /// SCT.6: PASIDE is 0.
    pub(crate) const PASID_DISABLED: u8 = 0x45;
    /// SCT.7: the PASID is beyond the directory.
    pub(crate) const PASID_BEYOND_DIRECTORY: u8 = 0x46;
    /// SCT.9: the PASID is that of requests without one.
    pub(crate) const PASID_IS_RID_PASID: u8 = 0x48;
    /// SPD.2
    pub(crate) const DIRECTORY_NOT_PRESENT: u8 = 0x51;
    /// SPD.3
    pub(crate) const DIRECTORY_RESERVED: u8 = 0x52;
    /// SPT.2
    pub(crate) const PASID_NOT_PRESENT: u8 = 0x59;
    /// SPT.3
    pub(crate) const PASID_RESERVED: u8 = 0x5a;
    /// SFS.2
    pub(crate) const FIRST_STAGE_NOT_PRESENT: u8 = 0x71;
    /// SSS.2
    pub(crate) const SECOND_STAGE_NOT_PRESENT: u8 = 0x79;
    /// SGN.1
    pub(crate) const NOT_CANONICAL: u8 = 0x80;
    /// SGN.2
    pub(crate) const SUPERVISOR_PAGE: u8 = 0x81;
    /// SGN.4
    pub(crate) const BEYOND_HOST_WIDTH: u8 = 0x83;
    /// SGN.5
    pub(crate) const BEYOND_ADDRESS_WIDTH: u8 = 0x84;
    /// SGN.6
    pub(crate) const NOT_WRITABLE: u8 = 0x85;
    /// SGN.7
    pub(crate) const NOT_READABLE: u8 = 0x86;
    /// SGN.8
    pub(crate) const INTERRUPT_RANGE: u8 = 0x87;
}

/// A recorded fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: u8,
    pub(crate) source: SourceId,
    pub(crate) pasid: Option<u32>,
    pub(crate) read: bool,
    /// FI: the page of the address. For interrupts, the index is in the upper
    /// 16 bits.
    pub(crate) information: u64,
}

/// An IOMMU and its invalidation queue.
#[derive(Debug)]
pub(crate) struct Iommu {
    registers: Window,
    queue: Pages,
    /// Byte offset of the next free descriptor.
    tail: u64,
    /// What the wait descriptors write to.
    status: Pages,
    waits: u32,
}

impl Iommu {
    /// Takes over the IOMMU whose registers are at `base`, and starts its
    /// invalidation queue.
    pub(crate) fn new(base: u64) -> Self {
        let iommu = Self {
            registers: paging::device_window(base, REGISTERS_SIZE),
            queue: Pages::one(),
            tail: 0,
            status: Pages::one(),
            waits: 0,
        };
        // [6.5.2 "Queued Invalidation Interface"]: tail, address, enable.
        iommu.registers.write_u64(IQT, 0);
        iommu
            .registers
            .write_u64(IQA, iommu.queue.address() | IQA_WIDE);
        iommu.command(Global::QueuedInvalidationEnable, true);
        iommu
    }

    /// What the IOMMU can do.
    pub(crate) fn extended_capabilities(&self) -> ExtendedCapabilities {
        ExtendedCapabilities::from_bits(self.registers.read_u64(ECAP))
    }

    /// Sets or clears one bit of the global state and waits for it.
    fn command(&self, bit: Global, on: bool) {
        let mask = 1 << bit as u32;
        let status = self.registers.read_u32(GSTS) & GSTS_LASTING & !mask;
        let value = if on { status | mask } else { status };
        self.registers.write_u32(GCMD, value);
        let done = cpu::wait_until(|| (self.registers.read_u32(GSTS) & mask != 0) == on);
        assert!(done, "the IOMMU does not follow {bit:?}={on}");
    }

    /// Makes `root` the table that all requests start from, and drops what was
    /// cached from the one before.
    /// [VT-d 5.10, 6.6 "Set Root Table Pointer Operation"]
    pub(crate) fn set_root_table(&mut self, root: &tables::RootTable) {
        self.registers
            .write_u64(RTADDR, root.address() | RTADDR_SCALABLE_MODE);
        self.command(Global::SetRootTablePointer, true);
        self.invalidate_everything();
    }

    /// The same in legacy mode, in which a root table has one page.
    pub(crate) fn set_legacy_root_table(&mut self, root: &Pages) {
        self.registers.write_u64(RTADDR, root.address());
        self.command(Global::SetRootTablePointer, true);
        self.invalidate_everything();
    }

    /// Turns translation of requests on or off.
    pub(crate) fn translate(&self, on: bool) {
        self.command(Global::TranslationEnable, on);
    }

    /// Makes `table` the interrupt remapping table, with 32-bit APIC ids if
    /// `extended`.
    /// [VT-d 5.10, 6.7 "Set Interrupt Remapping Table Pointer Operation"]
    pub(crate) fn set_remapping_table(&mut self, table: &remapping::Table, extended: bool) {
        let mode = if extended { IRTA_EXTENDED } else { 0 };
        let value = table.address() | mode | remapping::Table::SIZE_CODE;
        self.registers.write_u64(IRTA, value);
        self.command(Global::SetInterruptRemapTablePointer, true);
        self.invalidate_interrupts();
    }

    /// Lets messages in compatibility format pass, where APIC ids have 8 bits.
    pub(crate) fn allow_compatibility_format(&self, allowed: bool) {
        self.command(Global::CompatibilityFormatInterrupt, allowed);
    }

    /// Turns interrupt remapping on or off.
    pub(crate) fn remap_interrupts(&self, on: bool) {
        self.command(Global::InterruptRemappingEnable, on);
    }

    /// Context cache, PASID cache and IOTLB, in this order.
    pub(crate) fn invalidate_everything(&mut self) {
        const CONTEXT_CACHE_GLOBAL: u64 = 0x1 | 1 << 4;
        const PASID_CACHE_GLOBAL: u64 = 0x7 | 3 << 4;
        const IOTLB_GLOBAL: u64 = 0x2 | 1 << 4;
        self.submit(&[CONTEXT_CACHE_GLOBAL, 0, 0, 0]);
        self.submit(&[PASID_CACHE_GLOBAL, 0, 0, 0]);
        self.submit(&[IOTLB_GLOBAL, 0, 0, 0]);
        self.wait();
    }

    /// After a change of the PASID table entry of `pasid`, which had `domain`:
    /// the PASID cache, then the IOTLB, either for this PASID alone.
    /// [VT-d 5.10, 6.5.2.2 "PASID-cache Invalidate Descriptor", 6.5.2.4
    /// "PASID-based IOTLB Invalidate Descriptor"]
    pub(crate) fn invalidate_pasid(&mut self, domain: u16, pasid: u32) {
        const PASID_CACHE_SELECTIVE: u64 = 0x7 | 1 << 4;
        const PASID_IOTLB_SELECTIVE: u64 = 0x6 | 2 << 4;
        let tags = u64::from(domain) << 16 | u64::from(pasid) << 32;
        self.submit(&[PASID_CACHE_SELECTIVE | tags, 0, 0, 0]);
        self.submit(&[PASID_IOTLB_SELECTIVE | tags, 0, 0, 0]);
        self.wait();
    }

    /// The same for all PASIDs of `domain`.
    /// [VT-d 5.10, 6.5.2.3 "IOTLB Invalidate"]
    pub(crate) fn invalidate_domain(&mut self, domain: u16) {
        const PASID_CACHE_DOMAIN: u64 = 0x7;
        const IOTLB_DOMAIN: u64 = 0x2 | 2 << 4;
        let tag = u64::from(domain) << 16;
        self.submit(&[PASID_CACHE_DOMAIN | tag, 0, 0, 0]);
        self.submit(&[IOTLB_DOMAIN | tag, 0, 0, 0]);
        self.wait();
    }

    /// One page of a second-stage table.
    /// [VT-d 5.10, 6.5.2.3 "IOTLB Invalidate"]
    pub(crate) fn invalidate_second_stage_page(&mut self, domain: u16, address: u64) {
        /// Page-selective, draining reads and writes.
        const IOTLB_PAGE: u64 = 0x2 | 3 << 4 | 1 << 6 | 1 << 7;
        self.submit(&[IOTLB_PAGE | u64::from(domain) << 16, address & !0xfff, 0, 0]);
        self.wait();
    }

    /// One page of a first-stage table.
    pub(crate) fn invalidate_first_stage_page(&mut self, domain: u16, pasid: u32, address: u64) {
        const PASID_IOTLB_PAGE: u64 = 0x6 | 3 << 4;
        let tags = u64::from(domain) << 16 | u64::from(pasid) << 32;
        self.submit(&[PASID_IOTLB_PAGE | tags, address & !0xfff, 0, 0]);
        self.wait();
    }

    /// The whole interrupt entry cache.
    /// [VT-d 5.10, 6.5.2.8 "Interrupt Entry Cache Invalidate Descriptor"]
    pub(crate) fn invalidate_interrupts(&mut self) {
        const INTERRUPT_ENTRY_CACHE_GLOBAL: u64 = 0x4;
        self.submit(&[INTERRUPT_ENTRY_CACHE_GLOBAL, 0, 0, 0]);
        self.wait();
    }

    fn submit(&mut self, descriptor: &[u64; 4]) {
        self.queue.write_words(self.tail, descriptor);
        self.tail = (self.tail + DESCRIPTOR_SIZE) % QUEUE_SIZE;
        self.registers.write_u64(IQT, self.tail);
    }

    /// Waits until everything submitted so far is done.
    /// [VT-d 5.10, 6.5.2.9 "Invalidation Wait Descriptor"]
    fn wait(&mut self) {
        const WAIT: u64 = 0x5;
        const STATUS_WRITE: u64 = 1 << 5;
        self.waits += 1;
        let data = u64::from(self.waits) << 32;
        self.submit(&[WAIT | STATUS_WRITE | data, self.status.address(), 0, 0]);
        let done = cpu::wait_until(|| self.status.read_u32(0) == self.waits);
        let error = self.registers.read_u32(FSTS) & FSTS_QUEUE_ERROR;
        assert!(
            done && error == 0,
            "the invalidation queue stands at {:#x} of {:#x}, error {error:#x}",
            self.registers.read_u64(IQH),
            self.tail
        );
    }

    /// Sends an interrupt when a fault is recorded, or stops doing so. The
    /// message is not remapped. [VT-d 5.10, 7.3 "Non-Recoverable Fault Event"]
    pub(crate) fn set_fault_event(&self, message: Option<Message>) {
        self.registers.write_u32(FECTL, FECTL_MASK);
        if let Some(message) = message {
            let [a, b, c, d, ..] = message.address.to_le_bytes();
            self.registers
                .write_u32(FEADDR, u32::from_le_bytes([a, b, c, d]));
            self.registers.write_u32(FEDATA, message.data);
            self.registers.write_u32(FECTL, 0);
        }
    }

    /// Takes the oldest recorded fault. Faults that found no free register are
    /// forgotten.
    pub(crate) fn take_fault(&self) -> Option<Fault> {
        let status = self.registers.read_u32(FSTS);
        if status & FSTS_PENDING == 0 {
            return None;
        }
        // CAP_REG 33:24, FRO: in units of 16 bytes. FSTS_REG 15:8, FRI.
        let first = (self.registers.read_u64(CAP) >> 24 & 0x3ff) * 16;
        let record = first + u64::from(status >> 8 & 0xff) * FRCD_SIZE;
        let low = self.registers.read_u64(record);
        let high = FaultHigh::from_bits(self.registers.read_u64(record + 8));
        assert!(high.f(), "a fault is pending but not recorded");
        // F is the highest bit of the last 32-bit word, all others read only.
        self.registers.write_u32(record + 12, 1 << 31);
        self.registers.write_u32(FSTS, FSTS_OVERFLOW);
        // PP and T1 mean nothing for a blocked interrupt.
        let translation = !reason::INTERRUPTS.contains(&high.fr());
        Some(Fault {
            reason: high.fr(),
            source: SourceId(high.sid()),
            pasid: (translation && high.pp()).then(|| high.pv()),
            read: translation && high.t1(),
            information: low & !0xfff,
        })
    }
}
