//! Taking a device over and dividing it.

use super::*;

/// The bring-up, register by register. [DSA 3.0, 9.2]
#[test]
fn bring_up_writes_these_registers_in_this_order() {
    let log = Log::new();
    let registers = FakeRegisters::new(Obedient::new(&[]), WINDOW, &log);
    let mut device = Device::take_over(registers, FakeClock::new(), TIMEOUT).unwrap();
    let write = |offset, len_bytes, value| Event::Write {
        offset,
        len_bytes,
        value,
    };
    // 1. Reset Device.
    assert_eq!(log.take_effects(), [write(0xa0, 4, 0x0050_0000)]);

    device.configure(&plan()).unwrap();
    let mut expected = Vec::new();
    // 2. Groups: queues, engines, flags. Queue 0 in group 0, queue 3 in group 1.
    for (group, queues, engines, flags) in
        [(0, 1, 3, 0), (1, 8, 4, 0o11), (2, 0, 0, 0), (3, 0, 0, 0)]
    {
        let at = 0x600 + 64 * group;
        for (word, value) in [queues, 0, 0, 0, engines, flags].into_iter().enumerate() {
            expected.push(write(at + 8 * word, 8, value));
        }
    }
    // 3. Sizes, which can be set only now.
    for (queue, size) in [16, 0, 0, 32, 0, 0, 0, 0].into_iter().enumerate() {
        expected.push(write(0x800 + 32 * queue, 4, size));
    }
    // 4. GENCFG.12, 5. GENCTRL 1:0, 6. Enable Device.
    expected.push(write(0x80, 4, 0x1000));
    expected.push(write(0x88, 4, 3));
    expected.push(write(0xa0, 4, 0x0010_0000));
    assert_eq!(log.take_effects(), expected);

    // 7. A dedicated queue: threshold; mode 1, priority 8, PASID 0x12345, PASID enable;
    // limits 31 and 10; no occupancy interrupt; Enable WQ.
    device.enable_queue(0, pasid(0x1_2345)).unwrap();
    let queue = |at: usize, threshold, mode, limits, command| {
        let words = [(4, threshold), (8, mode), (12, limits), (16, 0), (20, 0)];
        let mut writes: Vec<Event> = words.map(|(word, value)| write(at + word, 4, value)).into();
        writes.push(write(0xa0, 4, command));
        writes
    };
    let expected = queue(0x800, 16, 0x1123_4581, 0x15f, 0x0060_0000);
    assert_eq!(log.take_effects(), expected);

    // 8. A shared queue: mode 0, priority 15, no PASID, but PASID enable.
    device.enable_queue(3, pasid(0x1_2345)).unwrap();
    let expected = queue(0x860, 24, 0x1000_00f0, 0xb5, 0x0060_0003);
    assert_eq!(log.take_effects(), expected);
}

#[test]
fn a_privileged_queue_is_one() {
    let (mut device, registers) = configured();
    let privileged = QueuePasid {
        privileged: true,
        ..pasid(7)
    };
    device.enable_queue(0, privileged).unwrap();
    assert_eq!(registers.device().borrow().registers[&0x808], 0x3000_0781);
    assert_eq!(device.queue_pasid(0), Some(privileged));
}

#[test]
fn a_device_that_is_gone_is_noticed_wherever_it_goes() {
    let gone = |register| Error::DeviceGone { register };
    let ones = FakeRegisters::new(AllOnes, WINDOW, &Log::new());
    let error = Device::take_over(ones, FakeClock::new(), TIMEOUT).unwrap_err();
    assert_eq!(error, gone(RegisterName::Version));
    says(error, "VERSION reads as ones");

    // However many accesses it lives for, the answer is that it is gone.
    let mut seen = Vec::new();
    for accesses in 0..2000 {
        let vanishes = Vanishes::after(accesses, Obedient::new(&[]));
        let registers = FakeRegisters::new(vanishes, WINDOW, &Log::new());
        let outcome =
            Device::take_over(registers, FakeClock::new(), TIMEOUT).and_then(|mut device| {
                device.configure(&plan())?;
                device.enable_queue(0, pasid(1))?;
                device.take_causes()?;
                device.take_software_error()?;
                device.recover()
            });
        match outcome {
            Ok(()) => {
                // It lived long enough.
                assert!(accesses > 100, "{accesses}");
                break;
            }
            // Among the capabilities, any of which may read as ones, what is missing or
            // in a wrong place is said instead.
            Err(_) if accesses < 12 => {}
            Err(Error::DeviceGone { register }) => seen.push(register),
            Err(error) => panic!("after {accesses} accesses: {error}"),
        }
    }
    for register in [
        RegisterName::CmdStatus,
        RegisterName::GenSts,
        RegisterName::WqCfg,
        RegisterName::IntCause,
        RegisterName::SwError,
    ] {
        assert!(seen.contains(&register), "{register} in {seen:?}");
    }
}

