//! What Linux's driver reads and writes, step by step: version 6.1 on a device that it
//! cannot configure. It compares the whole of CMDSTATUS, waits for interrupts without a
//! time-out, and finds its configuration once.

use vdsa::{Answer, PasidAction, Request, SubmissionKind, SubmissionRequest, SubmitResult};

use crate::rig::{
    ACTIVE, CMD, CMDSTATUS, Effect, GENCTRL, GENSTS, GRPCFG, INTCAUSE, MSIX, MSIXPERM, Rig,
    SWERROR, WQCFG, dedicated, message, pasid, queue, shape, two_pasids,
};

/// What the driver keeps of a queue.
#[derive(Debug, PartialEq, Eq)]
struct FoundQueue {
    size: u32,
    threshold: u32,
    priority: u32,
    max_transfer: u64,
    max_batch: u32,
    is_in_group: bool,
}

/// The accesses of a probe, and what it finds.
fn probe(rig: &mut Rig) -> Vec<FoundQueue> {
    // The PCI core sizes the BARs, then the driver turns memory space and bus mastering
    // on.
    rig.write_config(0x04, 2, 0x0000);
    for bar in [0x10, 0x14, 0x18, 0x1c] {
        let old = rig.read_config(bar, 4);
        rig.write_config(bar, 4, u32::MAX);
        assert_ne!(rig.read_config(bar, 4), 0);
        rig.write_config(bar, 4, old);
    }
    rig.write_config(0x04, 2, 0x0002);
    rig.write_config(0x04, 2, 0x0006);
    assert_eq!(rig.dsa.bar(0), Some(crate::rig::BAR0));

    assert_eq!(rig.read32(0x00), 0x100);
    assert_ne!(rig.read32(GENSTS) & 3, 3, "a halted device is not probed");
    // Reset Device, polled.
    rig.write(CMD, 4, 0x0050_0000);
    for _ in 0..2 {
        if rig.read32(CMDSTATUS) & ACTIVE != 0 {
            rig.answer(Answer::Done);
        }
    }
    assert_eq!(rig.read32(CMDSTATUS) & ACTIVE, 0);

    let general = rig.read(0x10, 8);
    assert_eq!(general & 1 << 31, 0, "not configurable");
    assert_ne!(general & 1 << 4, 0, "has CMDCAP");
    assert_ne!(rig.read32(0xb0) & 1 << 13, 0, "handles are requested");
    let groups = rig.read(0x30, 8) & 0xff;
    let engines = rig.read(0x38, 8) & 0xff;
    assert_eq!((groups, engines), (1, 1));
    let queues = rig.read(0x20, 8);
    let count = u32::try_from(queues >> 16 & 0xff).unwrap();
    assert_eq!(queues >> 24 & 0xf, 0, "32 bytes of WQCFG");
    let operations = [0x40, 0x48, 0x50, 0x58].map(|offset| rig.read(offset, 8));
    assert_ne!(operations[0] & 1 << 3, 0, "memory moves");
    let offsets = (rig.read(0x60, 8), rig.read(0x68, 8));
    assert_eq!(u32::try_from(offsets.0 & 0xffff).unwrap() * 0x100, GRPCFG);
    let wqcfg = u32::try_from(offsets.0 >> 16 & 0xffff).unwrap() * 0x100;
    assert_eq!(wqcfg, WQCFG);
    let permissions = u32::try_from(offsets.0 >> 32 & 0xffff).unwrap() * 0x100;
    assert_eq!(permissions, MSIXPERM);
    assert_eq!(offsets.1 & 0xffff, 0, "no performance monitor");
    let found = load_configuration(rig, count);

    // MSI-X: all vectors of the table are allocated, masked at first.
    let vectors = rig.read_config(0x42, 2) & 0x7ff;
    assert_eq!(vectors, count);
    rig.write_config(0x42, 2, 0xc000 | vectors);
    for vector in 0..=vectors {
        let entry = MSIX + 16 * vector;
        rig.write(entry, 4, 0xfee0_0000);
        rig.write(entry + 4, 4, 0);
        rig.write(entry + 8, 4, u64::from(0x40 + vector));
        let control = rig.read32(entry + 12);
        rig.write(entry + 12, 4, u64::from(control | 1));
    }
    rig.write_config(0x42, 2, 0x8000 | vectors);
    // The handler of vector 0.
    rig.write(MSIX + 12, 4, 0);
    let control = rig.read32(GENCTRL);
    rig.write(GENCTRL, 4, u64::from(control | 3));
    found
}

