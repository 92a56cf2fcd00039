//! The machine around the device, as the device sees it.
//!
//! Everything that the model does to the outside goes through [`Bus`]: DMA,
//! interrupt messages, and the time that it runs on. QEMU is one
//! implementation (see [`crate::ffi`]), a flat byte array in a test another.

/// A 20-bit Process Address Space ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pasid(u32);

impl Pasid {
    /// The width that the PASID capability of the device announces, in bits.
    pub const WIDTH: u32 = 20;

    /// The PASID in the low 20 bits of `bits`; what stands above is ignored.
    pub const fn from_low_bits(bits: u32) -> Self {
        Self(bits & ((1 << Self::WIDTH) - 1))
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// In whose name a memory request is made: the PASID TLP prefix of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The address space, or `None` for a request without a PASID.
    pub pasid: Option<Pasid>,
    /// Privileged Mode Requested.
    pub privileged: bool,
}

/// Why the machine did not carry out an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// The IOMMU has no translation for the page, or not with this permission.
    PageFault,
    /// Nothing answered at the address, or the access was aborted.
    Aborted,
}

/// An access that ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferError {
    /// Bytes at the front of the buffer that were transferred all the same.
    pub transferred: usize,
    /// What stopped it there.
    pub cause: BusError,
}

/// The machine around the device.
pub trait Bus {
    /// Virtual time in nanoseconds; never goes back.
    fn now_ns(&self) -> u64;

    /// Reads `data.len()` bytes at `address` by DMA.
    ///
    /// # Errors
    /// [`TransferError`] at the first page that cannot be read.
    fn read(
        &mut self,
        requester: Requester,
        address: u64,
        data: &mut [u8],
    ) -> Result<(), TransferError>;

    /// Writes `data` at `address` by DMA.
    ///
    /// # Errors
    /// [`TransferError`] at the first page that cannot be written.
    fn write(
        &mut self,
        requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError>;

    /// Copies up to `length` bytes from `source` to `destination`, and returns
    /// how many at the front were copied: as many as it can without an error,
    /// none if it does not know how. The model reads and writes what is left
    /// over, and so finds out what is wrong with it.
    ///
    /// Only asked for where `destination` does not begin inside the source; the
    /// source may begin inside the destination, and then the copy has to go
    /// upwards. A bus that reaches both operands without a buffer between them
    /// saves the model the second copy of the data.
    fn copy(
        &mut self,
        requester: Requester,
        source: u64,
        destination: u64,
        length: usize,
    ) -> usize {
        let _ = (requester, source, destination, length);
        0
    }

    /// Sends an interrupt message: a 32-bit posted write with the function's
    /// own requester id and no PASID.
    ///
    /// # Errors
    /// [`BusError`] if the platform refused the message (interrupt remapping).
    fn send_message(&mut self, address: u64, data: u32) -> Result<(), BusError>;
}
