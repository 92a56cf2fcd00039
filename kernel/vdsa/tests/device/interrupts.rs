//! MSI-X, its permissions, and the slots behind it.

use vdsa::{Answer, Message, MovedHandle};

use crate::rig::{
    CMD, Effect, GENCTRL, INTCAUSE, MSIX, MSIXPERM, PBA, Rig, SWERROR, WQCFG, message,
};

const REQUEST_HANDLE: u32 = 13 << 20;

/// Running, with handle 0x21 for vector 1.
fn with_handle() -> Rig {
    let mut rig = Rig::two_queues().running();
    rig.command(REQUEST_HANDLE | 1, &[Answer::Handle(0x21)]);
    rig.host.take();
    rig
}

#[test]
fn a_new_slot_is_told_what_the_guest_wrote_before() {
    let mut rig = Rig::two_queues().running();
    // Ignore, PASID 5.
    rig.write(MSIXPERM + 8, 4, 0x0000_500c);
    assert_eq!(rig.host.take(), [], "there is no slot to be told");
    rig.write(CMD, 4, (REQUEST_HANDLE | 1).into());
    rig.host.take();
    rig.answer(Answer::Handle(0x21));
    // The request named the PASID.
    assert_eq!(
        rig.host.take(),
        [
            Effect::Ignored(1, true),
            Effect::Message(1, Some(message(1))),
            Effect::Masked(1, false)
        ]
    );
}

#[test]
fn permissions_that_change_while_the_handle_is_requested_count() {
    let mut rig = Rig::two_queues().running();
    rig.write(CMD, 4, (REQUEST_HANDLE | 1).into());
    rig.write(MSIXPERM + 8, 4, 0x0000_6008);
    rig.host.take();
    rig.answer(Answer::Handle(0x21));
    assert_eq!(
        rig.host.take(),
        [
            Effect::SlotPasid(1, 0x206),
            Effect::Message(1, Some(message(1))),
            Effect::Masked(1, false)
        ]
    );
}

#[test]
fn masks_are_passed_on() {
    let mut rig = with_handle();
    let control = MSIX + 16 + 12;
    rig.write(control, 4, 1);
    assert_eq!(rig.host.take(), [Effect::Masked(1, true)]);
    rig.write(control, 4, 1);
    assert_eq!(rig.host.take(), [], "it knows");
    rig.write(control, 4, 0);
    assert_eq!(rig.host.take(), [Effect::Masked(1, false)]);
    // Function Mask, then MSI-X Enable.
    rig.write_config(0x42, 2, 0xc000);
    assert_eq!(rig.host.take(), [Effect::Masked(1, true)]);
    rig.write_config(0x42, 2, 0x8000);
    assert_eq!(rig.host.take(), [Effect::Masked(1, false)]);
    rig.write_config(0x43, 1, 0x00);
    assert_eq!(rig.host.take(), [Effect::Masked(1, true)]);
    rig.write(control, 4, 0);
    assert_eq!(rig.host.take(), []);
    rig.write_config(0x40, 4, 0x8000_0000);
    assert_eq!(rig.host.take(), [Effect::Masked(1, false)]);
}

#[test]
fn a_message_is_passed_on_when_it_is_complete() {
    let mut rig = with_handle();
    let entry = MSIX + 16;
    rig.write(entry + 12, 4, 1);
    rig.host.take();
    rig.write(entry, 4, 0xfee1_2000);
    rig.write(entry + 4, 4, 0);
    rig.write(entry + 8, 4, 0x55);
    assert_eq!(rig.host.take(), []);
    rig.write(entry + 12, 4, 0);
    let new = Message {
        address: 0xfee1_2000,
        data: 0x55,
    };
    let told = [Effect::Message(1, Some(new)), Effect::Masked(1, false)];
    assert_eq!(rig.host.take(), told);
    // Unmasked, the slot is masked while its message changes.
    rig.write(entry + 8, 4, 0x56);
    let new = Message { data: 0x56, ..new };
    assert_eq!(
        rig.host.take(),
        [
            Effect::Masked(1, true),
            Effect::Message(1, Some(new)),
            Effect::Masked(1, false)
        ]
    );
}

