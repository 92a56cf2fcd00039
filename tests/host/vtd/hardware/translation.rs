//! From a request to memory. [VT-d 5.10, 3.4.3 "Scalable Mode Address Translation", 7.1.3
//! Table 30]

use super::{Hardware, Requester, TE, bit, bits};

/// How many bits a physical address has here.
const HAW: u32 = 46;

/// An entry that leads to a table, cached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedTable {
    address: u64,
    is_readable: bool,
    is_writable: bool,
}

/// A translation, cached: always of 4 KiB, whatever the size of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedPage {
    pub(crate) domain: u64,
    pub(crate) pasid: u32,
    pub(crate) is_first_stage: bool,
    /// The address of the page, or the fault, which only caching mode keeps.
    pub(crate) outcome: Result<u64, u8>,
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
}

impl CachedPage {
    fn reach(&self, address: u64, is_write: bool) -> Result<u64, u8> {
        let page = self.outcome?;
        match (is_write, self.is_writable, self.is_readable) {
            (true, false, _) => Err(0x85),
            (false, _, false) => Err(0x86),
            _ => Ok(page | address & 0xfff),
        }
    }
}

/// What a walk ends with.
struct Leaf {
    address: u64,
    is_readable: bool,
    is_writable: bool,
}

impl Hardware {
    /// A request to memory. Where it goes, or why not; then it is recorded.
    pub(crate) fn request(
        &mut self,
        requester: Requester,
        address: u64,
        is_write: bool,
    ) -> Result<u64, u8> {
        let result = self.translate(requester, address, is_write);
        if let Err(reason) = result {
            self.record_blocked(requester, address, is_write, reason);
        }
        result
    }

    /// Caches a translation that no table says, as a system before could have used it.
    pub(crate) fn poison_translation(&mut self, requester: Requester, number: u64, page: u64) {
        let translation = CachedPage {
            domain: 2,
            pasid: requester.1.unwrap_or(0),
            is_first_stage: bit(self.ecap, 47),
            outcome: Ok(page),
            is_readable: true,
            is_writable: true,
        };
        self.iotlb.insert((requester, number), translation);
        let source = requester.0;
        self.contexts.insert(source, [page | 0x9, 0, 0, 0]);
        let pasid = requester.1.unwrap_or(0);
        self.pasids
            .insert((source, pasid), [page | 0x89, 2, 0, 0, 0, 0, 0, 0]);
        let table = CachedTable {
            address: page,
            is_readable: true,
            is_writable: true,
        };
        self.paging_structures.insert((2, None, 1, 0), table);
    }

    /// Whether a write would get through.
    pub(super) fn would_pass(&mut self, requester: Requester, address: u64) -> bool {
        self.translate(requester, address, true).is_ok()
    }

