//! Remapping hardware in software: registers, invalidation queue, caches, walks, faults
//! and interrupts.
//!
//! Written from the specification a second time: nothing of `hwspec` is used, so that a
//! layout that is wrong there does not agree with itself here. It is meaner than silicon
//! is likely to be: whatever may be cached is cached, one page at a time, for ever, and
//! only an invalidation takes it out again; what software must not do is a violation,
//! which fails the test when the hardware is dropped.
//!
//! [VT-d 5.10]; the sections are named where they are followed.

#[path = "hardware/faults.rs"]
mod faults;
#[path = "hardware/interrupts.rs"]
mod interrupts;
#[path = "hardware/queue.rs"]
mod queue;
#[path = "hardware/translation.rs"]
mod translation;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::thread;

use hwio::fake::{Device, Memory};

use translation::{CachedPage, CachedTable};

/// Bits `high` to `low` of `word`.
pub(crate) fn bits(word: u64, high: u32, low: u32) -> u64 {
    word >> low & (!0 >> (63 - (high - low)))
}

/// Bit `bit` of `word`.
pub(crate) fn bit(word: u64, bit: u32) -> bool {
    bits(word, bit, bit) == 1
}

/// Register offsets. [VT-d 5.10, 11.2 "Register Map"]
pub(crate) mod at {
    pub(crate) const CAP: usize = 0x08;
    pub(crate) const ECAP: usize = 0x10;
    pub(crate) const GCMD: usize = 0x18;
    pub(crate) const GSTS: usize = 0x1c;
    pub(crate) const RTADDR: usize = 0x20;
    pub(crate) const FSTS: usize = 0x34;
    pub(crate) const FECTL: usize = 0x38;
    pub(crate) const FEDATA: usize = 0x3c;
    pub(crate) const FEADDR: usize = 0x40;
    pub(crate) const FEUADDR: usize = 0x44;
    pub(crate) const PMEN: usize = 0x64;
    pub(crate) const IQH: usize = 0x80;
    pub(crate) const IQT: usize = 0x88;
    pub(crate) const IQA: usize = 0x90;
    pub(crate) const ICS: usize = 0x9c;
    pub(crate) const IECTL: usize = 0xa0;
    pub(crate) const IQERCD: usize = 0xb0;
    pub(crate) const IRTA: usize = 0xb8;
}

/// GCMD_REG and GSTS_REG: TE, SRTP, WBF, QIE, IRE, SIRTP, CFI.
pub(crate) const TE: u32 = 1 << 31;
pub(crate) const SRTP: u32 = 1 << 30;
pub(crate) const QIE: u32 = 1 << 26;
pub(crate) const IRE: u32 = 1 << 25;
pub(crate) const SIRTP: u32 = 1 << 24;
pub(crate) const CFI: u32 = 1 << 23;

/// FSTS_REG: PFO, PPF, IQE, ICE, ITE.
pub(crate) const PFO: u32 = 1 << 0;
pub(crate) const PPF: u32 = 1 << 1;
pub(crate) const IQE: u32 = 1 << 4;
pub(crate) const ICE: u32 = 1 << 5;
pub(crate) const ITE: u32 = 1 << 6;

/// FECTL_REG and IECTL_REG: IM, IP.
pub(crate) const IM: u32 = 1 << 31;
pub(crate) const IP: u32 = 1 << 30;

/// Whose request. PASID, if it has one.
pub(crate) type Requester = (u16, Option<u32>);

/// How the hardware misbehaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defects {
    /// Commands of GCMD_REG that are never carried out.
    pub(crate) ignored_commands: u32,
    /// PMEN_REG.PRS stays.
    pub(crate) protects_for_ever: bool,
    /// The queue is not looked at.
    pub(crate) queue_hangs: bool,
    /// Descriptors of these types are refused, with this IQEI.
    pub(crate) refused: BTreeMap<u64, u64>,
    /// Refusals are not over when IQE is cleared: the replacement is refused too.
    pub(crate) refuses_for_ever: bool,
    /// So many wait descriptors are aborted by time-outs of this device.
    pub(crate) time_outs: usize,
    pub(crate) time_out_source: u64,
    /// ICE comes with the next wait descriptor.
    pub(crate) completion_error: bool,
}

/// One unit of remapping hardware.
#[derive(Debug)]
pub(crate) struct Hardware {
    pub(crate) memory: Memory,
    pub(crate) cap: u64,
    pub(crate) ecap: u64,
    pub(crate) gsts: u32,
    /// As written, and as it took effect.
    rtaddr: u64,
    pub(crate) root: u64,
    irta: u64,
    pub(crate) interrupt_table: u64,
    pub(crate) fsts: u32,
    pub(crate) fectl: u32,
    fedata: u64,
    feaddr: u64,
    feuaddr: u64,
    pub(crate) iectl: u32,
    pub(crate) ics: u32,
    pub(crate) pmen: u32,
    pub(crate) iqh: u64,
    pub(crate) iqt: u64,
    pub(crate) iqa: u64,
    pub(crate) iqercd: u64,
    /// FRCD_REG, two words each.
    pub(crate) records: Vec<[u64; 2]>,
    next_record: usize,

