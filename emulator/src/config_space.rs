//! PCI configuration space: the header, the capability list and the extended
//! capabilities of a root complex integrated endpoint.
//!
//! [341204 Rev 3.0 appendix C "PCI Configuration Registers"] for the values,
//! PCI Express Base 6.0 for the behaviour of each bit.

use crate::bits::{bit, field, low8, low16, low32};
use crate::identity::Identity;

/// Bytes of configuration space.
pub(crate) const SIZE: usize = 4096;

const COMMAND: usize = 0x04;
const BAR0: usize = 0x10;
const BAR2: usize = 0x18;
const PCIE: usize = 0x40;
const DEVCTL: usize = PCIE + 0x08;
const MSIX: usize = 0x80;
const MSIX_CONTROL: usize = MSIX + 2;
const PM: usize = 0x90;
const PMCSR: usize = PM + 4;
/// PMCSR 1:0: 0 for D0, 3 for D3hot; D1 and D2 do not exist.
const POWER_STATE: u8 = 0b11;
const AER: usize = 0x100;
const LTR: usize = 0x150;
const TPH: usize = 0x160;
const VC: usize = 0x170;
const DVSEC: usize = 0x200;
const ATS: usize = 0x220;
const PASID: usize = 0x230;
const PRS: usize = 0x240;

/// Where the MSI-X table and its pending bits stand in BAR0.
pub(crate) const MSIX_TABLE_OFFSET: u32 = 0x2000;
/// See [`MSIX_TABLE_OFFSET`].
pub(crate) const MSIX_PBA_OFFSET: u32 = 0x3000;

/// The bits whose change while the device is not Disabled halts it
/// [§9.1 "PCI Configuration Registers"].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Enables {
    /// Bus Master Enable.
    pub(crate) bus_master: bool,
    /// PASID Enable.
    pub(crate) pasid: bool,
    /// PASID Privileged Mode Enable.
    pub(crate) pasid_privileged: bool,
    /// ATS Enable.
    pub(crate) ats: bool,
    /// PRS Enable.
    pub(crate) prs: bool,
}

/// The 4 KiB as they read, and which bits of them software may write or clear.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    values: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
    write_one_clears: Box<[u8; SIZE]>,
}

impl ConfigSpace {
    /// Configuration space after a reset, for BARs of the given sizes (powers
    /// of two, in bytes).
    pub(crate) fn new(identity: &Identity, bar0_bytes: u64, bar2_bytes: u64) -> Self {
        let mut space = Self {
            values: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            write_one_clears: Box::new([0; SIZE]),
        };
        space.lay_out_header(identity, bar0_bytes, bar2_bytes);
        space.lay_out_capabilities(identity);
        space.lay_out_extended_capabilities();
        space
    }

    fn lay_out_header(&mut self, identity: &Identity, bar0_bytes: u64, bar2_bytes: u64) {
        self.set(0x00, 2, 0x8086);
        self.set(0x02, 2, u64::from(identity.device_id));
        // MSE, BME, PERE, SERRE.
        self.set_writable(COMMAND, 2, 0x0146);
        // Capability list; error bits are cleared by writing 1.
        self.set(0x06, 2, 0x0010);
        self.set_write_one_clears(0x06, 2, 0xf900);
        // Base 08, subclass 80, interface 00: other system peripheral.
        self.set(0x09, 3, 0x08_8000);
        self.set_writable(0x0c, 1, 0xff);
        for (bar, bytes) in [(BAR0, bar0_bytes), (BAR2, bar2_bytes)] {
            // 64-bit, prefetchable memory.
            self.set(bar, 8, 0x0c);
            self.set_writable(bar, 8, !(bytes - 1));
        }
        // Subsystem: firmware may write its own.
        self.set(0x2c, 2, 0x8086);
        self.set_writable(0x2c, 4, 0xffff_ffff);
        self.set(0x34, 1, PCIE as u64);
    }

    fn lay_out_capabilities(&mut self, identity: &Identity) {
        // PCI Express, version 2, root complex integrated endpoint.
        self.set(PCIE, 4, 0x0092_8010);
        self.set(PCIE + 0x04, 4, 0x1000_8022);
        self.set(DEVCTL, 2, 0x2910);
        self.set_writable(DEVCTL, 2, 0x79ff);
        self.set_write_one_clears(PCIE + 0x0a, 2, 0x000f);
        self.set(PCIE + 0x24, 4, 0x1073_0810);
        self.set_writable(PCIE + 0x28, 2, 0x1410);

        self.set(MSIX, 2, 0x9011);
        self.set(MSIX_CONTROL, 2, u64::from(identity.msix_vectors() - 1));
        // MSI-X Enable and Function Mask.
        self.set_writable(MSIX_CONTROL, 2, 0xc000);
        self.set(MSIX + 4, 4, u64::from(MSIX_TABLE_OFFSET));
        self.set(MSIX + 8, 4, u64::from(MSIX_PBA_OFFSET));

        self.set(PM, 4, 0x0003_0001);
        self.set(PMCSR, 2, 0x0008);
        self.set_writable(PMCSR, 2, POWER_STATE.into());
    }

