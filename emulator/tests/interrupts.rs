//! Interrupt tables, permissions, handles: who is interrupted, and who is not.

mod support;

use support::{Bytes, CRAV, QueueSetup, RCI, RCR, Rig};

const RECORD: u64 = 0x30_0000;
const MSIXPERM: u64 = 0x800;
const IMS: u64 = 0x1_0000;
const PASID: u32 = 0x12345;
const LIMITED_MSIX: u64 = 1;
const LIMITED_IMS: u64 = 3;

/// A box with one dedicated queue that may have a PASID.
fn ready(options: &str, pasid: Option<u32>) -> Rig {
    let mut rig = Rig::with_queue(
        options,
        QueueSetup {
            pasid,
            ..QueueSetup::default()
        },
    );
    rig.machine.map(pasid, RECORD, 0x1000, true);
    rig.machine.messages.clear();
    rig
}

/// A no-op that asks for a record and for an interrupt through `handle`.
fn ping(handle: u16) -> Bytes {
    Bytes::new(0, CRAV | RCR | RCI)
        .record(RECORD)
        .handle(handle)
}

fn status(rig: &Rig, pasid: Option<u32>) -> u8 {
    rig.machine.peek_byte(pasid, RECORD)
}

/// Writes IMS entry `slot` in the order that facts 9.4 wants.
fn program_ims(rig: &mut Rig, slot: u64, data: u32, pasid: Option<u32>, masked: bool) {
    let entry = IMS + slot * 16;
    let permission = pasid.map_or(0, |pasid| pasid << 12 | 1 << 3);
    rig.write32(entry + 12, permission | 1);
    rig.write32(entry, 0xfee0_1000);
    rig.write32(entry + 4, 0);
    rig.write32(entry + 8, data);
    rig.write32(entry + 12, permission | u32::from(masked));
}

#[test]
fn the_portal_page_decides_the_table() {
    let mut rig = ready("", None);
    program_ims(&mut rig, 2, 0x77, None, false);
    rig.post(0, LIMITED_MSIX, &ping(2));
    rig.run();
    assert_eq!(rig.machine.messages, [(0xfee0_0000, 0x102)]);
    rig.post(0, LIMITED_IMS, &ping(2));
    rig.run();
    assert_eq!(rig.machine.messages.last(), Some(&(0xfee0_1000, 0x77)));
    // Unlimited pages of a dedicated queue behave alike.
    rig.post(0, 0, &ping(2));
    rig.post(0, 2, &ping(2).record(RECORD + 32));
    rig.run();
    assert_eq!(rig.machine.messages.len(), 4);
    assert_eq!(rig.dsa.violations(), [] as [String; 0]);
}

/// [341204 §5.4 Table 5-2 and what follows] Each case: the portal page, the
/// handle, the PASID of the entry, and whether the descriptor may use it.
#[test]
fn a_handle_is_good_only_in_its_table_and_with_its_pasid() {
    let cases = [
        (LIMITED_MSIX, 1, Some(PASID), true),
        (LIMITED_MSIX, 1, Some(PASID + 1), false),
        (LIMITED_MSIX, 1, None, false),
        (LIMITED_MSIX, 9, Some(PASID), false),
        (LIMITED_IMS, 1, Some(PASID), true),
        (LIMITED_IMS, 2047, Some(PASID), true),
        (LIMITED_IMS, 2047, Some(PASID ^ 1 << 19), false),
        (LIMITED_IMS, 2047, None, false),
        (LIMITED_IMS, 2048, Some(PASID), false),
    ];
    for (page, handle, entry_pasid, allowed) in cases {
        let mut rig = ready("", Some(PASID));
        if page == LIMITED_IMS {
            program_ims(&mut rig, handle.into(), 0x55, entry_pasid, false);
        } else {
            let word = entry_pasid.map_or(0, |pasid| pasid << 12 | 1 << 3);
            rig.write32(MSIXPERM + 8 * u64::from(handle), word);
        }
        rig.post(0, page, &ping(handle));
        rig.run();
        let case = format!("page {page} handle {handle} entry {entry_pasid:x?}");
        assert_eq!(
            status(&rig, Some(PASID)),
            if allowed { 1 } else { 0x19 },
            "{case}"
        );
        assert_eq!(rig.machine.messages.len(), usize::from(allowed), "{case}");
    }
}

