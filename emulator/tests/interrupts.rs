//! Interrupt tables, permissions, handles: who is interrupted, and who is not.
//! [341204 §3.7 "Interrupts", §5.4 "Descriptor Checks"]
#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "in a test, a panic is the failure"
)]

mod support;

use support::registers as r;
use support::{
    Bytes, LIMITED_IMS, LIMITED_MSIX, QueueSetup, RCI, Rig, UNLIMITED_IMS, UNLIMITED_MSIX, message,
    no_op,
};

const RECORD: u64 = 0x30_0000;
const PASID: u32 = 0x12345;

/// A box with one dedicated queue that may have a PASID.
fn ready(options: &str, pasid: Option<u32>) -> Rig {
    let setup = QueueSetup {
        pasid,
        ..QueueSetup::default()
    };
    let mut rig = Rig::with_queue(options, setup);
    rig.machine.map(pasid, RECORD, 0x1000, true);
    rig
}

/// A no-op that asks for a record and for an interrupt through `handle`.
fn ping(handle: u16) -> Bytes {
    no_op(RECORD).interrupt(handle)
}

/// What IMS slot `slot` sends in these tests.
fn slot_message(slot: u64) -> (u64, u32) {
    (0xfee0_1000, 0x1_0000 + slot as u32)
}

/// Programs entry `index` of the table that `page` of a queue uses.
fn program(rig: &mut Rig, page: u64, index: u64, pasid: Option<u32>) {
    if page >= UNLIMITED_IMS {
        rig.program_ims(index, slot_message(index), pasid);
    } else {
        rig.write32(r::msixperm(index), r::permission(pasid));
    }
}

fn interrupt_control(page: u64, index: u64) -> u64 {
    let entry = if page >= UNLIMITED_IMS {
        r::ims(index)
    } else {
        r::msix(index)
    };
    entry + r::CONTROL
}

#[test]
fn the_portal_page_decides_the_table() {
    for (page, sent) in [
        (UNLIMITED_MSIX, message(2)),
        (LIMITED_MSIX, message(2)),
        (UNLIMITED_IMS, slot_message(2)),
        (LIMITED_IMS, slot_message(2)),
    ] {
        let mut rig = ready("", None);
        rig.program_ims(2, slot_message(2), None);
        rig.post(0, page, &ping(2));
        rig.run();
        assert_eq!(rig.machine.messages, [sent], "page {page}");
        assert_eq!(rig.read32(r::INTCAUSE), 0, "no administrative event");
        assert_eq!(rig.dsa.violations(), [] as [String; 0]);
    }
}

/// §5.4, Table 5-2 and what follows it. Each case: the portal page, the
/// handle, the PASID of the queue, that of the entry, whether it may be used.
#[test]
fn a_handle_is_good_only_in_its_table_and_with_its_pasid() {
    const MSIX: u64 = LIMITED_MSIX;
    const IMS: u64 = LIMITED_IMS;
    for (page, handle, queue, entry, allowed) in [
        (MSIX, 0, None, None, true),
        (MSIX, 8, None, None, true),
        (MSIX, 9, None, None, false),
        (MSIX, 0xffff, None, None, false),
        (MSIX, 1, Some(PASID), Some(PASID), true),
        (MSIX, 1, Some(PASID), Some(PASID + 1), false),
        (MSIX, 1, Some(PASID), None, false),
        (MSIX, 1, None, Some(PASID), false),
        (MSIX, 1, None, Some(0), false),
        (MSIX, 1, Some(0), None, false),
        (MSIX, 1, Some(0), Some(0), true),
        (IMS, 2047, None, None, true),
        (IMS, 2048, None, None, false),
        (IMS, 1, Some(PASID), Some(PASID), true),
        (IMS, 2047, Some(PASID), Some(PASID), true),
        (IMS, 2047, Some(PASID), Some(PASID ^ 1 << 19), false),
        (IMS, 2047, Some(PASID), None, false),
        (IMS, 4, None, Some(PASID), false),
    ] {
        let mut rig = ready("", queue);
        program(&mut rig, page, handle.into(), entry);
        rig.machine.messages.clear();
        rig.post(0, page, &ping(handle));
        rig.run();
        let case = format!("page {page} handle {handle} queue {queue:x?} entry {entry:x?}");
        let status = rig.machine.peek_byte(queue, RECORD);
        assert_eq!(status, if allowed { 0x01 } else { 0x19 }, "{case}");
        assert_eq!(rig.machine.messages.len(), usize::from(allowed), "{case}");
    }
}

