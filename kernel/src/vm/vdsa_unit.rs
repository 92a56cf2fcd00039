//! A virtual DSA with what is behind it: its client of the physical device, its
//! portals, its window.
//!
//! The guest's virtual processors share it under one lock, which nobody else takes but
//! who makes and ends the guest. Answers of the physical device wait in the client's
//! mailbox until a virtual processor of the guest comes by.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use arrayvec::ArrayVec;
use dsa::SoftwareError;
use hwio::{DmaPages, MappedPages, Portal, Submission};
use hwspec::dsa::{ResetType, SwError0, SwError1};
use hwspec::pci::Pasid;
use spin::Mutex;
use vdsa::{
    Answer, GuestAddr, Host, Message, MovedHandle, NotRam, PasidAction, QueueAction, QueueIndex,
    QueueSet, Request, SoftwareErrorRecord, SubmissionRequest, SubmitResult, VirtualDsa,
};
use x86_64::PhysAddr;

use crate::host::accelerator::ClientHandle;
use crate::host::client::{self, Event, Set, VectorError};
use crate::host::routes::{Completion, GuestTarget};
use crate::mm::{Frames, QueuePortal};
use crate::platform::local_apic::Delivery;
use crate::platform::memory_map;
use crate::platform::pci_bus::Function;
use crate::trace::{self, Kind};
use crate::virt::address::GuestPhysAddr;
use crate::virt::memory::GuestMemory;
use crate::virt::registers::Width;

use super::shared::{Place, VdsaDoor};

/// The BAR with the registers.
pub const REGISTERS_BAR: u8 = 0;
/// The BAR with the portals.
pub const PORTALS_BAR: u8 = 2;

/// The client's vectors for batches of Weir's own begin here; below are the virtual
/// vectors, under their own numbers.
pub const FIRST_BATCH_VECTOR: u8 = 16;
/// Those for batches of guest PASIDs.
pub const FIRST_PASID_VECTOR: u8 = 24;
const _: () =
    assert!(FIRST_BATCH_VECTOR as usize + vdsa::MAX_QUEUES <= FIRST_PASID_VECTOR as usize);
const _: () = assert!(vdsa::MAX_VECTORS <= FIRST_BATCH_VECTOR as usize);

/// The slot that a vector had before it got another one, until that is released.
const RETIRED_VECTOR: u8 = 47;
const _: () = assert!(RETIRED_VECTOR as usize + 1 == client::MAX_VECTORS);
const _: () = assert!(FIRST_PASID_VECTOR + 16 <= RETIRED_VECTOR);

/// The pages of a window.
pub type WindowPages = MappedPages<Frames>;

/// Shows a guest pages of a device, and hides them.
pub trait ShowPages: Send + Sync {
    /// Shows the page at `host` at `guest`. False if memory is short.
    fn show(&self, guest: GuestPhysAddr, host: PhysAddr) -> bool;
    /// Hides the page at `guest`.
    fn hide(&self, guest: GuestPhysAddr);
}

/// What is behind one virtual queue.
#[derive(Debug)]
pub struct BackingQueue {
    /// The physical queue.
    pub physical: u8,
    /// The guest is the only one who has it.
    pub is_exclusive: bool,
    /// It is dedicated where the guest has a shared one, and has this PASID whatever the
    /// guest names: all of the guest's lead to the same memory.
    pub stand_in: Option<Pasid>,
    /// The way to it for Weir.
    pub portal: QueuePortal,
    /// The pages that the guest itself may write to: unlimited and limited IMS portal.
    /// Only under the policy `direct`.
    pub direct: Option<[PhysAddr; 2]>,
}

/// What is behind a virtual DSA.
#[derive(Debug)]
pub struct Backing {
    /// Its client of the physical device, until it is closed.
    pub client: Option<ClientHandle>,
    /// Its host PASIDs.
    pub pasids: Vec<Pasid>,
    /// What is behind its queues.
    pub queues: ArrayVec<BackingQueue, { vdsa::MAX_QUEUES }>,
    /// Weir's own memory that the device reaches; none if all queues are direct.
    pub window: Option<WindowPages>,
    /// The guest's number.
    pub guest: usize,
    /// The number of this virtual DSA in the guest.
    pub vdsa: usize,
    /// The processor that its interrupts go to.
    pub processor: usize,
    /// Descriptors that asked for the guest's attention by software alone.
    pub injected: u64,
    /// Whether a vector is getting another slot.
    pub moving: Moving,
    /// How many did.
    pub moved: u64,
}

