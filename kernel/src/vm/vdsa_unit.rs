//! A virtual DSA with what is behind it: its client of the physical device, its
//! portals, its window.
//!
//! The guest's virtual processors share it under one lock, which nobody else takes but
//! who makes and ends the guest. Answers of the physical device wait in the client's
//! mailbox until a virtual processor of the guest comes by.
//!
//! | module | what |
//! |---|---|
//! | [`backing`] | what is behind it |
//! | [`surroundings`] | how it reaches that: what it does to guest memory, device and interrupts |
//! | [`news`] | answers and events of the physical device, handed on to the guest |
//! | [`portals`] | portal pages that the guest writes to itself |
//! | [`moving`] | a vector gets another slot |
//! | [`farewell`] | the end of the guest |

pub mod backing;
mod farewell;
pub mod moving;
mod news;
pub mod portals;
mod surroundings;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use spin::Mutex;
use vdsa::{SubmissionRequest, SubmitResult, VirtualDsa};

use self::backing::Backing;
use self::farewell::Farewell;
use self::news::serve_client;
use self::portals::ShowPages;
use self::surroundings::Surroundings;
use super::shared::{Place, VdsaDoor};
use crate::host::client::Request;
use crate::platform::pci_bus::Function;
use crate::virt::address::GuestPhysAddr;
use crate::virt::memory::GuestMemory;
use crate::virt::registers::Width;

/// The BAR with the registers.
pub const REGISTERS_BAR: u8 = 0;
/// The BAR with the portals.
pub const PORTALS_BAR: u8 = 2;

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
    held: Option<Request>,
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

/// The bytes of an access.
fn bytes(width: Width) -> u8 {
    match width {
        Width::Byte => 1,
        Width::Word => 2,
        Width::Double => 4,
        Width::Quad => 8,
    }
}
