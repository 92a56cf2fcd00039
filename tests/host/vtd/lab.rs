//! A driver and the hardware that it drives.

use std::time::Duration;

use hwio::fake::{FakeClock, FakePages, FakeRegisters, Log, Memory};
use hwspec::pci::{Pasid, SourceId};
use vtd::{
    Access, DomainId, Error, InterruptIndex, Iova, Mapping, RemappingUnit, ReservedRegion, Setup,
};
use x86_64::PhysAddr;

use crate::hardware::{Hardware, Shared};

pub(crate) const TIMEOUT: Duration = Duration::from_millis(1);
pub(crate) const WINDOW: usize = 0x1000;
pub(crate) const PAGE: u64 = 0x1000;

/// What a unit says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) cap: u64,
    pub(crate) ecap: u64,
}

/// The lab box: second stage, 16-bit domains, page-selective up to 2^18 pages, one fault
/// record at 220h; nothing looks into caches.
pub(crate) const SECOND: Kind = Kind {
    name: "second stage",
    cap: 0x00d2_008c_222f_0606,
    ecap: 0x0000_4998_80f0_0f5a,
};
/// The same with the first stage.
pub(crate) const FIRST: Kind = Kind {
    name: "first stage",
    cap: 0x01d2_008c_222f_0606,
    ecap: 0x0000_8998_00f0_0f5a,
};
/// A server: everything looks into caches, snooping can be forced (SC), RID_PASID, eight
/// fault records, enhanced pointers (ESRTPS, ESIRTPS), protected memory (PLMR, PHMR).
pub(crate) const SERVER: Kind = Kind {
    name: "server",
    cap: SECOND.cap | 3 << 62 | 3 << 5 | 7 << 40,
    ecap: SECOND.ecap | 1 | 1 << 7 | 1 << 48 | 1 << 49,
};
/// In between: root, context and PASID tables are coherent, page tables are not.
pub(crate) const HALF: Kind = Kind {
    name: "half coherent",
    cap: SECOND.cap | 3 << 5 | 3 << 40,
    ecap: SECOND.ecap | 1,
};
/// A unit in a virtual machine: what is not there is cached too (CM).
pub(crate) const CACHING: Kind = Kind {
    name: "caching mode",
    cap: SECOND.cap | 1 << 7,
    ecap: SECOND.ecap,
};
/// The same with the first stage.
pub(crate) const CACHING_FIRST: Kind = Kind {
    name: "caching mode, first stage",
    cap: FIRST.cap | 1 << 7,
    ecap: FIRST.ecap,
};
/// No page-selective invalidation (PSI), no large pages, domains of 4 bits.
pub(crate) const POOR: Kind = Kind {
    name: "poor",
    cap: SECOND.cap & !(1 << 39 | 0xf << 34 | 7),
    ecap: SECOND.ecap,
};
pub(crate) const KINDS: [Kind; 7] = [SECOND, FIRST, SERVER, HALF, CACHING, CACHING_FIRST, POOR];

pub(crate) type Registers = FakeRegisters<Hardware>;
pub(crate) type Unit = RemappingUnit<Registers, FakePages, FakeClock>;

/// A machine without a driver yet.
pub(crate) struct Machine {
    pub(crate) registers: Registers,
    pub(crate) hardware: Shared,
    pub(crate) memory: Memory,
    pub(crate) clock: FakeClock,
    pub(crate) log: Log,
}

impl Machine {
    pub(crate) fn new(kind: Kind) -> Self {
        let log = Log::new();
        let memory = Memory::non_coherent(&log);
        let hardware = Hardware::new(&memory, kind.cap, kind.ecap);
        let registers = FakeRegisters::new(hardware, WINDOW, &log);
        Self {
            hardware: registers.device(),
            registers,
            memory,
            clock: FakeClock::new(),
            log,
        }
    }

    pub(crate) fn bring_up(&mut self) -> Result<Unit, Error> {
        self.bring_up_with(&[])
    }

    pub(crate) fn bring_up_with(&mut self, reserved: &[ReservedRegion]) -> Result<Unit, Error> {
        let setup = Setup {
            reserved,
            ..setup()
        };
        let (registers, clock) = (self.registers.clone(), self.clock.clone());
        RemappingUnit::bring_up(registers, clock, &mut self.memory, &setup)
    }
}

