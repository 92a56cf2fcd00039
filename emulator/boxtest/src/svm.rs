//! A guest of a few instructions under AMD's virtualisation, with nested paging.
//! [AMD64 Architecture Programmer's Manual, vol. 2, ch. 15 "Secure Virtual
//! Machine" and appendix B "VMCB Layout"]
//!
//! The guest runs with the kernel's own page tables; only the nested tables
//! below them are its own. They map everything one to one, except for the pages
//! that a check takes away. Every exception ends the guest, so it needs no
//! descriptor tables.
#![expect(unsafe_code, reason = "VMRUN and the registers that enable it")]

use core::arch::global_asm;
use core::arch::x86_64::__cpuid;
use core::mem::offset_of;

use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::{Efer, EferFlags, Msr};

use crate::encodings::VMMCALL;
use crate::memory::{PAGE_SIZE, Pages};
use crate::program::{FLAGS_ARITHMETIC, Privilege, Registers, Sandbox};

/// #VMEXIT codes: exception n is 0x40 + n.
pub(crate) const EXIT_EXCEPTION: u64 = 0x40;
/// RDMSR (EXITINFO1 is 0) or WRMSR (1) that the permission map intercepts.
pub(crate) const EXIT_MSR: u64 = 0x7c;
/// The end of a guest program.
pub(crate) const EXIT_VMMCALL: u64 = 0x81;
/// Nested page fault: EXITINFO1 is the error code, EXITINFO2 the guest-physical
/// address.
pub(crate) const EXIT_NESTED_PAGE_FAULT: u64 = 0x400;

/// EXITINFO1 of a nested page fault.
pub(crate) const NESTED_PRESENT: u64 = 1 << 0;
pub(crate) const NESTED_WRITE: u64 = 1 << 1;
/// Every access of a guest counts as a user access to the nested tables.
pub(crate) const NESTED_USER: u64 = 1 << 2;
/// The guest's final address was being translated, not its page tables.
pub(crate) const NESTED_FINAL: u64 = 1 << 32;

/// Feature flags: leaf 0x8000_0001 ECX, and leaf 0x8000_000a EDX.
const SVM: u32 = 1 << 2;
const NESTED_PAGING: u32 = 1 << 0;

const HOST_SAVE_AREA: Msr = Msr::new(0xc001_0117);

// Byte offsets into the VMCB: its control area, then its state save area.
/// Exception intercepts in the low half, the first instruction vector above.
const INTERCEPTS_1: u64 = 0x008;
/// The second instruction vector.
const INTERCEPTS_2: u64 = 0x010;
const MSR_MAP: u64 = 0x048;
/// ASID in bits 31:0, TLB control in bits 39:32.
const ASID: u64 = 0x058;
const EXIT_CODE: u64 = 0x070;
const EXIT_INFO_1: u64 = 0x078;
const EXIT_INFO_2: u64 = 0x080;
const NESTED_CONTROL: u64 = 0x090;
const NESTED_CR3: u64 = 0x0b0;
const ES: u64 = 0x400;
const CS: u64 = 0x410;
const SS: u64 = 0x420;
const DS: u64 = 0x430;
/// CPL is the byte at 0x4cb, the highest of a 32-bit word.
const CPL: u64 = 0x4c8;
const EFER: u64 = 0x4d0;
const CR4: u64 = 0x548;
const CR3: u64 = 0x550;
const CR0: u64 = 0x558;
const RFLAGS: u64 = 0x570;
const RIP: u64 = 0x578;
const RSP: u64 = 0x5d8;
const RAX: u64 = 0x5f8;

const EVERY_EXCEPTION: u64 = 0xffff_ffff;
const INTERCEPT_MSR: u64 = 1 << (32 + 28);
const INTERCEPT_VMRUN: u64 = 1 << 0;
const INTERCEPT_VMMCALL: u64 = 1 << 1;
const GUEST_ASID: u64 = 1;
const FLUSH_EVERYTHING: u64 = 1 << 32;
/// Attributes as the VMCB packs them: present, code or data, DPL 0 or 3, 64-bit.
const CODE_ATTRIBUTES: u64 = 0x29b;
const DATA_ATTRIBUTES: u64 = 0xc93;
const ATTRIBUTES_SHIFT: u64 = 16;
const USER_ATTRIBUTES: u64 = 3 << 5;
const USER_CPL: u64 = 3 << 24;

