//! Runs a few bytes of machine code and tells how they ended.
//!
//! A program is written as bytes, not through the assembler, so that prefixes
//! and operand forms are exactly those that a check is about. It runs at CPL 0
//! or CPL 3 until it ends or an exception stops it, and all that it left behind
//! (registers, flags, the exception) is the result.
#![expect(unsafe_code, reason = "running code that is data to the compiler")]

use crate::memory::{PAGE_SIZE, Pages};
use crate::paging::{self, Access};
use crate::trap::{self, Frame};

/// Pages of the scratch window that belong to the sandbox; checks use those
/// from [`FIRST_FREE`] on.
const CODE: u64 = 0;
const STACK: u64 = 1;
/// The first page of the scratch window that checks may use.
pub(crate) const FIRST_FREE: u64 = 4;

/// RFLAGS bit 1, which is always set.
const FLAGS_FIXED: u64 = 1 << 1;
/// Resume flag: set in the image that a fault saves, of no interest here.
const FLAGS_RESUME: u64 = 1 << 16;
/// CF, PF, AF, ZF, SF and OF.
pub(crate) const FLAGS_ARITHMETIC: u64 = 0x8d5;
/// ZF.
pub(crate) const FLAGS_ZERO: u64 = 1 << 6;

/// `INT 0x80`, see [`trap::END_OF_PROGRAM`].
const END: [u8; 2] = [0xcd, 0x80];

/// The privilege that a program runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    Kernel,
    User,
}

impl Privilege {
    /// The number of the privilege level.
    pub(crate) const fn level(self) -> u8 {
        match self {
            Self::Kernel => 0,
            Self::User => 3,
        }
    }
}

/// The registers that the programs of this kernel use.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) rax: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rbp: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) r8: u64,
    pub(crate) r9: u64,
    /// CF, PF, AF, ZF, SF and OF as in RFLAGS.
    pub(crate) flags: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran through.
    Completed,
    /// An exception stopped it at the instruction `at` bytes into it.
    Exception { vector: u64, error: u64, at: u64 },
    /// The same for a page fault, with the address that CR2 had.
    PageFault { error: u64, cr2: u64, at: u64 },
}

/// What a program left behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) outcome: Outcome,
    pub(crate) registers: Registers,
}

/// A code page and a stack that CPL 3 can reach as well.
#[derive(Debug)]
pub(crate) struct Sandbox {
    code: Pages,
}

impl Sandbox {
    /// Maps the sandbox into the scratch window.
    pub(crate) fn new() -> Self {
        let code = Pages::one();
        paging::map(CODE, code.address(), Access::UserWrite);
        paging::map(STACK, Pages::one().address(), Access::UserWrite);
        Self { code }
    }

    /// Puts `program`, followed by `end`, at the start of the code page.
    pub(crate) fn load(&self, program: &[u8], end: &[u8]) {
        for (offset, &byte) in (0..).zip(program.iter().chain(end)) {
            self.code.write_u8(offset, byte);
        }
    }

    /// The linear address where a loaded program begins.
    pub(crate) const fn entry() -> u64 {
        paging::scratch(CODE)
    }

    /// The stack pointer that a program begins with.
    pub(crate) const fn stack_top() -> u64 {
        paging::scratch(STACK) + PAGE_SIZE
    }

    /// Runs `program`. What it writes to, if anything, must be pages that the
    /// check made for that, or a device.
    pub(crate) fn run(&self, privilege: Privilege, program: &[u8], registers: Registers) -> Exit {
        self.load(program, &END);
        let selectors = trap::selectors();
        let (code, data) = match privilege {
            Privilege::Kernel => (selectors.kernel_code, selectors.kernel_data),
            Privilege::User => (selectors.user_code, selectors.user_data),
        };
        let frame = Frame {
            rax: registers.rax,
            rcx: registers.rcx,
            rdx: registers.rdx,
            rbp: registers.rbp,
            rsi: registers.rsi,
            rdi: registers.rdi,
            r8: registers.r8,
            r9: registers.r9,
            rip: Self::entry(),
            cs: u64::from(code.0),
            rflags: registers.flags | FLAGS_FIXED,
            rsp: Self::stack_top(),
            ss: u64::from(data.0),
            ..Frame::default()
        };
        // SAFETY: the programs are a few constant instructions each, whose
        // operands the checks point at pages and devices of their own.
        let ended = unsafe { trap::run(&frame) };
        Self::exit(&ended)
    }

    fn exit(ended: &trap::Ended) -> Exit {
        let frame = &ended.frame;
        let at = frame.rip.wrapping_sub(Self::entry());
        let outcome = match frame.vector {
            trap::END_OF_PROGRAM => Outcome::Completed,
            trap::PAGE_FAULT => Outcome::PageFault {
                error: frame.error,
                cr2: ended.cr2,
                at,
            },
            vector => Outcome::Exception {
                vector,
                error: frame.error,
                at,
            },
        };
        Exit {
            outcome,
            registers: Registers {
                rax: frame.rax,
                rcx: frame.rcx,
                rdx: frame.rdx,
                rbp: frame.rbp,
                rsi: frame.rsi,
                rdi: frame.rdi,
                r8: frame.r8,
                r9: frame.r9,
                flags: frame.rflags & !(FLAGS_FIXED | FLAGS_RESUME),
            },
        }
    }
}