/// §5.4: on a shared queue it is the PASID of the descriptor that counts.
#[test]
fn clients_of_a_shared_queue_reach_their_own_entries_only() {
    for (client, handle, allowed) in [(1, 1, true), (1, 2, false), (2, 1, false), (2, 2, true)] {
        let mut rig = Rig::with_queue("", QueueSetup::shared());
        rig.machine.map(Some(client), RECORD, 0x1000, true);
        for owner in [1, 2] {
            rig.program_ims(owner.into(), slot_message(owner.into()), Some(owner));
        }
        assert!(rig.enqueue(0, LIMITED_IMS, &ping(handle).trusted(client)));
        rig.run();
        let status = rig.machine.peek_byte(Some(client), RECORD);
        assert_eq!(status, if allowed { 0x01 } else { 0x19 });
        assert_eq!(rig.machine.messages.len(), usize::from(allowed));
    }
}

/// §5.4, §9.2.15: with a record address the error is in the record and in
/// SWERROR, without one in SWERROR alone; never is there an interrupt.
#[test]
fn an_invalid_handle_is_reported_in_all_its_places() {
    // From version 2.0 on, a bit says that the error information is valid.
    for (options, info_valid) in [("", 0), ("device-id=0x11fb;handle-commands=off", 1 << 7)] {
        for with_record in [true, false] {
            let mut rig = Rig::new(options);
            rig.allow_user_interrupts();
            let setup = QueueSetup {
                pasid: Some(PASID),
                privileged: true,
                ..QueueSetup::default()
            };
            rig.configure(5, setup);
            rig.enable(&[5]);
            rig.machine.map(Some(PASID), RECORD, 0x1000, true);
            rig.write32(r::GENCTRL, 1);
            let descriptor = ping(0x7ff);
            let descriptor = if with_record {
                descriptor
            } else {
                descriptor.without_record()
            };
            rig.post(5, LIMITED_IMS, &descriptor);
            rig.run();
            let status = rig.machine.peek_byte(Some(PASID), RECORD);
            assert_eq!(status, if with_record { 0x19 } else { 0 });
            let completed = rig.machine.peek(Some(PASID), RECORD + 4, 4);
            assert_eq!(completed, [0; 4], "Bytes Completed");
            // Valid, descriptor and WQ known, Priv, error, WQ 5, no-op, PASID.
            let first = 0x5_194d | info_valid | u64::from(PASID) << 40;
            assert_eq!(rig.software_error(), [first, 0x7ff << 32, 0, 0]);
            // That of the register is the only interrupt.
            assert_eq!(rig.machine.messages, [message(0)]);
            assert_eq!(rig.read32(r::INTCAUSE), r::CAUSE_SOFTWARE_ERROR);
        }
    }
}

