//! What a driver finds before it changes anything, literally.

use crate::rig::{GRPCFG, MSIX, MSIXPERM, PBA, Rig, WQCFG, dedicated, shape, shared};
use vdsa::{Policy, QueueShape, Shape, ShapeError, VirtualDsa, Window};

#[test]
fn one_dedicated_queue_has_the_minimal_values() {
    let rig = Rig::new(&shape(&[dedicated(0x101)], &[]));
    // VERSION, GENCAP, WQCAP, GRPCAP, ENGCAP, OPCAP.
    assert_eq!(rig.read(0x00, 4), 0x100);
    assert_eq!(rig.read(0x10, 8), 0x015f_0116);
    assert_eq!(rig.read(0x20, 8), 0x0002_0000_0001_0010);
    assert_eq!(rig.read(0x30, 8), 1);
    assert_eq!(rig.read(0x38, 8), 1);
    assert_eq!(rig.read(0x40, 8), 0x1_003f_03ff);
    for offset in [0x48, 0x50, 0x58] {
        assert_eq!(rig.read(offset, 8), 0);
    }
    // OFFSETS: GRPCFG at 0x400, WQCFG at 0x500, MSIXPERM at 0x300, no IMS, no perfmon.
    assert_eq!(rig.read(0x60, 8), 0x0000_0003_0005_0004);
    assert_eq!(rig.read(0x68, 8), 0);
    // GENCFG: user-mode interrupts. GENCTRL, GENSTS, INTCAUSE, CMD, CMDSTATUS.
    assert_eq!(rig.read(0x80, 4), 0x1000);
    for offset in [0x88, 0x90, 0x98, 0xa0, 0xa8] {
        assert_eq!(rig.read(offset, 4), 0, "{offset:#x}");
    }
    // CMDCAP, as 8 bytes and as Linux reads it.
    assert_eq!(rig.read(0xb0, 8), 0x7ffe);
    assert_eq!(rig.read(0xb0, 4), 0x7ffe);
    for offset in (0xc0..0x110).step_by(8) {
        assert_eq!(rig.read(offset, 8), 0, "{offset:#x}");
    }
    let wqcfg: Vec<u32> = (0..8).map(|word| rig.read32(WQCFG + 4 * word)).collect();
    assert_eq!(wqcfg, [16, 16, 0x11, 0x15f, 0, 0, 0x2000_0000, 0]);
    let group: Vec<u64> = (0..8).map(|word| rig.read(GRPCFG + 8 * word, 8)).collect();
    assert_eq!(group, [1, 0, 0, 0, 1, 0, 0, 0]);
    // Two vectors, masked; a third one is not there.
    for (vector, control) in [(0, 1), (1, 1), (2, 0)] {
        assert_eq!(rig.read(MSIX + 16 * vector, 8), 0);
        assert_eq!(rig.read32(MSIX + 16 * vector + 12), control);
        assert_eq!(rig.read(MSIXPERM + 8 * vector, 8), 0);
    }
    assert_eq!(rig.read(PBA, 8), 0);
}

#[test]
fn several_queues_each_have_their_place() {
    let queues: Vec<QueueShape> = (0..8)
        .map(|index| QueueShape {
            size: 4 + index,
            priority: 1 + u8::try_from(index).unwrap(),
            max_transfer_log2: 21,
            max_batch_log2: if index == 3 { 6 } else { 5 },
            ..dedicated(0x100 + u32::from(index))
        })
        .collect();
    let rig = Rig::new(&shape(&queues, &[]));
    // Transfers of 2^21, batches of 2^6.
    assert_eq!(rig.read(0x10, 8), 0x00d5_0116);
    // 4 + 5 + .. + 11 = 60 entries, 8 queues, dedicated.
    assert_eq!(rig.read(0x20, 8), 0x0002_0000_0008_003c);
    assert_eq!(rig.read(GRPCFG, 8), 0xff);
    let queue7: Vec<u32> = (0..8)
        .map(|word| rig.read32(WQCFG + 7 * 32 + 4 * word))
        .collect();
    assert_eq!(queue7, [11, 16, 0x81, 0xb5, 0, 0, 0x2000_0000, 0]);
    // Vector 8 is the last.
    assert_eq!(rig.read32(MSIX + 16 * 8 + 12), 1);
    assert_eq!(rig.read32(MSIX + 16 * 9 + 12), 0);
    assert_eq!(rig.read_config(0x42, 2), 8);
    assert_eq!(rig.dsa.bar_size(2), 0x2_0000);
}

#[test]
fn a_shared_queue_says_so() {
    let queues = [
        dedicated(0x101),
        QueueShape {
            threshold: 9,
            ..shared(0x102)
        },
    ];
    let rig = Rig::new(&shape(&queues, &[]));
    // 32 entries, 2 queues, shared (bit 48) and dedicated (49).
    assert_eq!(rig.read(0x20, 8), 0x0003_0000_0002_0020);
    let shared: Vec<u32> = (0..8)
        .map(|word| rig.read32(WQCFG + 32 + 4 * word))
        .collect();
    // Mode 0, priority 1, PASID enabled.
    assert_eq!(shared, [16, 9, 0x1000_0010, 0x15f, 0, 0, 0x2000_0000, 0]);
    assert_eq!(
        Rig::new(&shape(&queues[1..], &[])).read(0x20, 8),
        0x0001_0000_0001_0010
    );
}

