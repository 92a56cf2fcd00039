//! One guest: what its virtual processors share.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayString;
use spin::Mutex;

use crate::arch::clock;
use crate::platform::io_apic::{IoApic, IoApicMessage};
use crate::platform::kvm_clock::{self, KvmClock};
use crate::platform::local_apic;
use crate::platform::memory_map::{CONSOLE_PIN, SERIAL_PORT};
use crate::platform::pci_bus::{PciBus, read_absent};
use crate::platform::power::{self, PowerRequest};
use crate::platform::serial_port::{Input, Output, PORTS, SerialPort};
use crate::report::Strays;
use crate::virt::address::GuestPhysAddr;
use crate::virt::backend::Backend;
use crate::virt::registers::Width;
use crate::virt::space::Space;

use super::bench::Measurements;
use super::counters::{Counter, Exits, Reason};
use super::milestones::{Milestones, Watch};
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
    /// It switched itself off.
    PoweredOff,
    /// It reset itself.
    Reset,
    /// It could not handle an exception.
    TripleFault,
    /// The processor does not enter it: the reason that the backend saw.
    NotRunnable(u64),
    /// Its page tables are where it has no memory.
    TablesOutsideRam(u64),
    /// An interrupt or exception could not be delivered: its interrupt table, segments or
    /// stack are where it has no memory.
    DeliveryOutsideRam(u64),
    /// It jumped to where it has no memory.
    CodeOutsideRam(u64),
    /// The operator stopped it.
    Stopped,
    /// This accelerator of its failed or halted for good.
    DeviceLost(u8),
}

impl Ending {
    /// Whether it is none that a guest, or somebody else, chose as its end.
    pub const fn is_trouble(self) -> bool {
        match self {
            Self::Passed | Self::Failed(_) | Self::PoweredOff | Self::Stopped => false,
            Self::Reset
            | Self::TripleFault
            | Self::NotRunnable(_)
            | Self::TablesOutsideRam(_)
            | Self::DeliveryOutsideRam(_)
            | Self::CodeOutsideRam(_)
            | Self::DeviceLost(_) => true,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(code) => write!(f, "failed with its code {code:#x}"),
            Self::PoweredOff => f.write_str("switched itself off"),
            Self::Reset => f.write_str("reset itself"),
            Self::TripleFault => f.write_str("triple fault"),
            Self::NotRunnable(code) => write!(f, "refused by the processor, exit code {code:#x}"),
            Self::TablesOutsideRam(address) => {
                write!(f, "page tables outside of its memory at {address:#x}")
            }
            Self::DeliveryOutsideRam(address) => {
                write!(
                    f,
                    "interrupt table or stack outside of its memory at {address:#x}"
                )
            }
            Self::CodeOutsideRam(address) => {
                write!(f, "code outside of its memory at {address:#x}")
            }
            Self::Stopped => f.write_str("stopped by the operator"),
            Self::DeviceLost(number) => write!(f, "its accelerator dsa{number} is lost"),
        }
    }
}

/// Counts what a guest does that leads nowhere: see [`Strays`].
#[derive(Debug, Default)]
pub struct StrayCounters {
    /// Accesses.
    pub accesses: Counter,
    /// RDMSR and WRMSR.
    pub msrs: Counter,
    /// Instructions.
    pub instructions: Counter,
}