/// Nested table entries: present, writable, user; a large page.
const ENTRY: u64 = 0x7;
const ENTRY_READ_ONLY: u64 = 0x5;
const LARGE: u64 = 1 << 7;
/// How much memory from 0 on is in 4 KiB pages: all of our page pool.
const SMALL_TABLES: u64 = 16;
const TABLE_SPAN: u64 = 1 << 21;

global_asm!(
    r#"
    .pushsection .text.svm, "ax", @progbits
    /* extern "sysv64" fn(vmcb: u64, registers: *mut Registers) */
    .global svm_run
    svm_run:
        push rbx
        push rbp
        push r12
        push r13
        push r14
        push r15
        push rsi
        mov rax, rdi
        mov rcx, [rsi + {rcx}]
        mov rdx, [rsi + {rdx}]
        mov rbp, [rsi + {rbp}]
        mov rdi, [rsi + {rdi}]
        mov r8, [rsi + {r8}]
        mov r9, [rsi + {r9}]
        mov rsi, [rsi + {rsi}]
        clgi
        vmrun rax
        stgi
        xchg rsi, [rsp]
        mov [rsi + {rcx}], rcx
        mov [rsi + {rdx}], rdx
        mov [rsi + {rbp}], rbp
        mov [rsi + {rdi}], rdi
        mov [rsi + {r8}], r8
        mov [rsi + {r9}], r9
        pop qword ptr [rsi + {rsi}]
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbp
        pop rbx
        ret
    .popsection
    "#,
    rcx = const offset_of!(Registers, rcx),
    rdx = const offset_of!(Registers, rdx),
    rbp = const offset_of!(Registers, rbp),
    rsi = const offset_of!(Registers, rsi),
    rdi = const offset_of!(Registers, rdi),
    r8 = const offset_of!(Registers, r8),
    r9 = const offset_of!(Registers, r9),
);

unsafe extern "sysv64" {
    fn svm_run(vmcb: u64, registers: *mut Registers);
}

/// What a guest may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NestedAccess {
    None,
    Read,
    Write,
}

/// Why the guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VmExit {
    pub(crate) code: u64,
    pub(crate) info_1: u64,
    pub(crate) info_2: u64,
    /// Bytes from the start of the program to the guest's RIP.
    pub(crate) at: u64,
}

/// The one guest.
#[derive(Debug)]
pub(crate) struct Guest {
    vmcb: Pages,
    /// The nested page tables from their top down; the last is that of the low
    /// memory.
    top: Pages,
    gibs: Pages,
    small: Pages,
    msr_map: Pages,
}

impl Guest {
    /// Enables SVM and builds the nested tables.
    pub(crate) fn new() -> Self {
        assert!(
            __cpuid(0x8000_0001).ecx & SVM != 0 && __cpuid(0x8000_000a).edx & NESTED_PAGING != 0,
            "the processor has no SVM with nested paging"
        );
        // SAFETY: SVME only makes instructions available.
        unsafe { Efer::update(|efer| *efer |= EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE) };
        let mut host_save_area = HOST_SAVE_AREA;
        // SAFETY: a page that nothing else uses, for good.
        unsafe { host_save_area.write(Pages::one().address()) };

        let small = Pages::allocate(SMALL_TABLES);
        let top = Pages::one();
        let gibs = Pages::one();
        let megs = Pages::one();
        top.write(0, gibs.address() | ENTRY);
        gibs.write(0, megs.address() | ENTRY);
        for gib in 1..4 {
            gibs.write(gib * 8, gib << 30 | LARGE | ENTRY);
        }
        for entry in 0..512 {
            let link = if entry < SMALL_TABLES {
                (small.address() + entry * PAGE_SIZE) | ENTRY
            } else {
                (entry * TABLE_SPAN) | LARGE | ENTRY
            };
            megs.write(entry * 8, link);
        }
        let guest = Self {
            vmcb: Pages::one(),
            top,
            gibs,
            small,
            msr_map: Pages::allocate(2),
        };
        for page in 0..SMALL_TABLES * 512 {
            guest.allow(page * PAGE_SIZE, NestedAccess::Write);
        }

        let vmcb = &guest.vmcb;
        vmcb.write(INTERCEPTS_1, EVERY_EXCEPTION | INTERCEPT_MSR);
        vmcb.write(INTERCEPTS_2, INTERCEPT_VMRUN | INTERCEPT_VMMCALL);
        vmcb.write(MSR_MAP, guest.msr_map.address());
        vmcb.write(ASID, GUEST_ASID | FLUSH_EVERYTHING);
        vmcb.write(NESTED_CONTROL, 1);
        vmcb.write(NESTED_CR3, guest.top.address());
        vmcb.write(EFER, Efer::read_raw());
        vmcb.write(CR0, Cr0::read_raw());
        vmcb.write(CR3, Cr3::read().0.start_address().as_u64());
        vmcb.write(CR4, Cr4::read_raw());
        guest
    }