#[test]
fn operations_are_masked_and_never_more_than_version_1_has() {
    let queues = [dedicated(0x101)];
    let with = |operations| {
        Rig::new(&Shape {
            operations,
            ..shape(&queues, &[])
        })
    };
    let all = with([u64::MAX; 4]);
    assert_eq!(all.read(0x40, 8), 0x1_003f_03ff);
    assert_eq!(all.read(0x48, 8), 0);
    assert_eq!(with([0x1_0000_000a, 0, 0, 0]).read(0x40, 8), 0x1_0000_000a);
}

#[test]
fn registers_answer_every_access_width() {
    let rig = Rig::new(&shape(&[dedicated(0x101)], &[]));
    let read = |width: u8, count: u32| -> Vec<u64> {
        (0..count)
            .map(|index| rig.read(WQCFG + index * u32::from(width), width))
            .collect()
    };
    assert_eq!(read(8, 2), [0x0000_0010_0000_0010, 0x0000_015f_0000_0011]);
    assert_eq!(read(2, 8), [16, 0, 16, 0, 0x11, 0, 0x15f, 0]);
    assert_eq!(
        read(1, 16),
        [16, 0, 0, 0, 16, 0, 0, 0, 0x11, 0, 0, 0, 0x5f, 1, 0, 0]
    );
    // 8 bytes of two registers of 4.
    assert_eq!(rig.read(0x80, 8), 0x1000);
}

#[test]
fn what_is_no_access_reads_as_zero() {
    let rig = Rig::new(&shape(&[dedicated(0x101)], &[]));
    for (offset, width) in [
        (0x10, 3),
        (0x11, 8),
        (0x12, 4),
        (0x11, 2),
        (0x10, 0),
        (0x10, 255),
    ] {
        assert_eq!(rig.read(offset, width), 0, "{offset:#x} {width}");
    }
    for offset in [0x200, 0x7f8, 0x800, 0xf000, 0xfff8, 0x1_0000, u32::MAX - 7] {
        assert_eq!(rig.read(offset, 8), 0, "{offset:#x}");
    }
}

