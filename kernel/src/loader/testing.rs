//! Guest memory for the tests of the loaders.

use alloc::vec;
use alloc::vec::Vec;

use super::GuestRam;
use crate::virt::address::GuestPhysAddr;
use crate::virt::memory::NotRam;

/// Memory that is full of what an earlier guest left.
pub(super) struct FakeRam(pub(super) Vec<u8>);

impl FakeRam {
    /// So many bytes of it.
    pub(super) fn new(len_bytes: usize) -> Self {
        Self(vec![0xee; len_bytes])
    }

    pub(super) fn at(&self, address: usize, length: usize) -> &[u8] {
        &self.0[address..address + length]
    }
}

impl GuestRam for FakeRam {
    fn len_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn write(&mut self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
        let start = usize::try_from(address.0).map_err(|_| NotRam(address))?;
        let end = start.checked_add(bytes.len()).ok_or(NotRam(address))?;
        let place = self.0.get_mut(start..end).ok_or(NotRam(address))?;
        place.copy_from_slice(bytes);
        Ok(())
    }
}
