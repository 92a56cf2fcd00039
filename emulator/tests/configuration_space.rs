//! Configuration space, byte for byte. [341204 Appendix C "PCIe Configuration
//! Registers"]

mod support;

use support::Rig;
use support::registers::{DEVCTL, INITIATE_FLR, PASID_CONTROL, PCICMD};

/// One dword: its offset, its value at power-up, the bits that software can
/// set and clear. What is not listed reads 0 and stays 0.
const DWORDS: [(usize, u32, u32); 44] = [
    // Type 0 header. PCICMD: MSE, BME, PERE, SERRE; PCISTS: capability list.
    (0x00, 0x0b25_8086, 0),
    (0x04, 0x0010_0000, 0x0000_0146),
    // Class 08/80/00, revision 0; cache line size.
    (0x08, 0x0880_0000, 0),
    (0x0c, 0x0000_0000, 0x0000_00ff),
    // BAR0 and BAR2: 64-bit, prefetchable, 128 KiB each.
    (0x10, 0x0000_000c, 0xfffe_0000),
    (0x14, 0x0000_0000, 0xffff_ffff),
    (0x18, 0x0000_000c, 0xfffe_0000),
    (0x1c, 0x0000_0000, 0xffff_ffff),
    // Subsystem: "should be written by boot SW".
    (0x2c, 0x0000_8086, 0xffff_ffff),
    (0x34, 0x0000_0040, 0),
    // PCI Express: RCiEP, FLR, DMWr completer.
    (0x40, 0x0092_8010, 0),
    (0x44, 0x1000_8022, 0),
    (0x48, 0x0000_2910, 0x0000_79ff),
    (0x64, 0x1073_0810, 0),
    (0x68, 0x0000_0000, 0x0000_1410),
    // MSI-X: 9 entries at BAR0 + 0x2000, PBA at BAR0 + 0x3000.
    (0x80, 0x0008_9011, 0xc000_0000),
    (0x84, 0x0000_2000, 0),
    (0x88, 0x0000_3000, 0),
    // Power management: D0 and D3hot, no soft reset between them.
    (0x90, 0x0003_0001, 0),
    (0x94, 0x0000_0008, 0x0000_0003),
    // AER: masks and severities of the errors that exist. The correctable mask
    // says 0x2000 in its heading and 0x6000 in its bits: the heading counts.
    (0x100, 0x1502_0001, 0),
    (0x108, 0x0040_0000, 0x0055_d000),
    (0x10c, 0x0044_0000, 0x0055_d000),
    (0x114, 0x0000_2000, 0x0000_6000),
    // LTR.
    (0x150, 0x1601_0018, 0),
    (0x154, 0x0000_0000, 0x1fff_1fff),
    // TPH.
    (0x160, 0x1701_0017, 0),
    (0x164, 0x0001_0205, 0),
    (0x168, 0x0000_0000, 0x0000_0107),
    (0x16c, 0x0000_0000, 0x00ff_00ff),
    // VC: VC0 carries all traffic classes, VC1 is off.
    (0x170, 0x2001_0002, 0),
    (0x174, 0x0000_0011, 0),
    (0x178, 0x0000_0001, 0),
    (0x17c, 0x0000_0000, 0x0000_000e),
    (0x184, 0x8000_00ff, 0x0000_00fe),
    (0x190, 0x0100_0000, 0x8700_00fe),
    // ATS: 32 invalidations, page aligned, global; PASID: 20 bits, privileged.
    (0x220, 0x2301_000f, 0),
    (0x224, 0x0000_0060, 0x801f_0000),
    (0x230, 0x2401_001b, 0),
    (0x234, 0x0000_1404, 0x0005_0000),
    // PRI: PASID in responses required, stopped; 512 requests.
    (0x240, 0x0001_0013, 0),
    (0x244, 0x8100_0000, 0x0000_0001),
    (0x248, 0x0000_0200, 0),
    (0x24c, 0x0000_0000, 0xffff_ffff),
];