/// A vector gets another slot, step by step. What the guest asks for meanwhile waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moving {
    /// None does.
    #[default]
    Not,
    /// This one: a new slot was asked for.
    Replacing(u8),
    /// The guest was told. What it had submitted before is being done.
    Draining,
    /// The old slot is being given back.
    Releasing,
}

/// A virtual DSA with what is behind it.
pub struct VdsaUnit {
    memory: Arc<GuestMemory>,
    place: &'static Place,
    /// Ours among those of the place.
    door: Option<&'static VdsaDoor>,
    pages: Arc<dyn ShowPages>,
    /// A copy, to be looked at without the lock.
    bar_sizes: [u64; 2],
    inner: Mutex<Inner>,
}

struct Inner {
    device: Box<VirtualDsa>,
    backing: Backing,
    /// Where the guest sees portals of the physical device.
    shown: Option<u64>,
    farewell: Farewell,
    /// What the guest asked for while a vector was moving.
    held: Option<client::Request>,
}

/// How far the end of a guest has come with its accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// It has not begun.
    Not,
    /// The descriptors of the client's PASID of this number are being abandoned.
    Pasid(usize),
    /// Its queues are being reset, and its vectors released.
    Reset,
}

impl VdsaUnit {
    /// `device` over `backing`.
    pub fn new(
        device: Box<VirtualDsa>,
        backing: Backing,
        memory: Arc<GuestMemory>,
        place: &'static Place,
        pages: Arc<dyn ShowPages>,
    ) -> Self {
        Self {
            bar_sizes: [0, 2].map(|bar| device.bar_size(bar)),
            memory,
            place,
            door: place.vdsas.get(backing.vdsa),
            pages,
            inner: Mutex::new(Inner {
                device,
                backing,
                shown: None,
                farewell: Farewell::Not,
                held: None,
            }),
        }
    }

    /// The sizes of its BARs, by their numbers.
    pub fn bars(&self) -> [(u8, u64); 2] {
        let [registers, portals] = self.bar_sizes;
        [(REGISTERS_BAR, registers), (PORTALS_BAR, portals)]
    }