#[test]
fn a_queue_without_pasid_may_not_use_an_entry_with_one() {
    let mut rig = ready("", None);
    program_ims(&mut rig, 4, 0x55, Some(PASID), false);
    rig.post(0, LIMITED_IMS, &ping(4));
    rig.run();
    assert_eq!(status(&rig, None), 0x19);
    assert_eq!(rig.machine.messages, []);
}

/// [341204 §5.4, §9.2.15] With a record address the error is in the record and
/// in SWERROR, without one in SWERROR alone; never is there an interrupt.
#[test]
fn an_invalid_handle_is_reported_in_all_its_places() {
    for (flags, expected_status) in [(CRAV | RCR | RCI, 0x19), (RCI, 0)] {
        let mut rig = ready("", Some(PASID));
        let mut descriptor = Bytes::new(0, flags).handle(0x7ff);
        if flags & CRAV != 0 {
            descriptor = descriptor.record(RECORD);
        }
        rig.post(0, LIMITED_IMS, &descriptor);
        rig.run();
        assert_eq!(status(&rig, Some(PASID)), expected_status);
        assert_eq!(rig.machine.messages, []);
        // Valid, descriptor valid, WQ valid; error 0x19; operation 0; PASID.
        let first = 0x1 | 0x4 | 0x8 | 0x19 << 8 | u64::from(PASID) << 40;
        assert_eq!(rig.software_error(), [first, 0x7ff << 32, 0, 0]);
    }
}

/// [341204 §3.7] Ignore and Mask are looked at when the descriptor completes.
#[test]
fn ignore_discards_and_mask_keeps_pending() {
    let mut rig = ready("", Some(PASID));
    let control = IMS + 5 * 16 + 12;
    program_ims(&mut rig, 5, 0x66, Some(PASID), true);
    rig.post(0, LIMITED_IMS, &ping(5));
    rig.run();
    assert_eq!(status(&rig, Some(PASID)), 1, "a mask is no error");
    assert_eq!(rig.machine.messages, []);
    assert_eq!(rig.read32(control), PASID << 12 | 1 << 3 | 0b11, "pending");
    // Setting Ignore does not cancel what is pending already.
    rig.write32(control, PASID << 12 | 1 << 3 | 1 << 2);
    assert_eq!(rig.machine.messages, [(0xfee0_1000, 0x66)]);
    assert_eq!(rig.read32(control), PASID << 12 | 1 << 3 | 1 << 2);
    // Ignored: neither sent nor pending, and no error.
    rig.post(0, LIMITED_IMS, &ping(5));
    rig.run();
    assert_eq!(rig.machine.messages.len(), 1);
    assert_eq!(rig.read32(control), PASID << 12 | 1 << 3 | 1 << 2);

    // The same for MSI-X, whose Ignore stands in MSIXPERM and whose pending
    // bit in the PBA.
    rig.write32(MSIXPERM + 8, PASID << 12 | 1 << 3);
    rig.write32(0x2000 + 16 + 12, 1);
    rig.post(0, LIMITED_MSIX, &ping(1));
    rig.run();
    assert_eq!(rig.read32(0x3000), 0b10);
    rig.write32(0x2000 + 16 + 12, 0);
    assert_eq!(rig.read32(0x3000), 0);
    assert_eq!(rig.machine.messages.last(), Some(&(0xfee0_0000, 0x101)));
    rig.write32(MSIXPERM + 8, PASID << 12 | 1 << 3 | 1 << 2);
    rig.post(0, LIMITED_MSIX, &ping(1));
    rig.run();
    assert_eq!(rig.machine.messages.len(), 2);
}

