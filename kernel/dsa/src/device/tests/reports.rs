//! What the device reports of itself.

use super::*;

#[test]
fn causes_are_acknowledged_as_they_were_read() {
    let log = Log::new();
    let registers = FakeRegisters::new(Obedient::new(&[]), WINDOW, &log);
    let fake = registers.device();
    let mut device = Device::take_over(registers, FakeClock::new(), TIMEOUT).unwrap();
    log.take();
    // Software error, halt, handles revoked; bit 6 is reserved and left alone.
    fake.borrow_mut().set(0x98, 0x8000_0051);
    let causes = device.take_causes().unwrap();
    assert!(causes.software_error() && causes.halt_state() && causes.handles_revoked());
    assert!(!causes.command_completion());
    let write = Event::Write {
        offset: 0x98,
        len_bytes: 4,
        value: 0x8000_0011,
    };
    assert_eq!(log.take_effects(), [write]);
    assert_eq!(device.take_causes().unwrap(), IntCause::new());
    assert_eq!(log.take_effects(), []);
}

#[test]
fn a_software_error_is_taken_once_and_what_was_not_seen_is_not_cleared() {
    let log = Log::new();
    let registers = FakeRegisters::new(Obedient::new(&[]), WINDOW, &log);
    let fake = registers.device();
    let mut device = Device::take_over(registers, FakeClock::new(), TIMEOUT).unwrap();
    log.take();
    assert_eq!(device.take_software_error(), Ok(None));
    let set = |value| fake.borrow_mut().set(0xc0, value);
    for (word0, acknowledged) in [(0x0002_5309, 1), (0x0002_530b, 3)] {
        set(word0);
        let error = device.take_software_error().unwrap().unwrap();
        assert_eq!(error.queue, Some(2));
        assert_eq!(error.overflow, acknowledged == 3);
        let write = Event::Write {
            offset: 0xc0,
            len_bytes: 8,
            value: acknowledged,
        };
        assert_eq!(log.take_effects(), [write]);
    }
    assert_eq!(device.take_software_error(), Ok(None));
}

#[test]
fn an_error_from_before_is_forgotten() {
    let registers = registers(&[(0xc0, 0x5101)]);
    let mut device = take_over(&registers).unwrap();
    assert_eq!(device.take_software_error(), Ok(None));
}