#[test]
fn configuration_space_has_its_header_and_two_capabilities() {
    let rig = Rig::new(&shape(&[dedicated(0x101)], &[]));
    let expected = [
        (0x00, 0x0b25_8086),
        (0x04, 0x0010_0000),
        (0x08, 0x0880_0000),
        (0x0c, 0),
        (0x10, 0xf000_000c),
        (0x14, 0),
        (0x18, 0xf020_000c),
        (0x1c, 0),
        (0x20, 0),
        (0x24, 0),
        (0x28, 0),
        (0x2c, 0x2010_8086),
        (0x30, 0),
        (0x34, 0x40),
        (0x3c, 0),
        // MSI-X: 2 vectors, table at 0x600, pending bits at 0x700, both in BAR0.
        (0x40, 0x0001_5011),
        (0x44, 0x600),
        (0x48, 0x700),
        // PCI Express, version 2, root complex integrated endpoint, the last.
        (0x50, 0x0092_0010),
        // It has a function-level reset.
        (0x54, 0x1000_8022),
        (0x58, 0x0000_2910),
        (0x74, 0x0070_0010),
        // No extended capabilities.
        (0x100, 0),
        (0xffc, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(rig.read_config(offset, 4), value, "{offset:#x}");
    }
    assert_eq!(rig.read_config(0x02, 2), 0x0b25);
    assert_eq!(rig.read_config(0x0b, 1), 0x08);
    for (offset, width) in [
        (0x01, 2),
        (0x02, 4),
        (0x00, 8),
        (0x00, 3),
        (0x1000, 4),
        (0xffff, 1),
    ] {
        let value = rig.read_config(offset, width);
        assert_eq!(value, u32::MAX, "{offset:#x} {width}");
    }
}

#[test]
fn bars_answer_sizing_and_move() {
    let mut rig = Rig::new(&shape(&[dedicated(0x101), dedicated(0x102)], &[]));
    assert_eq!(rig.dsa.bar(0), None, "memory space is off");
    assert_eq!(
        (rig.dsa.bar_size(0), rig.dsa.bar_size(2)),
        (0x1_0000, 0x8000)
    );
    assert_eq!((rig.dsa.bar_size(1), rig.dsa.bar(1)), (0, None));
    for (bar, low) in [(0x10, 0xffff_000c), (0x18, 0xffff_800c)] {
        rig.write_config(bar, 4, u32::MAX);
        rig.write_config(bar + 4, 4, u32::MAX);
        assert_eq!(rig.read_config(bar, 4), low);
        assert_eq!(rig.read_config(bar + 4, 4), u32::MAX);
    }
    rig.write_config(0x10, 4, 0xe012_3456);
    rig.write_config(0x14, 4, 0x12);
    rig.write_config(0x18, 4, 0xd012_b456);
    rig.write_config(0x1c, 4, 0);
    rig.write_config(0x04, 2, 0x0002);
    assert_eq!(rig.dsa.bar(0), Some(0x12_e012_0000));
    assert_eq!(rig.dsa.bar(2), Some(0xd012_8000));
}

#[test]
fn only_what_can_be_written_is_written() {
    let mut rig = Rig::new(&shape(&[dedicated(0x101)], &[]));
    for offset in (0..0x1000).step_by(4) {
        // All ones would ask for a function-level reset.
        let ones = if offset == 0x58 { 0x7fff } else { u32::MAX };
        rig.write_config(offset, 4, ones);
    }
    let changed = [
        (0x04, 0x0010_0146),
        (0x0c, 0xff),
        (0x10, 0xffff_000c),
        (0x14, u32::MAX),
        (0x18, 0xffff_c00c),
        (0x1c, u32::MAX),
        (0x3c, 0xff),
        (0x40, 0xc001_5011),
        (0x58, 0x0000_79ff),
        (0x78, 0x0000_0010),
    ];
    let fresh = Rig::new(&shape(&[dedicated(0x101)], &[]));
    for offset in (0..0x1000).step_by(4) {
        let new = changed.iter().find(|(changed, _)| *changed == offset);
        let value = new.map_or(fresh.read_config(offset, 4), |(_, value)| *value);
        assert_eq!(rig.read_config(offset, 4), value, "{offset:#x}");
    }
    assert_eq!(rig.dsa.dropped_accesses().config_writes, 1024 - 10);
}

#[test]
fn a_shape_that_cannot_be_is_refused() {
    let good = dedicated(0x101);
    let refuse = |queue: QueueShape, error: ShapeError| {
        assert_eq!(VirtualDsa::new(&shape(&[queue], &[])).unwrap_err(), error);
    };
    refuse(QueueShape { size: 0, ..good }, ShapeError::Sizes(0));
    refuse(
        QueueShape {
            priority: 0,
            ..good
        },
        ShapeError::Priority(0),
    );
    refuse(
        QueueShape {
            priority: 16,
            ..good
        },
        ShapeError::Priority(16),
    );
    refuse(
        QueueShape {
            max_transfer_log2: 32,
            ..good
        },
        ShapeError::TransferSize(32),
    );
    refuse(
        QueueShape {
            max_batch_log2: 0,
            ..good
        },
        ShapeError::BatchSize(0),
    );
    refuse(
        QueueShape {
            max_batch_log2: 11,
            ..good
        },
        ShapeError::BatchSize(11),
    );
    let large = |pasid| QueueShape {
        size: 0x8000,
        ..dedicated(pasid)
    };
    let refuse = |shape: &Shape<'_>, error: ShapeError| {
        let refused = VirtualDsa::new(shape).unwrap_err();
        assert_eq!(refused, error);
        assert!(!refused.to_string().is_empty());
    };
    refuse(
        &shape(&[large(1), large(2)], &[]),
        ShapeError::Sizes(0x1_0000),
    );
    refuse(&shape(&[], &[]), ShapeError::Queues(0));
    let nine: Vec<QueueShape> = (1..10).map(dedicated).collect();
    refuse(&shape(&nine, &[]), ShapeError::Queues(9));
    let pasid = crate::rig::pasid;
    refuse(
        &shape(&[good, good], &[]),
        ShapeError::HostPasid(pasid(0x101)),
    );
    let [five, mut six] = crate::rig::two_pasids();
    refuse(
        &shape(&[good], &[five, five]),
        ShapeError::GuestPasid(pasid(5)),
    );
    six.host = pasid(0x101);
    refuse(
        &shape(&[good], &[five, six]),
        ShapeError::HostPasid(pasid(0x101)),
    );
    let queues = [good];
    let fine = shape(&queues, &[]);
    refuse(
        &Shape {
            bars: [0x8000, 0],
            ..fine
        },
        ShapeError::Bar(0x8000),
    );
    refuse(
        &Shape {
            bars: [0, 0x2000],
            ..fine
        },
        ShapeError::Bar(0x2000),
    );
    for (base, len_bytes) in [(0x800, 0x1000), (0x1000, 0x800), (u64::MAX - 0xfff, 0x1000)] {
        let window = Window { base, len_bytes };
        refuse(&Shape { window, ..fine }, ShapeError::Window(window));
    }
    // Without batches, none is the right limit.
    let none = QueueShape {
        max_batch_log2: 0,
        policy: Policy::Direct,
        ..good
    };
    let without = Shape {
        operations: [0x8, 0, 0, 0],
        ..shape(&queues, &[])
    };
    assert!(
        VirtualDsa::new(&Shape {
            queues: &[none],
            ..without
        })
        .is_ok()
    );
}