    // The caches. [VT-d 5.10, 6.2.1 "Tagging of Cached Translations"]
    /// By source-id.
    pub(crate) contexts: BTreeMap<u16, [u64; 4]>,
    /// By source-id and PASID.
    pub(crate) pasids: BTreeMap<(u16, u32), [u64; 8]>,
    /// By domain, PASID in the first stage, level, and address bits above.
    pub(crate) paging_structures: BTreeMap<(u16, Option<u32>, u32, u64), CachedTable>,
    /// By requester and page number.
    pub(crate) iotlb: BTreeMap<(Requester, u64), CachedPage>,
    /// By interrupt_index.
    pub(crate) interrupt_entries: BTreeMap<u16, [u64; 2]>,

    pub(crate) defects: Defects,
    /// Every descriptor that was carried out, but for waits.
    pub(crate) carried_out: Vec<[u64; 4]>,
    /// A context-cache or PASID-cache invalidation that the next has to follow.
    owed: Owed,
    /// Fault events: upper address, address, data.
    pub(crate) events: Vec<(u64, u64, u64)>,
    /// A request that is made, as it were, after every access to a register.
    pub(crate) probe: Option<(Requester, u64)>,
    /// The offsets of the accesses after which it got through.
    pub(crate) leaks: BTreeSet<usize>,
    violations: Vec<String>,
}

/// What has to follow in the queue. [VT-d 5.10, 6.5.2.1 "Context-cache Invalidate
/// Descriptor", 6.5.2.2 "PASID-cache Invalidate Descriptor"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    PasidCache,
    Iotlb,
}

impl Hardware {
    pub(crate) fn new(memory: &Memory, cap: u64, ecap: u64) -> Self {
        let count = usize::try_from(bits(cap, 47, 40)).unwrap() + 1;
        Self {
            memory: memory.clone(),
            cap,
            ecap,
            gsts: 0,
            rtaddr: 0,
            root: 0,
            irta: 0,
            interrupt_table: 0,
            fsts: 0,
            fectl: IM,
            fedata: 0,
            feaddr: 0,
            feuaddr: 0,
            iectl: IM,
            ics: 0,
            pmen: 0,
            iqh: 0,
            iqt: 0,
            iqa: 0,
            iqercd: 0,
            records: vec![[0; 2]; count],
            next_record: 0,
            contexts: BTreeMap::new(),
            pasids: BTreeMap::new(),
            paging_structures: BTreeMap::new(),
            iotlb: BTreeMap::new(),
            interrupt_entries: BTreeMap::new(),
            defects: Defects::default(),
            carried_out: Vec::new(),
            owed: Owed::Nothing,
            events: Vec::new(),
            probe: None,
            leaks: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    /// Software did what it must not.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Takes out what software did that it must not.
    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.violations)
    }

    /// RTADDR_REG as firmware left it, in effect.
    pub(crate) fn set_root(&mut self, value: u64) {
        self.rtaddr = value;
        self.root = value;
    }

    fn is_on(&self, status: u32) -> bool {
        self.gsts & status != 0
    }

    /// TTM as it is in effect.
    pub(crate) fn mode(&self) -> u64 {
        bits(self.root, 11, 10)
    }

    /// Where the fault recording registers are: FRO in 16 bytes.
    pub(crate) fn record_offset(&self) -> usize {
        16 * usize::try_from(bits(self.cap, 33, 24)).unwrap()
    }

    /// Which half of which record is at `offset`.
    fn record_at(&self, offset: usize) -> Option<(usize, usize)> {
        let word = offset.checked_sub(self.record_offset())? / 8;
        (word / 2 < self.records.len()).then_some((word / 2, word % 2))
    }

    /// GCMD_REG. [VT-d 5.10, 11.4.4.1 "Global Command Register"]
    fn write_command(&mut self, command: u32) {
        const STATES: u32 = TE | QIE | IRE | CFI;
        const ONCE: u32 = SRTP | SIRTP;
        let changed = (command ^ self.gsts) & STATES | command & ONCE;
        if changed.count_ones() > 1 || command & !(STATES | ONCE) != 0 {
            self.violate(format!("commands {changed:#x} at once"));
        }
        let changed = changed & !self.defects.ignored_commands;
        let is_set = |command_bit| changed & command & command_bit != 0;
        // [VT-d 5.10, 6.6 "Set Root Table Pointer Operation"]
        if is_set(SRTP) {
            let keeps_mode = bits(self.rtaddr, 11, 10) == self.mode();
            let has_esrtps = bit(self.cap, 63);
            if self.is_on(TE) && !keeps_mode && !has_esrtps {
                self.violate("another mode while translation is on");
            }
            self.root = self.rtaddr;
            self.gsts |= SRTP;
            if has_esrtps {
                self.forget_all_translations();
            }
        }
        if is_set(TE) {
            if !self.is_on(SRTP) {
                self.violate("translation on without a root table");
            }
            if self.mode() == 1 && !(self.is_on(QIE) && bit(self.iqa, 11)) {
                self.violate("scalable mode without a queue of 256-bit descriptors");
            }
        }
        // [VT-d 5.10, 6.7 "Set Interrupt Remapping Table Pointer Operation"]
        if is_set(SIRTP) {
            if self.is_on(IRE) && bit(self.irta, 11) != bit(self.interrupt_table, 11) {
                self.violate("another interrupt mode while remapping is on");
            }
            self.interrupt_table = self.irta;
            self.gsts |= SIRTP;
            if bit(self.cap, 62) {
                self.interrupt_entries.clear();
            }
        }
        if is_set(IRE) && !self.is_on(SIRTP) {
            self.violate("interrupt remapping on without a table");
        }
        // [VT-d 5.10, 6.5.2 "Queued Invalidation Interface"]
        if is_set(QIE) && self.iqt != 0 {
            self.violate("a queue that begins with a tail");
        }
        if changed & !command & QIE != 0 {
            if self.iqh != self.iqt && self.fsts & (IQE | ITE) == 0 {
                self.violate("a queue is switched off that is not empty");
            }
            self.iqh = 0;
        }
        self.gsts ^= changed & STATES;
        self.run_queue();
    }

