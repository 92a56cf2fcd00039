//! Guest PASIDs, and the host PASIDs that stand behind them.

use alloc::boxed::Box;

use hwspec::pci::Pasid;

/// A guest PASID that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasidPair {
    /// As the guest knows it.
    pub guest: Pasid,
    /// As the device and the IOMMU know it.
    pub host: Pasid,
    /// The interrupt handle by which the device tells Weir that a batch of this PASID is
    /// done. Its slot has the host PASID. `None`: such batches are looked for.
    pub batch_handle: Option<u16>,
}

/// The guest PASIDs of one accelerator.
#[derive(Debug, Default)]
pub struct PasidMap {
    /// By guest PASID, each once.
    pairs: Box<[PasidPair]>,
}

impl PasidMap {
    /// A map of `pairs`. Of two pairs with one guest PASID either may win.
    pub fn new(pairs: &[PasidPair]) -> Self {
        let mut pairs: Box<[PasidPair]> = pairs.into();
        pairs.sort_unstable_by_key(|pair| pair.guest);
        Self { pairs }
    }

    /// Puts other interrupt handles of Weir's own in the place of those that there are.
    pub(crate) fn replace_batch_handles(&mut self, new: impl Fn(u16) -> u16) {
        for pair in &mut self.pairs {
            pair.batch_handle = pair.batch_handle.map(&new);
        }
    }

    /// Whether the guest has no PASIDs.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The host PASID behind a guest PASID.
    pub fn host(&self, guest: Pasid) -> Option<Pasid> {
        let index = self.pairs.binary_search_by_key(&guest, |pair| pair.guest);
        index
            .ok()
            .and_then(|index| self.pairs.get(index))
            .map(|pair| pair.host)
    }

    /// The interrupt handle for batches of a host PASID that stands behind a guest's.
    /// Looks at all of them.
    pub fn batch_handle(&self, host: Pasid) -> Option<u16> {
        let pair = self.pairs.iter().find(|pair| pair.host == host)?;
        pair.batch_handle
    }

    /// The guest PASID that a host PASID stands behind. Looks at all of them.
    pub fn guest(&self, host: Pasid) -> Option<Pasid> {
        let pair = self.pairs.iter().find(|pair| pair.host == host)?;
        Some(pair.guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pasid(value: u32) -> Pasid {
        Pasid::new(value).unwrap()
    }

    #[test]
    fn a_pasid_is_found_both_ways_or_not_at_all() {
        let map = PasidMap::new(&[
            PasidPair {
                guest: pasid(9),
                host: pasid(0x102),
                batch_handle: None,
            },
            PasidPair {
                guest: pasid(1),
                host: pasid(0x101),
                batch_handle: Some(7),
            },
        ]);
        assert_eq!(map.host(pasid(1)), Some(pasid(0x101)));
        assert_eq!(map.host(pasid(9)), Some(pasid(0x102)));
        assert_eq!(map.host(pasid(0)), None);
        assert_eq!(map.host(pasid(0x101)), None);
        assert_eq!(map.guest(pasid(0x102)), Some(pasid(9)));
        assert_eq!(map.guest(pasid(9)), None);
        assert_eq!(map.batch_handle(pasid(0x101)), Some(7));
        assert_eq!(map.batch_handle(pasid(0x102)), None);
        assert_eq!(map.batch_handle(pasid(1)), None);
        assert!(!map.is_empty());
        assert!(PasidMap::default().is_empty());
    }
}