    fn lay_out_extended_capabilities(&mut self) {
        // The errors that the device can report, uncorrectable and correctable.
        const UNCORRECTABLE: u64 = 0x0055_d000;
        const CORRECTABLE: u64 = 0x0000_6000;
        self.set(AER, 4, 0x1502_0001);
        self.set_write_one_clears(AER + 0x04, 4, UNCORRECTABLE);
        self.set(AER + 0x08, 4, 0x0040_0000);
        self.set_writable(AER + 0x08, 4, UNCORRECTABLE);
        self.set(AER + 0x0c, 4, 0x0044_0000);
        self.set_writable(AER + 0x0c, 4, UNCORRECTABLE);
        self.set_write_one_clears(AER + 0x10, 4, CORRECTABLE);
        self.set(AER + 0x14, 4, 0x0000_2000);
        self.set_writable(AER + 0x14, 4, CORRECTABLE);

        self.set(LTR, 4, 0x1601_0018);
        self.set_writable(LTR + 4, 4, 0x1fff_1fff);

        self.set(TPH, 4, 0x1701_0017);
        self.set(TPH + 4, 4, 0x0001_0205);
        self.set_writable(TPH + 8, 4, 0x0000_0107);
        self.set_writable(TPH + 0xc, 4, 0x00ff_00ff);

        self.set(VC, 4, 0x2001_0002);
        self.set(VC + 0x04, 4, 0x0000_0011);
        self.set(VC + 0x08, 4, 0x0000_0001);
        self.set_writable(VC + 0x0c, 2, 0x000e);
        self.set(VC + 0x14, 4, 0x8000_00ff);
        self.set_writable(VC + 0x14, 4, 0x0000_00fe);
        self.set(VC + 0x20, 4, 0x0100_0000);
        self.set_writable(VC + 0x20, 4, 0x8700_00fe);

        // Scalable I/O virtualisation: Intel's DVSEC 5, IMS supported.
        self.set(DVSEC, 4, 0x2201_0023);
        self.set(DVSEC + 4, 4, 0x0181_8086);
        self.set(DVSEC + 8, 2, 0x0005);
        self.set(DVSEC + 0x0c, 4, 0x0000_0001);
        self.set(DVSEC + 0x14, 4, 0x0000_0001);

        self.set(ATS, 4, 0x2301_000f);
        self.set(ATS + 4, 2, 0x0060);
        self.set_writable(ATS + 6, 2, 0x801f);

        self.set(PASID, 4, 0x2401_001b);
        self.set(PASID + 4, 2, 0x1404);
        self.set_writable(PASID + 6, 2, 0x0005);

        self.set(PRS, 4, 0x0001_0013);
        self.set_writable(PRS + 4, 2, 0x0001);
        self.set(PRS + 6, 2, 0x8100);
        self.set_write_one_clears(PRS + 6, 2, 0x0003);
        self.set(PRS + 8, 4, 0x200);
        self.set_writable(PRS + 0xc, 4, 0xffff_ffff);
    }

    /// Reads 1, 2 or 4 bytes; beyond the end, or misaligned, reads all-ones as
    /// an absent register does.
    pub(crate) fn read(&self, offset: usize, size: usize) -> u32 {
        low32(self.bytes(offset, size).unwrap_or(u64::MAX))
    }

    /// Writes 1, 2 or 4 bytes. Returns whether the write initiated a function
    /// level reset.
    pub(crate) fn write(&mut self, offset: usize, size: usize, value: u32) -> bool {
        if !matches!(size, 1 | 2 | 4) || offset.checked_add(size).is_none_or(|end| end > SIZE) {
            return false;
        }
        for (index, mut new) in value.to_le_bytes().into_iter().take(size).enumerate() {
            let at = offset + index;
            if at == PMCSR && matches!(new & POWER_STATE, 1 | 2) {
                // A write of a state that is not supported is discarded.
                new = self.values.get(at).copied().unwrap_or_default();
            }
            let byte = (
                self.values.get_mut(at),
                self.writable.get(at),
                self.write_one_clears.get(at),
            );
            if let (Some(byte), Some(writable), Some(clears)) = byte {
                *byte = (*byte & !writable & !(clears & new)) | (new & writable);
            }
        }
        // DEVCTL.15, Initiate Function Level Reset: reads 0, acts when written.
        let reset_bit = DEVCTL + 1;
        (offset..offset + size).contains(&reset_bit)
            && value
                .to_le_bytes()
                .get(reset_bit - offset)
                .is_some_and(|byte| byte & 0x80 != 0)
    }

