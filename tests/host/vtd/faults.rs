//! What was refused is told, field by field.

use hwspec::vtd::FaultReason;
use vtd::{Fault, FaultSummary, FaultTarget, RequestKind, Route};

use crate::hardware::{ICE, IM, IP, ITE, PFO};
use crate::lab::{DSA, KINDS, Lab, OTHER, SECOND, SERVER, pasid};

const NOTHING: FaultSummary = FaultSummary {
    overflow: false,
    more: false,
};

fn read(lab: &mut Lab) -> (Vec<Fault>, FaultSummary) {
    let mut faults = Vec::new();
    let summary = lab.unit.read_faults(|fault| faults.push(fault)).unwrap();
    (faults, summary)
}

/// Bits 127:64 of a record. SID 15:0, T2 28, PRIV 29, EXE 30, PP 31, FR 39:32, PV 59:40,
/// AT 61:60, T1 62, F 63. [VT-d 5.10, 11.4.7.6 "Fault Recording Registers \[n\]"]
#[test]
fn every_field_of_a_record_is_told() {
    let memory = |kind, address| FaultTarget::Memory { kind, address };
    let cases = [
        // A read with PASID 12345h by 00:04.0 of a page that is not there.
        (
            [0x0000_7654_3210_3000, 0xc123_4579_8000_0020],
            Fault {
                reason: FaultReason::SECOND_STAGE_NOT_PRESENT,
                source: DSA,
                pasid: Some(pasid(0x1_2345)),
                target: memory(RequestKind::Read, 0x7654_3210_3000),
            },
            "00:04.0 PASID 0x12345, read of 0x765432103000: second-stage entry not present (79h)",
        ),
        // A write without PASID by 6a:1f.7; PV means nothing then.
        (
            [0xffff_ffff_ffff_f000, 0x8fff_ff85_0000_6aff],
            Fault {
                reason: FaultReason::NO_WRITE,
                source: OTHER,
                pasid: None,
                target: memory(RequestKind::Write, 0xffff_ffff_ffff_f000),
            },
            "6a:1f.7, write to 0xfffffffffffff000: page not writable (85h)",
        ),
        // A privileged AtomicOp with PASID 0.
        (
            [0x1000, 0xc000_0081_b000_0020],
            Fault {
                reason: FaultReason::PRIVILEGE,
                source: DSA,
                pasid: Some(pasid(0)),
                target: memory(RequestKind::Atomic, 0x1000),
            },
            "00:04.0 PASID 0x0, atomic operation on 0x1000: first-stage page is for supervisors (81h)",
        ),
        // A page request, PASID fffffh.
        (
            [0, 0x8fff_ff47_9000_0020],
            Fault {
                reason: FaultReason::PAGE_REQUEST_DISABLED,
                source: DSA,
                pasid: Some(pasid(0xf_ffff)),
                target: memory(RequestKind::PageRequest, 0),
            },
            "00:04.0 PASID 0xfffff, page request for 0x0: page request without PRE (47h)",
        ),
        // An interrupt through entry 123h that belongs to another device.
        (
            [0x0123_0000_0000_0000, 0x8000_0026_0000_6aff],
            Fault {
                reason: FaultReason::INTERRUPT_SOURCE,
                source: OTHER,
                pasid: None,
                target: FaultTarget::Interrupt(Some(0x123)),
            },
            "6a:1f.7, interrupt 291: interrupt from a source that may not use the entry (26h)",
        ),
        // One in compatibility format has no entry.
        (
            [0, 0x8000_0025_0000_0020],
            Fault {
                reason: FaultReason::INTERRUPT_COMPATIBILITY,
                source: DSA,
                pasid: None,
                target: FaultTarget::Interrupt(None),
            },
            "00:04.0, interrupt: interrupt request in compatibility format (25h)",
        ),
        // A reason that nobody knows is handed on.
        (
            [0x5000, 0xc000_00fe_0000_0020],
            Fault {
                reason: FaultReason(0xfe),
                source: DSA,
                pasid: None,
                target: memory(RequestKind::Read, 0x5000),
            },
            "00:04.0, read of 0x5000: unknown reason FEh",
        ),
    ];
    let mut lab = Lab::new(SERVER);
    for (record, fault, text) in cases {
        lab.hardware.borrow_mut().record(record);
        assert_eq!(read(&mut lab), (vec![fault], NOTHING));
        assert_eq!(fault.to_string(), text);
        assert_eq!(read(&mut lab), (vec![], NOTHING));
    }
}

#[test]
fn faults_come_oldest_first_around_the_ring() {
    let mut lab = Lab::new(SERVER);
    let mut next = 0_u64;
    // Eight records, filled by five, so that each round begins elsewhere.
    for _ in 0..8 {
        let first = next;
        for _ in 0..5 {
            lab.write_plain(OTHER, next << 12).unwrap_err();
            next += 1;
        }
        let (faults, summary) = read(&mut lab);
        assert_eq!(summary, NOTHING);
        let addresses = faults.iter().map(|fault| match fault.target {
            FaultTarget::Memory { address, .. } => address >> 12,
            FaultTarget::Interrupt(_) => panic!("{fault}"),
        });
        assert!(addresses.eq(first..next));
    }
}