/// §3.7: Ignore and Mask are looked at when the descriptor completes.
#[test]
fn ignore_discards_and_mask_keeps_pending() {
    for (page, sent) in [(LIMITED_IMS, slot_message(5)), (LIMITED_MSIX, message(5))] {
        let mut rig = ready("", Some(PASID));
        program(&mut rig, page, 5, Some(PASID));
        let control = interrupt_control(page, 5);
        let permission = if page == LIMITED_IMS {
            control
        } else {
            r::msixperm(5)
        };
        let free = rig.read32(control);
        let pending = |rig: &mut Rig| match page {
            LIMITED_IMS => rig.read32(control) & r::PENDING != 0,
            _ => rig.read64(r::MSIX_PBA) == 1 << 5,
        };
        rig.write32(control, free | r::MASK);
        for _ in 0..3 {
            rig.post(0, page, &ping(5));
            rig.run();
            assert_eq!(rig.machine.peek_byte(Some(PASID), RECORD), 1, "no error");
        }
        assert_eq!(rig.machine.messages, []);
        assert!(pending(&mut rig));
        // Setting Ignore does not cancel what is pending already.
        let allowed = rig.read32(permission);
        rig.write32(permission, allowed | r::IGNORE);
        assert!(pending(&mut rig));
        let ignoring = rig.read32(control) & !r::PENDING & !r::MASK;
        rig.write32(control, ignoring);
        assert_eq!(rig.machine.messages, [sent], "three came as one");
        assert!(!pending(&mut rig));
        // Ignored: neither sent nor pending, masked or not, and no error.
        for mask in [0, r::MASK] {
            rig.write32(control, ignoring | mask);
            rig.machine.poke(Some(PASID), RECORD, &[0]);
            rig.post(0, page, &ping(5));
            rig.run();
            assert_eq!(rig.machine.peek_byte(Some(PASID), RECORD), 1);
            assert!(!pending(&mut rig));
        }
        assert_eq!(rig.machine.messages, [sent]);
    }
}

/// A masked entry sends what it says when it is unmasked.
#[test]
fn a_retargeted_entry_sends_its_new_message() {
    let mut rig = ready("", None);
    rig.program_ims(9, slot_message(9), None);
    rig.write32(r::ims(9) + r::CONTROL, r::MASK);
    rig.write32(r::msix(3) + r::CONTROL, r::MASK);
    rig.post(0, LIMITED_IMS, &ping(9));
    rig.post(0, LIMITED_MSIX, &ping(3));
    rig.run();
    for entry in [r::ims(9), r::msix(3)] {
        rig.write64(entry, 0xfeef_e004);
        // Data and unmasking in one access.
        rig.write64(entry + 8, 0x77);
        assert_eq!(rig.machine.messages.pop(), Some((0xfeef_e004, 0x77)));
    }
    assert_eq!(rig.machine.messages, []);
}

#[test]
fn the_function_mask_holds_every_vector_back() {
    let mut rig = ready("", None);
    rig.config_write(r::MSIX_CONTROL, 2, 0xc000);
    rig.post(0, LIMITED_MSIX, &ping(1));
    rig.post(0, LIMITED_MSIX, &no_op(RECORD + 32).interrupt(3));
    rig.command(r::DRAIN_ALL | r::REQUEST_INTERRUPT);
    assert_eq!(rig.read32(r::MSIX_PBA), 0b1011);
    assert_eq!(rig.machine.messages, []);
    // IMS is no part of it.
    rig.program_ims(1, slot_message(1), None);
    rig.post(0, LIMITED_IMS, &ping(1));
    rig.run();
    assert_eq!(rig.machine.messages, [slot_message(1)]);
    rig.config_write(r::MSIX_CONTROL, 2, 0x8000);
    let rest: Vec<_> = rig.machine.messages.drain(1..).collect();
    assert_eq!(rest, [message(0), message(1), message(3)]);
    // With MSI-X off there is nothing to keep.
    rig.config_write(r::MSIX_CONTROL, 2, 0);
    rig.post(0, LIMITED_MSIX, &ping(1));
    rig.run();
    rig.config_write(r::MSIX_CONTROL, 2, 0x8000);
    assert_eq!(rig.machine.messages, [slot_message(1)]);
}

/// §3.7: "for interrupts other than descriptor completions, the PASID Enable,
/// PASID, and Ignore fields are not used".
#[test]
fn permissions_do_not_stop_administrative_interrupts() {
    let mut rig = ready("", None);
    rig.write32(r::msixperm(0), r::permission(Some(PASID)) | r::IGNORE);
    rig.command(r::DRAIN_ALL | r::REQUEST_INTERRUPT);
    assert_eq!(rig.machine.messages, [message(0)]);
}

