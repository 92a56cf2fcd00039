//! The invalidation queue, and what its descriptors take out of the caches.
//! [VT-d 5.10, 6.5.2 "Queued Invalidation Interface"]

use super::{Hardware, ICE, IQE, ITE, Owed, QIE, bit, bits};

/// Bytes of a page.
const PAGE: u64 = 4096;

// Descriptor types. [VT-d 5.10, 6.5.2.1 to 6.5.2.9]
const CONTEXT_CACHE: u64 = 1;
const IOTLB: u64 = 2;
const INTERRUPT_ENTRY_CACHE: u64 = 4;
const WAIT: u64 = 5;
const PASID_IOTLB: u64 = 6;
const PASID_CACHE: u64 = 7;

// Invalidation Queue Error Info. [VT-d 5.10, 11.4.9.9 "Invalidation Queue Error Record
// Register"]
const INVALID_TYPE: u64 = 3;
const RESERVED_FIELD: u64 = 4;
const INVALID_WIDTH: u64 = 5;

impl Hardware {
    /// Carries out what is between head and tail, as long as nothing stops it.
    pub(super) fn run_queue(&mut self) {
        while self.gsts & QIE != 0
            && self.fsts & (IQE | ITE) == 0
            && self.iqh != self.iqt
            && !self.defects.queue_hangs
        {
            let words = if bit(self.iqa, 11) { 4 } else { 2 };
            let base = self.iqa & !(PAGE - 1);
            let mut descriptor = [0; 4];
            for (index, word) in (0..words).zip(&mut descriptor) {
                // The queue is read coherently, whatever ECAP.C says.
                *word = self.memory.snoop(base + self.iqh + 8 * index);
            }
            match self.carry_out(descriptor) {
                Ok(()) => {
                    let len_bytes = PAGE << bits(self.iqa, 2, 0);
                    self.iqh = (self.iqh + 8 * words) % len_bytes;
                }
                Err(Stop::Refused(info)) => {
                    self.iqercd = self.iqercd & !0xf | info;
                    self.raise(IQE);
                }
                // The head stays where the wait descriptor is.
                Err(Stop::TimedOut) => {
                    let source = self.defects.time_out_source;
                    self.iqercd = self.iqercd & !(0xffff << 32) | source << 32;
                    self.raise(ITE);
                }
            }
        }
    }

    fn carry_out(&mut self, descriptor: [u64; 4]) -> Result<(), Stop> {
        let [low, second, third, fourth] = descriptor;
        let kind = bits(low, 11, 9) << 4 | bits(low, 3, 0);
        // [VT-d 5.10, 6.5.2.11, Table 26 "List of Valid Descriptor Types for Each Mode"]:
        // by what RTADDR_REG says.
        let mode = bits(self.rtaddr, 11, 10);
        let is_wide = bit(self.iqa, 11);
        let is_valid = match (mode, is_wide) {
            (0, _) => (1..=5).contains(&kind),
            (1 | 3, true) => (1..=0xa).contains(&kind),
            (1, false) => return Err(Stop::Refused(INVALID_WIDTH)),
            _ => false,
        };
        if !is_valid {
            return Err(Stop::Refused(INVALID_TYPE));
        }
        let is_refused = self.defects.refuses_for_ever && kind == WAIT;
        if let Some(&info) = self.defects.refused.get(&kind) {
            return Err(Stop::Refused(info));
        }
        if is_refused {
            return Err(Stop::Refused(RESERVED_FIELD));
        }

        // The fields of each type; the rest is reserved.
        let has_page_drain = bit(self.ecap, 42);
        let (fields, fields_2) = match kind {
            CONTEXT_CACHE => (0x0003_ffff_ffff_0e3f, 0),
            IOTLB => (0x0000_0000_ffff_0eff, 0xffff_ffff_ffff_f07f),
            INTERRUPT_ENTRY_CACHE => (0x0000_ffff_f800_0e1f, 0),
            WAIT if has_page_drain => (0xffff_ffff_0000_0eff, !3),
            WAIT => (0xffff_ffff_0000_0e7f, !3),
            PASID_IOTLB => (0x000f_ffff_ffff_0e3f, 0xffff_ffff_ffff_f07f),
            PASID_CACHE => (0x000f_ffff_ffff_0e3f, 0),
            // About device-TLBs, which there are none of here.
            _ => return Err(Stop::Refused(INVALID_TYPE)),
        };
        if low & !fields != 0 || second & !fields_2 != 0 || third | fourth != 0 {
            return Err(Stop::Refused(RESERVED_FIELD));
        }
        let granularity = bits(low, 5, 4);
        match kind {
            CONTEXT_CACHE => self.forget_contexts(granularity, low)?,
            PASID_CACHE => self.forget_pasids(granularity, low)?,
            IOTLB => self.forget_pages(granularity, low, second)?,
            PASID_IOTLB => self.forget_pages_of_pasid(granularity, low, second)?,
            INTERRUPT_ENTRY_CACHE => self.forget_interrupts(low),
            _ => return self.complete_wait(low, second),
        }
        self.carried_out.push(descriptor);
        Ok(())
    }