    fn translate(&mut self, requester: Requester, address: u64, is_write: bool) -> Result<u64, u8> {
        let (source, pasid) = requester;
        if self.gsts & TE == 0 {
            // Protected memory is all of it here.
            return if self.pmen & 1 == 0 {
                Ok(address)
            } else {
                Err(0)
            };
        }
        match self.mode() {
            0 => return Err(if pasid.is_some() { 0x31 } else { 0x02 }),
            1 => {}
            3 if bit(self.ecap, 52) => return Err(0x33),
            _ => return Err(0x30),
        }
        if let Some(page) = self.iotlb.get(&(requester, address >> 12)) {
            return page.reach(address, is_write);
        }
        let context = self.context(source)?;
        let rid_pasid = if bit(self.ecap, 49) {
            u32::try_from(bits(context[1], 19, 0)).unwrap()
        } else {
            0
        };
        if let Some(pasid) = pasid {
            if !bit(context[0], 3) {
                return Err(0x45);
            }
            if u64::from(pasid) >> (7 + bits(context[0], 11, 9) + 6) != 0 {
                return Err(0x46);
            }
            if pasid == rid_pasid {
                return Err(0x48);
            }
            if u64::from(pasid) >> (bits(self.ecap, 39, 35) + 1) != 0 {
                return Err(0x89);
            }
        }
        let pasid = pasid.unwrap_or(rid_pasid);
        let entry = self.pasid_entry(source, pasid, &context)?;
        let is_first_stage = bits(entry[0], 8, 6) == 0b001;
        let domain = bits(entry[1], 15, 0);
        let leaf = if is_first_stage {
            self.walk_first_stage(address, is_write, pasid, &entry)
        } else {
            self.walk_second_stage(address, &entry)
        };
        let leaf = leaf.and_then(|leaf| {
            if bits(leaf.address, 63, 20) == 0xfee {
                Err(0x87)
            } else {
                Ok(leaf)
            }
        });
        let page = CachedPage {
            domain,
            pasid,
            is_first_stage,
            is_readable: leaf.as_ref().is_ok_and(|leaf| leaf.is_readable),
            is_writable: leaf.as_ref().is_ok_and(|leaf| leaf.is_writable),
            outcome: leaf.map(|leaf| leaf.address & !0xfff),
        };
        // [VT-d 5.10, 6.2.4.1 "Details of IOTLB Use"]
        let caches_faults = bit(self.cap, 7) && !is_first_stage;
        if page.outcome.is_ok() || caches_faults {
            self.iotlb.insert((requester, address >> 12), page);
        }
        page.reach(address, is_write)
    }

    /// A word of root, context and PASID tables and of the interrupt remapping table.
    pub(super) fn read(&self, address: u64) -> u64 {
        if bit(self.ecap, 0) {
            self.memory.snoop(address)
        } else {
            self.memory.device_read(address)
        }
    }

    /// [VT-d 5.10, 9.2 "Scalable-mode Root Entry", 9.4 "Scalable-Mode Context-Entry"]
    fn context(&mut self, source: u16) -> Result<[u64; 4], u8> {
        if let Some(context) = self.contexts.get(&source) {
            return if bit(context[0], 0) {
                Ok(*context)
            } else {
                Err(absence(context[1]))
            };
        }
        let caches_faults = bit(self.cap, 7);
        // 16 bytes for each bus, 8 for each half of its devices.
        let half = u64::from(source) >> 7;
        let root = self.read((self.root & !0xfff) + 8 * half);
        if !bit(root, 0) {
            if caches_faults {
                self.contexts.insert(source, [0, 0x39, 0, 0]);
            }
            return Err(0x39);
        }
        if bits(root, 11, 1) != 0 || bits(root, 63, HAW) != 0 {
            return Err(0x3a);
        }
        let first = (root & !0xfff) + 32 * (u64::from(source) & 0x7f);
        let context = [0, 8, 16, 24].map(|offset| self.read(first + offset));
        if !bit(context[0], 0) {
            if caches_faults {
                self.contexts.insert(source, [0, 0x41, 0, 0]);
            }
            return Err(0x41);
        }
        // DTE and PRE, HPTE, EPTR; RID_PASID and RID_PRIV: each with its capability.
        let optional = [(2, 2), (4, 29), (5, 55), (6, 56)];
        let is_offered = |&(field, capability): &(u32, u32)| {
            !bit(context[0], field) || bit(self.ecap, capability)
        };
        let is_valid = optional.iter().all(is_offered)
            && bits(context[0], 8, 7) == 0
            && bits(context[0], 63, HAW) == 0
            && (bits(context[1], 19, 0) == 0 || bit(self.ecap, 49))
            && (!bit(context[1], 20) || bit(self.ecap, 53))
            && bits(context[1], 63, 21) == 0
            && context[2] | context[3] == 0;
        if !is_valid {
            return Err(0x42);
        }
        self.contexts.insert(source, context);
        Ok(context)
    }

