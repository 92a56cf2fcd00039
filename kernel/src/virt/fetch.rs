//! Reading and writing a guest's memory by the guest's own addresses.
#![forbid(unsafe_code)]

use super::address::{GuestPhysAddr, GuestVirtAddr};
use super::backend::Vcpu;
use super::decode::{self, Context, Instruction, InstructionBytes, MAX_INSTRUCTION};
use super::memory::{GuestMemory, NotRam};
use super::walk::{self, PageFault, Paging, Purpose};
use crate::mm::PAGE_SIZE;

const RFLAGS_DF: u64 = 1 << 10;

/// Why a guest's memory could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// The guest's tables do not allow it: a page fault of the guest.
    PageFault(PageFault),
    /// The guest's tables lead to this address, where the guest has no RAM.
    NotRam(GuestPhysAddr),
}

impl From<PageFault> for AccessError {
    fn from(fault: PageFault) -> Self {
        Self::PageFault(fault)
    }
}

/// Where the instruction is that a virtual processor is at.
#[inline]
pub fn instruction_address(vcpu: &impl Vcpu) -> GuestVirtAddr {
    if vcpu.code_bits() == 64 {
        GuestVirtAddr(vcpu.rip())
    } else {
        let [_, cs, ..] = vcpu.segment_bases();
        GuestVirtAddr(cs.wrapping_add(vcpu.rip()) & 0xffff_ffff)
    }
}

/// Copies the instruction at `address`.
///
/// # Errors
/// If not even its first byte can be read.
#[inline]
pub fn instruction(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
) -> Result<InstructionBytes, AccessError> {
    let at = walk::translate(memory, paging, address, Purpose::Execute)?;
    if at.0 % PAGE_SIZE > PAGE_SIZE - 16 {
        return split_instruction(memory, paging, address);
    }
    let words = memory.read_words(at).map_err(not_ram)?;
    Ok(InstructionBytes::from_words(words))
}

/// An instruction that may go on in the next page.
#[cold]
fn split_instruction(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
) -> Result<InstructionBytes, AccessError> {
    let mut bytes = [0; MAX_INSTRUCTION];
    let in_page = usize::try_from(PAGE_SIZE - address.0 % PAGE_SIZE).unwrap_or(MAX_INSTRUCTION);
    let first = in_page.min(MAX_INSTRUCTION);
    let (start, rest) = bytes.split_at_mut(first);
    read_in_page(memory, paging, address, start, Purpose::Execute)?;
    let next = address.wrapping_add(first as u64);
    let rest_is_there = read_in_page(memory, paging, next, rest, Purpose::Execute).is_ok();
    let length = if rest_is_there { bytes.len() } else { first };
    let known = bytes.get(..length).unwrap_or_default();
    Ok(InstructionBytes::from_slice(known))
}

/// Understands the instruction that a virtual processor is at. None if it is not
/// one that is emulated.
///
/// # Errors
/// If it cannot be read: the guest changed something meanwhile.
pub fn decode(vcpu: &impl Vcpu, memory: &GuestMemory) -> Result<Option<Instruction>, AccessError> {
    let address = instruction_address(vcpu);
    let bytes = instruction(memory, &vcpu.paging(), address)?;
    let context = Context {
        bits: vcpu.code_bits(),
        rip: vcpu.rip(),
        goes_down: vcpu.rflags() & RFLAGS_DF != 0,
        registers: vcpu.registers(),
        segment_bases: vcpu.segment_bases(),
    };
    Ok(decode::decode(&context, &bytes))
}

/// Copies a descriptor: 64 bytes at any address, once.
///
/// # Errors
/// If some of it cannot be read.
#[inline]
pub fn descriptor(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
) -> Result<[u64; 8], AccessError> {
    if address.0 % PAGE_SIZE > PAGE_SIZE - 64 {
        return split_descriptor(memory, paging, address);
    }
    let at = walk::translate(memory, paging, address, Purpose::Read)?;
    memory.read_words(at).map_err(not_ram)
}

/// A descriptor that goes on in the next page.
#[cold]
fn split_descriptor(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
) -> Result<[u64; 8], AccessError> {
    let mut bytes = [[0; 8]; 8];
    read(memory, paging, address, bytes.as_flattened_mut())?;
    Ok(bytes.map(u64::from_le_bytes))
}

fn not_ram(error: NotRam) -> AccessError {
    AccessError::NotRam(error.0)
}

/// Copies out of the guest's memory.
///
/// # Errors
/// If some of it cannot be read.
pub fn read(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
    buffer: &mut [u8],
) -> Result<(), AccessError> {
    let mut at = address;
    let mut rest = buffer;
    while !rest.is_empty() {
        let in_page = usize::try_from(PAGE_SIZE - at.0 % PAGE_SIZE).unwrap_or(rest.len());
        let (part, behind) = rest.split_at_mut(in_page.min(rest.len()));
        read_in_page(memory, paging, at, part, Purpose::Read)?;
        at = at.wrapping_add(part.len() as u64);
        rest = behind;
    }
    Ok(())
}

/// Copies into the guest's memory. All pages are looked at first: if one cannot
/// be written, nothing is.
///
/// # Errors
/// If some of it cannot be written.
pub fn write(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
    bytes: &[u8],
) -> Result<(), AccessError> {
    for is_trial in [true, false] {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let in_page = usize::try_from(PAGE_SIZE - at.0 % PAGE_SIZE).unwrap_or(rest.len());
            let (part, behind) = rest.split_at(in_page.min(rest.len()));
            let target = walk::translate(memory, paging, at, Purpose::Write)?;
            let result = if is_trial {
                memory.check(target, part.len() as u64)
            } else {
                memory.write(target, part)
            };
            result.map_err(not_ram)?;
            at = at.wrapping_add(part.len() as u64);
            rest = behind;
        }
    }
    Ok(())
}

fn read_in_page(
    memory: &GuestMemory,
    paging: &Paging,
    address: GuestVirtAddr,
    buffer: &mut [u8],
    purpose: Purpose,
) -> Result<(), AccessError> {
    let at = walk::translate(memory, paging, address, purpose)?;
    let result = memory.read(at, buffer);
    result.map_err(not_ram)
}
