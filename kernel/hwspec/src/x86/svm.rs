//! AMD's virtual machine control block, VMCB.
//! [AMD64 Architecture Programmer's Manual, vol. 2 rev. 3.42, ch. 15 "Secure
//! Virtual Machine" and appendix B "VMCB Layout"]

use core::mem::offset_of;

use bitfield_struct::bitfield;

use crate::field::field;

/// VM_CR: switches of SVM. [15.30.1 "VM_CR MSR (C001_0114h)"]
pub const VM_CR: u32 = 0xc001_0114;
/// VM_HSAVE_PA: where VMRUN saves the host's state. [15.30.4 "VM_HSAVE_PA MSR
/// (C001_0117h)"]
pub const VM_HSAVE_PA: u32 = 0xc001_0117;
/// VM_CR: SVMDIS, EFER.SVME cannot be set.
pub const VM_CR_SVMDIS: u64 = 1 << 4;

/// Size of the I/O permission map: one bit for each port, and three more for
/// accesses that begin at the last one. [15.10.1 "I/O Permissions Map"]
pub const IO_PERMISSION_MAP_BYTES: usize = 12 << 10;
/// Size of the MSR permission map: two bits for each register of three ranges.
/// [15.11 "MSR Intercepts"]
pub const MSR_PERMISSION_MAP_BYTES: usize = 8 << 10;
/// The ranges of the MSR permission map: first register, and where in the map
/// they begin. Each has 0x2000 registers in 2 KiB.
pub const MSR_RANGES: [(u32, usize); 3] = [
    (0x0000_0000, 0x0000),
    (0xc000_0000, 0x0800),
    (0xc001_0000, 0x1000),
];
/// How many registers a range has.
pub const MSR_RANGE_LEN: u32 = 0x2000;

/// The control block: what to intercept and what happened, then the guest's
/// state.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Vmcb {
    /// The control area.
    pub control: Control,
    /// The state save area.
    pub state: State,
    _unused: [u8; 0x1000 - 0x400 - size_of::<State>()],
}

const _: () = assert!(size_of::<Vmcb>() == 0x1000 && offset_of!(Vmcb, state) == 0x400);

/// The control area. [Appendix B, table B-1 "VMCB Layout, Control Area"]
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// Intercepts of reads (low half) and writes of CR0 to CR15.
    pub intercept_cr: u32,
    /// Intercepts of reads (low half) and writes of DR0 to DR15.
    pub intercept_dr: u32,
    /// Intercepts of exceptions, by vector.
    pub intercept_exceptions: u32,
    /// The first vector of intercepts.
    pub intercept_1: Intercept1,
    /// The second.
    pub intercept_2: Intercept2,
    _unused_014: [u8; 0x40 - 0x14],
    /// IOPM_BASE_PA: the I/O permission map.
    pub iopm_base_pa: u64,
    /// MSRPM_BASE_PA: the MSR permission map.
    pub msrpm_base_pa: u64,
    /// TSC_OFFSET: added to what the guest reads.
    pub tsc_offset: u64,
    /// ASID: the guest's, not 0.
    pub asid: u32,
    /// TLB_CONTROL.
    pub tlb_control: TlbControl,
    _unused_05d: [u8; 3],
    /// Virtual interrupts.
    pub virtual_interrupt: VirtualInterrupt,
    /// Bit 0: INTERRUPT_SHADOW, the guest is right behind STI or MOV SS.
    pub interrupt_shadow: u64,
    /// EXITCODE.
    pub exit_code: u64,
    /// EXITINFO1.
    pub exit_info_1: u64,
    /// EXITINFO2.
    pub exit_info_2: u64,
    /// EXITINTINFO: what was being delivered when the guest was stopped.
    pub exit_int_info: Event,
    /// Bit 0: NP_ENABLE.
    pub nested_paging: u64,
    _unused_098: [u8; 0xa8 - 0x98],
    /// EVENTINJ: what to deliver first.
    pub event_injection: Event,
    /// N_CR3: the nested page tables.
    pub n_cr3: u64,
    _unused_0b8: [u8; 8],
    /// VMCB clean bits: what the processor may go on using from its cache.
    pub clean: u64,
    _unused_0c8: [u8; 0x400 - 0xc8],
}

