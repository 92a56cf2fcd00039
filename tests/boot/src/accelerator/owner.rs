//! A guest that does not exist: its memory, its PASID, its queue.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use dsa::{InterruptHandle, QueuePasid};
use hwio::{Portal, Submission};
use hwspec::dsa::{Descriptor, DescriptorWord0, DescriptorWord4, Flags, Operation};
use hwspec::pci::Pasid;
use kernel::arch::{clock, trap};
use kernel::host::Host;
use kernel::host::accelerator::{Accelerator, ClientHandle};
use kernel::host::client::{ClientSetup, Request, Set};
use kernel::host::iommu::Domain;
use kernel::host::routes::{Completion, GuestTarget};
use kernel::mm::QueuePortal;
use kernel::virt::address::GuestPhysAddr;
use kernel::virt::memory::{CHUNK_BYTES, GuestMemory};
use vtd::{Access, Iova, Mapping};

/// How long anything may take.
const PATIENCE_NS: u64 = 50_000_000;
/// The vector that is used.
pub(crate) const VECTOR: u8 = 1;
/// A completion record.
pub(crate) const RECORD: u64 = 0x1000;
pub(crate) const SOURCE: u64 = 0x10_0000;
pub(crate) const DESTINATION: u64 = 0x11_0000;
pub(crate) const LENGTH: u32 = 0x3000;

/// Interrupts that came, and the processor and the guest of the last one.
static TAKEN: AtomicU32 = AtomicU32::new(0);
static LAST_CPU: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST_TARGET: AtomicU32 = AtomicU32::new(0);

/// What [`take_interrupt`] keeps of a target: guest, then vector.
const fn code(target: GuestTarget) -> u32 {
    let number = match target.completion {
        Completion::Vector(number) => number,
        Completion::Batch(number) => number | 0x8000,
    };
    (target.vm as u32) << 16 | number as u32
}

/// Takes the interrupts of guests.
pub(crate) fn take_interrupt(target: GuestTarget) {
    let cpu = kernel::arch::percpu::current().index;
    LAST_CPU.store(cpu, Ordering::Relaxed);
    LAST_TARGET.store(code(target), Ordering::Relaxed);
    TAKEN.fetch_add(1, Ordering::Release);
}

/// An interrupt as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) count: u32,
    pub(crate) cpu: usize,
    pub(crate) vm: u32,
    pub(crate) number: u32,
}

