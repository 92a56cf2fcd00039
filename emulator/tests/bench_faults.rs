//! Faults on demand: every command of the bench, and what is said to a wrong
//! one.

mod support;

use support::registers as r;
use support::{
    Bytes, LIMITED_IMS, LIMITED_MSIX, QueueSetup, Rig, batch, memory_move, message, no_op,
};

const LIST: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const RECORD: u64 = 0x30_0000;

fn ready() -> Rig {
    let mut rig = Rig::with_queue("", QueueSetup::default());
    map(&mut rig);
    rig
}

fn map(rig: &mut Rig) {
    rig.machine.map(None, LIST, 0x1000, true);
    rig.machine.map(None, DATA, 0x2_0000, true);
    rig.machine.map(None, RECORD, 0x1000, true);
}

fn ping(index: u64) -> Bytes {
    no_op(RECORD + 32 * index).interrupt(1)
}

#[test]
fn a_command_can_hang_until_a_reset() {
    let mut rig = ready();
    rig.control("hang-command");
    rig.start(r::DRAIN_ALL | r::REQUEST_INTERRUPT);
    rig.run_for(1_000_000_000);
    assert_eq!(rig.read32(r::CMDSTATUS), r::ACTIVE);
    assert_eq!(rig.machine.messages, []);
    // The rest of the device goes on.
    rig.post(0, LIMITED_MSIX, &no_op(RECORD));
    rig.run_for(1_000);
    assert_eq!(rig.status(RECORD), 1);
    rig.config_write(r::DEVCTL, 2, r::INITIATE_FLR);
    rig.dsa.reset();
    assert_eq!(rig.read32(r::CMDSTATUS), 0);
    assert_eq!(
        rig.command(r::RESET_DEVICE),
        0,
        "the next one does not hang"
    );
}

#[test]
fn a_command_can_fail_with_any_code() {
    let mut rig = ready();
    for code in 1..=0xff {
        rig.control(&format!("fail-command {code:#x}"));
        assert_eq!(rig.command(r::DISABLE_DEVICE), code);
        assert_eq!(rig.read32(r::GENSTS), r::ENABLED, "and does nothing");
        assert_eq!(rig.command(r::DRAIN_ALL), 0, "only once");
    }
}

#[test]
fn interrupts_can_be_lost() {
    let mut rig = ready();
    rig.program_ims(1, (0xfee0_1000, 1), None);
    rig.control("lose-interrupts 3");
    rig.post(0, LIMITED_MSIX, &ping(0));
    rig.post(0, LIMITED_IMS, &ping(1));
    rig.run();
    rig.command(r::DRAIN_ALL | r::REQUEST_INTERRUPT);
    assert_eq!(rig.read32(r::INTCAUSE), r::CAUSE_COMMAND);
    assert_eq!(rig.statuses(RECORD, 2), [1, 1]);
    assert_eq!(rig.machine.messages, []);
    rig.post(0, LIMITED_MSIX, &ping(2));
    rig.run();
    assert_eq!(rig.machine.messages, [message(1)]);
}

#[test]
fn interrupts_can_be_made_up() {
    let mut rig = ready();
    rig.control("spurious msix 4");
    assert_eq!(rig.machine.messages, [message(4)]);
    rig.program_ims(7, (0xfee0_1000, 7), None);
    rig.control("spurious ims 7");
    assert_eq!(rig.machine.messages.last(), Some(&(0xfee0_1000, 7)));
    // A mask holds them back like any other; entries that are not there send
    // nothing.
    rig.write32(r::msix(4) + r::CONTROL, r::MASK);
    rig.control("spurious msix 4");
    for entry in ["msix 9", "ims 2048", "ims 65535"] {
        rig.control(&format!("spurious {entry}"));
    }
    assert_eq!(rig.machine.messages.len(), 2);
    rig.write32(r::msix(4) + r::CONTROL, 0);
    assert_eq!(rig.machine.messages.len(), 3);
}