/// Table 5-4: user-mode descriptors may ask for an interrupt only where GENCFG
/// says so; those of a queue without a PASID are not called user-mode.
#[test]
fn user_mode_interrupts_must_be_enabled() {
    let privileged = QueueSetup {
        privileged: true,
        ..QueueSetup::with_pasid(PASID)
    };
    for (enabled, setup, allowed) in [
        (false, QueueSetup::with_pasid(PASID), false),
        (false, privileged, true),
        (false, QueueSetup::default(), true),
        (true, QueueSetup::with_pasid(PASID), true),
        (true, privileged, true),
    ] {
        let mut rig = Rig::new("");
        if enabled {
            rig.allow_user_interrupts();
        }
        rig.configure(0, setup);
        rig.enable(&[0]);
        rig.machine.map(setup.pasid, RECORD, 0x1000, true);
        rig.write32(r::msixperm(1), r::permission(setup.pasid));
        rig.post(0, LIMITED_MSIX, &ping(1));
        rig.run();
        let status = rig.machine.peek_byte(setup.pasid, RECORD);
        assert_eq!(status, if allowed { 0x01 } else { 0x11 });
        if !allowed {
            let invalid = rig.machine.peek(setup.pasid, RECORD + 16, 3);
            assert_eq!(invalid, RCI.to_le_bytes()[..3]);
        }
        assert_eq!(rig.machine.messages.len(), usize::from(allowed));
    }
}

/// Asks for a handle for an entry and returns it.
fn request(rig: &mut Rig, entry: u32) -> u16 {
    let answer = rig.command(r::REQUEST_HANDLE | entry);
    assert_eq!(answer & 0xff, 0, "{answer:#x}");
    (answer >> 8) as u16
}

/// The status of a ping through `page` and `handle`.
fn try_handle(rig: &mut Rig, page: u64, handle: u16) -> u8 {
    rig.machine.poke(None, RECORD, &[0]);
    rig.post(0, page, &ping(handle));
    rig.run();
    rig.status(RECORD)
}

/// Table 5-2 with the command: a handle is good in the table that it was
/// requested for; until it is released, revoked, or the device is reset.
#[test]
fn handles_live_from_request_to_release_or_revocation() {
    type End = fn(&mut Rig, u32);
    let ends: [(&str, End); 3] = [
        ("released", |rig, entry| {
            assert_eq!(rig.command(r::RELEASE_HANDLE | entry), 0);
        }),
        ("revoked", |rig, _| {
            rig.control("revoke-handles");
            assert_eq!(rig.read32(r::INTCAUSE), r::CAUSE_HANDLES_REVOKED);
            assert_eq!(rig.machine.messages.pop(), Some(message(0)));
        }),
        ("reset", |rig, _| {
            assert_eq!(rig.command(r::RESET_DEVICE), 0);
            rig.configure(0, QueueSetup::default());
            rig.enable(&[0]);
            rig.program_ims(3, slot_message(3), None);
        }),
    ];
    for (name, end) in ends {
        for (entry, page, other_page) in [
            (3, LIMITED_MSIX, LIMITED_IMS),
            (r::OF_IMS | 3, LIMITED_IMS, LIMITED_MSIX),
        ] {
            let mut rig = ready("handle-commands=on", None);
            rig.program_ims(3, slot_message(3), None);
            assert_eq!(try_handle(&mut rig, page, 3), 0x19, "an index is no handle");
            let handle = request(&mut rig, entry);
            assert_eq!(try_handle(&mut rig, page, handle), 1);
            assert_eq!(rig.machine.messages.len(), 1);
            assert_eq!(try_handle(&mut rig, other_page, handle), 0x19);
            end(&mut rig, entry);
            assert_eq!(try_handle(&mut rig, page, handle), 0x19, "{name}");
            let again = request(&mut rig, entry);
            assert_eq!(try_handle(&mut rig, page, again), 1, "{name}");
            assert_eq!(rig.machine.messages.len(), 2, "{name}");
        }
    }
}

/// A device whose queue 0 tells when its occupancy is at or below `limit`,
/// through `entry` of WQCFG word 4. The queue is not enabled yet.
fn with_occupancy_interrupt(entry: u32, limit: u32) -> Rig {
    let mut rig = Rig::new("");
    rig.configure(0, QueueSetup::default());
    rig.program_ims(6, slot_message(6), None);
    let wqcfg = rig.wqcfg(0);
    rig.write32(wqcfg + 16, entry);
    rig.write32(wqcfg + 20, 1 << 16 | limit);
    rig.enable(&[]);
    rig
}