    /// PMEN_REG. [VT-d 5.10, 11.4.8.1 "Protected Memory Enable Register"]
    fn write_protection(&mut self, value: u32) {
        let is_protected = value & 1 << 31 != 0 || self.defects.protects_for_ever;
        self.pmen = value & !1 | u32::from(is_protected);
    }

    /// Notes whether the probe gets through.
    fn try_probe(&mut self, offset: usize) {
        if let Some((requester, address)) = self.probe
            && self.would_pass(requester, address)
        {
            self.leaks.insert(offset);
        }
    }

    fn read_register(&self, offset: usize) -> u64 {
        match offset {
            at::CAP => self.cap,
            at::ECAP => self.ecap,
            at::GSTS => self.gsts.into(),
            at::RTADDR => self.rtaddr,
            at::FSTS => self.fault_status().into(),
            at::FECTL => self.fectl.into(),
            at::FEDATA => self.fedata,
            at::FEADDR => self.feaddr,
            at::FEUADDR => self.feuaddr,
            at::PMEN => self.pmen.into(),
            at::IQH => self.iqh,
            at::IQT => self.iqt,
            at::IQA => self.iqa,
            at::ICS => self.ics.into(),
            at::IECTL => self.iectl.into(),
            at::IQERCD => self.iqercd,
            at::IRTA => self.irta,
            _ => match self.record_at(offset) {
                Some((record, half)) => self.records[record][half],
                None => 0,
            },
        }
    }

    fn write_register(&mut self, offset: usize, value: u64) {
        let low = || u32::try_from(value).unwrap();
        match offset {
            at::GCMD => self.write_command(low()),
            at::RTADDR => self.rtaddr = value,
            at::FSTS => self.acknowledge_status(low()),
            at::FECTL => self.write_event_control(low()),
            at::FEDATA | at::FEADDR | at::FEUADDR => {
                // An event that comes now would go half here and half there.
                if self.fectl & IM == 0 {
                    self.violate("another event message while events are on");
                }
                match offset {
                    at::FEDATA => self.fedata = value,
                    at::FEADDR => self.feaddr = value,
                    _ => self.feuaddr = value,
                }
            }
            at::PMEN => self.write_protection(low()),
            at::IQT => {
                // Bit 4 is reserved while descriptors have 256 bits.
                if value & (!0x7_fff0 | u64::from(bit(self.iqa, 11)) << 4) != 0 {
                    self.violate(format!("tail {value:#x}"));
                }
                self.iqt = value;
                self.run_queue();
            }
            at::IQA => {
                if self.is_on(QIE) {
                    self.violate("another queue while it is on");
                }
                self.iqa = value;
            }
            at::ICS => self.ics &= !low(),
            at::IECTL => self.iectl = low() & IM | self.iectl & IP,
            at::IRTA => self.irta = value,
            _ => match self.record_at(offset) {
                // F is cleared by a one; the rest is read only.
                Some((record, 1)) => self.records[record][1] &= !(value & 1 << 63),
                _ => self.violate(format!("a write of {value:#x} to {offset:#x}")),
            },
        }
    }
}

impl Device for Hardware {
    fn read(&mut self, offset: usize, len_bytes: usize) -> u64 {
        let wide = matches!(
            offset,
            at::CAP | at::ECAP | at::RTADDR | at::IQH | at::IQT | at::IQA | at::IQERCD | at::IRTA
        ) || self.record_at(offset).is_some();
        if len_bytes != if wide { 8 } else { 4 } {
            self.violate(format!("{len_bytes} bytes read at {offset:#x}"));
        }
        let value = self.read_register(offset);
        self.try_probe(offset);
        value
    }

    fn write(&mut self, offset: usize, _: usize, value: u64) {
        self.write_register(offset, value);
        self.try_probe(offset);
    }
}

impl Drop for Hardware {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.violations, [""; 0], "what software must not do");
        }
    }
}

/// The hardware, which the test holds too.
pub(crate) type Shared = Rc<RefCell<Hardware>>;