pub(crate) fn setup() -> Setup<'static> {
    Setup {
        address_bits: 39,
        interrupts_log2: 8,
        timeout: TIMEOUT,
        reserved: &[],
    }
}

/// A unit that is up.
pub(crate) struct Lab {
    pub(crate) unit: Unit,
    pub(crate) hardware: Shared,
    pub(crate) memory: Memory,
    pub(crate) clock: FakeClock,
    pub(crate) log: Log,
}

/// 00:04.0, the accelerator.
pub(crate) const DSA: SourceId = SourceId::from_bits(0x0020);
/// 6a:1f.7, in the other half of another bus.
pub(crate) const OTHER: SourceId = SourceId::from_bits(0x6aff);

pub(crate) fn pasid(number: u32) -> Pasid {
    Pasid::new(number).unwrap()
}

impl Lab {
    pub(crate) fn new(kind: Kind) -> Self {
        let lab = Self::with_log(kind);
        lab.log.take();
        lab.hardware.borrow_mut().carried_out.clear();
        lab
    }

    /// With what bringing it up did still in the log.
    pub(crate) fn with_log(kind: Kind) -> Self {
        let mut machine = Machine::new(kind);
        let unit = machine.bring_up().unwrap();
        let Machine {
            hardware,
            memory,
            clock,
            log,
            ..
        } = machine;
        Self {
            unit,
            hardware,
            memory,
            clock,
            log,
        }
    }

    /// A domain with a page at `iova` that leads to `physical`.
    pub(crate) fn domain(&mut self, iova: u64, physical: u64) -> DomainId {
        let domain = self.unit.create_domain(&mut self.memory).unwrap();
        self.map(domain, iova, physical, PAGE).unwrap();
        domain
    }

    pub(crate) fn map(
        &mut self,
        domain: DomainId,
        iova: u64,
        physical: u64,
        len_bytes: u64,
    ) -> Result<(), Error> {
        let mapping = Mapping {
            iova: Iova(iova),
            physical: PhysAddr::new(physical),
            len_bytes,
            access: Access::ReadWrite,
        };
        self.unit.map(&mut self.memory, domain, mapping)
    }

    pub(crate) fn allow(&mut self, source: SourceId) -> Result<(), Error> {
        self.unit.allow_device(&mut self.memory, source)
    }

    pub(crate) fn set_pasid(
        &mut self,
        source: SourceId,
        number: u32,
        domain: DomainId,
    ) -> Result<(), Error> {
        self.unit
            .set_pasid(&mut self.memory, source, pasid(number), domain)
    }

    /// A device writes with a PASID.
    pub(crate) fn write(&self, source: SourceId, number: u32, address: u64) -> Result<u64, u8> {
        let requester = (source.into_bits(), Some(number));
        self.hardware.borrow_mut().request(requester, address, true)
    }

    /// A device writes with no PASID.
    pub(crate) fn write_plain(&self, source: SourceId, address: u64) -> Result<u64, u8> {
        let requester = (source.into_bits(), None);
        self.hardware.borrow_mut().request(requester, address, true)
    }

    /// A device sends the message of an interrupt.
    pub(crate) fn send(&self, source: SourceId, index: InterruptIndex) -> Result<(u32, u8), u8> {
        let message = index.message();
        let mut hardware = self.hardware.borrow_mut();
        hardware.interrupt(source.into_bits(), message.address, message.data)
    }

    /// The invalidations since the last time.
    pub(crate) fn invalidations(&self) -> Vec<[u64; 4]> {
        std::mem::take(&mut self.hardware.borrow_mut().carried_out)
    }

    /// What a device gets that is not let through because its page is not there.
    pub(crate) fn not_mapped(&self) -> Result<u64, u8> {
        let is_first = self.hardware.borrow().ecap >> 47 & 1 == 1;
        Err(if is_first { 0x71 } else { 0x79 })
    }

    /// Whether a table is one of the pages of the empty domain or of the first other one,
    /// if that was made first and has four: they are had after the queue (2), the root
    /// table and the interrupt remapping table, each with a free page behind it.
    pub(crate) fn is_page_table(&self, table: u64) -> bool {
        (0x12_3400_7000..0x12_3400_7000 + 0x2000 * 5).contains(&table)
    }

    /// Forgets what was recorded.
    pub(crate) fn drop_faults(&mut self) {
        self.unit.read_faults(|_| ()).unwrap();
    }
}
