//! AMD's SVM. [AMD64 Architecture Programmer's Manual, vol. 2, ch. 15 "Secure
//! Virtual Machine"]
//!
//! [`processor`] switches it on, [`vcpu`] is a virtual processor with its control
//! block, [`run`] the way into the guest and back, [`exits`] what the reasons for
//! coming back mean. [`nmi`] says when a guest takes another NMI, [`permission_maps`] say
//! which ports and registers exit.

mod exits;
mod msrs;
mod nmi;
mod permission_maps;
mod processor;
mod run;
mod vcpu;

use alloc::sync::Arc;

use hwspec::x86::svm::NestedEntry;
use x86_64::PhysAddr;

use super::backend::{Backend, Entry};
use super::nested::{Access, Format};
use super::space::Space;
use crate::mm::OutOfMemory;
use crate::refusal::Refusal;
pub use vcpu::SvmVcpu;

/// SVM.
#[derive(Debug)]
pub struct Svm;

impl Backend for Svm {
    type Format = NestedFormat;
    type Vcpu = SvmVcpu;

    const NAME: &'static str = "SVM";

    fn init() -> Result<(), Refusal> {
        permission_maps::init()?;
        processor::init()?;
        Ok(())
    }

    fn enable() -> Result<(), Refusal> {
        processor::enable()
    }

    fn new_vcpu(
        space: Arc<Space<NestedFormat>>,
        index: usize,
        entry: &Entry,
    ) -> Result<SvmVcpu, OutOfMemory> {
        SvmVcpu::new(space, index, entry)
    }
}

/// SVM's nested tables: the ordinary ones of 64-bit mode.
#[derive(Debug)]
pub struct NestedFormat;

/// Addresses in entries are those of pages.
fn entry(address: PhysAddr) -> NestedEntry {
    NestedEntry::new()
        .with_present(true)
        .with_user(true)
        .with_frame(address.as_u64() >> 12)
}

impl Format for NestedFormat {
    fn table(address: PhysAddr) -> u64 {
        entry(address).with_writable(true).into()
    }

    fn leaf(address: PhysAddr, access: Access, large: bool) -> u64 {
        // The processor need not mark what nobody looks at.
        let leaf = entry(address)
            .with_large(large)
            .with_accessed(true)
            .with_dirty(true);
        match access {
            Access::Ram => leaf.with_writable(true),
            Access::Device => leaf
                .with_writable(true)
                .with_no_execute(true)
                .with_write_through(true)
                .with_cache_disable(true),
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_processor_reads_them() {
        let address = PhysAddr::new(0x12_3456_7000);
        assert_eq!(NestedFormat::table(address), 0x12_3456_7007);
        let large = PhysAddr::new(0x12_3440_0000);
        assert_eq!(NestedFormat::leaf(large, Access::Ram, true), 0x12_3440_00e7);
        assert_eq!(
            NestedFormat::leaf(address, Access::Device, false),
            0x8000_0012_3456_707f
        );
    }
}