    /// [VT-d 5.10, 6.5.2.1 "Context-cache Invalidate Descriptor"]
    fn forget_contexts(&mut self, granularity: u64, low: u64) -> Result<(), Stop> {
        match granularity {
            0 => return Err(Stop::Refused(RESERVED_FIELD)),
            // Device-selective. The domain does not count in scalable mode.
            3 => {
                let mask: u64 = match bits(low, 49, 48) {
                    0 => 0,
                    1 => 0b100,
                    2 => 0b110,
                    _ => 0b111,
                };
                let source = bits(low, 47, 32);
                self.contexts
                    .retain(|&cached, _| u64::from(cached) & !mask != source & !mask);
            }
            // Global; domain-selective is the same in scalable mode.
            _ => self.contexts.clear(),
        }
        self.owed = Owed::PasidCache;
        Ok(())
    }

    /// [VT-d 5.10, 6.5.2.2 "PASID-cache Invalidate Descriptor"]
    fn forget_pasids(&mut self, granularity: u64, low: u64) -> Result<(), Stop> {
        let (domain, pasid) = (bits(low, 31, 16), bits(low, 51, 32));
        let domain_of = |entry: &[u64; 8]| {
            // What would fault is tagged with domain 0.
            if bit(entry[0], 0) {
                bits(entry[1], 15, 0)
            } else {
                0
            }
        };
        match granularity {
            0 => self.pasids.retain(|_, entry| domain_of(entry) != domain),
            1 => self
                .pasids
                .retain(|&(_, of), entry| domain_of(entry) != domain || u64::from(of) != pasid),
            3 => self.pasids.clear(),
            _ => return Err(Stop::Refused(RESERVED_FIELD)),
        }
        self.owed = Owed::Iotlb;
        Ok(())
    }

    /// [VT-d 5.10, 6.5.2.3 "IOTLB Invalidate", Table 23]
    fn forget_pages(&mut self, granularity: u64, low: u64, second: u64) -> Result<(), Stop> {
        let domain = bits(low, 31, 16);
        // Drain Reads and Drain Writes: without them old requests may be under way.
        if bits(low, 7, 6) != 0b11 && granularity != 0 {
            self.violate(format!(
                "an IOTLB invalidation {low:#x} that drains nothing"
            ));
        }
        match granularity {
            1 => {
                self.iotlb.clear();
                self.paging_structures.clear();
            }
            2 => {
                self.iotlb.retain(|_, page| page.domain != domain);
                self.paging_structures
                    .retain(|&(of, ..), _| u64::from(of) != domain);
            }
            3 => {
                let has_psi = bit(self.cap, 39);
                let mask = bits(second, 5, 0);
                if !has_psi || mask > bits(self.cap, 53, 48) {
                    return Err(Stop::Refused(RESERVED_FIELD));
                }
                let (first, last) = page_range(second);
                self.iotlb.retain(|&(_, number), page| {
                    let is_hit = page.is_first_stage || (first..=last).contains(&number);
                    page.domain != domain || !is_hit
                });
                let keeps_structures = bit(second, 6);
                self.paging_structures
                    .retain(|&(of, pasid, level, prefix), _| {
                        let shift = 9 * level;
                        let (from, to) = (prefix << shift, ((prefix + 1) << shift) - 1);
                        let overlaps = from <= last && first <= to;
                        let is_hit = pasid.is_some() || overlaps && !keeps_structures;
                        u64::from(of) != domain || !is_hit
                    });
            }
            _ => return Err(Stop::Refused(RESERVED_FIELD)),
        }
        if self.owed == Owed::Iotlb {
            self.owed = Owed::Nothing;
        }
        Ok(())
    }

