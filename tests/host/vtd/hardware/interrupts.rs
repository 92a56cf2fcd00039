//! From a message to a CPU. [VT-d 5.10, 5.1.4 "Interrupt-Remapping Hardware Operation"]

use super::{CFI, Hardware, IRE, bit, bits};

impl Hardware {
    /// A message to FEEx_xxxxh: which CPU gets which vector, or why not; then it is
    /// recorded. [VT-d 5.10, 5.1.4 "Interrupt-Remapping Hardware Operation"]
    pub(crate) fn interrupt(
        &mut self,
        source: u16,
        address: u64,
        data: u32,
    ) -> Result<(u32, u8), u8> {
        assert_eq!(bits(address, 63, 20), 0xfee, "{address:#x} is no message");
        if self.gsts & IRE == 0 {
            let vector = u8::try_from(data & 0xff).unwrap();
            return Ok((u32::try_from(bits(address, 19, 12)).unwrap(), vector));
        }
        let (index, result) = self.remap(source, address, data);
        if let Err(reason) = result {
            self.record_interrupt(source, index, reason);
        }
        result
    }

    fn remap(
        &mut self,
        source: u16,
        address: u64,
        data: u32,
    ) -> (Option<u16>, Result<(u32, u8), u8>) {
        // Interrupt Format; EIME blocks the compatibility format.
        if !bit(address, 4) {
            let is_blocked = bit(self.interrupt_table, 11) || self.gsts & CFI == 0;
            assert!(is_blocked, "compatibility format with CFI");
            return (None, Err(0x25));
        }
        let handle = bits(address, 19, 5) | bits(address, 2, 2) << 15;
        let has_subhandle = bit(address, 3);
        let index = handle
            + if has_subhandle {
                bits(data.into(), 15, 0)
            } else {
                0
            };
        let table = self.interrupt_table;
        let index_16 = u16::try_from(index).ok();
        if index >> (bits(table, 3, 0) + 1) != 0 {
            return (index_16, Err(0x21));
        }
        let index = index_16.unwrap();
        (Some(index), self.remap_through(source, index))
    }

    fn remap_through(&mut self, source: u16, index: u16) -> Result<(u32, u8), u8> {
        let cached = self.interrupt_entries.get(&index).copied();
        let [low, high] = cached.unwrap_or_else(|| {
            let first = (self.interrupt_table & !0xfff) + 16 * u64::from(index);
            [self.read(first), self.read(first + 8)]
        });
        let checked = self.check_interrupt(source, low, high);
        if checked.is_ok() || bit(self.cap, 7) {
            self.interrupt_entries.insert(index, [low, high]);
        }
        checked
    }

    /// [VT-d 5.10, 9.9 "Interrupt Remapping Table Entry (IRTE) for Remapped Interrupts"]
    fn check_interrupt(&self, source: u16, low: u64, high: u64) -> Result<(u32, u8), u8> {
        if !bit(low, 0) {
            return Err(0x22);
        }
        // Posting is not offered; destinations have 32 bits with EIME alone.
        let is_clean = bits(low, 14, 12) == 0
            && !bit(low, 15)
            && bits(low, 31, 24) == 0
            && (bit(self.interrupt_table, 11) || bits(low, 63, 40) == 0)
            && bits(high, 63, 20) == 0;
        if !is_clean {
            return Err(0x24);
        }
        let is_allowed = match bits(high, 19, 18) {
            0 => true,
            1 => {
                let ignored: u64 =
                    [0, 0b100, 0b110, 0b111][usize::try_from(bits(high, 17, 16)).unwrap()];
                u64::from(source) & !ignored == bits(high, 15, 0) & !ignored
            }
            _ => return Err(0x24),
        };
        if !is_allowed {
            return Err(0x26);
        }
        // Physical, edge-triggered, fixed.
        assert_eq!(bits(low, 7, 1), 0, "an interrupt of another kind: {low:#x}");
        let vector = u8::try_from(bits(low, 23, 16)).unwrap();
        Ok((u32::try_from(bits(low, 63, 32)).unwrap(), vector))
    }
}