#[test]
fn completions_can_come_late() {
    let mut rig = ready();
    rig.control("delay-completions 2 1000000");
    for index in 0..3 {
        rig.post(0, LIMITED_MSIX, &ping(index));
    }
    rig.run_for(900_000);
    assert_eq!(rig.statuses(RECORD, 3), [0, 0, 0]);
    rig.run_for(200_000);
    assert_eq!(rig.statuses(RECORD, 3), [1, 0, 0]);
    rig.run_for(1_000_000);
    assert_eq!(rig.statuses(RECORD, 3), [1, 1, 1], "the third is in time");
    assert_eq!(rig.machine.messages, [message(1); 3]);
}

/// Read and write of a one-page move, then its record; without a fault, and
/// with it on the first, second and third access.
#[test]
fn the_nth_access_can_fault() {
    for (nth, expected, register) in [(1, 0x03, 0), (2, 0x83, 0), (3, 0x00, 0x1a), (4, 0x01, 0)] {
        let mut rig = Rig::new("");
        rig.enable_ats();
        rig.configure(0, QueueSetup::default());
        rig.enable(&[0]);
        map(&mut rig);
        rig.control(&format!("dma-fault {nth}"));
        let descriptor = memory_move(DATA, DATA + 0x1_0000, 4096, RECORD);
        rig.post(0, LIMITED_MSIX, &descriptor);
        rig.run();
        assert_eq!(rig.status(RECORD), expected, "access {nth}");
        let error = rig.software_error()[0] >> 8 & 0xff;
        assert_eq!(error, register, "access {nth}");
        // Once, and not again.
        for _ in 0..2 {
            rig.machine.poke(None, RECORD, &[0]);
            rig.post(0, LIMITED_MSIX, &descriptor);
            rig.run();
        }
        assert_eq!(rig.status(RECORD), 1);
    }
}

#[test]
fn errors_come_in_bursts() {
    let mut rig = ready();
    rig.control("error-burst 2 0x22");
    for index in 0..3 {
        rig.post(0, LIMITED_MSIX, &no_op(RECORD + 32 * index));
    }
    rig.run();
    assert_eq!(rig.statuses(RECORD, 3), [0x22, 0x22, 1]);
    // 0x22 is recorded in SWERROR besides; the second one is lost there.
    assert_eq!(rig.software_error()[0] & 0xff03, 0x2203);

    // Members of a batch count, and the batch itself comes first.
    rig.control("error-burst 1 0x20");
    for index in 0..2 {
        let member = no_op(RECORD + 0x100 + 32 * index);
        rig.machine.poke(None, LIST + 64 * index, &member.0);
    }
    rig.post(0, LIMITED_MSIX, &batch(LIST, 2, RECORD));
    rig.run();
    assert_eq!(rig.status(RECORD), 0x20);
    assert_eq!(rig.statuses(RECORD + 0x100, 2), [0, 0]);

    // Interrupts that were asked for come all the same, but for that of an invalid handle.
    for (status, count) in [("0x20", 1), ("0x19", 0)] {
        rig.machine.messages.clear();
        rig.control(&format!("error-burst 1 {status}"));
        rig.post(0, LIMITED_MSIX, &ping(0));
        rig.run();
        let of_queue = rig.machine.messages.iter();
        assert_eq!(
            of_queue.filter(|sent| **sent != message(0)).count(),
            count,
            "{status}"
        );
    }
}

#[test]
fn a_queue_can_stay_full() {
    let mut rig = ready();
    rig.control("queue-full 0 on");
    rig.post(0, LIMITED_MSIX, &ping(0));
    rig.run();
    assert_eq!(rig.status(RECORD), 0);
    assert_eq!(rig.software_error()[0], 0x5309);
    rig.control("queue-full 0 off");
    rig.post(0, LIMITED_MSIX, &ping(0));
    rig.run();
    assert_eq!(rig.status(RECORD), 1);

    let mut rig = Rig::with_queue("", QueueSetup::shared());
    rig.control("queue-full 0 on");
    for page in 0..4 {
        assert!(!rig.enqueue(0, page, &Bytes::new(0, 0).trusted(1)));
    }
    rig.control("queue-full 0 off");
    assert!(rig.enqueue(0, 0, &Bytes::new(0, 0).trusted(1)));
}