    /// [VT-d 5.10, 6.5.2.4 "PASID-based IOTLB Invalidate Descriptor (P_IOTLB)", Table 24]
    fn forget_pages_of_pasid(
        &mut self,
        granularity: u64,
        low: u64,
        second: u64,
    ) -> Result<(), Stop> {
        let (domain, pasid) = (bits(low, 31, 16), bits(low, 51, 32));
        let (first, last) = match granularity {
            2 => (0, u64::MAX),
            3 => page_range(second),
            _ => return Err(Stop::Refused(RESERVED_FIELD)),
        };
        let is_selective = granularity == 3;
        self.iotlb.retain(|&(_, number), page| {
            let is_tagged = page.domain == domain && u64::from(page.pasid) == pasid;
            let is_hit = !is_selective || page.is_first_stage && (first..=last).contains(&number);
            !(is_tagged && is_hit)
        });
        let keeps_structures = is_selective && bit(second, 6);
        self.paging_structures
            .retain(|&(of, tag, level, prefix), _| {
                let is_tagged = u64::from(of) == domain && tag.map(u64::from) == Some(pasid);
                let shift = 9 * level;
                let overlaps = prefix << shift <= last && first < (prefix + 1) << shift;
                !(is_tagged && overlaps && !keeps_structures)
            });
        if self.owed == Owed::Iotlb {
            self.owed = Owed::Nothing;
        }
        Ok(())
    }

    /// [VT-d 5.10, 6.5.2.8 "Interrupt Entry Cache Invalidate Descriptor"]
    fn forget_interrupts(&mut self, low: u64) {
        if bit(low, 4) {
            let (index, ignored) = (bits(low, 47, 32), bits(low, 31, 27));
            let same = |cached: u16| u64::from(cached) >> ignored == index >> ignored;
            self.interrupt_entries.retain(|&cached, _| !same(cached));
        } else {
            self.interrupt_entries.clear();
        }
    }

    /// [VT-d 5.10, 6.5.2.9 "Invalidation Wait Descriptor"]
    fn complete_wait(&mut self, low: u64, address: u64) -> Result<(), Stop> {
        if self.owed != Owed::Nothing {
            let owed = self.owed;
            self.violate(format!("{owed:?} invalidation does not follow"));
            self.owed = Owed::Nothing;
        }
        let writes_status = bit(low, 5);
        if writes_status && self.defects.time_outs > 0 {
            self.defects.time_outs -= 1;
            return Err(Stop::TimedOut);
        }
        if std::mem::take(&mut self.defects.completion_error) {
            self.raise(ICE);
        }
        if writes_status {
            // A store of 32 bits.
            let word = address & !7;
            let shift = 8 * (address & 4);
            let before = self.memory.snoop(word) & !(0xffff_ffff << shift);
            let status = bits(low, 63, 32) << shift;
            self.memory.device_write(word, before | status);
        }
        if bit(low, 4) {
            self.ics |= 1;
        }
        Ok(())
    }

    /// Takes everything out of the caches of translations.
    pub(super) fn forget_all_translations(&mut self) {
        self.contexts.clear();
        self.pasids.clear();
        self.paging_structures.clear();
        self.iotlb.clear();
    }
}

/// The page numbers that ADDR and AM name.
fn page_range(word: u64) -> (u64, u64) {
    let mask = (1 << bits(word, 5, 0)) - 1;
    let number = bits(word, 63, 12);
    (number & !mask, number | mask)
}

/// Why a descriptor was not carried out.
enum Stop {
    Refused(u64),
    TimedOut,
}
