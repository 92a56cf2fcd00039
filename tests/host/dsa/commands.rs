//! Commands that take time.

use dsa::{Command, Error, Outcome, Poll};
use hwspec::dsa::{CommandCode, CommandError, Status};

use crate::lab::{Lab, TIMEOUT, handle, no_op, pasid};
use crate::model::Model;

/// A lab with a no-op under way that takes half a millisecond.
fn busy() -> (Lab, crate::lab::ModelSlot) {
    let mut lab = Lab::ready("");
    let slot = lab.slot(1);
    lab.model.control("delay-completions 1 500000");
    lab.post(0, &no_op(handle(slot.index())));
    lab.model.run_for(10_000);
    (lab, slot)
}

#[test]
fn a_drain_is_active_until_the_work_is_done() {
    for command in [
        Command::DrainQueue(0),
        Command::DisableQueue(0),
        Command::DrainPasid(pasid(1)),
        Command::DrainAll,
    ] {
        let (mut lab, _slot) = busy();
        lab.device.start(command).unwrap();
        lab.model.run_for(100_000);
        assert_eq!(lab.device.poll(), Ok(Poll::Active), "{command}");
        // There can be only one, and the device does not hear of the second.
        let error = lab.device.start(Command::DrainAll).unwrap_err();
        assert_eq!(
            error,
            Error::CommandActive {
                active: command.code()
            }
        );
        lab.model.run_for(500_000);
        let error = CommandError::NONE;
        let done = Outcome {
            command,
            error,
            result: 0,
        };
        assert_eq!(lab.device.poll(), Ok(Poll::Done(done)));
        assert_eq!(lab.take_record(1).word0.status(), Status::SUCCESS);
        assert_eq!(lab.model.take_messages().len(), 1);
        assert_eq!(lab.device.poll(), Ok(Poll::Idle));
    }
}

#[test]
fn a_drain_of_others_does_not_wait() {
    for command in [Command::DrainQueue(1), Command::DrainPasid(pasid(2))] {
        let (mut lab, _slot) = busy();
        lab.device.execute(command).unwrap();
        assert_eq!(lab.take_record(1).word0.status(), Status::NONE);
    }
}

#[test]
fn an_abort_ends_what_a_drain_would_wait_for() {
    for command in [
        Command::AbortQueue(0),
        Command::AbortPasid(pasid(1)),
        Command::AbortAll,
    ] {
        let (mut lab, slot) = busy();
        lab.device.execute(command).unwrap();
        lab.model.run();
        assert_eq!(lab.model.take_messages(), []);
        // The queue goes on.
        lab.take_record(1);
        assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
    }
}

#[test]
fn the_end_of_a_command_interrupts_if_that_was_asked_for() {
    let mut lab = Lab::ready("");
    lab.device.start_with_interrupt(Command::DrainAll).unwrap();
    lab.model.run();
    assert_eq!(lab.model.take_messages(), [Model::VECTOR_0]);
    assert!(lab.device.take_causes().unwrap().command_completion());
    assert!(!lab.device.take_causes().unwrap().command_completion());
    assert!(matches!(lab.device.poll(), Ok(Poll::Done(_))));

    lab.device.start(Command::DrainAll).unwrap();
    lab.model.run();
    assert_eq!(lab.model.take_messages(), []);
    assert!(matches!(lab.device.poll(), Ok(Poll::Done(_))));
}

#[test]
fn a_command_that_never_ends_is_given_up_in_time() {
    let mut lab = Lab::ready("");
    lab.model.control("hang-command");
    let before = hwio::Clock::now(&lab.model);
    let error = lab.device.execute(Command::DrainQueue(0)).unwrap_err();
    let took = hwio::Clock::now(&lab.model) - before;
    assert!(took >= TIMEOUT && took < 2 * TIMEOUT, "{took:?}");
    let Error::Timeout { command, status } = error else {
        panic!("{error}");
    };
    assert_eq!(
        (command, status.into_bits()),
        (CommandCode::DRAIN_WQ, 1 << 31)
    );
    // A function-level reset ends it, and what the driver remembers brings all back.
    let active = CommandCode::DRAIN_WQ;
    assert_eq!(lab.device.recover(), Err(Error::CommandActive { active }));
    lab.model.reset_function();
    lab.model.enumerate();
    lab.device.recover().unwrap();
    let slot = lab.slot(1);
    assert_eq!(lab.run_no_op(0, handle(slot.index())), Status::SUCCESS);
}

/// Every code that a command can end with, and some that none does.
#[test]
fn a_refusal_comes_with_the_code_of_the_device() {
    let mut lab = Lab::ready("");
    for code in 1..=0xff {
        lab.model.control(&format!("fail-command {code}"));
        let error = lab.device.execute(Command::DrainQueue(0)).unwrap_err();
        let expected = Error::CommandFailed {
            command: CommandCode::DRAIN_WQ,
            queue: Some(0),
            error: CommandError(code),
        };
        assert_eq!(error, expected);
        assert!(
            error.to_string().contains("of the DSA failed for queue 0"),
            "{error}"
        );
    }
}

#[test]
fn a_queue_that_is_not_enabled_is_not_drained() {
    let mut lab = Lab::configured("");
    let error = lab.device.execute(Command::DrainQueue(0)).unwrap_err();
    let expected = Error::CommandFailed {
        command: CommandCode::DRAIN_WQ,
        queue: Some(0),
        error: CommandError::WQ_NOT_ENABLED,
    };
    assert_eq!(error, expected);
}