    /// Does something with the device and its surroundings.
    #[inline]
    fn with<T>(&self, action: impl FnOnce(&mut VirtualDsa, &mut Surroundings<'_>) -> T) -> T {
        let mut inner = self.inner.lock();
        let Inner {
            device,
            backing,
            held,
            ..
        } = &mut *inner;
        let mut surroundings = Surroundings {
            memory: &self.memory,
            place: self.place,
            backing,
            held,
        };
        action(device, &mut surroundings)
    }

    /// Looks at the device and at what is behind it.
    pub fn look<T>(&self, look: impl FnOnce(&VirtualDsa, &Backing) -> T) -> T {
        let inner = self.inner.lock();
        look(&inner.device, &inner.backing)
    }

    /// Looks at them if nobody else does at this moment.
    pub fn try_look<T>(&self, look: impl FnOnce(&VirtualDsa, &Backing) -> T) -> Option<T> {
        let inner = self.inner.try_lock()?;
        Some(look(&inner.device, &inner.backing))
    }

    /// Changes what is behind it, for whoever makes and ends guests.
    pub fn with_backing<T>(&self, change: impl FnOnce(&mut Backing) -> T) -> T {
        change(&mut self.inner.lock().backing)
    }

    /// A submission that stopped at a portal.
    #[inline]
    pub fn submit(&self, request: &SubmissionRequest) -> SubmitResult {
        self.with(|device, host| device.submit(host, request))
    }

    /// Looks after what has come of the physical device: answers and events.
    pub fn serve(&self) {
        self.with(serve_client);
        if let Some(door) = self.door {
            self.start_moving(door);
        }
    }

    /// Hands on batches that have ended.
    #[inline]
    pub fn collect_batches(&self) {
        self.with(|device, host| device.collect_batches(host));
    }

    /// Whether the accelerator has nothing to do for the guest any more, and the guest no
    /// vector of it. To be asked until it is so, once no virtual processor runs: each
    /// time goes one step further, and waits for nothing.
    pub fn is_quiet(&self) -> bool {
        let mut inner = self.inner.lock();
        let Inner {
            backing, farewell, ..
        } = &mut *inner;
        let Some(client) = &backing.client else {
            return true;
        };
        loop {
            client.accelerator().service();
            if client.is_waiting() {
                return false;
            }
            // What the guest itself had asked for, or the last step. A device that does
            // not do what it is told is cut off by the IOMMU.
            client.take_answer();
            *farewell = match *farewell {
                Farewell::Not => backing.bid(client, 0),
                Farewell::Pasid(number) => backing.bid(client, number + 1),
                Farewell::Reset => return true,
            };
        }
    }

    /// Looks whether the operator wants a vector to get another slot.
    fn start_moving(&self, door: &VdsaDoor) {
        if !door.has_move() {
            return;
        }
        let mut inner = self.inner.lock();
        let backing = &mut inner.backing;
        let Some(client) = &backing.client else {
            return;
        };
        // What the guest asked for comes first, and then this is called again.
        if backing.moving != Moving::Not || !client.is_idle() {
            return;
        }
        let Some(vector) = door.take_move() else {
            return;
        };
        backing.moving = Moving::Replacing(vector);
        client.post(client::Request::ReplaceVector {
            vector,
            cpu: backing.processor,
            aside: RETIRED_VECTOR,
        });
    }

    /// Counts what the accelerator did not finish as abandoned. It is quiet.
    pub fn close_books(&self) {
        self.with(|device, host| device.give_up(host));
    }

    /// Shows the portals of direct queues where BAR2 is now. Where pages of devices are
    /// not shown, or tables are short of memory, submissions stop and are carried out as
    /// those to checked queues are.
    fn show_portals(&self) {
        let [_, len_bytes] = self.bar_sizes;
        let mut inner = self.inner.lock();
        let base = inner.device.bar(PORTALS_BAR.into());
        let base = base.filter(|&base| memory_map::is_shown(GuestPhysAddr(base), len_bytes));
        if base == inner.shown {
            return;
        }
        let Inner { backing, shown, .. } = &mut *inner;
        for (index, queue) in (0_u64..).zip(&backing.queues) {
            let Some(pages) = queue.direct else { continue };
            for (page, physical) in (0..).zip(pages) {
                let offset = index * QUEUE_STRIDE + page * PAGE;
                if let Some(old) = *shown {
                    self.pages.hide(GuestPhysAddr(old + offset));
                }
                if let Some(new) = base {
                    self.pages.show(GuestPhysAddr(new + offset), physical);
                }
            }
        }
        *shown = base;
    }

    /// Reads from a BAR. Portals read as ones.
    pub fn read(&self, bar: u8, offset: u64, width: Width) -> u64 {
        match (bar, u32::try_from(offset)) {
            (REGISTERS_BAR, Ok(offset)) => self.with(|device, host| {
                // A guest that asks again and again is told as soon as there is news.
                serve_client(device, host);
                let value = device.read_register(host, offset, bytes(width));
                width.truncate(value)
            }),
            _ => width.truncate(u64::MAX),
        }
    }

    /// Writes to a BAR. Less than 64 bytes are lost at a portal.
    pub fn write(&self, bar: u8, offset: u64, width: Width, value: u64) {
        if let (REGISTERS_BAR, Ok(offset)) = (bar, u32::try_from(offset)) {
            self.with(|device, host| {
                device.write_register(host, offset, bytes(width), width.truncate(value));
                // Most of what can be asked is answered at once.
                serve_client(device, host);
            });
        }
    }
}

/// Bytes of the portals of one queue.
const QUEUE_STRIDE: u64 = 0x4000;
const PAGE: u64 = 0x1000;

/// The bytes of an access.
fn bytes(width: Width) -> u8 {
    match width {
        Width::Byte => 1,
        Width::Word => 2,
        Width::Double => 4,
        Width::Quad => 8,
    }
}

/// Takes what the client was told.
fn serve_client(device: &mut VirtualDsa, host: &mut Surroundings<'_>) {
    /// More than a client can have at once; whatever comes later has its own notice.
    const MAX_NEWS: usize = 8;
    for _ in 0..MAX_NEWS {
        let Some(client) = &host.backing.client else {
            return;
        };
        if client.is_waiting() {
            client.accelerator().service();
        }
        if let Some(answer) = client.take_answer() {
            if host.backing.moving != Moving::Not {
                go_on_moving(device, host, answer);
                continue;
            }
            let answer = match answer {
                client::Answer::Done => Answer::Done,
                client::Answer::Handle(handle) => Answer::Handle(handle.0),
                client::Answer::NoHandle => Answer::NoHandle,
                client::Answer::Failed(_) => Answer::Failed,
            };
            let (guest, vdsa) = (host.backing.guest, host.backing.vdsa);
            let has_failed = u32::from(answer == Answer::Failed);
            trace::record(Kind::ANSWER, guest, vdsa, has_failed);
            device.answer(host, answer);
        } else if let Some(event) = client.take_event() {
            tell(device, host, event);
        } else {
            return;
        }
    }
}

/// A step of [`Moving`] was answered.
#[cold]
fn go_on_moving(device: &mut VirtualDsa, host: &mut Surroundings<'_>, answer: client::Answer) {
    let next = match (host.backing.moving, answer) {
        (Moving::Replacing(vector), client::Answer::Handle(handle)) => {
            host.backing.moved += 1;
            let moved = MovedHandle {
                vector: vector.into(),
                handle: handle.0,
            };
            device.revoke_handles(host, &[moved]);
            let client = host.backing.client.as_ref();
            let pasid = client.and_then(|client| client.vector_pasid(RETIRED_VECTOR));
            match pasid {
                Some(pasid) => (Moving::Draining, Some(client::Request::DrainPasid(pasid))),
                None => (Moving::Not, host.held.take()),
            }
        }
        // Whatever came of it: what names the old slot from now on is refused.
        (Moving::Draining, _) => {
            let retired = Set::just(RETIRED_VECTOR);
            (
                Moving::Releasing,
                Some(client::Request::ReleaseVectors(retired)),
            )
        }
        _ => (Moving::Not, host.held.take()),
    };
    let (moving, request) = next;
    host.backing.moving = moving;
    if let (Some(client), Some(request)) = (&host.backing.client, request) {
        client.post(request);
    }
}

/// Tells the guest of an event of the physical device, as hardware would.
#[cold]
fn tell(device: &mut VirtualDsa, host: &mut Surroundings<'_>, event: Event) {
    let (guest, vdsa) = (host.backing.guest, host.backing.vdsa);
    match event {
        Event::SoftwareError(error) => {
            trace::record(Kind::DEVICE_ERROR, guest, vdsa, error.code.0.into());
            let queue = host.backing.virtual_queue(error.queue);
            device.report_error(host, queue, record(&error));
        }
        Event::ErrorsLost => device.report_lost_errors(),
        Event::WasReset => {
            trace::record(Kind::HALT, guest, vdsa, 0);
            // What the guest had in the device is gone, and so it sees a halt that a reset
            // cures.
            device.report_halt(host, ResetType::ResetDevice);
        }
        Event::Halted(reset) => {
            trace::record(Kind::HALT, guest, vdsa, 1);
            device.report_halt(host, reset);
        }
        Event::Failed => {
            trace::record(Kind::HALT, guest, vdsa, 2);
            device.report_halt(host, ResetType::Cold);
        }
    }
}

/// An error as SWERROR shows it; whose queue it was, the guest's device says itself.
fn record(error: &SoftwareError) -> SoftwareErrorRecord {
    let mut word0 = SwError0::new()
        .with_error_code(error.code)
        .with_write(error.is_write)
        .with_error_information_valid(error.information.is_some());
    let mut word1 = SwError1::new().with_error_information(error.information.unwrap_or(0));
    if let Some(descriptor) = error.descriptor {
        word0 = word0
            .with_descriptor_valid(true)
            .with_operation(descriptor.operation)
            .with_pasid(descriptor.pasid.value())
            .with_privileged(descriptor.privileged)
            .with_batch_member(descriptor.batch_index.is_some());
        word1 = word1.with_batch_index(descriptor.batch_index.unwrap_or(0));
    }
    SoftwareErrorRecord {
        word0,
        word1,
        address: error.address,
    }
}

impl Function for VdsaUnit {
    fn read_config(&self, offset: u16, width: Width) -> u32 {
        self.inner.lock().device.read_config(offset, bytes(width))
    }

