//! Segments and stacks: what each processor needs to take interrupts.
//!
//! Three exceptions that can come at any moment, or when the stack is what is
//! broken, have stacks of their own: NMI, double fault and machine check.

use alloc::boxed::Box;
use core::fmt;

use x86_64::PrivilegeLevel::Ring0;
use x86_64::instructions::tables;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::mm::{OutOfMemory, address_space};

/// Indices into the interrupt stack table of the TSS.
pub(super) const NMI_STACK: usize = 0;
/// As [`NMI_STACK`].
pub(super) const DOUBLE_FAULT_STACK: usize = 1;
/// As [`NMI_STACK`].
pub(super) const MACHINE_CHECK_STACK: usize = 2;

/// The pages of each of these stacks: enough to print from.
const STACK_PAGES: u64 = 4;

/// The selectors are the same on all processors.
pub(super) const KERNEL_CODE: SegmentSelector = SegmentSelector::new(1, Ring0);
const KERNEL_DATA: SegmentSelector = SegmentSelector::new(2, Ring0);
/// A task state takes two entries.
const TASK: SegmentSelector = SegmentSelector::new(3, Ring0);

/// The tables of one processor.
pub(super) struct Descriptors {
    table: GlobalDescriptorTable,
}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptors").finish_non_exhaustive()
    }
}

impl Descriptors {
    /// Tables with fresh stacks, for good.
    pub(super) fn new() -> Result<Self, OutOfMemory> {
        let mut task = TaskStateSegment::new();
        let mut stacks = task.interrupt_stack_table;
        for index in [NMI_STACK, DOUBLE_FAULT_STACK, MACHINE_CHECK_STACK] {
            let top = address_space::map_stack(STACK_PAGES)?;
            let stack = stacks.get_mut(index);
            *stack.expect("the table has seven stacks") = top;
        }
        task.interrupt_stack_table = stacks;
        let mut table = GlobalDescriptorTable::new();
        let selectors = [
            table.append(Descriptor::kernel_code_segment()),
            table.append(Descriptor::kernel_data_segment()),
            table.append(Descriptor::tss_segment(Box::leak(Box::new(task)))),
        ];
        assert_eq!(selectors, [KERNEL_CODE, KERNEL_DATA, TASK]);
        Ok(Self { table })
    }

    /// Makes these the tables of the processor that runs this.
    ///
    /// # Safety
    /// Each processor loads its own, once.
    pub(super) unsafe fn load(&'static self) {
        self.table.load();
        // SAFETY: the table's first descriptor is 64-bit code of ring 0.
        unsafe { CS::set_reg(KERNEL_CODE) };
        // SAFETY: the second is data.
        unsafe { SS::set_reg(KERNEL_DATA) };
        // SAFETY: null segments are what 64-bit code needs in the others.
        unsafe { DS::set_reg(SegmentSelector::NULL) };
        // SAFETY: as for DS.
        unsafe { ES::set_reg(SegmentSelector::NULL) };
        // SAFETY: the third is a task state that no other processor loads.
        unsafe { tables::load_tss(TASK) };
    }
}