    /// The enables that the device looks at.
    pub(crate) fn enables(&self) -> Enables {
        let pasid_control = self.word(PASID + 6);
        Enables {
            bus_master: bit(self.word(COMMAND), 2),
            pasid: bit(pasid_control, 0),
            pasid_privileged: bit(pasid_control, 2),
            ats: bit(self.word(ATS + 6), 15),
            prs: bit(self.word(PRS + 4), 0),
        }
    }

    /// MSI-X Enable and Function Mask of the message control word.
    pub(crate) fn msix_enabled_and_masked(&self) -> (bool, bool) {
        let control = self.word(MSIX_CONTROL);
        (bit(control, 15), bit(control, 14))
    }

    /// Outstanding Page Request Allocation.
    pub(crate) fn page_request_allocation(&self) -> u32 {
        self.read(PRS + 0xc, 4)
    }

    /// Traffic classes that some enabled virtual channel carries, a bitmap.
    pub(crate) fn mapped_traffic_classes(&self) -> u8 {
        let vc0 = u64::from(self.read(VC + 0x14, 4));
        let vc1 = u64::from(self.read(VC + 0x20, 4));
        let vc1_map = if bit(vc1, 31) { field(vc1, 7, 0) } else { 0 };
        low8(field(vc0, 7, 0) | vc1_map)
    }

    fn word(&self, offset: usize) -> u64 {
        u64::from(low16(u64::from(self.read(offset, 2))))
    }

    fn bytes(&self, offset: usize, size: usize) -> Option<u64> {
        let bytes = self.values.get(offset..offset.checked_add(size)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
        )
    }

    fn set(&mut self, offset: usize, size: usize, value: u64) {
        store(&mut self.values, offset, size, value);
    }

    fn set_writable(&mut self, offset: usize, size: usize, bits: u64) {
        store(&mut self.writable, offset, size, bits);
    }

    fn set_write_one_clears(&mut self, offset: usize, size: usize, bits: u64) {
        store(&mut self.write_one_clears, offset, size, bits);
    }
}

fn store(space: &mut [u8; SIZE], offset: usize, size: usize, value: u64) {
    for (index, byte) in value.to_le_bytes().into_iter().take(size).enumerate() {
        if let Some(place) = space.get_mut(offset + index) {
            *place = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConfigSpace;
    use crate::identity::Identity;

    fn space() -> ConfigSpace {
        ConfigSpace::new(&Identity::default(), 0x2_0000, 0x2_0000)
    }

    #[test]
    fn bars_answer_sizing_with_their_size() {
        let mut space = space();
        for bar in [0x10, 0x18] {
            space.write(bar, 4, 0xffff_ffff);
            space.write(bar + 4, 4, 0xffff_ffff);
            assert_eq!(space.read(bar, 4), 0xfffe_000c);
            assert_eq!(space.read(bar + 4, 4), 0xffff_ffff);
        }
    }

    #[test]
    fn read_only_registers_keep_their_value() {
        let mut space = space();
        space.write(0x00, 4, 0);
        space.write(0x230, 4, 0);
        assert_eq!(space.read(0x00, 4), 0x0b25_8086);
        assert_eq!(space.read(0x230, 4), 0x2401_001b);
    }

    #[test]
    fn function_level_reset_is_noticed_in_any_access_width() {
        for (offset, size, value) in [(0x48, 2, 0x8000), (0x49, 1, 0x80), (0x48, 4, 0x8000)] {
            assert!(space().write(offset, size, value));
        }
        assert!(!space().write(0x48, 2, 0x7fff));
        assert!(!space().write(0x48, 1, 0x80));
    }

    #[test]
    fn accesses_beyond_the_end_are_answered_like_an_absent_register() {
        let mut space = space();
        assert_eq!(space.read(4094, 4), 0xffff_ffff);
        assert!(!space.write(4094, 4, 0));
        assert!(!space.write(usize::MAX, 4, 0));
    }
}
