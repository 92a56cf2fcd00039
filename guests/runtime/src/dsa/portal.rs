//! The way into a queue.
#![expect(unsafe_code, reason = "instructions without an intrinsic")]

use core::arch::asm;

use hwio::Submission;

use super::Work;
use crate::memory::Buffer;

/// By which instruction descriptors go to a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Dedicated queues.
    Movdir64b,
    /// Shared queues, with the PASID in IA32_PASID.
    Enqcmd,
    /// Shared queues, with the PASID in the descriptor.
    Enqcmds,
}

impl Instruction {
    /// As the manual spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Movdir64b => "MOVDIR64B",
            Self::Enqcmd => "ENQCMD",
            Self::Enqcmds => "ENQCMDS",
        }
    }
}

/// One portal page. What is submitted makes the device read and write memory: those
/// who submit name buffers of their own.
#[derive(Clone, Copy, Debug)]
pub struct Portal {
    address: u64,
}

impl Portal {
    /// The portal page at `address`, which is mapped.
    pub(super) fn new(address: u64) -> Self {
        Self { address }
    }

    /// Where it is.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Hands `work` over.
    pub fn submit(self, work: &Work, by: Instruction) -> Submission {
        self.submit_words(&work.words(), by)
    }

    /// Hands the 64 bytes at `offset` of `buffer` over, which somebody else may be
    /// changing: the instruction reads them, once.
    ///
    /// # Panics
    /// If they are not all there.
    pub fn submit_from(self, buffer: &Buffer, offset: usize, by: Instruction) -> Submission {
        let _last = buffer.address(offset + 63);
        self.submit_at(buffer.address(offset), by)
    }

    /// Hands 64 bytes over.
    #[inline]
    pub fn submit_words(self, words: &[u64; 8], by: Instruction) -> Submission {
        self.submit_at((&raw const *words).addr() as u64, by)
    }

    /// Hands over the 64 bytes at `words`, which are mapped.
    #[inline]
    fn submit_at(self, words: u64, by: Instruction) -> Submission {
        let retry: u8;
        // Not `nomem`: what was stored before must have been stored.
        match by {
            Instruction::Movdir64b => {
                // SAFETY: reads 64 bytes, and writes to a device page.
                unsafe {
                    asm!("sfence", "movdir64b {portal}, [{words}]",
                        portal = in(reg) self.address, words = in(reg) words,
                        options(nostack, preserves_flags));
                }
                return Submission::Accepted;
            }
            Instruction::Enqcmd => {
                // SAFETY: as above.
                unsafe {
                    asm!("sfence", "enqcmd {portal}, [{words}]", "setz {retry}",
                        portal = in(reg) self.address, words = in(reg) words,
                        retry = out(reg_byte) retry, options(nostack));
                }
            }
            Instruction::Enqcmds => {
                // SAFETY: as above.
                unsafe {
                    asm!("sfence", "enqcmds {portal}, [{words}]", "setz {retry}",
                        portal = in(reg) self.address, words = in(reg) words,
                        retry = out(reg_byte) retry, options(nostack));
                }
            }
        }
        match retry {
            0 => Submission::Accepted,
            _ => Submission::Retry,
        }
    }
}