#[test]
fn the_function_mask_holds_every_vector_back() {
    let mut rig = ready("", None);
    rig.config_write(0x82, 2, 0xc000);
    rig.post(0, LIMITED_MSIX, &ping(1));
    rig.post(0, LIMITED_MSIX, &ping(3).record(RECORD + 32));
    rig.run();
    assert_eq!(rig.read32(0x3000), 0b1010);
    assert_eq!(rig.machine.messages, []);
    rig.config_write(0x82, 2, 0x8000);
    assert_eq!(
        rig.machine.messages,
        [(0xfee0_0000, 0x101), (0xfee0_0000, 0x103)]
    );
    // With MSI-X off there is nothing to keep.
    rig.config_write(0x82, 2, 0);
    rig.post(0, LIMITED_MSIX, &ping(1));
    rig.run();
    rig.config_write(0x82, 2, 0x8000);
    assert_eq!(rig.machine.messages.len(), 2);
}

#[test]
fn an_ims_address_outside_the_interrupt_range_is_discarded() {
    let mut rig = ready("", None);
    let entry = IMS + 7 * 16;
    assert_eq!(rig.read64(entry), 0xfee0_0000, "reset value");
    for (offset, value) in [(0, 0), (0, 0xfed0_0000), (4, 1)] {
        rig.write32(entry + offset, value);
        assert_eq!(rig.read64(entry), 0xfee0_0000);
    }
    rig.write64(entry, 0xfeef_fffc);
    assert_eq!(rig.read64(entry), 0xfeef_fffc);
    assert_eq!(rig.dsa.violations().len(), 3, "{:?}", rig.dsa.violations());
}

/// [341204 §3.7, §9.2.12] With the command, handles are not indexes, and only
/// what was requested and not released or revoked is good.
#[test]
fn handles_live_from_request_to_release_or_revocation() {
    let request = |rig: &mut Rig, index: u32| {
        let answer = rig.command(13 << 20 | 1 << 16 | index);
        assert_eq!(answer & 0xff, 0, "{answer:#x}");
        u16::try_from(answer >> 8 & 0xffff).unwrap()
    };
    let mut rig = ready("handle-commands=on", Some(PASID));
    program_ims(&mut rig, 3, 0x44, Some(PASID), false);
    let try_handle = |rig: &mut Rig, handle: u16, expected: u8| {
        rig.machine.poke(Some(PASID), RECORD, &[0]);
        rig.post(0, LIMITED_IMS, &ping(handle));
        rig.run();
        assert_eq!(status(rig, Some(PASID)), expected, "handle {handle:#x}");
    };
    try_handle(&mut rig, 3, 0x19);
    let handle = request(&mut rig, 3);
    try_handle(&mut rig, handle, 1);
    assert_eq!(rig.command(14 << 20 | 1 << 16 | u32::from(handle)), 0);
    try_handle(&mut rig, handle, 0x19);

    let handle = request(&mut rig, 3);
    rig.control("revoke-handles");
    assert_eq!(rig.read32(0x98), 1 << 31, "INTCAUSE");
    assert_eq!(rig.machine.messages.last(), Some(&(0xfee0_0000, 0x100)));
    try_handle(&mut rig, handle, 0x19);
    let again = request(&mut rig, 3);
    assert_ne!(again, handle);
    try_handle(&mut rig, again, 1);
}

/// [341204 §3.7, facts 2.13] The occupancy interrupt comes once the queue has
/// drained to its limit.
#[test]
fn falling_occupancy_interrupts_once() {
    let mut rig = Rig::new("");
    rig.configure(0, QueueSetup::default());
    program_ims(&mut rig, 6, 0x33, None, false);
    rig.write32(0x4010, 1 << 16 | 6);
    rig.write32(0x4014, 1 << 16 | 2);
    rig.enable(&[0]);
    for _ in 0..8 {
        rig.post(0, LIMITED_IMS, &Bytes::new(0, 0));
    }
    // One is at the engine, seven wait.
    assert_eq!(rig.read32(0x4018) & 0xffff, 7);
    rig.run();
    assert_eq!(rig.machine.messages, [(0xfee0_1000, 0x33)]);
    assert_ne!(rig.read32(0x4018) & 1 << 16, 0, "generated");
    assert_eq!(rig.read32(0x98) & 1 << 2, 1 << 2, "INTCAUSE");
}