#[test]
fn a_command_from_before_is_waited_for_and_not_for_ever() {
    let busy = CAPABILITIES.into_iter().chain([(CMDSTATUS, 0x8000_0000)]);
    let registers = FakeRegisters::new(NeverCompletes::new(busy), WINDOW, &Log::new());
    let clock = FakeClock::new();
    let error = Device::take_over(registers, clock.clone(), TIMEOUT).unwrap_err();
    let status = CmdStatus::from_bits(0x8000_0000);
    assert_eq!(error, Error::StaleCommand { status });
    says(error, "CMDSTATUS is 0x80000000");
    assert!(clock.now() >= TIMEOUT && clock.now() < 2 * TIMEOUT);
}

#[test]
fn a_reset_that_hangs_is_given_up() {
    let registers = registers(&[]);
    registers.device().borrow_mut().hangs = true;
    let error = take_over(&registers).unwrap_err();
    let expected = Error::Timeout {
        command: CommandCode::RESET_DEVICE,
        status: CmdStatus::from_bits(0x8000_0000),
    };
    assert_eq!(error, expected);
    says(error, "command reset device (0x05) of the DSA does not end");
}

#[test]
fn a_reset_that_fails_or_does_nothing_is_found_out() {
    let registers_1 = registers(&[]);
    registers_1.device().borrow_mut().errors.push_back(3);
    let error = take_over(&registers_1).unwrap_err();
    let expected = Error::CommandFailed {
        command: CommandCode::RESET_DEVICE,
        queue: None,
        error: CommandError::HARDWARE,
    };
    assert_eq!(error, expected);
    says(error, "hardware error (0x03); reset the device");

    // GENSTS says Enabled, whatever happens.
    let idle = CAPABILITIES.into_iter().chain([(0x90, 1)]);
    let registers = FakeRegisters::new(NeverCompletes::new(idle), WINDOW, &Log::new());
    let error = Device::take_over(registers, FakeClock::new(), TIMEOUT).unwrap_err();
    let expected = Error::WrongState {
        state: State::Enabled,
        needed: State::Disabled,
    };
    assert_eq!(error, expected);
    says(error, "is enabled and has to be disabled");
}

#[test]
fn a_halted_device_says_which_reset_it_needs() {
    for (gensts, reset, words) in [
        (0b0111, ResetType::FunctionLevel, "function-level reset"),
        (0b1011, ResetType::Warm, "reboot the machine"),
        (0b1111, ResetType::Cold, "switch the machine off and on"),
    ] {
        let registers = registers(&[(0x90, gensts)]);
        let error = take_over(&registers).unwrap_err();
        assert_eq!(error, Error::ResetRequired(reset));
        says(error, words);
        // And no command was given.
        assert_eq!(registers.device().borrow().commands, []);
    }
    // A reset by command is done.
    assert!(take_over(&registers(&[(0x90, 0b0011)])).is_ok());
}

#[test]
fn a_plan_is_checked_before_the_device_is_asked() {
    let log = Log::new();
    let registers = FakeRegisters::new(Obedient::new(&[]), WINDOW, &log);
    let mut device = Device::take_over(registers, FakeClock::new(), TIMEOUT).unwrap();
    log.take();
    let error = device.configure(&Plan::default()).unwrap_err();
    assert_eq!(error, Error::Plan(PlanError::Empty));
    says(
        error,
        "cannot be divided like this: no work queue is planned",
    );
    assert_eq!(log.take(), []);
}

#[test]
fn a_device_is_configured_while_it_is_disabled() {
    let (mut device, _) = configured();
    let error = device.configure(&plan()).unwrap_err();
    let expected = Error::WrongState {
        state: State::Enabled,
        needed: State::Disabled,
    };
    assert_eq!(error, expected);
    device.reset().unwrap();
    device.configure(&plan()).unwrap();
    assert_eq!(device.state(), Ok(State::Enabled));
}

#[test]
fn a_device_without_user_interrupts_is_refused() {
    let registers = registers(&[(0x80, 0x60)]);
    registers.device().borrow_mut().stuck.push(0x80);
    let mut device = take_over(&registers).unwrap();
    let error = device.configure(&plan()).unwrap_err();
    assert_eq!(error, Error::NoUserInterrupts { gencfg: 0x60 });
    says(error, "GENCFG stays 0x00000060");
}