const _: () = assert!(
    offset_of!(Control, intercept_1) == 0x00c
        && offset_of!(Control, intercept_2) == 0x010
        && offset_of!(Control, iopm_base_pa) == 0x040
        && offset_of!(Control, asid) == 0x058
        && offset_of!(Control, tlb_control) == 0x05c
        && offset_of!(Control, virtual_interrupt) == 0x060
        && offset_of!(Control, interrupt_shadow) == 0x068
        && offset_of!(Control, exit_code) == 0x070
        && offset_of!(Control, exit_int_info) == 0x088
        && offset_of!(Control, nested_paging) == 0x090
        && offset_of!(Control, event_injection) == 0x0a8
        && offset_of!(Control, n_cr3) == 0x0b0
        && offset_of!(Control, clean) == 0x0c0
        && size_of::<Control>() == 0x400
);

/// The state save area. [Appendix B, table B-2 "VMCB Layout, State Save Area"]
#[repr(C)]
#[derive(Debug)]
pub struct State {
    /// ES.
    pub es: Segment,
    /// CS.
    pub cs: Segment,
    /// SS.
    pub ss: Segment,
    /// DS.
    pub ds: Segment,
    /// FS.
    pub fs: Segment,
    /// GS.
    pub gs: Segment,
    /// GDTR: limit and base only.
    pub gdtr: Segment,
    /// LDTR.
    pub ldtr: Segment,
    /// IDTR: limit and base only.
    pub idtr: Segment,
    /// TR.
    pub tr: Segment,
    _unused_0a0: [u8; 0xcb - 0xa0],
    /// CPL.
    pub cpl: u8,
    _unused_0cc: [u8; 4],
    /// EFER.
    pub efer: u64,
    _unused_0d8: [u8; 0x148 - 0xd8],
    /// CR4.
    pub cr4: u64,
    /// CR3.
    pub cr3: u64,
    /// CR0.
    pub cr0: u64,
    /// DR7.
    pub dr7: u64,
    /// DR6.
    pub dr6: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RIP.
    pub rip: u64,
    _unused_180: [u8; 0x1d8 - 0x180],
    /// RSP.
    pub rsp: u64,
    _unused_1e0: [u8; 0x1f8 - 0x1e0],
    /// RAX.
    pub rax: u64,
    _unused_200: [u8; 0x240 - 0x200],
    /// CR2.
    pub cr2: u64,
    _unused_248: [u8; 0x268 - 0x248],
    /// G_PAT: the guest's page attribute table.
    pub g_pat: u64,
}

const _: () = assert!(
    offset_of!(State, cpl) == 0x0cb
        && offset_of!(State, efer) == 0x0d0
        && offset_of!(State, cr4) == 0x148
        && offset_of!(State, rip) == 0x178
        && offset_of!(State, rsp) == 0x1d8
        && offset_of!(State, rax) == 0x1f8
        && offset_of!(State, cr2) == 0x240
        && offset_of!(State, g_pat) == 0x268
);

/// A segment register with its hidden part. [15.5.1 "Basic Operation", "Segment
/// State in the VMCB"]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Attributes.
    pub attributes: SegmentAttributes,
    /// Limit, in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

const _: () = assert!(size_of::<Segment>() == 16);

/// Bits 55:52 and 47:40 of a descriptor.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct SegmentAttributes {
    /// Type.
    #[bits(4)]
    pub kind: u8,
    /// S: code or data.
    pub is_code_or_data: bool,
    /// DPL.
    #[bits(2)]
    pub dpl: u8,
    /// P.
    pub present: bool,
    /// AVL.
    pub available: bool,
    /// L: 64-bit code.
    pub long: bool,
    /// D/B: 32-bit code or stack.
    pub default_32: bool,
    /// G: the limit is in pages.
    pub granularity: bool,
    #[bits(4)]
    _reserved_15_12: u8,
}