/// Waits until `done`, with interrupts coming in; whether that happened in time.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let start = clock::now();
    let patience = clock::ticks(PATIENCE_NS);
    loop {
        let is_over = clock::now().wrapping_sub(start) > patience;
        trap::take_pending();
        if done() {
            return true;
        }
        if is_over {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// Forgets the interrupts that came, when no more come.
pub(crate) fn forget_interrupts() {
    wait_until_quiet();
    TAKEN.store(0, Ordering::Relaxed);
}

/// Lets what is on its way arrive.
pub(crate) fn wait_until_quiet() {
    let start = clock::now();
    while clock::now().wrapping_sub(start) < clock::ticks(2_000_000) {
        trap::take_pending();
        core::hint::spin_loop();
    }
}

/// What came since, when as many as `count` have come, or none for a while.
pub(crate) fn interrupts(count: u32) -> Taken {
    if count == 0 {
        wait_until_quiet();
    } else {
        wait_until(|| TAKEN.load(Ordering::Acquire) >= count);
    }
    let target = LAST_TARGET.load(Ordering::Relaxed);
    Taken {
        count: TAKEN.load(Ordering::Acquire),
        cpu: LAST_CPU.load(Ordering::Relaxed),
        vm: target >> 16,
        number: target & 0xffff,
    }
}

pub(crate) struct Owner {
    pub(crate) accelerator: &'static Accelerator,
    pub(crate) vm: u16,
    pub(crate) queue: u8,
    pub(crate) pasid: Pasid,
    pub(crate) memory: GuestMemory,
    pub(crate) client: ClientHandle,
    pub(crate) portal: QueuePortal,
    pub(crate) shared: Option<QueuePortal>,
    domain: Domain,
}

impl Owner {
    /// Guest `vm`, with a queue that is enabled.
    pub(crate) fn new(
        host: &'static Host,
        accelerator: &'static Accelerator,
        vm: u16,
        queue: u8,
    ) -> Self {
        let memory = GuestMemory::new(2 * CHUNK_BYTES).expect("there is memory");
        let mappings = memory.chunks().map(|(guest, physical)| Mapping {
            iova: Iova(guest.0),
            physical,
            len_bytes: CHUNK_BYTES,
            access: Access::ReadWrite,
        });
        let iommu = host.iommu;
        let domain = iommu
            .create_domain(accelerator.unit(), mappings)
            .expect("the memory can be mapped");
        let pasid = iommu.allocate_pasid(vm).expect("there is a PASID");
        iommu
            .set_pasid(&domain, accelerator.source(), pasid)
            .expect("the device takes the PASID");
        let client = accelerator
            .open_client(ClientSetup {
                queues: Set::just(queue),
                shared_queues: Set::just(super::super::SHARED),
                pasids: alloc::vec![pasid],
                notify: |_| {},
                token: vm.into(),
            })
            .expect("there is room for a client");
        let owner = Self {
            accelerator,
            vm,
            queue,
            pasid,
            memory,
            client,
            portal: accelerator.portal(queue).expect("the queue is planned"),
            shared: accelerator.portal(super::super::SHARED),
            domain,
        };
        owner.enable();
        owner
    }

    pub(crate) fn enable(&self) {
        let enable = Request::EnableQueue {
            queue: self.queue,
            pasid: QueuePasid::unprivileged(self.pasid),
        };
        assert_eq!(self.client.call(enable), Ok(None), "the queue is enabled");
    }

    /// Gives [`VECTOR`] a slot that leads to `cpu`.
    pub(crate) fn allocate(&self, cpu: usize) -> InterruptHandle {
        let handle = self.client.call(Request::AllocateVector {
            vector: VECTOR,
            pasid: self.pasid,
            cpu,
            target: GuestTarget {
                vm: self.vm,
                device: 0,
                completion: Completion::Vector(VECTOR.into()),
            },
        });
        handle.expect("there is a slot").expect("it has a handle")
    }

    /// A memory move that asks for a record, and for an interrupt with a handle.
    pub(crate) fn memory_move(&self, handle: Option<InterruptHandle>) -> Descriptor {
        Descriptor {
            word0: DescriptorWord0::new()
                .with_pasid(self.pasid.value())
                .with_operation(Operation::MEMORY_MOVE)
                .with_flags(
                    Flags::new()
                        .with_completion_record_address_valid(true)
                        .with_request_completion_record(true)
                        .with_request_completion_interrupt(handle.is_some()),
                ),
            completion_record_address: RECORD,
            word2: SOURCE,
            word3: DESTINATION,
            word4: DescriptorWord4::new()
                .with_transfer_size(LENGTH)
                .with_interrupt_handle(handle.map_or(0, |handle| handle.0)),
            ..Descriptor::default()
        }
    }

    /// Submits to the guest's own queue.
    pub(crate) fn submit(&self, descriptor: &Descriptor) -> Submission {
        self.write(descriptor.completion_record_address, 0);
        self.portal.submit(&descriptor.words())
    }

    /// The status of the record at `address`, when there is one; 0 if none comes.
    pub(crate) fn status_at(&self, address: u64) -> u8 {
        wait_until(|| self.read(address) != 0);
        let [status, ..] = self.read(address).to_le_bytes();
        status
    }

    pub(crate) fn status(&self) -> u8 {
        self.status_at(RECORD)
    }

    pub(crate) fn read(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        let read = self.memory.read(GuestPhysAddr(address), &mut bytes);
        read.expect("the address is in the memory");
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn write(&self, address: u64, value: u64) {
        let written = self
            .memory
            .write(GuestPhysAddr(address), &value.to_le_bytes());
        written.expect("the address is in the memory");
    }

    /// Ends the guest.
    pub(crate) fn end(self, host: &Host) {
        let reset = Request::Reset {
            queues: Set::just(self.queue),
            pasids: Set::EMPTY,
            vectors: Set::just(VECTOR),
        };
        assert_eq!(self.client.call(reset), Ok(None), "the queue is reset");
        let drain = Request::DrainPasid(self.pasid);
        assert_eq!(self.client.call(drain), Ok(None), "the PASID is drained");
        self.end_without_device(host);
    }

    /// Ends the guest although its device may not do what it is told: that nothing
    /// reaches its memory any more is the IOMMU's doing.
    pub(crate) fn end_without_device(self, host: &Host) {
        let held = host.iommu.release_pasid(self.pasid);
        assert!(held.is_err(), "a PASID that is in use cannot be given back");
        self.client.close();
        let (iommu, source) = (host.iommu, self.accelerator.source());
        iommu
            .clear_pasid(&self.domain, source, self.pasid)
            .expect("the PASID is taken away");
        iommu.release_pasid(self.pasid).expect("nothing holds it");
        let ended = iommu.destroy_domain(self.domain);
        assert!(ended.is_ok(), "the domain is not in use");
    }
}
