//! Leaf 0xd: the registers that XSAVE saves, and how large they are.
//! [Intel SDM, vol. 1, 13.2 "Enumeration of CPU Support for XSAVE Instructions and
//! XSAVE-Supported Features"; 13.4.3 "Extended Region of an XSAVE Area"]
//!
//! There is no XSAVES, and no state for supervisors.

use core::arch::x86_64::CpuidResult;

use super::{GuestCpu, NOTHING, registers};

const LEAF: u32 = 0xd;
/// The area of FXSAVE and the header.
const START: u32 = 512 + 64;
/// Subleaf 1, EAX: XSAVEOPT, XSAVEC, XGETBV with ECX = 1.
const INSTRUCTIONS: u32 = 0b111;
/// Subleaf 2 and more, ECX: in a compacted area this begins at 64 bytes.
const ALIGNED: u32 = 1 << 1;
/// The first component that is not in the area of FXSAVE.
const FIRST: u32 = 2;
const LAST: u32 = 62;

pub(super) fn answer(
    host: impl Fn(u32, u32) -> CpuidResult,
    guest: &GuestCpu,
    subleaf: u32,
) -> CpuidResult {
    let supported = guest.supported_xcr0;
    match subleaf {
        0 => {
            let [a, b, c, d, e, f, g, h] = supported.to_le_bytes();
            registers(
                u32::from_le_bytes([a, b, c, d]),
                standard_size(host_of(&host, guest.xcr0 & supported)),
                standard_size(host_of(&host, supported)),
                u32::from_le_bytes([e, f, g, h]),
            )
        }
        1 => registers(
            host(LEAF, 1).eax & INSTRUCTIONS,
            compacted_size(host_of(&host, guest.xcr0 & supported)),
            0,
            0,
        ),
        FIRST..=LAST if supported >> subleaf & 1 != 0 => {
            let found = host(LEAF, subleaf);
            registers(found.eax, found.ebx, found.ecx & ALIGNED, 0)
        }
        _ => NOTHING,
    }
}

/// What the machine says of each component in `mask` that has a place of its own,
/// in ascending order.
fn host_of(
    host: &impl Fn(u32, u32) -> CpuidResult,
    mask: u64,
) -> impl Iterator<Item = CpuidResult> {
    let components = (FIRST..=LAST).filter(move |component| mask >> component & 1 != 0);
    components.map(|component| host(LEAF, component))
}

/// The size of an area in which each component is at its own offset (EBX).
fn standard_size(components: impl Iterator<Item = CpuidResult>) -> u32 {
    components
        .map(|component| component.ebx.saturating_add(component.eax))
        .fold(START, u32::max)
}

/// The size of one in which they follow each other.
fn compacted_size(components: impl Iterator<Item = CpuidResult>) -> u32 {
    components.fold(START, |end, component| {
        let start = if component.ecx & ALIGNED != 0 {
            end.saturating_add(63) & !63
        } else {
            end
        };
        start.saturating_add(component.eax)
    })
}