const _: () = assert!(
    SegmentAttributes::IS_CODE_OR_DATA_OFFSET == 4
        && SegmentAttributes::DPL_OFFSET == 5
        && SegmentAttributes::PRESENT_OFFSET == 7
        && SegmentAttributes::LONG_OFFSET == 9
        && SegmentAttributes::DEFAULT_32_OFFSET == 10
        && SegmentAttributes::GRANULARITY_OFFSET == 11
);

/// Intercepts at offset 0x00c.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Intercept1 {
    /// INTR: physical maskable interrupt.
    pub intr: bool,
    /// NMI.
    pub nmi: bool,
    /// SMI.
    pub smi: bool,
    /// INIT.
    pub init: bool,
    /// VINTR: virtual maskable interrupt.
    pub vintr: bool,
    #[bits(10)]
    _unused_14_5: u16,
    /// RDPMC.
    pub rdpmc: bool,
    #[bits(2)]
    _unused_17_16: u8,
    /// CPUID.
    pub cpuid: bool,
    /// RSM.
    pub rsm: bool,
    /// IRET.
    pub iret: bool,
    _unused_21: bool,
    /// INVD.
    pub invd: bool,
    /// PAUSE.
    pub pause: bool,
    /// HLT.
    pub hlt: bool,
    _unused_25: bool,
    /// INVLPGA.
    pub invlpga: bool,
    /// IOIO_PROT: I/O that the permission map selects.
    pub ioio_prot: bool,
    /// MSR_PROT: MSRs that the permission map selects.
    pub msr_prot: bool,
    /// Task switches.
    pub task_switch: bool,
    /// FERR_FREEZE.
    pub ferr_freeze: bool,
    /// Shutdown.
    pub shutdown: bool,
}

const _: () = assert!(
    Intercept1::VINTR_OFFSET == 4
        && Intercept1::RDPMC_OFFSET == 15
        && Intercept1::CPUID_OFFSET == 18
        && Intercept1::IRET_OFFSET == 20
        && Intercept1::INVD_OFFSET == 22
        && Intercept1::HLT_OFFSET == 24
        && Intercept1::INVLPGA_OFFSET == 26
        && Intercept1::IOIO_PROT_OFFSET == 27
        && Intercept1::MSR_PROT_OFFSET == 28
        && Intercept1::SHUTDOWN_OFFSET == 31
);

/// Intercepts at offset 0x010.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Intercept2 {
    /// VMRUN, which must be set.
    pub vmrun: bool,
    /// VMMCALL.
    pub vmmcall: bool,
    /// VMLOAD.
    pub vmload: bool,
    /// VMSAVE.
    pub vmsave: bool,
    /// STGI.
    pub stgi: bool,
    /// CLGI.
    pub clgi: bool,
    /// SKINIT.
    pub skinit: bool,
    _unused_7: bool,
    /// ICEBP.
    pub icebp: bool,
    /// WBINVD.
    pub wbinvd: bool,
    /// MONITOR.
    pub monitor: bool,
    /// MWAIT.
    pub mwait: bool,
    /// MWAIT while the monitor is armed.
    pub mwait_armed: bool,
    /// XSETBV.
    pub xsetbv: bool,
    /// RDPRU.
    pub rdpru: bool,
    #[bits(17)]
    _unused_31_15: u32,
}

const _: () = assert!(
    Intercept2::SKINIT_OFFSET == 6
        && Intercept2::WBINVD_OFFSET == 9
        && Intercept2::MWAIT_ARMED_OFFSET == 12
        && Intercept2::XSETBV_OFFSET == 13
);

/// TLB_CONTROL. [15.16.1 "TLB Flush"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct TlbControl(pub u8);

impl TlbControl {
    /// Does nothing.
    pub const NONE: Self = Self(0);
    /// Flushes the entire TLB, of the host too.
    pub const EVERYTHING: Self = Self(1);
    /// Flushes this guest's entries, where the processor has FlushByAsid.
    pub const GUEST: Self = Self(3);
}