    fn write_config(&self, offset: u16, width: Width, value: u32) {
        self.with(|device, host| {
            device.write_config(host, offset, bytes(width), value);
            serve_client(device, host);
        });
        self.show_portals();
    }

    fn bar(&self, bar: u8) -> Option<GuestPhysAddr> {
        let inner = self.inner.lock();
        inner.device.bar(bar.into()).map(GuestPhysAddr)
    }
}

impl fmt::Debug for VdsaUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VdsaUnit").finish_non_exhaustive()
    }
}

impl Backing {
    /// Begins a step of the farewell: the PASID of this number, or what comes after the
    /// last.
    fn bid(&self, client: &ClientHandle, number: usize) -> Farewell {
        match self.pasids.get(number) {
            Some(&pasid) => {
                client.post(client::Request::AbortPasid(pasid));
                Farewell::Pasid(number)
            }
            None => {
                let queues = self.queues.iter().filter(|queue| queue.is_exclusive);
                client.post(client::Request::Reset {
                    queues: queues.map(|queue| queue.physical).collect(),
                    vectors: all_vectors(),
                });
                Farewell::Reset
            }
        }
    }

    /// Gives the client up. Waits.
    pub fn close(&mut self) {
        if let Some(client) = self.client.take() {
            client.close();
        }
    }

