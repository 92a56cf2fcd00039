//! Which ports and registers a guest may touch by itself: the same for all
//! guests. No ports, and of the registers those that are switched with it.

use hwspec::x86::svm::{
    IO_PERMISSION_MAP_BYTES, MSR_PERMISSION_MAP_BYTES, MSR_RANGE_LEN, MSR_RANGES,
};
use spin::Once;
use x86_64::PhysAddr;

use crate::mm::{Frames, OutOfMemory, PAGE_SIZE};

/// Registers that VMLOAD and VMSAVE switch, or, the last one, the hypervisor
/// when another guest takes the processor.
const FREE_REGISTERS: [u32; 11] = [
    0x174,       // SYSENTER_CS
    0x175,       // SYSENTER_ESP
    0x176,       // SYSENTER_EIP
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0100, // FS_BASE
    0xc000_0101, // GS_BASE
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
];

static MAPS: Once<Maps> = Once::new();

#[derive(Debug)]
struct Maps {
    io: Frames,
    msr: Frames,
}

/// Makes the maps.
pub(super) fn init() -> Result<(), OutOfMemory> {
    let io = filled_map(IO_PERMISSION_MAP_BYTES)?;
    let msr = filled_map(MSR_PERMISSION_MAP_BYTES)?;
    for register in FREE_REGISTERS {
        let (byte, bits) = msr_bits(register).expect("the map has these registers");
        // SAFETY: the byte is within the map.
        let place = unsafe { msr.pointer().add(byte) };
        // SAFETY: as above.
        let old = unsafe { place.read() };
        // SAFETY: as above; no guest uses the map yet.
        unsafe { place.write(old & !bits) };
    }
    MAPS.call_once(|| Maps { io, msr });
    Ok(())
}

/// A map in which everything exits.
fn filled_map(bytes: usize) -> Result<Frames, OutOfMemory> {
    let map = Frames::allocate((bytes as u64).div_ceil(PAGE_SIZE))?;
    // SAFETY: the frames are at least so long, and nobody else's.
    unsafe { map.pointer().write_bytes(0xff, bytes) };
    Ok(map)
}

/// The byte of the MSR map that a register's two bits are in, and the bits.
fn msr_bits(register: u32) -> Option<(usize, u8)> {
    MSR_RANGES.iter().find_map(|&(first, start)| {
        let index = register.checked_sub(first)?;
        let index = usize::try_from(index).ok()?;
        (index < MSR_RANGE_LEN as usize).then_some((start + index / 4, 3 << (index % 4 * 2)))
    })
}

/// Where the maps are: ports, registers.
pub(super) fn addresses() -> (PhysAddr, PhysAddr) {
    let maps = MAPS.get().expect("the maps are made first");
    (maps.io.start(), maps.msr.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_their_bits_where_the_processor_looks() {
        assert_eq!(msr_bits(0), Some((0, 0b11)));
        assert_eq!(msr_bits(0x174), Some((0x5d, 0b11)));
        assert_eq!(msr_bits(0x1fff), Some((0x7ff, 0b1100_0000)));
        assert_eq!(msr_bits(0x2000), None);
        assert_eq!(msr_bits(0xc000_0082), Some((0x820, 0b11_0000)));
        assert_eq!(msr_bits(0xc001_0015), Some((0x1005, 0b1100)));
        assert_eq!(msr_bits(0xc001_2000), None);
    }
}
