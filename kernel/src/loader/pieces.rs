//! Loading in pieces.
//!
//! Loaders write the same bytes in the same order each time. So a guest is loaded piece by
//! piece by loading it again and again, each time with a [`Piecewise`] memory that lets a
//! bounded number of bytes through, from where the last one ended.

use super::GuestRam;
use crate::virt::address::GuestPhysAddr;
use crate::virt::memory::NotRam;

/// A guest's memory that takes so much of what is loaded into it, and drops the rest.
#[derive(Debug)]
pub struct Piecewise<R> {
    ram: R,
    /// What is to be passed over: it is there already.
    skipped: u64,
    /// How much it still takes.
    left: u64,
    /// How much it has taken.
    taken: u64,
    is_complete: bool,
}

impl<R: GuestRam> Piecewise<R> {
    /// Lets `count` bytes through to `ram`, behind the first `done` ones.
    pub fn new(ram: R, done: u64, count: u64) -> Self {
        Self {
            ram,
            skipped: done,
            left: count,
            taken: 0,
            is_complete: true,
        }
    }

    /// How many bytes it has taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether nothing was dropped.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl<R: GuestRam> GuestRam for Piecewise<R> {
    fn len_bytes(&self) -> u64 {
        self.ram.len_bytes()
    }

    fn write(&mut self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
        let length = bytes.len() as u64;
        let skipped = self.skipped.min(length);
        self.skipped -= skipped;
        let taken = self.left.min(length - skipped);
        self.left -= taken;
        self.is_complete &= skipped + taken == length;
        let range = usize::try_from(skipped)
            .ok()
            .zip(usize::try_from(skipped + taken).ok());
        let part = range.and_then(|(start, end)| bytes.get(start..end));
        let part = part.ok_or(NotRam(address))?;
        if part.is_empty() {
            return Ok(());
        }
        self.taken += taken;
        let at = address.checked_add(skipped).ok_or(NotRam(address))?;
        self.ram.write(at, part)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    struct FakeRam<'r>(&'r mut [u8]);

    impl GuestRam for FakeRam<'_> {
        fn len_bytes(&self) -> u64 {
            self.0.len() as u64
        }

        fn write(&mut self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), NotRam> {
            let start = usize::try_from(address.0).unwrap();
            let place = self.0.get_mut(start..start + bytes.len());
            place.ok_or(NotRam(address))?.copy_from_slice(bytes);
            Ok(())
        }
    }

    /// What a loader does: here and there, some places twice.
    fn load(ram: &mut impl GuestRam) -> Result<(), NotRam> {
        ram.write(GuestPhysAddr(10), b"0123456789")?;
        ram.write(GuestPhysAddr(40), b"")?;
        ram.write(GuestPhysAddr(0), b"abc")?;
        ram.write(GuestPhysAddr(12), b"xyz")
    }

    #[test]
    fn pieces_of_any_size_make_the_same_whole() {
        let mut whole = [0; 50];
        load(&mut FakeRam(&mut whole)).unwrap();
        assert_eq!(whole[10..20], *b"01xyz56789");
        for count in 1..20 {
            let mut ram = vec![0; 50];
            let (mut done, mut pieces) = (0, Vec::new());
            loop {
                let mut piece = Piecewise::new(FakeRam(&mut ram), done, count);
                load(&mut piece).unwrap();
                let is_complete = piece.is_complete();
                done += piece.taken();
                pieces.push(piece.taken());
                if is_complete {
                    break;
                }
            }
            assert_eq!(ram, whole, "{count} at a time");
            assert_eq!(done, 16);
            assert!(pieces.iter().all(|&taken| taken <= count), "{pieces:?}");
            assert_eq!(pieces.len() as u64, 16_u64.div_ceil(count));
        }
    }

    #[test]
    fn what_is_not_ram_is_found_when_its_piece_comes() {
        let mut ram = [0; 12];
        let mut piece = Piecewise::new(FakeRam(&mut ram), 0, 100);
        assert_eq!(load(&mut piece), Err(NotRam(GuestPhysAddr(10))));
        let mut piece = Piecewise::new(FakeRam(&mut ram), 0, 0);
        assert_eq!(load(&mut piece), Ok(()));
        assert!(!piece.is_complete());
        let last = GuestPhysAddr(u64::MAX);
        let mut piece = Piecewise::new(FakeRam(&mut ram), 1, 100);
        assert_eq!(piece.write(last, b"ab"), Err(NotRam(last)));
    }
}