    /// The virtual queue that a physical one is behind.
    fn virtual_queue(&self, physical: Option<u8>) -> Option<QueueIndex> {
        let physical = physical?;
        let mut queues = self.queues.iter();
        QueueIndex::new(queues.position(|queue| queue.physical == physical)?)
    }

    /// The PASID that the device compares with that of a vector's slot, where the guest's
    /// own choice is `pasid`.
    fn slot_pasid(&self, vector: u16, pasid: Pasid) -> Pasid {
        let count = self.queues.len().max(1);
        let queue = usize::from(vector.saturating_sub(1)) % count;
        let queue = self.queues.get(queue);
        queue.and_then(|queue| queue.stand_in).unwrap_or(pasid)
    }

    fn queue(&self, queue: QueueIndex) -> Option<&BackingQueue> {
        self.queues.get(queue.index())
    }

    /// Of `queues` those physical ones that are the guest's alone.
    fn exclusive(&self, queues: QueueSet) -> Set {
        let queues = queues.iter().filter_map(|queue| self.queue(queue));
        queues
            .filter(|queue| queue.is_exclusive)
            .map(|queue| queue.physical)
            .collect()
    }
}

fn all_vectors() -> Set {
    let count = u8::try_from(client::MAX_VECTORS).unwrap_or(u8::MAX);
    (0..count).collect()
}

/// What is around a virtual DSA, for as long as it does something.
struct Surroundings<'s> {
    memory: &'s GuestMemory,
    place: &'static Place,
    backing: &'s mut Backing,
    /// What the guest asked for while a vector was moving.
    held: &'s mut Option<client::Request>,
}

impl Surroundings<'_> {
    fn line(&self, vector: u16) -> Option<&'static super::shared::Line> {
        let vdsa = self.place.vdsas.get(self.backing.vdsa)?;
        vdsa.lines.get(usize::from(vector))
    }

    /// Does something with a slot. What fails there fails with the device, which the
    /// client is told.
    fn with_client(&self, action: impl FnOnce(&ClientHandle) -> Result<(), VectorError>) {
        if let Some(client) = &self.backing.client
            && action(client).is_err()
        {
            trace::record(Kind::DEVICE_ERROR, self.backing.guest, self.backing.vdsa, 0);
        }
    }
}

/// The client's number of a virtual vector.
fn client_vector(vector: u16) -> u8 {
    // A virtual DSA has no vectors beyond MAX_VECTORS; the client refuses what it has
    // not.
    u8::try_from(vector).unwrap_or(u8::MAX)
}