#[test]
fn a_device_can_fall_off_the_bus() {
    let mut rig = ready();
    rig.control("all-ones on");
    for (size, ones) in [(1, 0xff), (2, 0xffff), (4, 0xffff_ffff), (8, u64::MAX)] {
        assert_eq!(rig.read(r::GENCAP, size), ones);
        assert_eq!(rig.dsa.mmio_read(2, 0, size), ones);
    }
    assert_eq!(rig.dsa.config_read(0, 4), u32::MAX);
    rig.start(r::DISABLE_DEVICE);
    rig.config_write(r::PCICMD, 2, 0);
    assert!(!rig.enqueue(0, LIMITED_MSIX, &ping(0)));
    rig.post(0, LIMITED_MSIX, &ping(0));
    rig.run();
    rig.control("all-ones off");
    rig.run();
    assert_eq!(rig.read32(r::GENSTS), r::ENABLED, "nothing reached it");
    assert_eq!(rig.dsa.config_read(r::PCICMD, 2), 0b110);
    assert_eq!(rig.status(RECORD), 0);
}

/// What the commands mean is tested with interrupts and halts; here, that those
/// of one kind of device are refused on another.
#[test]
fn handles_can_be_revoked_where_there_are_some() {
    let mut rig = Rig::new("handle-commands=on");
    assert_eq!(rig.control("revoke-handles"), "done");
    assert_eq!(rig.read32(r::INTCAUSE), r::CAUSE_HANDLES_REVOKED);
    let mut rig = ready();
    let refused = rig.dsa.control("revoke-handles", &mut rig.machine);
    let message = refused.expect_err("there are none");
    assert!(message.contains("no interrupt handles"), "{message}");
}

#[test]
fn help_names_every_command() {
    let mut rig = ready();
    let help = rig.control("help");
    for word in [
        "report",
        "clear-violations",
        "trace",
        "halt",
        "hang-command",
        "fail-command",
        "lose-interrupts",
        "spurious",
        "delay-completions",
        "dma-fault",
        "error-burst",
        "queue-full",
        "all-ones",
        "revoke-handles",
    ] {
        assert!(help.contains(word), "{word} is missing in '{help}'");
    }
    assert!(!help.contains('\n'));
}

/// One line, which names the word that is wrong.
#[test]
fn a_wrong_command_is_answered_with_one_line() {
    for (command, words) in [
        ("explode", "'explode' is not a command; commands: report"),
        ("", "'' is not a command"),
        ("halt", "'halt' is not a command"),
        ("halt software now", "'halt software now' is not a command"),
        ("halt soon", "'soon' is no reset type"),
        ("fail-command", "is not a command"),
        ("fail-command 256", "'256' is not a number"),
        ("fail-command 0x", "'0x' is not a number"),
        ("lose-interrupts many", "'many' is not a number"),
        ("lose-interrupts 4294967296", "'4294967296' is not a number"),
        ("spurious pin 0", "neither msix nor ims"),
        ("spurious msix 65536", "'65536' is not a number"),
        ("delay-completions 1", "is not a command"),
        ("delay-completions 1 -1", "'-1' is not a number"),
        ("dma-fault -1", "'-1' is not a number"),
        ("error-burst 1 256", "'256' is not a number"),
        ("queue-full 8 on", "there are only 8 queues"),
        ("queue-full 0 maybe", "neither on nor off"),
        ("all-ones maybe", "neither on nor off"),
        (
            "trace /nonexistent/trace",
            "cannot write /nonexistent/trace",
        ),
    ] {
        if cfg!(miri) && command.starts_with("trace") {
            continue;
        }
        let mut rig = ready();
        let answer = rig.dsa.control(command, &mut rig.machine);
        let message = answer.expect_err(command);
        assert!(message.contains(words), "{command}: {message}");
        assert!(!message.contains('\n'), "{command}: {message}");
    }
}
