//! A virtual processor: its control block, and what is kept beside it.

use alloc::sync::Arc;
use core::ptr::NonNull;

use hwspec::x86::svm::{
    Event as RawEvent, EventKind, Intercept1, Intercept2, Segment, SegmentAttributes, TlbControl,
    VirtualInterrupt, Vmcb,
};
use x86_64::PhysAddr;

use super::nmi::NmiMask;
use super::processor::{self, Asid, Processor};
use super::{NestedFormat, msrs, permission_maps, run};
use crate::arch::features::features;
use crate::mm::{Frames, OutOfMemory, PAGE_SIZE};
use crate::virt::backend::{Entry, Vcpu};
use crate::virt::exit::{Event, Exception, Exit};
use crate::virt::extended_state::ExtendedState;
use crate::virt::registers::{GeneralRegisters, Register};
use crate::virt::space::Space;
use crate::virt::walk::Paging;

/// Exceptions that a guest must not be able to raise without end inside of the
/// processor's microcode, with interrupts of ours waiting, and machine checks,
/// which are not the guest's.
const DEBUG: u8 = 1;
const INVALID_OPCODE: u8 = 6;
const ALIGNMENT_CHECK: u8 = 17;
const MACHINE_CHECK: u8 = 18;

const CR0_ET: u64 = 1 << 4;
const CR0_PE: u64 = 1 << 0;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LMA: u64 = 1 << 10;
const EFER_LME: u64 = 1 << 8;
pub(super) const EFER_SVME: u64 = 1 << 12;
/// RFLAGS bit 1 is always set.
const RFLAGS_FIXED: u64 = 1 << 1;
/// A trap behind each instruction.
const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
/// No instruction breakpoint at the next instruction.
const RFLAGS_RF: u64 = 1 << 16;
/// DR6: the trap is that of RFLAGS.TF.
const DR6_BS: u64 = 1 << 14;
const INITIAL_DR6: u64 = 0xffff_0ff0;
const INITIAL_DR7: u64 = 0x400;
/// The page attributes as processors start.
const INITIAL_PAT: u64 = 0x0007_0406_0007_0406;

/// A virtual processor under SVM.
#[derive(Debug)]
pub struct SvmVcpu {
    space: Arc<Space<NestedFormat>>,
    /// Its number among those of the guest.
    index: usize,
    vmcb: Frames,
    /// Where the control block is reached, in the frame.
    block: NonNull<Vmcb>,
    registers: GeneralRegisters,
    extended: ExtendedState,
    /// What is delivered at the next entry.
    pub(super) event: Option<RawEvent>,
    pub(super) nmi_mask: NmiMask,
    /// The generation of the guest's space that its translations are of.
    generation: u64,
    asid: Option<Asid>,
    /// The processor that it is loaded on.
    processor: Option<&'static Processor>,
    flush: TlbControl,
}

// SAFETY: the control block is in a frame of this value's, which every processor
// reaches at the same address.
unsafe impl Send for SvmVcpu {}

impl SvmVcpu {
    pub(super) fn new(
        space: Arc<Space<NestedFormat>>,
        index: usize,
        entry: &Entry,
    ) -> Result<Self, OutOfMemory> {
        let vmcb = Frames::allocate_zeroed(1)?;
        let mut vcpu = Self {
            block: vmcb.pointer().cast(),
            vmcb,
            registers: GeneralRegisters::default(),
            extended: ExtendedState::new()?,
            event: None,
            nmi_mask: NmiMask::Open,
            generation: space.generation(),
            asid: None,
            processor: None,
            flush: TlbControl::NONE,
            space,
            index,
        };
        vcpu.set_intercepts();
        vcpu.reset(entry);
        Ok(vcpu)
    }

    /// The control block.
    #[inline]
    pub(super) fn vmcb(&self) -> &Vmcb {
        // SAFETY: the frame is this value's, holds a control block (any bytes
        // are one), and the processor writes to it within `run` only.
        unsafe { self.block.as_ref() }
    }

