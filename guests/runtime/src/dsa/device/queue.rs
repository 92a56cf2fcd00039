//! A queue, and how it is made ready.

use hwio::Registers;
use hwspec::dsa::{CommandCode, MsixPermission, PortalPage};

use super::{Device, Error, VECTOR_BASE};
use crate::Features;
use crate::dsa::{Instruction, Portal};
use crate::options::{BadNumber, Options};

/// Which guest PASIDs the queues use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pasids {
    /// Dedicated queues. Without one they run with PASIDs off.
    pub dedicated: Option<u32>,
    /// Shared queues, which cannot be without.
    pub shared: u32,
}

impl Pasids {
    /// `pasid=` for shared queues, 1 if it is not there, and `dedicated-pasid=`.
    ///
    /// # Errors
    /// If one of them is no number.
    pub fn from_options(options: &Options<'static>) -> Result<Self, BadNumber<'static>> {
        let pasid = |key| -> Result<Option<u32>, BadNumber<'static>> {
            let number = options.number(key)?;
            Ok(number.and_then(|number| u32::try_from(number & 0xf_ffff).ok()))
        };
        Ok(Self {
            dedicated: pasid("dedicated-pasid")?,
            shared: pasid("pasid")?.unwrap_or(1),
        })
    }
}

/// What a queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a transfer.
    pub transfer: u64,
    /// Descriptors in a batch.
    pub batch: usize,
}

/// A queue that takes work.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Its number.
    pub index: usize,
    /// Dedicated, or shared.
    pub is_dedicated: bool,
    /// Entries.
    pub size: usize,
    /// What it takes.
    pub limits: Limits,
    /// Its limited portal, the one that Linux uses.
    pub portal: Portal,
    /// The instruction for it.
    pub instruction: Instruction,
    /// The guest PASID of its work, if any.
    pub pasid: Option<u32>,
    /// What a descriptor names to interrupt.
    pub handle: u16,
    /// The processor's vector that this arrives at.
    pub vector: u8,
}

impl Device {
    pub(super) fn start_queue(
        &mut self,
        index: usize,
        features: Features,
        pasids: Pasids,
    ) -> Result<Queue, Error> {
        let config = self.wq_config(index)?;
        let mode = self.registers.read(config.mode());
        let is_dedicated = mode.dedicated();
        let pasid = if is_dedicated {
            pasids.dedicated
        } else {
            Some(pasids.shared)
        };
        if !is_dedicated && !features.enqcmd {
            return Err(Error::NoEnqcmd(index));
        }
        // That of a shared queue comes with each descriptor.
        if let Some(pasid) = pasid.filter(|_| is_dedicated) {
            let mode = mode.with_pasid(pasid).with_pasid_enable(true);
            self.registers.write(config.mode(), mode);
        }
        let operand = u32::try_from(index).unwrap_or(u32::MAX);
        self.execute(CommandCode::ENABLE_WQ, operand)?;

        let virtual_vector = u16::try_from(index + 1).unwrap_or(u16::MAX);
        let permission = match pasid {
            None => MsixPermission::new(),
            Some(pasid) => MsixPermission::new()
                .with_pasid_enable(true)
                .with_pasid(pasid),
        };
        self.set_permission(virtual_vector.into(), permission)?;
        let limits = self.registers.read(config.limits());
        let [low, ..] = virtual_vector.to_le_bytes();
        Ok(Queue {
            index,
            is_dedicated,
            size: self.registers.read(config.size()).size().into(),
            limits: Limits {
                transfer: 1 << limits.max_transfer_size(),
                batch: 1 << limits.max_batch_size(),
            },
            portal: Portal::new(self.portal_address(index, PortalPage::LimitedMsix)),
            instruction: if is_dedicated {
                Instruction::Movdir64b
            } else {
                Instruction::Enqcmds
            },
            pasid,
            handle: self.request_handle(virtual_vector)?,
            vector: VECTOR_BASE.wrapping_add(low),
        })
    }
}