#[test]
fn a_message_elsewhere_is_none() {
    for (low, high) in [
        (0x1000, 0),
        (0xfed0_0000, 0),
        (0xfee0_0000, 1),
        (0, 0xfee0_0000),
    ] {
        let mut rig = with_handle();
        rig.write(MSIX + 16, 8, low | high << 32);
        assert_eq!(rig.read(MSIX + 16, 8), low | high << 32);
        let effects = rig.host.take();
        assert!(effects.contains(&Effect::Message(1, None)), "{effects:?}");
        // Vector 0 likewise.
        rig.write(MSIX, 8, low | high << 32);
        rig.command(0x8030_0000, &[Answer::Done]);
        assert!(
            !rig.host
                .take()
                .iter()
                .any(|effect| matches!(effect, Effect::Inject(_)))
        );
        assert_eq!(rig.dsa.dropped_accesses().messages, 1);
        assert_eq!(rig.read32(PBA), 0);
    }
}

#[test]
fn a_masked_vector_0_waits() {
    let mut rig = Rig::two_queues().set_up();
    rig.write(MSIX + 12, 4, 1);
    // Enable Device, with interrupt.
    rig.command(0x8010_0000, &[]);
    assert_eq!(rig.host.take(), []);
    assert_eq!((rig.read32(PBA), rig.read32(INTCAUSE)), (1, 2));
    // Function Mask holds it too.
    rig.write_config(0x42, 2, 0xc000);
    rig.write(MSIX + 12, 4, 0);
    assert_eq!(rig.host.take(), []);
    rig.write_config(0x42, 2, 0x8000);
    assert_eq!(rig.host.take(), [Effect::Inject(message(0))]);
    assert_eq!(rig.read32(PBA), 0);
    rig.write(MSIX + 12, 4, 0);
    assert_eq!(rig.host.take(), [], "once");
}

#[test]
fn without_msix_interrupts_are_lost() {
    let mut rig = Rig::two_queues().set_up();
    rig.write_config(0x42, 2, 0);
    rig.command(0x8010_0000, &[]);
    assert_eq!((rig.read32(PBA), rig.read32(INTCAUSE)), (0, 2));
    rig.write_config(0x42, 2, 0x8000);
    assert_eq!(rig.host.take(), []);
}

#[test]
fn pending_bits_are_those_of_the_slots() {
    let mut rig = with_handle();
    rig.write(MSIX + 12, 4, 1);
    rig.write(MSIX + 16 + 12, 4, 1);
    rig.command(0x8030_0000, &[Answer::Done]);
    rig.host.pending = vec![1, 2];
    // Vector 2 has no slot to be pending.
    assert_eq!(rig.read(PBA, 8), 0b11);
    assert_eq!(rig.read(PBA, 1), 0b11);
    assert_eq!(rig.read(PBA + 8, 8), 0);
    rig.write(PBA, 8, 0);
    assert_eq!(rig.read(PBA, 8), 0b11, "read-only");
    assert!(rig.dsa.dropped_accesses().register_writes == 0, "zeros");
    rig.write(PBA, 8, u64::MAX);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 2);
}

#[test]
fn a_pasid_in_msixperm_moves_the_slot_and_back() {
    let mut rig = with_handle();
    let moved = |pasid| {
        [
            Effect::Masked(1, true),
            Effect::SlotPasid(1, pasid),
            Effect::Masked(1, false),
        ]
    };
    rig.write(MSIXPERM + 8, 4, 0x0000_5008);
    assert_eq!(rig.host.take(), moved(0x205));
    assert_eq!(rig.read32(MSIXPERM + 8), 0x0000_5008);
    rig.write(MSIXPERM + 8, 4, 0);
    assert_eq!(rig.host.take(), moved(0x101), "the queue's own");
    // PASID without PASID Enable is no PASID.
    rig.write(MSIXPERM + 8, 4, 0x0000_6000);
    assert_eq!(rig.host.take(), []);
    // In parts: first unknown PASID 0 is enabled, then it becomes 6.
    rig.write(MSIXPERM + 8, 4, 0);
    rig.write(MSIXPERM + 8, 1, 0x08);
    assert_eq!(rig.host.take(), [Effect::Masked(1, true)]);
    rig.write(MSIXPERM + 9, 1, 0x60);
    assert_eq!(
        rig.host.take(),
        [Effect::SlotPasid(1, 0x206), Effect::Masked(1, false)]
    );
}