    /// The control block, to change it.
    #[inline]
    pub(super) fn vmcb_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as for `vmcb`.
        unsafe { self.block.as_mut() }
    }

    /// The guest's RAM.
    pub(super) fn space(&self) -> &Space<NestedFormat> {
        &self.space
    }

    /// What never changes: what exits, and where the guest's memory is.
    fn set_intercepts(&mut self) {
        let root = self.space.root().as_u64();
        let (ports, registers) = permission_maps::addresses();
        let control = &mut self.vmcb_mut().control;
        control.intercept_exceptions =
            1 << DEBUG | 1 << INVALID_OPCODE | 1 << ALIGNMENT_CHECK | 1 << MACHINE_CHECK;
        control.intercept_1 = Intercept1::new()
            .with_intr(true)
            .with_nmi(true)
            .with_smi(true)
            .with_init(true)
            .with_rdpmc(true)
            .with_cpuid(true)
            .with_rsm(true)
            .with_invd(true)
            .with_hlt(true)
            .with_invlpga(true)
            .with_ioio_prot(true)
            .with_msr_prot(true)
            .with_task_switch(true)
            .with_ferr_freeze(true)
            .with_shutdown(true);
        control.intercept_2 = Intercept2::new()
            .with_vmrun(true)
            .with_vmmcall(true)
            .with_vmload(true)
            .with_vmsave(true)
            .with_stgi(true)
            .with_clgi(true)
            .with_skinit(true)
            .with_wbinvd(true)
            .with_monitor(true)
            .with_mwait(true)
            .with_mwait_armed(true)
            .with_xsetbv(true)
            .with_rdpru(true);
        control.iopm_base_pa = ports.as_u64();
        control.msrpm_base_pa = registers.as_u64();
        control.virtual_interrupt = VirtualInterrupt::new().with_v_intr_masking(true);
        control.nested_paging = 1;
        control.n_cr3 = root;
    }

    /// Leaves the guest when it could take a virtual interrupt of this priority,
    /// which is never delivered: its intercept comes first.
    fn open_window(&mut self, priority: VirtualInterrupt) {
        let control = &mut self.vmcb_mut().control;
        control.intercept_1.set_vintr(true);
        control.virtual_interrupt = control
            .virtual_interrupt
            .with_v_irq(true)
            .with_v_intr_prio(priority.v_intr_prio())
            .with_v_ign_tpr(priority.v_ign_tpr());
    }

    /// What the processor does behind an instruction of which this was the emulation.
    #[cold]
    fn end_instruction(&mut self) {
        let state = &mut self.vmcb_mut().state;
        state.rflags &= !RFLAGS_RF;
        if state.rflags & RFLAGS_TF != 0 {
            state.dr6 |= DR6_BS;
            let trap = raw_event(Event::Exception(Exception::DEBUG));
            // What is still to be delivered is not lost for it.
            self.event.get_or_insert(trap);
        }
    }

    /// No other one until the guest has returned from this.
    #[cold]
    fn mask_nmi(&mut self) {
        self.nmi_mask = NmiMask::Delivered;
        self.vmcb_mut().control.intercept_1.set_iret(true);
    }

    /// Makes sure that no translation is used that is not the guest's, or not
    /// any longer.
    #[cold]
    fn renew_translations(&mut self, generation: u64) {
        // Before the tables are looked at: a change that comes in between is
        // seen at the next entry at the latest.
        self.space.set_seen(self.index, generation);
        self.generation = generation;
        self.flush = if features().svm.flush_by_asid() {
            TlbControl::GUEST
        } else {
            TlbControl::EVERYTHING
        };
    }
}

impl Vcpu for SvmVcpu {
    fn reset(&mut self, entry: &Entry) {
        self.event = None;
        self.registers = GeneralRegisters::default();
        let state = &mut self.vmcb_mut().state;
        let data = segment(0, 0x3, 0xffff);
        for place in [
            &mut state.es,
            &mut state.ss,
            &mut state.ds,
            &mut state.fs,
            &mut state.gs,
        ] {
            *place = data;
        }
        state.cs = segment(0, 0xb, 0xffff);
        state.ldtr = system_segment(0x2);
        state.tr = system_segment(0xb);
        state.gdtr = table_register(0xffff);
        state.idtr = table_register(0xffff);
        state.cpl = 0;
        state.cr0 = CR0_ET;
        state.cr3 = 0;
        state.cr4 = 0;
        state.efer = EFER_SVME;
        state.rflags = RFLAGS_FIXED;
        state.rip = 0;
        state.cr2 = 0;
        state.dr6 = INITIAL_DR6;
        state.dr7 = INITIAL_DR7;
        state.g_pat = INITIAL_PAT;
        match *entry {
            Entry::Real { page } => {
                state.cs.selector = u16::from(page) << 8;
                state.cs.base = u64::from(page) * PAGE_SIZE;
            }
            Entry::Protected { eip } => {
                state.cr0 |= CR0_PE;
                state.rip = eip.into();
                flat_segments(state, SegmentAttributes::with_default_32);
            }
            Entry::Long { cr3, rip, rsp } => {
                state.cr0 |= CR0_PE | CR0_PG;
                state.cr3 = cr3;
                state.cr4 = CR4_PAE;
                state.efer |= EFER_LME | EFER_LMA;
                state.rip = rip;
                flat_segments(state, SegmentAttributes::with_long);
                self.registers.set(Register::RSP, rsp);
            }
        }
        self.nmi_mask = NmiMask::Open;
        let control = &mut self.vmcb_mut().control;
        control.intercept_1.set_iret(false);
        control.interrupt_shadow = 0;
        control.virtual_interrupt = VirtualInterrupt::new().with_v_intr_masking(true);
    }

