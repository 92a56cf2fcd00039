//! Commands while the device runs.

use hwio::{Clock, Registers};
use hwspec::dsa::CommandError;

use super::{ActiveCommand, Device};
use crate::ims::ImsIndex;
use crate::{Command, Error, InterruptHandle, Outcome, Poll, QueuePasid};

impl<R: Registers, C: Clock> Device<R, C> {
    /// Enables a queue, and waits for it.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), Error> {
        self.execute(Command::EnableQueue { queue, pasid })?;
        Ok(())
    }

    /// Waits until a queue's descriptors are done, and disables it.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn disable_queue(&mut self, queue: u8) -> Result<(), Error> {
        self.execute(Command::DisableQueue(queue))?;
        Ok(())
    }

    /// What a descriptor says to have the interrupt of an IMS entry. Asks the device for
    /// it, if it has handles, and waits; otherwise that is the index.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, Error> {
        if !self.capabilities.has_handle_commands() {
            return Ok(InterruptHandle(index.0));
        }
        self.execute(Command::RequestHandle(index))
            .map(InterruptHandle)
    }

    /// Starts a command. [`poll`](Self::poll) says when it is done.
    ///
    /// # Errors
    /// If another one is active, the device does not know it, or it is about a queue that
    /// is not in the plan, or that is to be enabled and not disabled.
    pub fn start(&mut self, command: Command) -> Result<(), Error> {
        self.start_as(command, false)
    }

    /// Starts a command; when it is done, the device interrupts by MSI-X entry 0, with
    /// [`IntCause::command_completion`](hwspec::dsa::IntCause).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_interrupt(&mut self, command: Command) -> Result<(), Error> {
        self.start_as(command, true)
    }

    fn start_as(&mut self, command: Command, request_interrupt: bool) -> Result<(), Error> {
        self.need_idle()?;
        let code = command.code();
        if !self.capabilities.has_command(code) {
            return Err(Error::UnsupportedCommand { command: code });
        }
        if let Some(queue) = command.queue() {
            self.planned(queue)?;
        }
        if let Command::EnableQueue { queue, pasid } = command {
            self.write_queue(queue, pasid)?;
        }
        let register = command.register().with_request_interrupt(request_interrupt);
        self.control.write_command(register);
        let deadline = self.control.clock.now() + self.control.timeout;
        self.active = Some(ActiveCommand { command, deadline });
        Ok(())
    }

    /// Asks what became of the command that was started. Waits for nothing.
    ///
    /// # Errors
    /// If there is no device any more; or if the command takes too long, in which case it
    /// is still active and can still be polled.
    pub fn poll(&mut self) -> Result<Poll, Error> {
        let Some(ActiveCommand { command, deadline }) = self.active else {
            return Ok(Poll::Idle);
        };
        // Before the status, so that it does not matter how long this CPU is away in
        // between.
        let is_late = self.control.clock.now() >= deadline;
        let status = self.control.read_command_status()?;
        if status.active() {
            let command = command.code();
            return if is_late {
                Err(Error::Timeout { command, status })
            } else {
                Ok(Poll::Active)
            };
        }
        self.active = None;
        let outcome = Outcome {
            command,
            error: status.error(),
            result: status.result(),
        };
        self.note(outcome);
        Ok(Poll::Done(outcome))
    }

    /// Starts a command and waits for it. Returns its result.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`poll`](Self::poll), and if the device refuses.
    pub fn execute(&mut self, command: Command) -> Result<u16, Error> {
        self.start(command)?;
        loop {
            match self.poll()? {
                Poll::Active => self.control.clock.relax(),
                Poll::Done(Outcome {
                    error: CommandError::NONE,
                    result,
                    ..
                }) => {
                    return Ok(result);
                }
                Poll::Done(outcome) => return Err(Error::of_command(command, outcome.error)),
                Poll::Idle => unreachable!("the command was just started"),
            }
        }
    }

    /// Notes what a command changed.
    fn note(&mut self, outcome: Outcome) {
        let enabled = match outcome.command {
            Command::EnableQueue { pasid, .. } => Some(pasid),
            Command::DisableQueue(_) | Command::ResetQueue(_) => None,
            _ => return,
        };
        let queue = outcome.command.queue();
        let queues = self.configuration.iter_mut().flat_map(|it| &mut it.queues);
        for entry in queues.filter(|entry| Some(entry.plan.index) == queue) {
            if outcome.error == CommandError::NONE {
                entry.enabled = enabled;
            }
        }
    }

    /// That no command is active that was started and not polled to its end.
    pub(super) fn need_idle(&self) -> Result<(), Error> {
        match self.active {
            Some(ActiveCommand { command, .. }) => {
                let active = command.code();
                Err(Error::CommandActive { active })
            }
            None => Ok(()),
        }
    }
}
