//! Faults on demand, violations, the report and the trace.

mod support;

use support::{Bytes, CRAV, QueueSetup, RCI, RCR, Rig, memory_move};

const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;
const HALT: u32 = 3;

fn ready() -> Rig {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    rig.machine.map(None, DATA, 0x4_0000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
    rig.machine.messages.clear();
    rig
}

fn ping(index: u64) -> Bytes {
    Bytes::new(0, CRAV | RCR | RCI)
        .record(RECORD + 32 * index)
        .handle(1)
}

fn status(rig: &Rig, index: u64) -> u8 {
    rig.machine.peek_byte(None, RECORD + 32 * index)
}

/// [341204 §5.7, §9.2.10] Each halt shows its reset type, interrupts, refuses
/// submissions and commands, and yields to that reset or a stronger one only.
#[test]
fn a_halt_yields_to_the_reset_that_it_names() {
    for (word, reset_type) in [("software", 0), ("flr", 1), ("warm", 2), ("cold", 3)] {
        let mut rig = ready();
        rig.write32(0x88, 0b11);
        rig.post(0, 1, &ping(0));
        rig.control(&format!("halt {word}"));
        assert_eq!(rig.read32(0x90), HALT | reset_type << 2, "{word}");
        assert_eq!(rig.read32(0x98), 1 << 4, "INTCAUSE");
        assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x100)]);
        rig.run();
        assert_eq!(status(&rig, 0), 0, "abandoned");
        rig.post(0, 1, &ping(1));
        assert!(!rig.enqueue(0, 1, &ping(1)), "retry");
        rig.run();
        assert_eq!(status(&rig, 1), 0);

        assert_eq!(rig.command(1 << 20), 0x05, "Enable Device while halted");
        let reset = rig.command(5 << 20);
        assert_eq!(
            reset,
            if reset_type == 0 { 0 } else { 0x05 },
            "Reset Device"
        );
        let halted = |rig: &mut Rig| rig.read32(0x90) & 3 == HALT;
        assert_eq!(halted(&mut rig), reset_type > 0);
        assert!(rig.config_write(0x48, 2, 0x8000), "initiates FLR");
        rig.dsa.reset();
        assert_eq!(halted(&mut rig), reset_type > 1, "after FLR");
        rig.dsa.reset();
        assert_eq!(halted(&mut rig), reset_type > 2, "after a platform reset");
    }
}

/// [341204 §9.1] Pulling bus mastering or PASID from under a running device.
#[test]
fn changing_pci_enables_while_enabled_halts_the_device() {
    for (offset, value) in [(0x04, 0x0002), (0x236, 0), (0x226, 0x8000), (0x244, 1)] {
        let mut rig = ready();
        rig.config_write(offset, 2, value);
        assert_eq!(rig.read32(0x90), HALT | 1 << 2, "needs FLR");
        assert_eq!(rig.software_error()[0], 1 | 0x51 << 8);
        assert_eq!(rig.dsa.violations().len(), 1);
    }
    let mut rig = Rig::new("");
    rig.config_write(0x04, 2, 0x0002);
    assert_eq!(rig.read32(0x90), 0, "harmless while Disabled");
}

#[test]
fn a_command_can_hang_until_a_reset() {
    let mut rig = ready();
    rig.control("hang-command");
    rig.write32(0xa0, 3 << 20);
    rig.run_for(1_000_000_000);
    assert_eq!(rig.read32(0xa8), 1 << 31, "still active");
    rig.config_write(0x48, 2, 0x8000);
    rig.dsa.reset();
    assert_eq!(rig.read32(0xa8), 0);
    assert_eq!(rig.command(5 << 20), 0);
}

#[test]
fn a_command_can_fail_with_any_code() {
    let mut rig = ready();
    for code in [0x03, 0x11, 0x1a] {
        rig.control(&format!("fail-command {code:#x}"));
        assert_eq!(rig.command(3 << 20), code);
        assert_eq!(rig.command(3 << 20), 0, "only once");
    }
}

