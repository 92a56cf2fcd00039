//! PCI configuration space. [PCI Express Base 6.0, ch. 7]

use crate::memory::Window;
use crate::paging;

const BUS_SIZE: u64 = 1 << 20;
const FUNCTION_SIZE: u64 = 1 << 12;

const IDENTITY: u64 = 0x00;
const COMMAND: u64 = 0x04;
const BAR_0: u64 = 0x10;
const CAPABILITIES: u64 = 0x34;
const EXTENDED_CAPABILITIES: u64 = 0x100;

const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;

/// Bus, device and function number, as in a requester id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceId(pub(crate) u16);

/// One function's configuration space.
#[derive(Debug)]
pub(crate) struct Function {
    id: SourceId,
    registers: Window,
}

impl Function {
    /// The first function on bus 0 that is one of `devices` of `vendor`.
    pub(crate) fn find(space: u64, vendor: u16, devices: &[u16]) -> Option<Self> {
        let bus = paging::device_window(space, BUS_SIZE);
        (0..=0xff).find_map(|id: u16| {
            let base = u64::from(id) * FUNCTION_SIZE;
            let identity = bus.read_u32(base + IDENTITY);
            let matches = devices
                .iter()
                .any(|&device| identity == u32::from(device) << 16 | u32::from(vendor));
            matches.then(|| Self {
                id: SourceId(id),
                registers: paging::device_window(space + base, FUNCTION_SIZE),
            })
        })
    }

    /// The id that the function's requests carry.
    pub(crate) fn source_id(&self) -> SourceId {
        self.id
    }

    /// Lets the function answer memory accesses, and make some.
    pub(crate) fn enable(&self) {
        self.registers
            .write_u16(COMMAND, COMMAND_MEMORY | COMMAND_BUS_MASTER);
    }

    /// Stops both.
    pub(crate) fn disable(&self) {
        self.registers.write_u16(COMMAND, 0);
    }

    /// The window behind a 64-bit memory BAR. To be called while the function
    /// does not answer memory accesses.
    pub(crate) fn bar(&self, index: u64) -> Window {
        const TYPE: u64 = 0xf;
        let bar = BAR_0 + index * 4;
        let read = || {
            let low = u64::from(self.registers.read_u32(bar));
            u64::from(self.registers.read_u32(bar + 4)) << 32 | low
        };
        let write = |low, high| {
            self.registers.write_u32(bar, low);
            self.registers.write_u32(bar + 4, high);
        };
        let original = (
            self.registers.read_u32(bar),
            self.registers.read_u32(bar + 4),
        );
        let base = read() & !TYPE;
        assert!(base != 0, "firmware left BAR {index} without an address");
        write(u32::MAX, u32::MAX);
        let size = !(read() & !TYPE) + 1;
        write(original.0, original.1);
        paging::device_window(base, size)
    }

    /// Offset of a capability.
    pub(crate) fn capability(&self, id: u8) -> Option<u64> {
        /// More than fit behind the header.
        const LIMIT: usize = 48;
        let mut next = self.registers.read_u8(CAPABILITIES);
        for _ in 0..LIMIT {
            let at = u64::from(next & !3);
            if at == 0 {
                break;
            }
            if self.registers.read_u8(at) == id {
                return Some(at);
            }
            next = self.registers.read_u8(at + 1);
        }
        None
    }

    /// Offset of an extended capability.
    pub(crate) fn extended_capability(&self, id: u16) -> Option<u64> {
        /// More than fit into 4 KiB.
        const LIMIT: usize = 512;
        let mut at = EXTENDED_CAPABILITIES;
        for _ in 0..LIMIT {
            let header = self.registers.read_u32(at);
            if header & 0xffff == u32::from(id) {
                return Some(at);
            }
            at = u64::from(header >> 20 & !3);
            if at == 0 {
                break;
            }
        }
        None
    }

    pub(crate) fn read_u16(&self, offset: u64) -> u16 {
        self.registers.read_u16(offset)
    }

    pub(crate) fn read_u32(&self, offset: u64) -> u32 {
        self.registers.read_u32(offset)
    }

    pub(crate) fn write_u16(&self, offset: u64, value: u16) {
        self.registers.write_u16(offset, value);
    }
}
