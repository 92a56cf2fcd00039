//! One guest: what its virtual processors share.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayString;
use spin::Mutex;

use crate::platform::memory_map::SERIAL_PORT;
use crate::platform::pci_bus::{PciBus, read_absent};
use crate::platform::serial_port::{Input, Output, PORTS, SerialPort};
use crate::virt::backend::Backend;
use crate::virt::registers::Width;
use crate::virt::space::Space;

use super::counters::{Counter, Exits, Reason};
use super::results::Results;
use super::shared::{self, MAX_VCPUS, Place, VcpuDoor};
use super::vdsa_unit::VdsaUnit;
use super::virtual_cpu::VirtualCpu;

/// How long a guest's name can be.
pub const MAX_NAME: usize = 15;

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It said that all went well.
    Passed,
    /// It said that something failed, with a code of its own.
    Failed(u64),
    /// It could not handle an exception.
    TripleFault,
    /// The processor does not enter it: the reason that the backend saw.
    NotRunnable(u64),
    /// Its page tables are where it has no memory.
    TablesOutsideRam(u64),
    /// It jumped to where it has no memory.
    CodeOutsideRam(u64),
    /// The operator stopped it.
    Stopped,
    /// Its accelerator failed and could not be recovered.
    DeviceLost,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(code) => write!(f, "failed with its code {code:#x}"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::NotRunnable(code) => write!(f, "refused by the processor, exit code {code:#x}"),
            Self::TablesOutsideRam(address) => {
                write!(f, "page tables outside of its memory at {address:#x}")
            }
            Self::CodeOutsideRam(address) => {
                write!(f, "code outside of its memory at {address:#x}")
            }
            Self::Stopped => f.write_str("stopped by the operator"),
            Self::DeviceLost => f.write_str("its accelerator is lost"),
        }
    }
}

/// What a guest did that led nowhere.
#[derive(Debug, Default)]
pub struct GuestCounters {
    /// Accesses to addresses and ports where nothing is.
    pub strays: Counter,
    /// Instructions at devices that are not emulated.
    pub unknown_instructions: Counter,
}

/// A guest.
#[derive(Debug)]
pub struct Guest<B: Backend> {
    /// Its number, below [`shared::MAX_GUESTS`].
    pub number: usize,
    /// Its name.
    pub name: ArrayString<MAX_NAME>,
    /// What of it anybody may touch.
    pub place: &'static Place,
    /// Its physical address space.
    pub space: Arc<Space<B::Format>>,
    /// Its PCI bus, with its virtual DSAs.
    pub bus: PciBus<VdsaUnit>,
    /// What it writes to its console.
    pub output: Output,
    /// What the operator types there.
    pub input: Input,
    /// What it says of itself.
    pub results: Results,
    /// What it did that led nowhere.
    pub counters: GuestCounters,
    /// How many virtual processors it has.
    pub count_vcpus: usize,
    /// Locked by its own virtual processors alone.
    serial: Mutex<SerialPort>,
    ending: Mutex<Option<Ending>>,
    /// Set with `ending`, to be looked at without its lock.
    has_ended: AtomicBool,
    /// Virtual processors that are on no processor.
    parked: Mutex<Vec<Box<VirtualCpu<B>>>>,
}

impl<B: Backend> Guest<B> {
    /// A guest without virtual processors.
    pub fn new(
        number: usize,
        name: ArrayString<MAX_NAME>,
        space: Arc<Space<B::Format>>,
        bus: PciBus<VdsaUnit>,
        count_vcpus: usize,
    ) -> Option<Arc<Self>> {
        let place = shared::place(number)?;
        place.open(count_vcpus);
        Some(Arc::new(Self {
            number,
            name,
            place,
            space,
            bus,
            output: Output::new(),
            input: Input::new(),
            serial: Mutex::new(SerialPort::new()),
            results: Results::default(),
            counters: GuestCounters::default(),
            count_vcpus: count_vcpus.min(MAX_VCPUS),
            ending: Mutex::new(None),
            has_ended: AtomicBool::new(false),
            parked: Mutex::new(Vec::with_capacity(MAX_VCPUS)),
        }))
    }

    /// The way to virtual processor `index`.
    ///
    /// # Panics
    /// If no guest can have one of that number.
    pub fn door(&self, index: usize) -> &'static VcpuDoor {
        let door = self.place.vcpus.get(index);
        door.expect("virtual processors are numbered below MAX_VCPUS")
    }

    /// The ways to all of its virtual processors.
    pub fn doors(&self) -> impl Iterator<Item = &'static VcpuDoor> {
        self.place.vcpus.iter().take(self.count_vcpus)
    }

    /// How often it was left for `reason`.
    pub fn count_exits(&self, reason: Reason) -> u64 {
        self.doors()
            .map(|door| Exits::get(&door.exits, reason))
            .sum()
    }

    /// Ends it. Its first ending counts.
    pub fn end(&self, ending: Ending) {
        let mut place = self.ending.lock();
        if place.is_none() {
            *place = Some(ending);
            self.has_ended.store(true, Ordering::SeqCst);
        }
        drop(place);
        for door in self.doors() {
            door.ask_to_leave();
        }
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        *self.ending.lock()
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Keeps a virtual processor that has left its processor.
    pub(super) fn take_back(&self, vcpu: Box<VirtualCpu<B>>) {
        self.parked.lock().push(vcpu);
    }

    /// How many of its virtual processors are on no processor.
    pub fn count_parked(&self) -> usize {
        self.parked.lock().len()
    }

    /// Looks after what came for its virtual DSAs: answers, ended batches, errors.
    pub(super) fn serve_vdsas(&self) {
        for (_, unit) in self.bus.functions() {
            unit.serve();
        }
    }

    /// Reads an I/O port.
    pub(super) fn read_port(&self, port: u16, width: Width) -> u64 {
        match serial_register(port) {
            Some(register) if width == Width::Byte => {
                let mut serial = self.serial.lock();
                serial.read(register, &self.input).into()
            }
            _ => {
                self.counters.strays.add_shared();
                read_absent(width)
            }
        }
    }

    /// Writes an I/O port.
    pub(super) fn write_port(&self, port: u16, width: Width, value: u64) {
        let [byte, ..] = value.to_le_bytes();
        match serial_register(port) {
            Some(register) if width == Width::Byte => {
                self.serial.lock().write(register, byte, &self.output);
            }
            _ => self.counters.strays.add_shared(),
        }
    }
}

/// Which register of the serial port is at `port`.
fn serial_register(port: u16) -> Option<u16> {
    let offset = port.checked_sub(SERIAL_PORT)?;
    (offset < PORTS).then_some(offset)
}