impl StrayCounters {
    /// How often until now.
    pub fn get(&self) -> Strays {
        Strays {
            accesses: self.accesses.get(),
            msrs: self.msrs.get(),
            instructions: self.instructions.get(),
        }
    }
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
    /// What it writes to its console. Who reads it may keep it longer than the guest.
    pub output: Arc<Output>,
    /// What the operator types there.
    pub input: Input,
    /// What it says of itself.
    pub results: Results,
    /// How far it has come, as its console says.
    pub milestones: Milestones,
    /// What it measured.
    pub measurements: Measurements,
    /// What it did that led nowhere.
    pub strays: StrayCounters,
    /// How many virtual processors it has.
    pub count_vcpus: usize,
    /// Its clock, as KVM's interface has it.
    pub clock: KvmClock,
    /// Locked by its own virtual processors alone.
    serial: Mutex<Console>,
    /// Likewise, and while `serial` may be locked.
    io_apic: Mutex<IoApic>,
    /// An interrupt that the I/O APIC has sent is to be reported to it when it ends.
    awaits_end: AtomicBool,
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
        clock: KvmClock,
    ) -> Option<Arc<Self>> {
        let place = shared::place(number)?;
        place.open(count_vcpus);
        Some(Arc::new(Self {
            number,
            name,
            place,
            space,
            bus,
            output: Arc::new(Output::new()),
            input: Input::new(),
            clock,
            serial: Mutex::new(Console {
                port: SerialPort::new(),
                is_interrupting: false,
                watch: Watch::default(),
            }),
            io_apic: Mutex::new(IoApic::new()),
            awaits_end: AtomicBool::new(false),
            results: Results::default(),
            milestones: Milestones::default(),
            measurements: Measurements::default(),
            strays: StrayCounters::default(),
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

    /// How often it was left for a reason of its own: not for the machine's interrupts,
    /// time slices among them.
    pub fn count_own_exits(&self) -> u64 {
        let reasons = Reason::ALL.into_iter();
        reasons
            .filter(|&(reason, _)| reason != Reason::Interrupt)
            .map(|(reason, _)| self.count_exits(reason))
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

    /// Whether it panicked, or ended as no guest means to: then the last lines of its
    /// console are worth keeping.
    pub fn has_trouble(&self) -> bool {
        self.milestones.panic().is_some() || self.ending().is_some_and(|ending| ending.is_trouble())
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

    /// Lets its virtual processors go, which hold it as it holds them.
    pub(super) fn dismiss(&self) {
        let parked = core::mem::take(&mut *self.parked.lock());
        drop(parked);
    }

    /// Hands on the batches that have ended of the virtual DSAs that have their bits set.
    #[inline(never)]
    pub(super) fn collect_batches(&self, mut vdsas: u8) {
        while vdsas != 0 {
            let index = vdsas.trailing_zeros();
            vdsas &= vdsas - 1;
            if let Some(unit) = self.bus.nth(index as usize) {
                unit.collect_batches();
            }
        }
    }

    /// Looks after what came for its virtual DSAs: answers, ended batches, errors; and for
    /// its console.
    pub(super) fn serve_vdsas(&self) {
        for (_, unit) in self.bus.functions() {
            unit.serve();
        }
        if self.input.has_bytes() {
            self.update_console(&mut self.serial.lock());
        }
    }

    /// Lets batches in flight be looked at, as if their interrupt had come.
    pub(super) fn look_for_batches(&self) {
        for (_, unit) in self.bus.functions() {
            let vdsa = unit.try_look(|device, backing| {
                (device.batches_in_flight() > 0).then_some(backing.vdsa)
            });
            if let Some(vdsa) = vdsa.flatten() {
                self.place.batch_ended(vdsa);
            }
        }
    }

    /// Reads an I/O port.
    pub(super) fn read_port(&self, port: u16, width: Width) -> u64 {
        match serial_register(port) {
            Some(register) if width == Width::Byte => {
                let mut console = self.serial.lock();
                let value = console.port.read(register, &self.input);
                self.update_console(&mut console);
                value.into()
            }
            _ => {
                if let Some(value) = power::read(port).filter(|_| width == Width::Byte) {
                    return value.into();
                }
                self.strays.accesses.add_shared();
                read_absent(width)
            }
        }
    }

    /// Writes an I/O port. What the guest asks for by that, if it is its end.
    pub(super) fn write_port(&self, port: u16, width: Width, value: u64) -> Option<PowerRequest> {
        let [byte, ..] = value.to_le_bytes();
        match serial_register(port) {
            Some(register) if width == Width::Byte => {
                let mut console = self.serial.lock();
                let written = self.output.written();
                console.port.write(register, byte, &self.output);
                if self.output.written() != written {
                    let now = clock::now();
                    self.milestones.written(&mut console.watch, byte, now);
                }
                self.update_console(&mut console);
                None
            }
            _ => {
                let request = power::write(port, byte).filter(|_| width == Width::Byte);
                if request.is_none() && power::read(port).is_none() {
                    self.strays.accesses.add_shared();
                }
                request
            }
        }
    }

    /// Lets the console's interrupt line follow the port.
    fn update_console(&self, console: &mut Console) {
        let is_interrupting = console.port.is_interrupting(&self.input);
        if is_interrupting != console.is_interrupting {
            console.is_interrupting = is_interrupting;
            self.with_io_apic(|io_apic| io_apic.set_line(CONSOLE_PIN.into(), is_interrupting));
        }
    }

    /// Tells the guest of what was typed at its console, by its first virtual processor.
    pub fn notify_of_input(&self) {
        if self.input.has_bytes() {
            self.door(0).ask_to_serve_vdsas();
        }
    }

    /// Does something with the I/O APIC, and sends what comes of it.
    fn with_io_apic(&self, action: impl FnOnce(&mut IoApic) -> Option<IoApicMessage>) {
        let mut io_apic = self.io_apic.lock();
        let message = action(&mut io_apic);
        self.awaits_end
            .store(io_apic.awaits_end(), Ordering::Release);
        drop(io_apic);
        if let Some(IoApicMessage { address, data }) = message {
            let message = local_apic::message(address.into(), data, self.count_vcpus);
            if let Some(ipi) = message {
                self.place.send(&ipi);
            }
        }
    }

    /// Reads from the I/O APIC's page.
    pub(super) fn read_io_apic(&self, offset: u64) -> u32 {
        self.io_apic.lock().read(offset)
    }

    /// Writes to the I/O APIC's page.
    pub(super) fn write_io_apic(&self, offset: u64, value: u32) {
        self.with_io_apic(|io_apic| io_apic.write(offset, value));
    }

    /// Whether [`interrupt_ended`](Self::interrupt_ended) is to be called.
    #[inline]
    pub(super) fn awaits_end(&self) -> bool {
        self.awaits_end.load(Ordering::Relaxed)
    }

    /// A virtual processor has ended the interrupt of `vector`.
    #[cold]
    pub(super) fn interrupt_ended(&self, vector: u8) {
        self.with_io_apic(|io_apic| io_apic.end_of_interrupt(vector));
    }

    /// Writes what a register of the guest's clock asks for. An address that is not RAM
    /// gets nothing.
    pub(super) fn write_clock(&self, register: u32, value: u64) {
        let memory = &self.space.memory;
        let result = match register {
            kvm_clock::SYSTEM_TIME => match kvm_clock::clock_address(value) {
                Some(address) => memory.write(GuestPhysAddr(address), &self.clock.clock()),
                None => Ok(()),
            },
            kvm_clock::WALL_CLOCK => {
                let address = kvm_clock::wall_clock_address(value);
                memory.write(GuestPhysAddr(address), &self.clock.wall_clock())
            }
            _ => Ok(()),
        };
        if result.is_err() {
            self.strays.accesses.add_shared();
        }
    }
}

/// The console's port and its interrupt line.
#[derive(Debug)]
struct Console {
    port: SerialPort,
    /// Whether the line is asserted.
    is_interrupting: bool,
    /// What is looked for in what it writes.
    watch: Watch,
}

/// Which register of the serial port is at `port`.
fn serial_register(port: u16) -> Option<u16> {
    let offset = port.checked_sub(SERIAL_PORT)?;
    (offset < PORTS).then_some(offset)
}