#[test]
fn an_unknown_pasid_keeps_the_slot_masked() {
    let mut rig = with_handle();
    // Also where it is a host PASID.
    for unknown in [0, 7, 0x101, 0x205, 0xf_ffff] {
        rig.write(MSIXPERM + 8, 4, 0x8 | unknown << 12);
        assert_eq!(rig.host.take(), [Effect::Masked(1, true)], "{unknown:#x}");
        rig.write(MSIX + 16 + 12, 4, 1);
        rig.write(MSIX + 16 + 12, 4, 0);
        assert_eq!(rig.host.take(), []);
        rig.write(MSIXPERM + 8, 4, 0);
        assert_eq!(rig.host.take(), [Effect::Masked(1, false)]);
    }
}

#[test]
fn a_handle_can_be_requested_with_an_unknown_pasid() {
    let mut rig = Rig::two_queues().running();
    rig.write(MSIXPERM + 8, 4, 0x0000_7008);
    assert_eq!(rig.command(REQUEST_HANDLE | 1, &[Answer::Handle(4)]), 0x400);
    let requests = rig.requests();
    let pasid = crate::rig::pasid(0x101);
    assert_eq!(
        requests,
        [vdsa::Request::AllocateHandle { vector: 1, pasid }]
    );
    let view = rig.dsa.view(0x1000).unwrap();
    assert_eq!(view.handles.find(4).unwrap().pasid, None);
}

#[test]
fn ignore_is_passed_on() {
    let mut rig = with_handle();
    rig.write(MSIXPERM + 8, 4, 0x4);
    assert_eq!(rig.host.take(), [Effect::Ignored(1, true)]);
    rig.write(MSIXPERM + 8, 4, 0);
    assert_eq!(rig.host.take(), [Effect::Ignored(1, false)]);
}

#[test]
fn msixperm_takes_its_fields_only() {
    let mut rig = Rig::two_queues();
    rig.write(MSIXPERM + 8, 8, u64::MAX);
    assert_eq!(rig.read(MSIXPERM + 8, 8), 0xffff_f00c);
    // The upper half of the entry, and a vector that is not there.
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 1);
    rig.write(MSIXPERM + 24, 4, 8);
    assert_eq!(rig.read(MSIXPERM + 24, 4), 0);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 2);
}

#[test]
fn the_view_of_a_queue_knows_the_handles() {
    let mut rig = with_handle();
    rig.write(MSIXPERM + 8, 4, 0x0000_5008);
    let view = rig.dsa.view(0x1fc0).unwrap();
    let handle = view.handles.find(0x21).unwrap();
    assert_eq!(
        (handle.vector, handle.pasid),
        (1, Some(crate::rig::pasid(0x205)))
    );
    assert!(view.is_enabled && view.is_limited_portal);
    assert!(!rig.dsa.view(0).unwrap().is_limited_portal);
    assert!(!rig.dsa.view(0x4000).unwrap().is_enabled);
    // A third queue, and beyond any.
    for offset in [0x8000, u64::MAX] {
        assert!(rig.dsa.view(offset).is_none(), "{offset:#x}");
    }
}

#[test]
fn revoked_handles_are_told_once_and_replaced() {
    let mut rig = with_handle();
    rig.write(MSIXPERM + 8, 4, 0x0000_500c);
    rig.host.take();
    // Vector 2 has no handle, 0 and 9 never have.
    let moved = [(1, 0x33), (2, 0x34), (0, 0x35), (9, 0x36)];
    let moved = moved.map(|(vector, handle)| MovedHandle { vector, handle });
    rig.dsa.revoke_handles(&mut rig.host, &moved);
    // The slot has the PASID already.
    assert_eq!(
        rig.host.take(),
        [
            Effect::Ignored(1, true),
            Effect::Message(1, Some(message(1))),
            Effect::Masked(1, false),
            Effect::Inject(message(0))
        ]
    );
    assert_eq!(rig.read32(INTCAUSE), 0x8000_0000);
    let view = rig.dsa.view(0).unwrap();
    assert!(view.handles.find(0x21).is_none());
    assert_eq!(view.handles.find(0x33).unwrap().vector, 1);
    // Asked again, the vector has its new handle.
    assert_eq!(rig.dsa.handles_asked_again(), 0);
    assert_eq!(rig.command(REQUEST_HANDLE | 1, &[]), 0x3300);
    assert_eq!(rig.dsa.handles_asked_again(), 1);
    rig.write(INTCAUSE, 4, 0x8000_0000);
    rig.dsa.revoke_handles(&mut rig.host, &moved[1..]);
    assert_eq!((rig.read32(INTCAUSE), rig.host.take()), (0, vec![]));
}