#[test]
fn overflow_is_told_once_and_room_is_made() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let room = lab.hardware.borrow().records.len();
        for address in 0..20 {
            lab.write_plain(OTHER, address << 12).unwrap_err();
        }
        let (faults, summary) = read(&mut lab);
        assert_eq!(faults.len(), room, "{}", kind.name);
        let overflow = FaultSummary {
            overflow: true,
            ..NOTHING
        };
        assert_eq!(summary, overflow);
        assert_eq!(lab.hardware.borrow().fsts & PFO, 0);
        assert_eq!(read(&mut lab), (vec![], NOTHING));
        lab.write_plain(OTHER, 0x1000).unwrap_err();
        assert_eq!(read(&mut lab).0.len(), 1);
    }
}

#[test]
fn faults_that_come_meanwhile_are_more() {
    let mut lab = Lab::new(SERVER);
    lab.write_plain(OTHER, 0x1000).unwrap_err();
    let hardware = lab.hardware.clone();
    let mut count = 0;
    // Each that is read lets the next one come, more than there are records.
    let report = |_| {
        count += 1;
        let requester = (OTHER.into_bits(), None);
        let result = hardware.borrow_mut().request(requester, 0x2000, true);
        assert_eq!(result, Err(0x39));
    };
    let summary = lab.unit.read_faults(report).unwrap();
    assert!(summary.more);
    // It took no more looks than there are records.
    assert_eq!(count, 8);
}

#[test]
fn an_event_goes_to_the_cpu_that_was_asked_for() {
    let mut lab = Lab::new(SECOND);
    lab.write_plain(OTHER, 0x1000).unwrap_err();
    // It was masked until now, and is pending.
    assert_eq!(lab.hardware.borrow().events, []);
    assert_eq!(lab.hardware.borrow().fectl, IM | IP);
    let (apic_id, vector) = (0x0123_4567, 0x31);
    lab.unit.enable_fault_events(Route { apic_id, vector });
    // APIC-ID bits 31:8 in the upper address, 7:0 in bits 19:12 of the address.
    // [5.1.6.2 "Programming in Intel 64 x2APIC Mode"]
    let event = (0x0123_4500, 0xfee6_7000, 0x31);
    assert_eq!(lab.hardware.borrow().events, [event]);
    // No other comes until the fault was read, then one comes again.
    lab.write_plain(OTHER, 0x1000).unwrap_err();
    assert_eq!(lab.hardware.borrow().events.len(), 1);
    lab.drop_faults();
    lab.write_plain(OTHER, 0x1000).unwrap_err();
    assert_eq!(lab.hardware.borrow().events, [event, event]);
    lab.drop_faults();
    assert_eq!(lab.hardware.borrow().fectl, 0);
}

/// Moved to another CPU, events are off until all of the message is there; the hardware
/// says so if they are not. None is lost.
#[test]
fn events_move_from_cpu_to_cpu_as_a_whole() {
    let mut lab = Lab::new(SECOND);
    let route = |apic_id, vector| Route { apic_id, vector };
    lab.unit.enable_fault_events(route(0x101, 0x31));
    lab.unit.enable_fault_events(route(0x202, 0x42));
    lab.write_plain(OTHER, 0x1000).unwrap_err();
    let event = (0x200, 0xfee0_2000, 0x42);
    assert_eq!(lab.hardware.borrow().events, [event]);
    assert_eq!(lab.hardware.borrow().fectl, 0);
}

/// Other bits of the status register hold events back as well.
#[test]
fn errors_of_the_queue_that_are_nobodys_do_not_hold_events_back() {
    let mut lab = Lab::new(SECOND);
    lab.hardware.borrow_mut().fsts |= ICE | ITE;
    assert_eq!(read(&mut lab), (vec![], NOTHING));
    assert_eq!(lab.hardware.borrow().fsts, 0);
}

/// A request after another tells of each with its own reason, as the unit found it.
#[test]
fn requests_are_told_of_as_they_were() {
    let mut lab = Lab::new(SERVER);
    let domain = lab.domain(0x1000, 0xa000);
    lab.allow(DSA).unwrap();
    lab.set_pasid(DSA, 7, domain).unwrap();
    lab.write(DSA, 7, 0x2345).unwrap_err();
    lab.write(DSA, 8, 0x3456).unwrap_err();
    lab.write_plain(DSA, 0x4567).unwrap_err();
    let index = lab.unit.allocate_interrupt(DSA).unwrap();
    lab.send(OTHER, index).unwrap_err();
    let texts: Vec<String> = read(&mut lab).0.iter().map(Fault::to_string).collect();
    let expected = [
        "00:04.0 PASID 0x7, write to 0x2000: second-stage entry not present (79h)",
        "00:04.0 PASID 0x8, write to 0x3000: PASID entry not present (59h)",
        "00:04.0, write to 0x4000: second-stage entry not present (79h)",
        "6a:1f.7, interrupt 0: interrupt remapping entry not present (22h)",
    ];
    assert_eq!(texts, expected);
}