/// The DVSEC of Scalable IOV, to which the VC capability points and which
/// Appendix C does not describe: the first and last offset.
const SIOV: (usize, usize) = (0x200, 0x214);

fn power_up(offset: usize) -> (u32, u32) {
    let listed = DWORDS.iter().find(|dword| dword.0 == offset);
    listed.map_or((0, 0), |dword| (dword.1, dword.2))
}

#[test]
fn every_dword_has_its_power_up_value() {
    let mut rig = Rig::powered_up("");
    for offset in (0..0x1000).step_by(4) {
        if (SIOV.0..=SIOV.1).contains(&offset) {
            continue;
        }
        let value = rig.dsa.config_read(offset, 4);
        assert_eq!(value, power_up(offset).0, "{offset:#05x}");
    }
}

/// Software finds capabilities by walking their lists. DVSEC 5 of vendor 8086
/// is Scalable IOV.
#[test]
fn the_capability_lists_lead_everywhere() {
    let mut rig = Rig::powered_up("");
    let mut found = Vec::new();
    let mut at = rig.dsa.config_read(0x34, 1);
    while at != 0 {
        let header = rig.dsa.config_read(at as usize, 2);
        found.push((at, header & 0xff));
        at = header >> 8;
    }
    assert_eq!(found, [(0x40, 0x10), (0x80, 0x11), (0x90, 0x01)]);

    let mut found = Vec::new();
    let mut at = 0x100;
    while at != 0 {
        let header = rig.dsa.config_read(at as usize, 4);
        found.push((at, header & 0xffff));
        at = header >> 20;
    }
    let expected = [
        (0x100, 0x01),
        (0x150, 0x18),
        (0x160, 0x17),
        (0x170, 0x02),
        (0x200, 0x23),
        (0x220, 0x0f),
        (0x230, 0x1b),
        (0x240, 0x13),
    ];
    assert_eq!(found, expected);
    assert_eq!(rig.dsa.config_read(0x204, 2), 0x8086);
    assert_eq!(rig.dsa.config_read(0x208, 2), 5);
}

#[test]
fn each_access_width_sees_the_same_bytes() {
    let mut rig = Rig::powered_up("");
    for offset in 0..0x1000 {
        let dword = rig.dsa.config_read(offset & !3, 4).to_le_bytes();
        let byte = rig.dsa.config_read(offset, 1);
        assert_eq!(byte, u32::from(dword[offset % 4]), "{offset:#05x}");
        if offset % 2 == 0 {
            let word = u16::from_le_bytes([dword[offset % 4], dword[offset % 4 + 1]]);
            assert_eq!(
                rig.dsa.config_read(offset, 2),
                u32::from(word),
                "{offset:#05x}"
            );
        }
    }
}

#[test]
fn only_writable_bits_can_be_written() {
    for offset in (0..0x1000).step_by(4) {
        let (value, writable) = power_up(offset);
        // A device for each of the others, all alike, costs Miri minutes.
        let skipped = cfg!(miri) && DWORDS.iter().all(|dword| dword.0 != offset);
        if skipped || (SIOV.0..=SIOV.1).contains(&offset) {
            continue;
        }
        // Not the start of an FLR, and not the reset of the page requests.
        let ones = match offset {
            DEVCTL => !INITIATE_FLR,
            0x244 => !0b10,
            _ => u32::MAX,
        };
        let mut rig = Rig::powered_up("");
        assert!(!rig.config_write(offset, 4, ones), "{offset:#05x}: no FLR");
        let mut set = rig.dsa.config_read(offset, 4);
        if offset == 0x244 {
            // "Stopped" has no meaning while requests are enabled.
            set |= 1 << 24;
        }
        assert_eq!(set, value | writable, "{offset:#05x} after ones");
        rig.config_write(offset, 4, 0);
        let cleared = rig.dsa.config_read(offset, 4);
        assert_eq!(cleared, value & !writable, "{offset:#05x} after zeros");
    }
}