#[test]
fn interrupts_can_be_lost_and_made_up() {
    let mut rig = ready();
    rig.control("lose-interrupts 2");
    for index in 0..3 {
        rig.post(0, 1, &ping(index));
        rig.run();
        assert_eq!(status(&rig, index), 1);
    }
    assert_eq!(rig.machine.messages.len(), 1);
    rig.control("spurious msix 4");
    assert_eq!(rig.machine.messages.last(), Some(&(0xfee0_0000, 0x104)));
}

#[test]
fn completions_can_come_late() {
    let mut rig = ready();
    rig.control("delay-completions 1 1000000");
    rig.post(0, 1, &ping(0));
    rig.run_for(900_000);
    assert_eq!(status(&rig, 0), 0);
    rig.run_for(200_000);
    assert_eq!(status(&rig, 0), 1);
    rig.post(0, 1, &ping(1));
    rig.run_for(1_000);
    assert_eq!(status(&rig, 1), 1);
}

#[test]
fn the_nth_access_can_fault() {
    // With ATS: read, write of a one-page move; the third is its record.
    for (nth, expected) in [(1, 0x03), (2, 0x83), (3, 0)] {
        let mut rig = Rig::new("");
        rig.enable_ats();
        rig.configure(0, QueueSetup::default());
        rig.enable(&[0]);
        rig.machine.map(None, DATA, 0x4_0000, true);
        rig.machine.map(None, RECORD, 0x1000, true);
        rig.control(&format!("dma-fault {nth}"));
        rig.post(0, 1, &memory_move(DATA, DATA + 0x1_0000, 4096, RECORD));
        rig.run();
        assert_eq!(status(&rig, 0), expected, "access {nth}");
        let error = rig.software_error()[0] >> 8 & 0xff;
        assert_eq!(error, if nth == 3 { 0x1a } else { 0 });
    }
}

#[test]
fn errors_come_in_bursts() {
    let mut rig = ready();
    rig.control("error-burst 2 0x22");
    for index in 0..3 {
        rig.post(0, 1, &ping(index));
    }
    rig.run();
    let all: Vec<u8> = (0..3).map(|index| status(&rig, index)).collect();
    assert_eq!(all, [0x22, 0x22, 1]);
    // 0x22 is recorded in SWERROR besides; the second one is lost there.
    assert_eq!(rig.software_error()[0] & 0xff03, 0x2203);
}

#[test]
fn a_queue_can_stay_full() {
    let mut rig = ready();
    rig.control("queue-full 0 on");
    rig.post(0, 1, &ping(0));
    rig.run();
    assert_eq!(status(&rig, 0), 0);
    assert_eq!(rig.software_error()[0] >> 8 & 0xff, 0x53);
    rig.control("queue-full 0 off");
    rig.post(0, 1, &ping(0));
    rig.run();
    assert_eq!(status(&rig, 0), 1);
}

#[test]
fn a_device_can_fall_off_the_bus() {
    let mut rig = ready();
    rig.control("all-ones on");
    assert_eq!(rig.read32(0x90), u32::MAX);
    assert_eq!(rig.read64(0x10), u64::MAX);
    assert_eq!(rig.dsa.mmio_read(0, 0x10, 1), 0xff);
    assert_eq!(rig.dsa.config_read(0, 4), u32::MAX);
    rig.write32(0xa0, 2 << 20);
    assert!(!rig.enqueue(0, 1, &ping(0)));
    rig.post(0, 1, &ping(0));
    rig.control("all-ones off");
    rig.run();
    assert_eq!(rig.read32(0x90), 1, "nothing reached it");
    assert_eq!(status(&rig, 0), 0);
}

#[test]
fn a_wrong_command_is_answered_with_one_line() {
    let mut rig = ready();
    for (command, words) in [
        ("explode", "'explode' is not a command; commands: report"),
        ("", "'' is not a command"),
        ("halt", "'halt' is not a command"),
        ("halt soon", "'soon' is no reset type"),
        ("queue-full 8 on", "there are only 8 queues"),
        ("queue-full 0 maybe", "neither on nor off"),
        ("dma-fault -1", "'-1' is not a number"),
        ("spurious pin 0", "neither msix nor ims"),
        ("revoke-handles", "this device has no interrupt handles"),
        (
            "trace /nonexistent/trace",
            "cannot write /nonexistent/trace",
        ),
    ] {
        let answer = rig.dsa.control(command, &mut rig.machine);
        let message = answer.expect_err(command);
        assert!(message.contains(words), "{command}: {message}");
        assert!(!message.contains('\n'));
    }
}