    /// [VT-d 5.10, 9.5 "Scalable-Mode PASID Directory Entry", 9.6 "Scalable-Mode PASID
    /// Table Entry"]
    fn pasid_entry(&mut self, source: u16, pasid: u32, context: &[u64; 4]) -> Result<[u64; 8], u8> {
        if let Some(entry) = self.pasids.get(&(source, pasid)) {
            return if bit(entry[0], 0) {
                Ok(*entry)
            } else {
                Err(absence(entry[1]))
            };
        }
        let caches_faults = bit(self.cap, 7);
        let directory = context[0] & !0xfff;
        let pointer = self.read(directory + 8 * (u64::from(pasid) >> 6));
        if !bit(pointer, 0) {
            if caches_faults {
                self.pasids
                    .insert((source, pasid), [0, 0x51, 0, 0, 0, 0, 0, 0]);
            }
            return Err(0x51);
        }
        if bits(pointer, 11, 2) != 0 || bits(pointer, 63, HAW) != 0 {
            return Err(0x52);
        }
        let first = (pointer & !0xfff) + 64 * (u64::from(pasid) & 0x3f);
        let entry = [0, 1, 2, 3, 4, 5, 6, 7].map(|word| self.read(first + 8 * word));
        if !bit(entry[0], 0) {
            if caches_faults {
                self.pasids
                    .insert((source, pasid), [0, 0x59, 0, 0, 0, 0, 0, 0]);
            }
            return Err(0x59);
        }
        let has = |capability| bit(self.ecap, capability);
        let (has_second, has_first) = (has(46), has(47));
        let is_clean = !bit(entry[0], 5)
            && bits(entry[0], 11, 10) == 0
            && (bits(entry[0], 4, 2) == 0 || has_second)
            && bits(entry[1], 22, 16) == 0
            // PWSNP, PGSNP; CD, EMTE and PAT; SRE.
            && (!bit(entry[1], 23) || has(48))
            && (!bit(entry[1], 24) || has(7))
            && (bits(entry[1], 26, 25) == 0 && bits(entry[1], 63, 32) == 0 || has(25))
            && bits(entry[1], 31, 27) == 0
            && (!bit(entry[2], 0) || has(31))
            && !bit(entry[2], 1)
            && (!bit(entry[2], 7) || has(34))
            && bits(entry[2], 11, 8) == 0
            && entry[3..].iter().all(|&word| word == 0);
        if !is_clean {
            return Err(0x5a);
        }
        let is_valid = match bits(entry[0], 8, 6) {
            0b001 => has_first && bits(entry[2], 3, 2) == 0,
            0b010 => {
                let width = u32::try_from(bits(entry[0], 4, 2)).unwrap();
                has_second && bit(bits(self.cap, 12, 8), width)
            }
            _ => false,
        };
        if !is_valid {
            return Err(0x5b);
        }
        if bits(entry[1], 15, 0) == 0 && caches_faults {
            self.violate("domain 0, which caching mode keeps for itself");
        }
        self.pasids.insert((source, pasid), entry);
        Ok(entry)
    }

    /// An entry of a page table.
    fn read_table(&self, address: u64, entry: &[u64; 8]) -> u64 {
        if bit(self.ecap, 48) && bit(entry[1], 23) {
            self.memory.snoop(address)
        } else {
            self.memory.device_read(address)
        }
    }

    /// The lowest table on the way to `address` that is cached, else the highest; and
    /// the level of its entries.
    fn nearest_table(
        &self,
        tag: (u16, Option<u32>),
        address: u64,
        root: u64,
        levels: u32,
    ) -> (CachedTable, u32) {
        for level in 1..levels {
            let prefix = address >> (12 + 9 * level);
            let key = (tag.0, tag.1, level, prefix);
            if let Some(&table) = self.paging_structures.get(&key) {
                return (table, level - 1);
            }
        }
        let table = CachedTable {
            address: root & !0xfff,
            is_readable: true,
            is_writable: true,
        };
        (table, levels - 1)
    }