#[test]
fn a_narrow_write_leaves_its_neighbours_alone() {
    let mut rig = Rig::powered_up("");
    rig.config_write(0x24c, 4, 0x1122_3344);
    rig.config_write(0x24d, 1, 0xaa);
    assert_eq!(rig.dsa.config_read(0x24c, 4), 0x1122_aa44);
    rig.config_write(0x24e, 2, 0xbbcc);
    assert_eq!(rig.dsa.config_read(0x24c, 4), 0xbbcc_aa44);
    rig.config_write(PCICMD + 1, 1, 0xff);
    assert_eq!(rig.dsa.config_read(PCICMD, 2), 0x0100, "SERRE only");
}

/// Software sizes a BAR by writing ones.
#[test]
fn bars_show_their_size() {
    for (options, bar0, bar2) in [
        ("", 0x2_0000, 0x2_0000),
        // No IMS behind the registers: the least that §9.1.1.1 allows.
        ("ims=0", 0x1_0000, 0x2_0000),
        // 0x10000 + 16,128 slots of 16 bytes.
        ("ims=16128", 0x8_0000, 0x2_0000),
        // Five queues take 80 KiB, rounded up.
        ("queues=5", 0x2_0000, 0x2_0000),
        ("queues=64", 0x2_0000, 0x10_0000),
        ("queues=1", 0x2_0000, 0x4000),
    ] {
        let mut rig = Rig::powered_up(options);
        for (bar, offset, size) in [(0, 0x10, bar0), (2, 0x18, bar2)] {
            assert_eq!(rig.dsa.bar_bytes(bar), size, "{options}: BAR{bar}");
            rig.config_write(offset, 4, u32::MAX);
            rig.config_write(offset + 4, 4, u32::MAX);
            let low = u64::from(rig.dsa.config_read(offset, 4));
            let high = u64::from(rig.dsa.config_read(offset + 4, 4));
            assert_eq!(high << 32 | low, !(size - 1) | 0xc, "{options}: BAR{bar}");
        }
        assert_eq!(rig.dsa.bar_bytes(1), 0);
    }
}

#[test]
fn the_identity_shows_in_the_header() {
    for (options, device, vectors) in [
        ("device-id=0x11fb", 0x11fb, 9),
        ("device-id=0x1212;queues=2", 0x1212, 3),
        ("queues=64", 0x0b25, 65),
    ] {
        let mut rig = Rig::powered_up(options);
        assert_eq!(rig.dsa.config_read(0, 4), device << 16 | 0x8086);
        let control = rig.dsa.config_read(0x82, 2);
        assert_eq!(control, vectors - 1, "{options}: MSI-X table size");
    }
}

/// [PCI Express 6.6.2 "Function Level Reset"] The bit reads 0, and the reset
/// takes the enables with it.
#[test]
fn a_function_level_reset_is_announced_and_clears_the_enables() {
    let mut rig = Rig::new("");
    assert!(!rig.config_write(DEVCTL, 2, 0x2910));
    assert!(rig.config_write(DEVCTL, 2, 0x2910 | INITIATE_FLR));
    rig.dsa.reset();
    assert_eq!(rig.dsa.config_read(DEVCTL, 2), 0x2910);
    assert_eq!(rig.dsa.config_read(PCICMD, 2), 0);
    assert_eq!(rig.dsa.config_read(PASID_CONTROL, 2), 0);
    assert_eq!(rig.dsa.config_read(0x82, 2), 8);
    // The upper byte alone carries the bit.
    assert!(rig.config_write(DEVCTL + 1, 1, 0x80));
}

/// D1 and D2 do not exist: such a write is discarded.
#[test]
fn unsupported_power_states_are_discarded() {
    let mut rig = Rig::powered_up("");
    for (written, state) in [(1, 0), (2, 0), (3, 3), (1, 3), (2, 3), (0, 0)] {
        rig.config_write(0x94, 2, written);
        assert_eq!(rig.dsa.config_read(0x94, 2), 8 | state, "D{written}");
    }
}
