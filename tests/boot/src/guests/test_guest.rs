//! A guest with one virtual processor and a few MiB of memory.

use alloc::sync::Arc;

use kernel::virt::address::GuestPhysAddr;
use kernel::virt::backend::{Backend, Entry, Loaded, Vcpu};
use kernel::virt::exit::Exit;
use kernel::virt::memory::GuestMemory;
use kernel::virt::registers::Register;
use kernel::virt::space::Space;
use kernel::virt::svm::Svm;

use super::programs::{self, CODE, INTERRUPT_TABLE, SEGMENTS, STACK, TABLES};

type Format = <Svm as Backend>::Format;
pub(crate) type TestVcpu = <Svm as Backend>::Vcpu;

/// How much memory a guest has.
pub(crate) const MEMORY: u64 = 4 << 20;

/// A guest.
pub(crate) struct TestGuest {
    pub(crate) space: Arc<Space<Format>>,
    pub(crate) vcpu: TestVcpu,
}

impl TestGuest {
    /// A guest that will run `program`, in 64-bit mode. Its interrupts go to
    /// handlers that report them.
    pub(crate) fn new(program: u64) -> Self {
        Self::with_handlers(program, |vector| programs::handlers() + 16 * vector)
    }

    /// As [`new`](Self::new), with other handlers.
    pub(crate) fn with_handlers(program: u64, handler: impl Fn(u64) -> u64) -> Self {
        let memory = GuestMemory::new(MEMORY).expect("there is memory for a small guest");
        write(&memory, CODE, programs::code());
        write_tables(&memory);
        // Nothing, 64-bit code, data.
        for (entry, descriptor) in [(1, 0x00af_9b00_0000_ffff_u64), (2, 0x00cf_9300_0000_ffff)] {
            write(&memory, SEGMENTS + 8 * entry, &descriptor.to_le_bytes());
        }
        for vector in 0..256 {
            let entry = handler(vector);
            // An interrupt gate of segment 8.
            let low = entry & 0xffff | 8 << 16 | 0x8e << 40 | (entry >> 16 & 0xffff) << 48;
            write(&memory, INTERRUPT_TABLE + 16 * vector, &low.to_le_bytes());
        }
        let space = Space::new(memory, 1).expect("there is memory for small tables");
        let entry = Entry::Long {
            cr3: TABLES,
            rip: program,
            rsp: STACK,
        };
        let vcpu = Svm::new_vcpu(space.clone(), 0, &entry).expect("there is memory for a vCPU");
        Self { space, vcpu }
    }

    /// Sets RBX.
    pub(crate) fn with_rbx(mut self, value: u64) -> Self {
        self.vcpu.registers_mut().set(Register::RBX, value);
        self
    }

    /// Loads the virtual processor.
    pub(crate) fn load(&mut self) -> Loaded<'_, TestVcpu> {
        Loaded::new(&mut self.vcpu)
    }

    /// Runs to the next exit, which is not an interrupt of the machine.
    pub(crate) fn run(&mut self) -> Exit {
        run(&mut self.load())
    }

    /// Four bytes or less of its memory.
    pub(crate) fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        let result = self.space.memory.read(GuestPhysAddr(address), &mut bytes);
        result.expect("the address is in RAM");
        bytes
    }
}

/// Runs to the next exit, which is not an interrupt of the machine.
pub(crate) fn run(vcpu: &mut Loaded<'_, TestVcpu>) -> Exit {
    loop {
        let exit = vcpu.run();
        if exit != Exit::Interrupt {
            return exit;
        }
    }
}

/// Writes to memory that is there.
pub(crate) fn write(memory: &GuestMemory, address: u64, bytes: &[u8]) {
    let result = memory.write(GuestPhysAddr(address), bytes);
    result.expect("the address is in RAM");
}

/// Maps the low 4 GiB one to one, in pages of 2 MiB.
fn write_tables(memory: &GuestMemory) {
    const ENTRY: u64 = 0x7;
    const LARGE: u64 = 1 << 7;
    let put = |table: u64, index: u64, entry: u64| {
        write(
            memory,
            TABLES + table * 0x1000 + index * 8,
            &entry.to_le_bytes(),
        );
    };
    put(0, 0, (TABLES + 0x1000) | ENTRY);
    for gib in 0..4 {
        put(1, gib, (TABLES + (2 + gib) * 0x1000) | ENTRY);
        for page in 0..512 {
            put(2 + gib, page, (gib * 512 + page) << 21 | LARGE | ENTRY);
        }
    }
}