    #[inline]
    fn registers(&self) -> &GeneralRegisters {
        &self.registers
    }

    #[inline]
    fn registers_mut(&mut self) -> &mut GeneralRegisters {
        &mut self.registers
    }

    #[inline]
    fn rip(&self) -> u64 {
        self.vmcb().state.rip
    }

    #[inline]
    fn set_rip(&mut self, rip: u64) {
        let vmcb = self.vmcb_mut();
        vmcb.state.rip = rip;
        vmcb.control.interrupt_shadow = 0;
        if vmcb.state.rflags & (RFLAGS_TF | RFLAGS_RF) != 0 {
            self.end_instruction();
        }
    }

    #[inline]
    fn rflags(&self) -> u64 {
        self.vmcb().state.rflags
    }

    #[inline]
    fn set_rflags(&mut self, value: u64) {
        self.vmcb_mut().state.rflags = value;
    }

    #[inline]
    fn task_priority(&self) -> u8 {
        self.vmcb().control.virtual_interrupt.v_tpr() & 0xf
    }

    fn set_task_priority(&mut self, priority: u8) {
        let control = &mut self.vmcb_mut().control;
        control.virtual_interrupt.set_v_tpr(priority & 0xf);
    }

    fn set_cr2(&mut self, address: u64) {
        self.vmcb_mut().state.cr2 = address;
    }

    #[inline]
    fn paging(&self) -> Paging {
        let state = &self.vmcb().state;
        Paging {
            cr0: state.cr0,
            cr3: state.cr3,
            cr4: state.cr4,
            efer: state.efer,
            rflags: state.rflags,
            cpl: state.cpl,
        }
    }

    #[inline]
    fn code_bits(&self) -> u32 {
        let state = &self.vmcb().state;
        if state.efer & EFER_LMA != 0 && state.cs.attributes.long() {
            64
        } else if state.cr0 & CR0_PE != 0 && state.cs.attributes.default_32() {
            32
        } else {
            16
        }
    }

    #[inline]
    fn segment_bases(&self) -> [u64; 6] {
        let state = &self.vmcb().state;
        [
            state.es.base,
            state.cs.base,
            state.ss.base,
            state.ds.base,
            state.fs.base,
            state.gs.base,
        ]
    }

    fn xcr0(&self) -> u64 {
        self.extended.xcr0()
    }

    fn read_msr(&self, register: u32) -> Option<u64> {
        msrs::read(&self.vmcb().state, register)
    }

    fn write_msr(&mut self, register: u32, value: u64) -> Option<bool> {
        msrs::write(&mut self.vmcb_mut().state, register, value)
    }

    #[inline]
    fn can_take_interrupt(&self) -> bool {
        let vmcb = self.vmcb();
        self.event.is_none()
            && vmcb.state.rflags & RFLAGS_IF != 0
            && vmcb.control.interrupt_shadow & 1 == 0
    }

    fn has_event(&self) -> bool {
        self.event.is_some()
    }

    fn can_take_nmi(&self) -> bool {
        let is_exception = |event: RawEvent| event.kind() == EventKind::EXCEPTION;
        !self.event.is_some_and(is_exception) && self.nmi_mask.is_open(self.rip())
    }

    fn request_interrupt_window(&mut self) {
        self.open_window(
            VirtualInterrupt::new()
                .with_v_intr_prio(0xf)
                .with_v_ign_tpr(true),
        );
    }

    fn request_priority_window(&mut self, class: u8) {
        self.open_window(VirtualInterrupt::new().with_v_intr_prio(class & 0xf));
    }

    #[inline]
    fn inject(&mut self, event: Event) -> Option<Event> {
        if event == Event::Nmi {
            self.mask_nmi();
        }
        let displaced = self.event.replace(raw_event(event));
        displaced.and_then(|event| match event.kind() {
            EventKind::INTERRUPT => Some(Event::Interrupt(event.vector())),
            EventKind::NMI => Some(Event::Nmi),
            // The instruction that raised it will raise it again.
            _ => None,
        })
    }