/// Virtual interrupts, at offset 0x060. [15.21.4 "Injecting Virtual (INTR)
/// Interrupts"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct VirtualInterrupt {
    /// V_TPR: the guest's CR8, in bits 3:0.
    pub v_tpr: u8,
    /// V_IRQ: one is pending.
    pub v_irq: bool,
    #[bits(7)]
    _unused_15_9: u8,
    /// V_INTR_PRIO: its priority.
    #[bits(4)]
    pub v_intr_prio: u8,
    /// V_IGN_TPR: whatever V_TPR is.
    pub v_ign_tpr: bool,
    #[bits(3)]
    _unused_23_21: u8,
    /// V_INTR_MASKING: the guest's IF and CR8 are virtual.
    pub v_intr_masking: bool,
    #[bits(7)]
    _unused_31_25: u8,
    /// V_INTR_VECTOR.
    pub v_intr_vector: u8,
    #[bits(24)]
    _unused_63_40: u32,
}

const _: () = assert!(
    VirtualInterrupt::V_IRQ_OFFSET == 8
        && VirtualInterrupt::V_INTR_PRIO_OFFSET == 16
        && VirtualInterrupt::V_IGN_TPR_OFFSET == 20
        && VirtualInterrupt::V_INTR_MASKING_OFFSET == 24
        && VirtualInterrupt::V_INTR_VECTOR_OFFSET == 32
);

/// EVENTINJ and EXITINTINFO. [15.20 "Event Injection", figure 15-4]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Event {
    /// VECTOR.
    pub vector: u8,
    /// TYPE.
    #[bits(3)]
    pub kind: EventKind,
    /// EV: there is an error code.
    pub has_error_code: bool,
    #[bits(19)]
    _reserved_30_12: u32,
    /// V: there is an event.
    pub valid: bool,
    /// ERRORCODE.
    pub error_code: u32,
}

const _: () = assert!(
    Event::KIND_OFFSET == 8
        && Event::HAS_ERROR_CODE_OFFSET == 11
        && Event::VALID_OFFSET == 31
        && Event::ERROR_CODE_OFFSET == 32
);

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind(u8);

impl EventKind {
    /// External or virtual interrupt.
    pub const INTERRUPT: Self = Self(0);
    /// NMI.
    pub const NMI: Self = Self(2);
    /// Exception.
    pub const EXCEPTION: Self = Self(3);
    /// Software interrupt, INTn.
    pub const SOFTWARE: Self = Self(4);
}
field!(EventKind: u8);

/// EXITCODE. [Appendix C "SVM Intercept Exit Codes"]
pub mod exit_code {
    /// VMEXIT_EXCP0: exception 0; the others follow.
    pub const EXCEPTION_0: u64 = 0x040;
    /// VMEXIT_INTR.
    pub const INTR: u64 = 0x060;
    /// VMEXIT_NMI.
    pub const NMI: u64 = 0x061;
    /// VMEXIT_INIT; VMEXIT_SMI is between the two.
    pub const INIT: u64 = 0x063;
    /// VMEXIT_VINTR.
    pub const VINTR: u64 = 0x064;
    /// VMEXIT_RDPMC.
    pub const RDPMC: u64 = 0x06f;
    /// VMEXIT_CPUID.
    pub const CPUID: u64 = 0x072;
    /// VMEXIT_RSM.
    pub const RSM: u64 = 0x073;
    /// VMEXIT_IRET.
    pub const IRET: u64 = 0x074;
    /// VMEXIT_INVD.
    pub const INVD: u64 = 0x076;
    /// VMEXIT_HLT.
    pub const HLT: u64 = 0x078;
    /// VMEXIT_INVLPGA.
    pub const INVLPGA: u64 = 0x07a;
    /// VMEXIT_IOIO.
    pub const IOIO: u64 = 0x07b;
    /// VMEXIT_MSR.
    pub const MSR: u64 = 0x07c;
    /// VMEXIT_SHUTDOWN.
    pub const SHUTDOWN: u64 = 0x07f;
    /// VMEXIT_VMRUN.
    pub const VMRUN: u64 = 0x080;
    /// VMEXIT_VMMCALL.
    pub const VMMCALL: u64 = 0x081;
    /// VMEXIT_VMLOAD.
    pub const VMLOAD: u64 = 0x082;
    /// VMEXIT_SKINIT; VMSAVE, STGI and CLGI are between the two.
    pub const SKINIT: u64 = 0x086;
    /// VMEXIT_WBINVD.
    pub const WBINVD: u64 = 0x089;
    /// VMEXIT_MONITOR.
    pub const MONITOR: u64 = 0x08a;
    /// VMEXIT_MWAIT_CONDITIONAL; VMEXIT_MWAIT is between the two.
    pub const MWAIT_CONDITIONAL: u64 = 0x08c;
    /// VMEXIT_XSETBV.
    pub const XSETBV: u64 = 0x08d;
    /// VMEXIT_RDPRU.
    pub const RDPRU: u64 = 0x08e;
    /// VMEXIT_NPF: nested page fault.
    pub const NPF: u64 = 0x400;
}

