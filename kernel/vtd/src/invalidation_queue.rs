//! The queue by which the unit is told to forget what it has cached.
//!
//! One page of 128 descriptors of 256 bits. Each call puts a few descriptors and a
//! wait descriptor into it and returns when the unit has written the wait's number to
//! memory: all that was cached is gone, and all requests that used it are done. So
//! the queue is empty between calls.
//! [VT-d 5.10, 6.5.2 "Queued Invalidation Interface"]

use core::iter;

use hwio::{Clock, DmaPages, FrameSource, PAGE_WORDS, Registers};
use hwspec::pci::SourceId;
use hwspec::vtd::{
    FSTS, Fsts, IQA, IQERCD, IQH, IQT, InvalidationDescriptor, InvalidationWait, Iqa, QueueOffset,
    WaitAddress,
};

use crate::Error;
use crate::control::Control;
use crate::error::RegisterName;
use crate::memory::{allocate, page_number};

/// How many descriptors the queue has.
const COUNT: usize = 128;
/// 64-bit words of a descriptor.
const WORDS: usize = 4;
/// The word that the unit answers in, on the page behind the queue.
const STATUS: usize = PAGE_WORDS;

/// The queue and its state. The unit looks into caches for both pages, whatever it
/// does elsewhere. [VT-d 5.10, 11.4.3 "Extended Capability Register", C]
#[derive(Debug)]
pub(crate) struct InvalidationQueue<P> {
    pages: P,
    /// Where the next descriptor goes.
    tail: usize,
    /// The number of the last wait descriptor.
    sequence: u32,
    /// The unit did not finish in time, and what it will still do is unknown.
    is_stuck: bool,
}

/// What became of one attempt.
enum Outcome {
    Done,
    /// Descriptor `index` is invalid; the rest was carried out.
    Refused(Error),
    /// Waits were aborted; nothing is known of any descriptor.
    Aborted(Error),
}

impl<P: DmaPages> InvalidationQueue<P> {
    pub(crate) fn new(frames: &mut impl FrameSource<Pages = P>) -> Result<Self, Error> {
        Ok(Self {
            pages: allocate(frames, 2)?,
            tail: 0,
            sequence: 0,
            is_stuck: false,
        })
    }

    /// Makes the unit use this queue. It has none.
    pub(crate) fn start<R: Registers, C: Clock>(
        &mut self,
        control: &mut Control<R, C>,
    ) -> Result<(), Error> {
        let address = Iqa::new()
            .with_iqa(page_number(self.pages.physical_address()))
            .with_dw(true);
        control.registers.write(IQT, QueueOffset::new());
        control.registers.write(IQA, address);
        control.write_command(|command| command.with_qie(true), |status| status.qies())
    }

    /// Carries out `descriptors` in order and waits until they are.
    ///
    /// # Panics
    /// If there are more than fit.
    pub(crate) fn submit<R: Registers, C: Clock>(
        &mut self,
        control: &mut Control<R, C>,
        descriptors: &[InvalidationDescriptor],
    ) -> Result<(), Error> {
        if self.is_stuck {
            return Err(Error::QueueStuck);
        }
        match self.attempt(control, descriptors)? {
            Outcome::Done => Ok(()),
            Outcome::Refused(error) => Err(error),
            // Invalidations can be repeated; once, for a device that goes on not
            // answering is not worth waiting for.
            Outcome::Aborted(_) => match self.attempt(control, descriptors)? {
                Outcome::Done => Ok(()),
                Outcome::Refused(error) | Outcome::Aborted(error) => Err(error),
            },
        }
    }

    fn attempt<R: Registers, C: Clock>(
        &mut self,
        control: &mut Control<R, C>,
        descriptors: &[InvalidationDescriptor],
    ) -> Result<Outcome, Error> {
        assert!(
            descriptors.len() + 1 < COUNT,
            "{} descriptors at once",
            descriptors.len()
        );
        self.sequence = self.sequence.wrapping_add(1);
        let status = self.pages.word_address(STATUS).as_u64();
        let wait = (
            InvalidationWait::new()
                .with_sw(true)
                .with_status_data(self.sequence),
            WaitAddress::new().with_status_address(status >> 2),
        );
        for &descriptor in descriptors.iter().chain(iter::once(&wait.into())) {
            self.pages.write_words(self.tail * WORDS, &descriptor.0);
            self.tail = (self.tail + 1) % COUNT;
        }
        self.ring(control);

        // What the unit refused, if it did. It goes on with the rest all the same.
        let mut refused = None;
        let mut last = QueueOffset::new();
        let timeout = control.timeout;
        let Control {
            registers, clock, ..
        } = control;
        let outcome = clock.wait_for(timeout, || {
            if self.pages.read_word(STATUS) == u64::from(self.sequence) {
                return Some(Ok(Outcome::Done));
            }
            let status = registers.read(FSTS);
            if status.into_bits() == !0 {
                let register = RegisterName::Fsts;
                return Some(Err(Error::DeviceGone { register }));
            }
            last = registers.read(IQH);
            if status.iqe() {
                let error = self.replace_refused(registers, last);
                refused.get_or_insert(error);
                self.ring_registers(registers);
            }
            if status.ite() {
                let source = SourceId::from_bits(registers.read(IQERCD).itesid());
                registers.acknowledge(FSTS, Fsts::new().with_ite(true));
                return Some(Ok(Outcome::Aborted(Error::DeviceTlbTimeout { source })));
            }
            if status.ice() {
                // An answer that nobody waits for. It harms nothing, but while it is
                // there no fault event comes.
                registers.acknowledge(FSTS, Fsts::new().with_ice(true));
            }
            None
        });
        match outcome {
            Some(Ok(Outcome::Done)) => Ok(refused.map_or(Outcome::Done, Outcome::Refused)),
            Some(outcome) => outcome,
            None => {
                self.is_stuck = true;
                let register = RegisterName::Iqh;
                let value = last.into_bits();
                Err(Error::Timeout { register, value })
            }
        }
    }

    /// Puts a descriptor that does nothing in place of the one at the head, which the
    /// unit stopped at, and lets it go on.
    /// [VT-d 5.10, 6.5.2.11 "Hardware Handling of Queued Invalidation Interface Errors"]
    fn replace_refused<R: Registers>(&mut self, registers: &mut R, head: QueueOffset) -> Error {
        let first = usize::from(head.descriptor()) % COUNT * WORDS;
        let error = Error::InvalidationRefused {
            info: registers.read(IQERCD).iqei(),
            descriptor: self.pages.read_word(first),
        };
        let nothing = InvalidationDescriptor::from(InvalidationWait::new());
        self.pages.write_words(first, &nothing.0);
        registers.acknowledge(FSTS, Fsts::new().with_iqe(true));
        error
    }

    fn ring<R: Registers, C>(&self, control: &mut Control<R, C>) {
        self.ring_registers(&mut control.registers);
    }

    /// Tells the unit how far the queue is filled.
    fn ring_registers<R: Registers>(&self, registers: &mut R) {
        let tail = u16::try_from(self.tail).expect("the queue is small");
        registers.write(IQT, QueueOffset::new().with_descriptor(tail));
    }
}