#[test]
fn causes_are_cleared_one_by_one() {
    let mut rig = with_handle();
    rig.command(0x8030_0000, &[Answer::Done]);
    let moved = [MovedHandle {
        vector: 1,
        handle: 2,
    }];
    rig.dsa.revoke_handles(&mut rig.host, &moved);
    assert_eq!(rig.read32(INTCAUSE), 0x8000_0002);
    rig.write(INTCAUSE + 3, 1, 0xff);
    assert_eq!(rig.read32(INTCAUSE), 2);
    rig.write(INTCAUSE, 4, 0xffff_fffd);
    assert_eq!(rig.read32(INTCAUSE), 2);
    rig.write(INTCAUSE, 8, 2);
    assert_eq!(rig.read32(INTCAUSE), 0);
    // GENCTRL has its two bits.
    rig.write(GENCTRL, 4, 0xffff_ffff);
    assert_eq!(rig.read32(GENCTRL), 3);
}

#[test]
fn a_physical_error_is_shown_in_the_guest_s_terms() {
    let mut rig = Rig::two_queues().running();
    rig.write(GENCTRL, 4, 1);
    // Physical: valid, overflow, descriptor, queue, write, info valid; error 0x1a, WQ 5,
    // memory move, host PASID 0x205.
    let record = |low, address| vdsa::SoftwareErrorRecord {
        word0: hwspec::dsa::SwError0::from_bits(low),
        word1: hwspec::dsa::SwError1::from_bits(0x0000_0010_0000_0003),
        address,
    };
    let physical = 0x0002_0503_0005_1aaf;
    let queue = Some(crate::rig::queue(1));
    rig.dsa
        .report_error(&mut rig.host, queue, record(physical, 0x1234_5000));
    assert_eq!(rig.read(SWERROR, 8), 0x0000_0503_0001_1a2d);
    assert_eq!(rig.read(SWERROR + 8, 8), 0x0000_0010_0000_0003);
    assert_eq!(rig.read(SWERROR + 16, 8), 0x1234_5000);
    assert_eq!(rig.read(SWERROR + 24, 8), 0);
    assert_eq!(rig.host.take(), [Effect::Inject(message(0))]);
    assert_eq!(rig.read32(INTCAUSE), 1);
    // Errors that were lost show as overflow, and are cleared alone.
    rig.dsa.report_lost_errors();
    assert_eq!(rig.read(SWERROR, 1), 0x2f);
    rig.write(SWERROR, 1, 2);
    assert_eq!(rig.read(SWERROR, 1), 0x2d);
    rig.write(SWERROR, 8, 1);
    // A queue's own PASID is none of the guest's, and the window is none of its memory.
    let physical = 0x0001_0203_0005_1a2d;
    rig.dsa
        .report_error(&mut rig.host, None, record(physical, 0x40_0000_1000));
    assert_eq!(rig.read(SWERROR, 8), 0x0000_0003_0000_1a25);
    assert_eq!(rig.read(SWERROR + 16, 8), 0);
}

#[test]
fn writes_elsewhere_are_dropped_and_counted() {
    let mut rig = Rig::two_queues().running();
    let snapshot = |rig: &Rig| -> Vec<u64> {
        (0..0x1_0000)
            .step_by(8)
            .map(|offset| rig.read(offset, 8))
            .collect()
    };
    let before = snapshot(&rig);
    let read_only = [
        0x00, 0x10, 0x20, 0x30, 0x38, 0x40, 0x60, 0x80, 0x90, 0xa8, 0xb0, 0xc8,
    ];
    for offset in read_only
        .into_iter()
        .chain([0x400, 0x428, WQCFG + 64, 0x800, 0xf000])
    {
        rig.write(offset, 4, u64::MAX);
    }
    for (offset, width) in [(0x88, 3), (0x8a, 4), (0x84, 8), (0x88, 0), (u32::MAX, 4)] {
        rig.write(offset, width, u64::MAX);
    }
    assert_eq!(snapshot(&rig), before);
    assert_eq!(rig.dsa.dropped_accesses().register_writes, 17 + 5);
    assert_eq!(rig.host.take(), []);
}
