//! What the device says of itself: the model's options against what is read.

use dsa_model::Identity;
use hwio::Registers;
use hwspec::dsa::{
    CMDCAP, CommandCode, ENGCAP, GENCAP, GRPCAP, OFFSETS_0, OFFSETS_1, Operation, VERSION, WQCAP,
    opcap,
};

use crate::bench::Bench;

#[test]
fn counts_and_sizes_are_read_as_they_were_given() {
    let options = "queues=5;entries=77;groups=3;engines=2;ims=768;max-transfer=21";
    for device in ["0x0b25", "0x11fb", "0x1212"] {
        let bench = Bench::new(&format!("{options};device-id={device}"));
        let registers = &bench.registers;
        let wqcap = registers.read(WQCAP);
        assert_eq!((wqcap.count(), wqcap.total_size()), (5, 77));
        let grpcap = registers.read(GRPCAP);
        assert_eq!((grpcap.count(), grpcap.read_buffers()), (3, 96));
        let engcap = registers.read(ENGCAP);
        assert_eq!(engcap.count(), 2);
        assert_eq!(
            (
                engcap.max_work_in_progress(),
                engcap.max_batch_in_progress()
            ),
            (1, 4)
        );
        let gencap = registers.read(GENCAP);
        assert_eq!(gencap.ims_entries(), 768);
        assert_eq!(gencap.max_transfer_bytes(), 1 << 21);
        assert_eq!(gencap.max_batch_descriptors(), 1024);
    }
}

#[test]
fn versions_are_those_of_the_device_ids() {
    for (device, version, wqcfg_bytes) in [
        ("0x0b25", (1, 0), 32),
        ("0x11fb", (2, 0), 64),
        ("0x1212", (3, 0), 64),
    ] {
        let bench = Bench::new(&format!("device-id={device}"));
        let read = bench.registers.read(VERSION);
        assert_eq!((read.major(), read.minor()), version);
        assert_eq!(bench.registers.read(WQCAP).wqcfg_bytes(), wqcfg_bytes);
    }
}

/// Each option that switches a capability, and the one bit that it switches.
#[test]
fn each_switch_is_one_bit() {
    type Bit = fn(&Bench) -> bool;
    let cases: [(&str, &str, Bit); 9] = [
        ("", "configurable=off", |it| {
            it.registers.read(GENCAP).configuration()
        }),
        ("device-id=0x11fb", "", |it| {
            it.registers.read(GENCAP).command_capabilities()
        }),
        ("drain-readback=on", "drain-readback=off", |it| {
            it.registers.read(GENCAP).drain_readback_address()
        }),
        ("event-log=on", "event-log=off", |it| {
            it.registers.read(GENCAP).event_log() == 1
        }),
        ("", "modes=dedicated", |it| {
            it.registers.read(WQCAP).shared_mode()
        }),
        ("", "modes=shared", |it| {
            it.registers.read(WQCAP).dedicated_mode()
        }),
        ("", "ats-disable=off", |it| {
            it.registers.read(WQCAP).ats_disable()
        }),
        ("device-id=0x11fb", "", |it| {
            it.registers.read(WQCAP).prs_disable()
        }),
        ("device-id=0x1212", "device-id=0x11fb", |it| {
            it.registers.read(GENCAP).event_log_overflow()
        }),
    ];
    for (with, without, bit) in cases {
        assert!(bit(&Bench::new(with)), "{with}");
        assert!(!bit(&Bench::new(without)), "{without}");
    }
}

/// What every model has, and what the second generation has.
#[test]
fn generations_have_what_is_known_of_them() {
    let first = Bench::new("");
    let second = Bench::new("device-id=0x11fb");
    for bench in [&first, &second] {
        let gencap = bench.registers.read(GENCAP);
        assert!(gencap.block_on_fault() && gencap.overlapping_copy());
        assert!(gencap.cache_control() && gencap.destination_readback());
        assert!(!gencap.durable_write() && !gencap.inter_domain());
        assert!(!gencap.translation_fetch_stride() && !gencap.batch_continuation());
        assert!(!gencap.no_strict_ordering_memory() && !gencap.no_strict_ordering_peer());
        let wqcap = bench.registers.read(WQCAP);
        assert!(wqcap.priority() && wqcap.occupancy() && wqcap.occupancy_interrupt());
        let grpcap = bench.registers.read(GRPCAP);
        assert!(grpcap.read_buffer_controls() && grpcap.global_read_buffer_limit());
        assert!(!grpcap.in_progress_limit() && !grpcap.bandwidth_limit());
    }
    let gencap = |bench: &Bench| bench.registers.read(GENCAP);
    for (bench, expected) in [(&first, false), (&second, true)] {
        let gencap = gencap(bench);
        let found = [
            gencap.fill16(),
            gencap.crc64(),
            gencap.fault_info(),
            gencap.batch1(),
        ];
        assert_eq!(found, [expected; 4]);
        let wqcap = bench.registers.read(WQCAP);
        assert_eq!(wqcap.operations_configuration(), expected);
    }
}

#[test]
fn operations_and_commands_are_bits_of_their_codes() {
    for device in ["0x0b25", "0x11fb"] {
        let options = format!("device-id={device}");
        let bench = Bench::new(&options);
        let identity = Identity::parse(&options).unwrap();
        let words = [0, 1, 2, 3].map(|word| bench.registers.read(opcap(word)));
        assert_eq!(words, identity.opcap());
        let has = |operation: Operation| words[0] >> operation.0 & 1 == 1;
        assert!(has(Operation::MEMORY_MOVE) && has(Operation::CRC) && has(Operation::CACHE_FLUSH));
        assert_eq!(has(Operation::DIX_GENERATE), device == "0x11fb");
    }
    let cmdcap = Bench::new("device-id=0x11fb").registers.read(CMDCAP);
    let has = |command: CommandCode| cmdcap >> command.0 & 1 == 1;
    assert!(has(CommandCode::ENABLE_DEVICE) && has(CommandCode::RELEASE_INTERRUPT_HANDLE));
    assert_eq!(cmdcap, 0x7ffe);
}

/// A table that is announced is where something can be written.
#[test]
fn tables_are_where_they_are_announced() {
    let mut bench = Bench::new("");
    let offsets = bench.registers.read(OFFSETS_0);
    let msixperm = hwspec::dsa::msix_permission(offsets.msixperm_offset(), 0);
    for register in [
        bench.group(0).wqs(0).offset(),
        bench.queue(0).size().offset(),
    ] {
        bench.registers.write_raw(register, 1_u32);
        assert_eq!(
            bench.registers.read_raw::<u32>(register),
            1,
            "{register:#x}"
        );
    }
    bench.registers.write(
        msixperm,
        hwspec::dsa::MsixPermission::new().with_ignore(true),
    );
    assert!(bench.registers.read(msixperm).ignore());
    assert!(
        bench.registers.read(bench.slot(0).control()).mask(),
        "as reset leaves it"
    );
    assert_eq!(bench.registers.read(bench.slot(0).address()), 0xfee0_0000);
    // PERFCAP is not 0, and there is no table for inter-domain permissions.
    let offsets = bench.registers.read(OFFSETS_1);
    let perfmon = usize::from(offsets.perfmon()) * 0x100;
    assert_ne!(bench.registers.read_raw::<u64>(perfmon), 0);
    assert_eq!(offsets.idpt(), 0);
    assert_eq!(
        Bench::new("ims=0").registers.read(OFFSETS_0).ims_offset(),
        0
    );
}
