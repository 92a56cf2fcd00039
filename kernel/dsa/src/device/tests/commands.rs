//! Commands, and what is said when they fail.

use super::*;

#[test]
fn without_a_plan_there_are_no_queues() {
    let mut device = take_over(&registers(&[])).unwrap();
    assert_eq!(device.enable_queue(0, pasid(1)), Err(Error::NoPlan));
    assert_eq!(device.recover(), Err(Error::NoPlan));
    assert_eq!(device.resume(), Err(Error::NoPlan));
    assert_eq!(device.queue_state(0), Err(Error::NoPlan));
    says(Error::NoPlan, "configure it first");
}

#[test]
fn a_command_is_about_a_queue_of_the_plan() {
    let (mut device, registers) = configured();
    let before = registers.device().borrow().commands.len();
    let error = device.execute(Command::DrainQueue(1)).unwrap_err();
    assert_eq!(error, Error::QueueNotPlanned { queue: 1 });
    says(error, "queue 1 of the DSA is not in the plan");
    assert_eq!(registers.device().borrow().commands.len(), before);
}

#[test]
fn an_enabled_queue_is_not_enabled_again() {
    let (mut device, registers) = configured();
    device.enable_queue(0, pasid(1)).unwrap();
    let error = device.enable_queue(0, pasid(2)).unwrap_err();
    let state = WqState::ENABLED;
    assert_eq!(error, Error::QueueNotDisabled { queue: 0, state });
    says(error, "disable it first");
    // It runs on with the PASID that it had.
    assert_eq!(registers.device().borrow().registers[&0x808], 0x1000_0181);
    device.disable_queue(0).unwrap();
    assert_eq!(device.queue_pasid(0), None);
    device.enable_queue(0, pasid(2)).unwrap();
    assert_eq!(device.queue_pasid(0), Some(pasid(2)));
}

#[test]
fn a_refused_command_says_why_and_what_to_do() {
    for (code, words) in [
        (0x12, "bus master enable is 0 (0x12); set Bus Master Enable"),
        (0x26, "WQ PASID enable is invalid (0x26); set PASID Enable"),
        (0x7f, "undefined (0x7f); the driver and the device disagree"),
    ] {
        let (mut device, registers) = configured();
        registers.device().borrow_mut().errors.push_back(code);
        let error = device.enable_queue(3, pasid(1)).unwrap_err();
        let expected = Error::CommandFailed {
            command: CommandCode::ENABLE_WQ,
            queue: Some(3),
            error: CommandError(u8::try_from(code).unwrap()),
        };
        assert_eq!(error, expected);
        says(
            error,
            "command enable WQ (0x06) of the DSA failed for queue 3: ",
        );
        says(error, words);
        assert_eq!(device.queue_pasid(3), None);
    }
}

#[test]
fn a_command_that_the_device_does_not_know_is_not_given() {
    let (mut device, registers) = configured();
    let before = registers.device().borrow().commands.len();
    let error = device
        .start(Command::RequestHandle(ImsIndex(1)))
        .unwrap_err();
    let command = CommandCode::REQUEST_INTERRUPT_HANDLE;
    assert_eq!(error, Error::UnsupportedCommand { command });
    says(
        error,
        "does not know command request interrupt handle (0x0d)",
    );
    assert_eq!(registers.device().borrow().commands.len(), before);
    // There the handle is the index.
    assert_eq!(device.request_handle(ImsIndex(5)), Ok(InterruptHandle(5)));
}

#[test]
fn one_command_is_active_at_a_time_and_polled_without_waiting() {
    let (mut device, registers) = configured();
    assert_eq!(device.poll(), Ok(Poll::Idle));
    registers.device().borrow_mut().hangs = true;
    let command = Command::DrainQueue(0);
    device.start(command).unwrap();
    assert_eq!(device.poll(), Ok(Poll::Active));
    let error = device.start(Command::DrainAll).unwrap_err();
    let active = CommandCode::DRAIN_WQ;
    assert_eq!(error, Error::CommandActive { active });
    says(error, "busy with command drain WQ (0x08)");
    assert_eq!(device.execute(Command::DrainAll), Err(error));
    // The device was not written to meanwhile.
    assert_eq!(
        registers.device().borrow().commands.last(),
        Some(&0x0080_0001)
    );

    registers.device().borrow_mut().set(CMDSTATUS, 0x32);
    let outcome = Outcome {
        command,
        error: CommandError::WQ_NOT_ENABLED,
        result: 0,
    };
    assert_eq!(device.poll(), Ok(Poll::Done(outcome)));
    assert_eq!(device.poll(), Ok(Poll::Idle));
}

#[test]
fn a_command_that_hangs_is_late_and_may_still_end() {
    let (mut device, registers) = configured();
    registers.device().borrow_mut().hangs = true;
    let error = device
        .execute(Command::AbortPasid(Pasid::from_bits(4)))
        .unwrap_err();
    let expected = Error::Timeout {
        command: CommandCode::ABORT_PASID,
        status: CmdStatus::from_bits(0x8000_0000),
    };
    assert_eq!(error, expected);
    says(error, "command abort PASID (0x0c) of the DSA does not end");
    // It is late each time it is asked for, and nothing else can be done.
    assert_eq!(device.poll(), Err(expected));
    let active = CommandCode::ABORT_PASID;
    let busy = Err(Error::CommandActive { active });
    assert_eq!(device.start(Command::DrainAll), busy);
    assert_eq!(device.reset(), busy);
    assert_eq!(device.recover(), busy);

    registers.device().borrow_mut().hangs = false;
    registers.device().borrow_mut().set(CMDSTATUS, 0);
    assert!(matches!(device.poll(), Ok(Poll::Done(_))));
    device.execute(Command::DrainAll).unwrap();
}

#[test]
fn an_interrupt_is_asked_for_only_if_wanted() {
    let (mut device, registers) = configured();
    device.start_with_interrupt(Command::DrainAll).unwrap();
    assert_eq!(
        registers.device().borrow().commands.last(),
        Some(&0x8030_0000)
    );
    assert!(matches!(device.poll(), Ok(Poll::Done(_))));
    device.start(Command::DrainAll).unwrap();
    assert_eq!(
        registers.device().borrow().commands.last(),
        Some(&0x0030_0000)
    );
}