/// EXITINFO1 of VMEXIT_IOIO. [15.10.2 "IN and OUT Behavior", figure 15-2]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct IoExit {
    /// TYPE: set for IN.
    pub is_input: bool,
    _reserved_1: bool,
    /// STR: INS or OUTS.
    pub is_string: bool,
    /// REP.
    pub repeats: bool,
    /// SZ8.
    pub is_byte: bool,
    /// SZ16.
    pub is_word: bool,
    /// SZ32.
    pub is_double: bool,
    #[bits(9)]
    _unused_15_7: u16,
    /// PORT.
    pub port: u16,
    _reserved_63_32: u32,
}

const _: () = assert!(IoExit::IS_BYTE_OFFSET == 4 && IoExit::PORT_OFFSET == 16);

/// EXITINFO1 of VMEXIT_NPF. [15.25.6 "Nested versus Guest Page Faults, Fault
/// Ordering"]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct NestedFault {
    /// P: the page is there, but not for this.
    pub present: bool,
    /// W: a write.
    pub write: bool,
    /// U: always set.
    pub user: bool,
    /// RSV: a reserved bit in the tables.
    pub reserved_bit: bool,
    /// ID: an instruction fetch.
    pub fetch: bool,
    #[bits(27)]
    _unused_31_5: u32,
    /// The fault is at the address that the guest asked for.
    pub final_address: bool,
    /// The fault is in the walk of the guest's own tables.
    pub guest_tables: bool,
    #[bits(30)]
    _unused_63_34: u32,
}

const _: () = assert!(NestedFault::FETCH_OFFSET == 4 && NestedFault::FINAL_ADDRESS_OFFSET == 32);

/// An entry of nested page tables, which are those of 64-bit mode.
/// [5.3.3 "4-Kbyte Page Translation", figures 5-20 and 5-21; 15.25.5 "Nested
/// Page Table Walk": every access of a guest is a user access]
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct NestedEntry {
    /// P.
    pub present: bool,
    /// R/W.
    pub writable: bool,
    /// U/S.
    pub user: bool,
    /// PWT.
    pub write_through: bool,
    /// PCD.
    pub cache_disable: bool,
    /// A.
    pub accessed: bool,
    /// D.
    pub dirty: bool,
    /// PS, above the lowest level.
    pub large: bool,
    #[bits(4)]
    _unused_11_8: u8,
    /// Bits 51:12 of the address.
    #[bits(40)]
    pub frame: u64,
    #[bits(11)]
    _unused_62_52: u16,
    /// NX.
    pub no_execute: bool,
}

const _: () = assert!(
    NestedEntry::LARGE_OFFSET == 7
        && NestedEntry::FRAME_OFFSET == 12
        && NestedEntry::NO_EXECUTE_OFFSET == 63
);