/// WQCFG 6 bit 16 of queue 0, Occupancy Interrupt Generated.
fn generated(rig: &mut Rig) -> bool {
    rig.read32(rig.wqcfg(0) + 24) >> 16 & 1 == 1
}

fn acknowledge(rig: &mut Rig) {
    rig.write32(rig.wqcfg(0) + 24, 1 << 16);
}

fn submit_no_ops(rig: &mut Rig, number: u32) {
    for _ in 0..number {
        rig.post(0, LIMITED_MSIX, &Bytes::new(0, 0));
    }
}

/// §9.2.24: an interrupt enabled while the WQ is Disabled is delivered when
/// that is enabled; there is no second one before the first is acknowledged.
#[test]
fn low_occupancy_interrupts_once_until_acknowledged() {
    let mut rig = with_occupancy_interrupt(1 << 16 | 6, 2);
    assert_eq!(rig.machine.messages, []);
    assert_eq!(rig.command(r::ENABLE_WQ), 0);
    assert_eq!(rig.machine.messages, [slot_message(6)]);
    assert!(generated(&mut rig));
    submit_no_ops(&mut rig, 8);
    rig.run();
    assert_eq!(rig.machine.messages.len(), 1, "not acknowledged");
    submit_no_ops(&mut rig, 8);
    acknowledge(&mut rig);
    assert!(!generated(&mut rig));
    assert_eq!(rig.machine.messages.len(), 1, "occupancy is high");
    rig.run_until(10, |rig| rig.machine.messages.len() == 2);
    let occupancy = rig.read32(rig.wqcfg(0) + 24) & 0xffff;
    assert_eq!(occupancy, 2);
    rig.run();
    assert_eq!(rig.machine.messages.len(), 2);
}

/// §9.2.24: "If this field is set to 1 with Limit >= the current WQ occupancy,
/// the interrupt is generated immediately."
#[test]
fn an_occupancy_interrupt_can_be_due_at_once() {
    let mut rig = with_occupancy_interrupt(1 << 16 | 6, 0);
    let limit = rig.wqcfg(0) + 20;
    rig.write32(limit, 0);
    assert_eq!(rig.command(r::ENABLE_WQ), 0);
    assert_eq!(rig.machine.messages, []);
    rig.write32(limit, 1 << 16);
    rig.run();
    assert_eq!(rig.machine.messages, [slot_message(6)]);
}

/// §9.2.11: INTCAUSE is there for entry 0 of the MSI-X table only. §9.2.22,
/// §9.2.28: PASID and Ignore are for descriptor completions only, Mask is not.
#[test]
fn occupancy_interrupts_use_the_entry_that_they_name() {
    for (entry, sent, cause) in [
        (0, message(0), r::CAUSE_OCCUPANCY),
        (4, message(4), 0),
        (1 << 16 | 6, slot_message(6), 0),
    ] {
        let mut rig = with_occupancy_interrupt(entry, 0);
        let forbidding = r::permission(Some(PASID)) | r::IGNORE;
        for vector in [0, 4] {
            rig.write32(r::msixperm(vector), forbidding);
        }
        rig.write32(r::ims(6) + r::CONTROL, forbidding);
        assert_eq!(rig.command(r::ENABLE_WQ), 0);
        assert_eq!(rig.machine.messages, [sent], "entry {entry:#x}");
        assert_eq!(rig.read32(r::INTCAUSE), cause, "entry {entry:#x}");
    }
    let mut rig = with_occupancy_interrupt(1 << 16 | 6, 0);
    let control = r::ims(6) + r::CONTROL;
    rig.write32(control, r::MASK);
    assert_eq!(rig.command(r::ENABLE_WQ), 0);
    assert_eq!(rig.machine.messages, []);
    assert_eq!(rig.read32(control), r::MASK | r::PENDING);
}