    /// Changes what the guest may do with the page of low memory at `address`.
    pub(crate) fn allow(&self, address: u64, access: NestedAccess) {
        let entry = match access {
            NestedAccess::None => 0,
            NestedAccess::Read => address | ENTRY_READ_ONLY,
            NestedAccess::Write => address | ENTRY,
        };
        self.small.write(address / PAGE_SIZE * 8, entry);
    }

    /// Takes the whole GiB around a device's page at `address` away from the
    /// guest, but for that page if it is `exposed`.
    pub(crate) fn expose_device_page(&self, address: u64, exposed: bool) {
        let index = |shift: u32| (address >> shift & 0x1ff) * 8;
        let megs = Pages::one();
        let pages = Pages::one();
        megs.write(index(21), pages.address() | ENTRY);
        if exposed {
            pages.write(index(12), address | ENTRY);
        }
        let link = megs.address() | ENTRY;
        if index(39) == 0 {
            self.gibs.write(index(30), link);
        } else {
            let gibs = Pages::one();
            gibs.write(index(30), link);
            self.top.write(index(39), gibs.address() | ENTRY);
        }
    }

    /// Whether RDMSR and WRMSR of `msr`, one of the low 8,192, exit.
    pub(crate) fn intercept_msr(&self, msr: u32, intercept: bool) {
        // Two bits for each register: read, write.
        let bit = u64::from(msr) * 2;
        let offset = bit / 64 * 8;
        let mask = 3 << (bit % 64);
        let word = self.msr_map.read(offset) & !mask;
        self.msr_map
            .write(offset, if intercept { word | mask } else { word });
    }

    /// Runs `program` as the guest until it exits.
    pub(crate) fn run(
        &self,
        sandbox: &Sandbox,
        privilege: Privilege,
        program: &[u8],
        registers: &mut Registers,
    ) -> VmExit {
        /// RFLAGS bit 1, which is always set.
        const FLAGS_FIXED: u64 = 1 << 1;
        sandbox.load(program, VMMCALL);
        let vmcb = &self.vmcb;
        let (attributes, cpl) = match privilege {
            Privilege::Kernel => (0, 0),
            Privilege::User => (USER_ATTRIBUTES, USER_CPL),
        };
        vmcb.write(CS, (CODE_ATTRIBUTES | attributes) << ATTRIBUTES_SHIFT);
        for segment in [DS, ES, SS] {
            vmcb.write(segment, (DATA_ATTRIBUTES | attributes) << ATTRIBUTES_SHIFT);
        }
        vmcb.write(CPL, cpl);
        vmcb.write(RIP, Sandbox::entry());
        vmcb.write(RSP, Sandbox::stack_top());
        vmcb.write(RAX, registers.rax);
        vmcb.write(RFLAGS, registers.flags | FLAGS_FIXED);
        // SAFETY: the VMCB is complete, the guest sees the kernel's memory as
        // the kernel does, and its program is one that could run at CPL 0.
        unsafe { svm_run(vmcb.address(), registers) };
        registers.rax = vmcb.read(RAX);
        registers.flags = vmcb.read(RFLAGS) & FLAGS_ARITHMETIC;
        VmExit {
            code: vmcb.read(EXIT_CODE),
            info_1: vmcb.read(EXIT_INFO_1),
            info_2: vmcb.read(EXIT_INFO_2),
            at: vmcb.read(RIP).wrapping_sub(Sandbox::entry()),
        }
    }
}