/// What the driver takes over from a device that it cannot configure.
fn load_configuration(rig: &Rig, count: u32) -> Vec<FoundQueue> {
    let _read_buffers = rig.read32(0x80) & 0xff;
    // One word more than there are queues for.
    let members = [rig.read(GRPCFG, 8), rig.read(GRPCFG + 8, 8)];
    assert_eq!(members[1], 0);
    assert_eq!(rig.read(GRPCFG + 0x20, 8), 1, "the engine");
    let _flags = rig.read(GRPCFG + 0x28, 8);
    let queue = |index: u32| {
        // A copy of 32 bytes, in whatever width the processor likes.
        let base = WQCFG + 32 * index;
        let bytes: Vec<u8> = (0..32)
            .map(|byte| u8::try_from(rig.read(base + byte, 1)).unwrap())
            .collect();
        let words: Vec<u32> = bytes
            .chunks(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        let whole: Vec<u32> = (0..8).map(|word| rig.read32(base + 4 * word)).collect();
        assert_eq!(words, whole);
        // Anything else: "RO device config setup failed".
        assert_eq!(words[2] & 1, 1, "dedicated");
        assert_eq!(words[2] & 1 << 28, 0, "without PASID");
        FoundQueue {
            size: words[0] & 0xffff,
            threshold: words[1] & 0xffff,
            priority: words[2] >> 4 & 0xf,
            max_transfer: 1 << (words[3] & 0x1f),
            max_batch: 1 << (words[3] >> 5 & 0xf),
            is_in_group: members[0] >> index & 1 != 0,
        }
    };
    (0..count).map(queue).collect()
}

/// A command by interrupt, as the driver gives it: refused without being written while
/// the device is halted; the interrupt is waited for without end.
fn command(rig: &mut Rig, command: u32, answers: &[Answer]) -> u32 {
    assert_ne!(rig.read32(GENSTS) & 3, 3);
    rig.write(CMD, 4, u64::from(0x8000_0000 | command));
    for answer in answers {
        assert_eq!(rig.read32(INTCAUSE), 0, "not before the answer");
        rig.answer(*answer);
    }
    let effects = rig.host.take();
    assert!(effects.contains(&Effect::Inject(message(0))), "{effects:?}");
    take_cause(rig, 2);
    rig.read32(CMDSTATUS)
}

/// The misc interrupt thread: reads the cause, clears it, and loops until it is 0.
fn take_cause(rig: &mut Rig, expected: u32) {
    let cause = rig.read32(INTCAUSE);
    assert_eq!(cause, expected);
    rig.write(INTCAUSE, 4, cause.into());
    assert_eq!(rig.read32(INTCAUSE), 0);
}

/// A command that is polled.
fn poll(rig: &mut Rig, command: u32, answer: Answer) -> u32 {
    rig.write(CMD, 4, command.into());
    rig.answer(answer);
    rig.host.take();
    assert_eq!(rig.read32(INTCAUSE), 0, "nobody asked");
    rig.read32(CMDSTATUS)
}

fn enable_device(rig: &mut Rig) {
    assert_eq!(rig.read32(GENSTS), 0);
    assert_eq!(command(rig, 0x0010_0000, &[]) & !0x10, 0);
}

/// A kernel queue: enabled, its interrupt, its handle.
fn enable_queue(rig: &mut Rig, index: u32, handle: u16) -> u32 {
    let status = command(rig, 0x0060_0000 | index, &[Answer::Done]);
    assert_eq!(status, 0);
    // request_irq unmasks the vector.
    rig.write(MSIX + 16 * (index + 1) + 12, 4, 0);
    let status = command(rig, 0x00d0_0001 + index, &[Answer::Handle(handle)]);
    assert_eq!(status & 0xff, 0);
    status >> 8 & 0xffff
}

fn disable_queue(rig: &mut Rig, index: u32, handle: u32) {
    let operand = 1 << index;
    command(rig, 0x0080_0000 | operand, &[Answer::Done]);
    // free_irq masks the vector.
    rig.write(MSIX + 16 * (index + 1) + 12, 4, 1);
    assert_eq!(poll(rig, 0x00e0_0000 | handle, Answer::Done), 0);
    rig.write(MSIXPERM + 8 * (index + 1), 4, 0);
    command(rig, 0x00a0_0000 | operand, &[Answer::Done]);
}

#[test]
fn a_probe_finds_dedicated_queues_in_a_group() {
    let mut rig = Rig::two_queues();
    let queue = || FoundQueue {
        size: 16,
        threshold: 16,
        priority: 1,
        max_transfer: 1 << 31,
        max_batch: 1024,
        is_in_group: true,
    };
    assert_eq!(probe(&mut rig), [queue(), queue()]);
    assert_eq!(rig.host.take(), [], "nothing physical yet");
    assert_eq!(rig.dsa.dropped_accesses(), vdsa::DroppedAccesses::default());
}

#[test]
fn a_kernel_queue_lives_and_dies_and_lives_again() {
    let mut rig = Rig::two_queues();
    probe(&mut rig);
    enable_device(&mut rig);
    assert_eq!(rig.read32(GENSTS), 1);
    let handle = enable_queue(&mut rig, 0, 0x23);
    assert_eq!(handle, 0x23);

    // A copy, privileged, PASID of no effect; the slot of the portal's page moves on.
    for slot in 0..3 {
        let words = [
            0x0300_001c_8000_0000,
            0x2000,
            0x1_0000,
            0x2_0000,
            u64::from(handle) << 32 | 4096,
            0,
            0,
            0,
        ];
        let request = SubmissionRequest {
            offset: 0x1000 + 64 * slot,
            kind: SubmissionKind::Movdir64b,
            pasid: None,
            words,
            now_ns: 0,
        };
        let result = rig.dsa.submit(&mut rig.host, &request);
        assert_eq!(result, SubmitResult::Accepted);
        let mut sent = words;
        sent[0] = 0x0300_001c_0000_0101;
        assert_eq!(rig.host.take(), [Effect::Submit(queue(0), sent)]);
    }

    disable_queue(&mut rig, 0, handle);
    assert_eq!(rig.read32(GENSTS), 1);
    assert_eq!(command(&mut rig, 0x0020_0000, &[]), 0);
    assert_eq!(rig.read32(GENSTS), 0);

    // The driver is bound again.
    let found = probe(&mut rig);
    assert!(
        found
            .iter()
            .all(|queue| queue.size == 16 && queue.max_batch == 1024)
    );
    enable_device(&mut rig);
    assert_eq!(enable_queue(&mut rig, 1, 0x24), 0x24);
    assert_eq!(rig.dsa.dropped_accesses(), vdsa::DroppedAccesses::default());
}

#[test]
fn the_device_can_be_disabled_with_its_queues_enabled() {
    let mut rig = Rig::two_queues();
    probe(&mut rig);
    enable_device(&mut rig);
    enable_queue(&mut rig, 0, 1);
    enable_queue(&mut rig, 1, 2);
    assert_eq!(command(&mut rig, 0x0020_0000, &[Answer::Done]), 0);
    assert_eq!(rig.read32(GENSTS), 0);
    // And enabled again: the handles are still the vectors'.
    enable_device(&mut rig);
    assert_eq!(command(&mut rig, 0x0060_0000, &[Answer::Done]), 0);
    assert_eq!(command(&mut rig, 0x00d0_0001, &[]), 1 << 8);
}

/// open() of a user queue of a process: Disable WQ, WQCFG dword 2, Enable WQ; not
/// guarded by the device's being configurable.
#[test]
fn a_user_queue_gets_the_pasid_of_each_process() {
    let mut rig = Rig::new(&shape(&[dedicated(0x101)], &two_pasids()));
    probe(&mut rig);
    enable_device(&mut rig);
    assert_eq!(command(&mut rig, 0x0060_0000, &[Answer::Done]), 0);
    for (guest, host) in [(5, 0x205), (6, 0x206)] {
        assert_eq!(command(&mut rig, 0x0070_0001, &[Answer::Done]), 0);
        let mode = rig.read32(WQCFG + 8);
        let mode = mode & !0x0fff_ff00 | guest << 8 | 1 << 28;
        rig.write(WQCFG + 8, 4, mode.into());
        rig.write(CMD, 4, 0x8060_0000);
        let request = Request::EnableQueue {
            queue: queue(0),
            pasid: pasid(host),
        };
        assert_eq!(rig.requests(), [request]);
        rig.answer(Answer::Done);
        take_cause(&mut rig, 2);
        assert_eq!(rig.read32(CMDSTATUS), 0);
        // Its interrupts: MSIXPERM is written before the vector is requested.
        rig.write(MSIXPERM + 8, 4, u64::from(guest << 12 | 8));
        // close() drains the PASID.
        rig.write(CMD, 4, u64::from(0x00b0_0000 | guest));
        let drain = Request::Pasid {
            pasid: pasid(host),
            action: PasidAction::Drain,
        };
        assert_eq!(rig.requests(), [drain]);
        rig.answer(Answer::Done);
    }
}

#[test]
fn errors_and_halts_reach_the_misc_interrupt() {
    let mut rig = Rig::two_queues();
    probe(&mut rig);
    enable_device(&mut rig);
    enable_queue(&mut rig, 0, 7);
    // A no-op that wants a record but has no address for one.
    let request = SubmissionRequest {
        offset: 0x1000,
        kind: SubmissionKind::Movdir64b,
        pasid: None,
        words: [8 << 32, 0, 0, 0, 0, 0, 0, 0],
        now_ns: 0,
    };
    rig.dsa.submit(&mut rig.host, &request);
    assert_eq!(rig.host.take(), [Effect::Inject(message(0))]);
    take_cause(&mut rig, 1);
    let error: Vec<u64> = (0..4).map(|word| rig.read(SWERROR + 8 * word, 8)).collect();
    assert_eq!(error, [0x110d, 8 << 32, 0, 0]);
    rig.write(SWERROR, 8, error[0] & 3);
    assert_eq!(rig.read(SWERROR, 8) & 3, 0);

    let reset = hwspec::dsa::ResetType::ResetDevice;
    rig.dsa.report_halt(&mut rig.host, reset);
    take_cause(&mut rig, 0x10);
    assert_eq!(rig.read32(GENSTS), 3);
    rig.answer(Answer::Done);
    // Re-initialisation: reset by polling, then everything once more.
    assert_eq!(poll(&mut rig, 0x0050_0000, Answer::Done), 0);
    rig.write(GENCTRL, 4, 3);
    enable_device(&mut rig);
    assert_eq!(enable_queue(&mut rig, 0, 8), 8);
}