impl Host for Surroundings<'_> {
    #[inline]
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        let result = self.memory.copy_words_out(GuestPhysAddr(at.0), into);
        result.map_err(|_| NotRam)
    }

    #[inline]
    fn write_guest(&mut self, at: GuestAddr, words: &[u64]) -> Result<(), NotRam> {
        let result = self.memory.copy_words_in(GuestPhysAddr(at.0), words);
        result.map_err(|_| NotRam)
    }

    #[inline]
    fn write_record(&mut self, at: GuestAddr, record: &[u64; 4]) -> Result<(), NotRam> {
        let result = self.memory.copy_record_in(GuestPhysAddr(at.0), record);
        result.map_err(|_| NotRam)
    }

    #[inline]
    fn read_window(&self, offset: usize, into: &mut [u64]) {
        if let Some(window) = &self.backing.window {
            window.read_words(offset / 8, into);
        }
    }

    #[inline]
    fn write_window(&mut self, offset: usize, words: &[u64]) {
        if let Some(window) = &mut self.backing.window {
            window.write_words(offset / 8, words);
        }
    }

    #[inline]
    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Submission {
        match self.backing.queue(queue) {
            Some(queue) => queue.portal.submit(descriptor),
            None => Submission::Retry,
        }
    }

    fn set_masked(&mut self, vector: u16, masked: bool) {
        self.with_client(|client| client.set_masked(client_vector(vector), masked));
    }

    fn set_ignored(&mut self, vector: u16, ignored: bool) {
        self.with_client(|client| client.set_ignored(client_vector(vector), ignored));
    }

    fn set_slot_pasid(&mut self, vector: u16, pasid: Pasid) {
        let pasid = self.backing.slot_pasid(vector, pasid);
        self.with_client(|client| client.set_vector_pasid(client_vector(vector), pasid));
    }

    fn is_pending(&self, vector: u16) -> bool {
        let client = self.backing.client.as_ref();
        client.is_some_and(|client| client.is_pending(client_vector(vector)).unwrap_or(false))
    }

    fn set_message(&mut self, vector: u16, message: Option<Message>) {
        let Some(line) = self.line(vector) else {
            return;
        };
        let ipi = message.and_then(|message| self.place.message(message));
        let target = ipi.and_then(|ipi| match ipi.delivery {
            Delivery::Fixed(vector) => {
                let vcpu = u8::try_from(ipi.targets.iter().next()?).ok()?;
                Some((vcpu, vector))
            }
            // A device that wants anything else than an interrupt gets nothing.
            _ => None,
        });
        line.connect(target);
    }

    #[inline]
    fn inject(&mut self, message: Message) {
        if self.place.inject(message) {
            self.backing.injected += 1;
        }
    }

    fn request(&mut self, request: Request) {
        let backing = &mut *self.backing;
        let request = match request {
            Request::EnableQueue { queue, pasid, .. } => match backing.queue(queue) {
                Some(queue) if queue.is_exclusive => client::Request::EnableQueue {
                    queue: queue.physical,
                    // Weir grants nobody privileged access.
                    pasid: dsa::QueuePasid::unprivileged(pasid),
                },
                // A shared queue is enabled already, and the PASID comes with each
                // descriptor.
                _ => client::Request::Queues {
                    queues: Set::EMPTY,
                    action: client::QueueAction::Drain,
                },
            },
            Request::Queues { queues, action } => client::Request::Queues {
                queues: backing.exclusive(queues),
                action: match action {
                    QueueAction::Drain => client::QueueAction::Drain,
                    QueueAction::Abort => client::QueueAction::Abort,
                    QueueAction::Disable => client::QueueAction::Disable,
                    QueueAction::Reset => client::QueueAction::Reset,
                },
            },
            Request::Pasid { pasid, action } => match action {
                PasidAction::Drain => client::Request::DrainPasid(pasid),
                PasidAction::Abort => client::Request::AbortPasid(pasid),
            },
            Request::AllocateHandle { vector, pasid } => client::Request::AllocateVector {
                vector: client_vector(vector),
                pasid: backing.slot_pasid(vector, pasid),
                cpu: backing.processor,
                target: GuestTarget {
                    vm: u16::try_from(backing.guest).unwrap_or(u16::MAX),
                    device: u8::try_from(backing.vdsa).unwrap_or(u8::MAX),
                    completion: Completion::Vector(vector),
                },
            },
            Request::ReleaseHandle { vector } => {
                client::Request::ReleaseVectors(Set::just(client_vector(vector)))
            }
            Request::Reset { queues } => client::Request::Reset {
                queues: backing.exclusive(queues),
                vectors: (0..FIRST_BATCH_VECTOR).collect(),
            },
        };
        if backing.moving != Moving::Not {
            // The guest has one command at a time.
            *self.held = Some(request);
        } else if let Some(client) = &backing.client {
            client.post(request);
        }
    }
}