    fn skip(&mut self, exit: Exit) -> bool {
        self.skip_instruction(exit)
    }

    fn overhead_bytes(&self) -> u64 {
        let frames = self.vmcb.range().len_bytes() + self.extended.len_bytes();
        frames + size_of::<Self>() as u64
    }

    unsafe fn load(&mut self) {
        let processor = processor::here();
        processor.take();
        let (asid, flush) = processor.asid(self.asid);
        self.processor = Some(processor);
        self.asid = Some(asid);
        self.vmcb_mut().control.asid = asid.number;
        let generation = self.space.generation();
        self.renew_translations(generation);
        if flush {
            self.flush = TlbControl::EVERYTHING;
        }
        // SAFETY: whoever was in the processor before took its state along.
        unsafe { self.extended.load() };
    }

    unsafe fn unload(&mut self) {
        // SAFETY: it was loaded on this processor.
        unsafe { self.extended.save() };
        self.space.set_unloaded(self.index);
        if let Some(processor) = self.processor.take() {
            processor.free();
        }
    }

    #[inline]
    unsafe fn run(&mut self) -> Exit {
        let processor = self.processor.expect("a virtual processor is loaded first");
        let host = processor.host_block();
        let generation = self.space.generation();
        if generation != self.generation {
            self.renew_translations(generation);
        }
        let flush = core::mem::replace(&mut self.flush, TlbControl::NONE);
        let event = self.event.take().unwrap_or_default();
        let (rax, rsp) = (
            self.registers.get(Register::RAX),
            self.registers.get(Register::RSP),
        );
        let address: PhysAddr = self.vmcb.start();
        let vmcb = self.vmcb_mut();
        vmcb.control.tlb_control = flush;
        vmcb.control.event_injection = event;
        vmcb.state.rax = rax;
        vmcb.state.rsp = rsp;
        // SAFETY: the block is complete: it intercepts what could reach the
        // host, and its nested tables map what is the guest's. The rest is
        // the caller's promise.
        unsafe { run::enter(address, &mut self.registers, host) };
        let state = &self.vmcb().state;
        let (rax, rsp) = (state.rax, state.rsp);
        self.registers.set(Register::RAX, rax);
        self.registers.set(Register::RSP, rsp);
        self.keep_undelivered();
        self.take_exit()
    }

    unsafe fn set_xcr0(&mut self, value: u64) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.extended.set_xcr0(value) }
    }
}

fn raw_event(event: Event) -> RawEvent {
    let raw = RawEvent::new().with_valid(true);
    match event {
        Event::Interrupt(vector) => raw.with_vector(vector).with_kind(EventKind::INTERRUPT),
        Event::Nmi => raw.with_vector(2).with_kind(EventKind::NMI),
        Event::Exception(Exception { vector, error_code }) => raw
            .with_vector(vector)
            .with_kind(EventKind::EXCEPTION)
            .with_has_error_code(error_code.is_some())
            .with_error_code(error_code.unwrap_or(0)),
    }
}

/// A segment of code or data at 0.
fn segment(selector: u16, kind: u8, limit: u32) -> Segment {
    Segment {
        selector,
        attributes: SegmentAttributes::new()
            .with_kind(kind)
            .with_is_code_or_data(true)
            .with_present(true),
        limit,
        base: 0,
    }
}

/// LDTR (type 2) or TR (type 11) as after a reset.
fn system_segment(kind: u8) -> Segment {
    Segment {
        attributes: SegmentAttributes::new().with_kind(kind).with_present(true),
        limit: 0xffff,
        ..Segment::default()
    }
}

/// GDTR or IDTR.
fn table_register(limit: u32) -> Segment {
    Segment {
        limit,
        ..Segment::default()
    }
}

/// Segments over all of memory; `mode` makes the code's that of its mode.
fn flat_segments(
    state: &mut hwspec::x86::svm::State,
    mode: fn(SegmentAttributes, bool) -> SegmentAttributes,
) {
    let flat = |selector, kind| {
        let mut flat = segment(selector, kind, u32::MAX);
        flat.attributes.set_granularity(true);
        flat
    };
    let mut code = flat(0x8, 0xb);
    code.attributes = mode(code.attributes, true);
    state.cs = code;
    let mut data = flat(0x10, 0x3);
    data.attributes.set_default_32(true);
    for place in [&mut state.es, &mut state.ss, &mut state.ds] {
        *place = data;
    }
}
