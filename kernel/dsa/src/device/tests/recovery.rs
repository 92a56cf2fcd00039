//! Halts.

use super::*;

#[test]
fn a_halted_device_is_configured_as_it_was() {
    let (mut device, registers) = configured();
    device.enable_queue(0, pasid(9)).unwrap();
    device.enable_queue(3, pasid(1)).unwrap();
    device.disable_queue(3).unwrap();
    {
        let fake = registers.device();
        let mut fake = fake.borrow_mut();
        fake.set(0x90, 0b0011);
        // As the reset will leave it.
        for at in [0x600, 0x620, 0x800, 0x804, 0x808, 0x80c, 0x818, 0x80, 0x88] {
            fake.set(at, 0);
        }
        fake.commands.clear();
    }
    assert_eq!(device.state(), Ok(State::Halted(ResetType::ResetDevice)));
    device.restart().unwrap();
    assert_eq!(device.state(), Ok(State::Enabled));
    assert_eq!(device.queue_state(0), Ok(WqState::DISABLED));
    device.resume().unwrap();
    let fake = registers.device();
    let fake = fake.borrow();
    // Reset Device, Enable Device, Enable WQ 0; the other queue was disabled.
    assert_eq!(fake.commands, [0x0050_0000, 0x0010_0000, 0x0060_0000]);
    let expected = [
        (0x600, 1),
        (0x620, 3),
        (0x800, 16),
        (0x804, 16),
        (0x808, 0x1000_0981),
        (0x80c, 0x15f),
        (0x80, 0x1000),
        (0x88, 3),
    ];
    for (at, value) in expected {
        assert_eq!(fake.registers[&at], value, "{at:#x}");
    }
}

#[test]
fn recovery_says_which_reset_is_needed_and_works_after_it() {
    let (mut device, registers) = configured();
    device.enable_queue(0, pasid(9)).unwrap();
    registers.device().borrow_mut().hangs = true;
    device.start(Command::DrainAll).unwrap();
    let set = |at, value| registers.device().borrow_mut().set(at, value);
    set(0x90, 0b0111);
    let needed = Error::ResetRequired(ResetType::FunctionLevel);
    assert_eq!(device.recover(), Err(needed));
    // What a function-level reset leaves: no command, no queue, a disabled device.
    registers.device().borrow_mut().hangs = false;
    for (at, value) in [(0x90, 0), (CMDSTATUS, 0), (0x818, 0)] {
        set(at, value);
    }
    device.recover().unwrap();
    assert_eq!(device.state(), Ok(State::Enabled));
    assert_eq!(device.queue_pasid(0), Some(pasid(9)));
    assert_eq!(device.queue_state(0), Ok(WqState::ENABLED));
    assert_eq!(device.poll(), Ok(Poll::Idle));
}