    /// [VT-d 5.10, 3.7 "Second-Stage Translation", 9.8 "Second-Stage Paging Entries"]
    fn walk_second_stage(&mut self, address: u64, entry: &[u64; 8]) -> Result<Leaf, u8> {
        let width = u32::try_from(bits(entry[0], 4, 2)).unwrap();
        let levels = width + 2;
        let address_bits = (bits(self.cap, 21, 16) + 1).min(u64::from(12 + 9 * levels));
        if address >> address_bits != 0 {
            return Err(0x84);
        }
        let domain = u16::try_from(bits(entry[1], 15, 0)).unwrap();
        let tag = (domain, None);
        let (mut table, mut level) = self.nearest_table(tag, address, entry[0], levels);
        loop {
            let shift = 12 + 9 * level;
            let word = self.read_table(table.address + 8 * (address >> shift & 0x1ff), entry);
            if bits(word, 1, 0) == 0 {
                return Err(0x79);
            }
            // SSLPS: 2 MiB, 1 GiB.
            let can_be_page = level == 0 || level <= 2 && bit(self.cap, 33 + level);
            let is_page = level == 0 || bit(word, 7);
            let is_clean = bits(word, 51, HAW) == 0
                && !bit(word, 62)
                && if is_page {
                    can_be_page
                        && word & ((1 << shift) - 1) & !0xfff == 0
                        && (!bit(word, 11) || bit(self.ecap, 7))
                } else {
                    bits(word, 6, 3) == 0 && !bit(word, 11)
                };
            if !is_clean {
                return Err(0x7a);
            }
            let next = CachedTable {
                address: word & 0x000f_ffff_ffff_f000,
                is_readable: table.is_readable && bit(word, 0),
                is_writable: table.is_writable && bit(word, 1),
            };
            if is_page {
                let offset = address & ((1 << shift) - 1);
                return Ok(Leaf {
                    address: next.address + offset,
                    is_readable: next.is_readable,
                    is_writable: next.is_writable,
                });
            }
            self.paging_structures
                .insert((domain, None, level, address >> shift), next);
            (table, level) = (next, level - 1);
        }
    }

    /// [VT-d 5.10, 3.6 "First-Stage Translation", 9.7 "First-Stage Paging Entries"]
    fn walk_first_stage(
        &mut self,
        address: u64,
        is_write: bool,
        pasid: u32,
        entry: &[u64; 8],
    ) -> Result<Leaf, u8> {
        let upper = bits(address, 63, 47);
        if upper != 0 && upper != 0x1_ffff {
            return Err(0x80);
        }
        let domain = u16::try_from(bits(entry[1], 15, 0)).unwrap();
        let address_47_0 = bits(address, 47, 0);
        let tag = (domain, Some(pasid));
        let (mut table, mut level) = self.nearest_table(tag, address_47_0, entry[2], 4);
        loop {
            let shift = 12 + 9 * level;
            let word = self.read_table(table.address + 8 * (address >> shift & 0x1ff), entry);
            if !bit(word, 0) {
                return Err(0x71);
            }
            let can_be_page = level <= 1 || level == 2 && bit(self.cap, 56);
            let is_page = level == 0 || bit(word, 7);
            // Of a large page bit 12 is PAT.
            let is_clean = bits(word, 51, HAW) == 0
                && (!is_page || can_be_page && word & ((1 << shift) - 1) & !0x1fff == 0);
            if !is_clean {
                return Err(0x72);
            }
            if !bit(word, 2) {
                return Err(0x81);
            }
            let has_flags = bit(word, 5) && (!is_page || !is_write || bit(word, 6));
            if !has_flags && bit(word, 1) {
                return Err(0x90);
            }
            let next = CachedTable {
                address: word & 0x000f_ffff_ffff_f000,
                is_readable: true,
                is_writable: table.is_writable && bit(word, 1),
            };
            if is_page {
                let offset = address & ((1 << shift) - 1);
                return Ok(Leaf {
                    address: next.address + offset,
                    is_readable: true,
                    is_writable: next.is_writable,
                });
            }
            let key = (domain, Some(pasid), level, address_47_0 >> shift);
            self.paging_structures.insert(key, next);
            (table, level) = (next, level - 1);
        }
    }
}

/// The fault in the second word of an entry that is cached as not present.
fn absence(word: u64) -> u8 {
    u8::try_from(word).unwrap()
}
