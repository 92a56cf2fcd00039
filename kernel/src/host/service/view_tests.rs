use dsa::ims::SlotPasid;

use super::*;

#[test]
fn slots_in_use_are_listed_by_client_and_vector() {
    let bench = bench(8);
    let first = bench.client(&[0]);
    let second = bench.client(&[1]);
    assert_eq!(
        bench.service.try_next_slot(SlotPlace::default()),
        Some(None)
    );
    assert_eq!(bench.allocate(&second, 2), HANDLE_0);
    bench.allocate(&first, 1).unwrap();
    bench.allocate(&first, 47).unwrap();
    first
        .1
        .with_slot(47, |slot| slot.set_masked(false))
        .unwrap();

    let mut place = SlotPlace::default();
    let mut found = Vec::new();
    while let Some((slot, next)) = bench.service.try_next_slot(place).unwrap() {
        found.push((
            slot.index.0,
            slot.handle.0,
            slot.target,
            slot.is_masked,
            (slot.cpu, slot.vector),
            slot.pasid,
        ));
        place = next;
    }
    let of = |queue: u32| SlotPasid::Checked(pasid(100 + queue));
    // Lines are opened in the order of the requests, from vector 0x30 on.
    let expected = [
        (1, 1, target(1), true, (1, 0x31), of(0)),
        (2, 2, target(47), false, (1, 0x32), of(0)),
        (0, 0, target(2), true, (1, 0x30), of(1)),
    ];
    assert_eq!(found, expected);
    let slot = bench.service.try_slot_of_handle(InterruptHandle(2));
    assert_eq!(slot.unwrap().unwrap().target, target(47));
    assert_eq!(
        bench.service.try_slot_of_handle(InterruptHandle(3)),
        Some(None)
    );
}

#[test]
fn nobody_who_looks_waits() {
    let bench = bench(8);
    let client = bench.client(&[0]);
    bench.allocate(&client, 1).unwrap();
    let in_use = client.1.vector(1).unwrap().lock();
    assert_eq!(bench.service.try_next_slot(SlotPlace::default()), None);
    assert_eq!(bench.service.try_slot_of_handle(InterruptHandle(0)), None);
    assert!(bench.service.try_status().is_some());
    drop(in_use);
    let in_use = bench.service.inner.lock();
    assert_eq!(bench.service.try_status(), None);
    assert_eq!(bench.service.try_queue(0), None);
    assert_eq!(bench.service.try_next_slot(SlotPlace::default()), None);
    drop(in_use);
}

#[test]
fn the_status_tells_of_slots_health_and_work() {
    let bench = bench(8);
    let client = bench.client(&[0]);
    bench.allocate(&client, 1).unwrap();
    let status = bench.service.try_status().unwrap();
    assert_eq!((status.slots.total, status.slots.free), (8, 7));
    assert_eq!(
        (status.health, status.is_busy, status.last_error),
        (Health::Works, false, None)
    );
    bench.device().is_slow = true;
    let request = Request::DrainPasid(pasid(100));
    assert_eq!(bench.post(&client, request), None);
    assert!(bench.service.try_status().unwrap().is_busy);

    let unprivileged = QueuePasid::unprivileged(pasid(100));
    bench
        .service
        .with_hardware(|hardware| hardware.enable_queue(3, unprivileged))
        .unwrap();
    assert_eq!(bench.service.try_queue(3), Some(Some(unprivileged)));
    assert_eq!(bench.service.try_queue(2), Some(None));
}