/// What a careless driver does.
type Careless = fn(&mut Rig);

/// What each kind of carelessness is recorded as.
#[test]
fn violations_name_what_was_done() {
    let kinds: [(&str, Careless); 9] = [
        ("GENCTRL: reserved bits", |rig| rig.write32(0x88, 0x80)),
        ("MSIXPERM 1: reserved bits", |rig| rig.write32(0x808, 1)),
        ("IMS 0: reserved bits", |rig| rig.write32(0x1_000c, 0x11)),
        ("GENCFG: bits", |rig| rig.write32(0x80, 0)),
        ("WQCFG 0 word 2", |rig| rig.write32(0x4008, 0)),
        ("GRPCFG 0 word 0", |rig| rig.write32(0x400, 0)),
        ("not naturally aligned", |rig| {
            rig.dsa.mmio_write(0, 0x8a, 4, 0, &mut rig.machine);
        }),
        ("portals take 64 bytes", |rig| {
            rig.dsa.mmio_write(2, 0x1000, 8, 0, &mut rig.machine);
        }),
        ("address or data changed while unmasked", |rig| {
            rig.write32(0x1_000c, 0);
            rig.write32(0x1_0008, 5);
        }),
    ];
    for (words, act) in kinds {
        let mut rig = ready();
        act(&mut rig);
        let found = rig.dsa.violations();
        assert_eq!(found.len(), 1, "{words}: {found:?}");
        assert!(found[0].contains(words), "{found:?}");
    }
}

#[test]
fn overlapping_completion_records_are_a_violation() {
    let mut rig = ready();
    rig.post(0, 1, &memory_move(DATA, DATA + 0x1_0000, 64, RECORD));
    rig.post(0, 1, &memory_move(DATA, DATA + 0x2_0000, 64, RECORD + 32));
    rig.run();
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
    rig.post(0, 1, &memory_move(DATA, DATA + 0x1_0000, 64, RECORD));
    rig.post(0, 1, &memory_move(DATA, DATA + 0x2_0000, 64, RECORD));
    rig.run();
    assert_eq!(rig.dsa.violations().len(), 1);
}

#[test]
fn the_report_counts_what_happened() {
    let mut rig = ready();
    rig.post(0, 1, &ping(0));
    rig.run();
    assert!(!rig.enqueue(0, 1, &ping(0)));
    rig.machine.refuses_messages = true;
    rig.post(0, 1, &ping(0));
    rig.run();
    let report: serde_json::Value = serde_json::from_str(&rig.control("report")).unwrap();
    assert_eq!(report["device_id"], "0x0b25");
    assert_eq!(report["state"], "Enabled");
    assert_eq!(report["blocked_messages"], 1);
    let queue = &report["queues"][0];
    assert_eq!(queue["submitted"], 3);
    assert_eq!(queue["accepted"], 2);
    assert_eq!(queue["retried"], 1);
    assert_eq!(queue["completed"], 2);
}

#[test]
#[cfg_attr(miri, ignore = "Miri isolates the test from the file system")]
fn the_trace_has_a_line_for_each_descriptor() {
    let path = std::env::temp_dir().join(format!("dsa-trace-{}.json", std::process::id()));
    let mut rig = ready();
    rig.control(&format!("trace {}", path.display()));
    rig.post(0, 3, &memory_move(DATA, DATA + 0x1_0000, 100, RECORD));
    rig.run();
    rig.post(0, 1, &ping(1));
    rig.command(4 << 20);
    rig.control("trace off");
    rig.post(0, 1, &ping(2));
    rig.run();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["queue"], 0);
    assert_eq!(lines[0]["size"], 100);
    assert_eq!(lines[0]["portal"], "ims");
    assert_eq!(lines[0]["fate"], "completed");
    assert_eq!(lines[0]["status"], 1);
    assert_eq!(lines[0]["handle"], serde_json::Value::Null);
    assert_eq!(lines[1]["fate"], "abandoned");
    assert_eq!(lines[1]["handle"], 1);
}
