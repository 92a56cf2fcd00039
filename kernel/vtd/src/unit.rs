//! One unit of remapping hardware, and how it is brought up.

use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
use core::time::Duration;

use hwio::{Clock, DmaPages, FrameSource, Registers};
use hwspec::pci::SourceId;
use hwspec::vtd::{IRTA, Irta, RTADDR, Rtaddr, TranslationTableMode};
use x86_64::PhysAddr;

use crate::capability::Capabilities;
use crate::control::Control;
use crate::device_tables::RootTable;
use crate::devices::Device;
use crate::domains::Domain;
use crate::invalidation;
use crate::invalidation_queue::InvalidationQueue;
use crate::memory::page_number;
use crate::remap_table::RemapTable;
use crate::takeover::{self, Leftovers};
use crate::{DomainId, Error};

/// What a unit is brought up for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// How many bits the addresses have that devices will use.
    pub address_bits: u32,
    /// How many interrupts there can be, as a power of two: 8 to 16.
    pub interrupts_log2: u8,
    /// How long the unit may take for anything it is told.
    pub timeout: Duration,
    /// What firmware needs some devices in this unit's scope to reach.
    pub reserved: &'a [ReservedRegion],
}

/// Memory that a device goes on using for firmware, as the DMAR table reports it.
/// [VT-d 5.10, 8.4 "Reserved Memory Region Reporting Structure"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservedRegion {
    /// The device.
    pub source: SourceId,
    /// The first address.
    pub base: PhysAddr,
    /// The last address.
    pub limit: PhysAddr,
}

/// One unit, with all tables that it reads.
///
/// Dropping it leaks them: the unit goes on reading them.
pub struct RemappingUnit<R, P, C> {
    pub(crate) control: Control<R, C>,
    pub(crate) capabilities: Capabilities,
    pub(crate) tables: ManuallyDrop<Tables<P>>,
    leftovers: Leftovers,
    /// The unit was told where the root table is.
    has_root: bool,
}

/// The tables of a unit, and the books about them.
#[derive(Debug)]
pub(crate) struct Tables<P> {
    pub(crate) queue: InvalidationQueue<P>,
    pub(crate) root: RootTable<P>,
    pub(crate) devices: Vec<Device<P>>,
    /// By number. The first is the one in which nothing is mapped.
    pub(crate) domains: Vec<Domain<P>>,
    pub(crate) interrupts: RemapTable<P>,
}

impl<R: Registers, P: DmaPages, C: Clock> RemappingUnit<R, P, C> {
    /// Takes the unit over, whatever firmware did with it, and lets it block all DMA
    /// but that to reserved regions, and all interrupts.
    ///
    /// If [`Leftovers::translation_gap`] says so, devices whose bus mastering was on
    /// could reach all memory for a moment; so it is switched off beforehand wherever
    /// that can be done.
    ///
    /// # Errors
    /// If the unit lacks something or does not do what it is told. What was handed to
    /// it by then is leaked, for it may still use it.
    ///
    /// # Panics
    /// If `setup.interrupts_log2` is out of range.
    pub fn bring_up(
        registers: R,
        clock: C,
        frames: &mut impl FrameSource<Pages = P>,
        setup: &Setup<'_>,
    ) -> Result<Self, Error> {
        let capabilities = Capabilities::read(&registers, setup.address_bits)?;
        let is_coherent = capabilities.ecap.c();
        let tables = Tables {
            queue: InvalidationQueue::new(frames)?,
            root: RootTable::new(frames, is_coherent)?,
            devices: Vec::new(),
            domains: Vec::new(),
            interrupts: RemapTable::new(frames, setup.interrupts_log2, is_coherent)?,
        };
        let mut unit = Self {
            control: Control {
                registers,
                clock,
                timeout: setup.timeout,
            },
            capabilities,
            tables: ManuallyDrop::new(tables),
            leftovers: Leftovers::default(),
            has_root: false,
        };
        let nothing = unit.create_domain(frames)?;
        assert_eq!(nothing, Self::NOTHING);

        unit.leftovers = takeover::take_over(&mut unit.control, unit.capabilities.cap)?;
        unit.tables.queue.start(&mut unit.control)?;
        for region in setup.reserved {
            unit.allow_reserved(frames, region)?;
        }
        unit.start_translation()?;
        let control = &mut unit.control;
        unit.leftovers.protected_memory =
            takeover::stop_protection(control, unit.capabilities.cap)?;
        unit.start_interrupt_remapping()?;
        Ok(unit)
    }

    /// The domain in which nothing is mapped.
    pub(crate) const NOTHING: DomainId = DomainId::new(1);

    /// [VT-d 5.10, 6.6 "Set Root Table Pointer Operation"]
    fn start_translation(&mut self) -> Result<(), Error> {
        let is_on = self.control.read_status()?.tes();
        // A unit that translates can be given another root table, but another mode only
        // if it has ESRTPS.
        let is_scalable =
            self.control.registers.read(RTADDR).ttm() == TranslationTableMode::SCALABLE;
        if is_on && !is_scalable && !self.capabilities.cap.esrtps() {
            self.leftovers.translation_gap = true;
            self.control
                .write_command(|command| command.with_te(false), |status| !status.tes())?;
        }
        let root = Rtaddr::new()
            .with_rta(page_number(self.tables.root.physical_address()))
            .with_ttm(TranslationTableMode::SCALABLE);
        self.control.registers.write(RTADDR, root);
        self.control
            .write_command(|command| command.with_srtp(true), |status| status.rtps())?;
        self.has_root = true;
        // With ESRTPS the unit has done that itself; once more does no harm.
        self.invalidate(&invalidation::everything())?;
        self.control
            .write_command(|command| command.with_te(true), |status| status.tes())
    }

    /// [VT-d 5.10, 6.7 "Set Interrupt Remapping Table Pointer Operation"]
    fn start_interrupt_remapping(&mut self) -> Result<(), Error> {
        let interrupts = &self.tables.interrupts;
        let table = Irta::new()
            .with_irta(page_number(interrupts.physical_address()))
            .with_eime(true)
            .with_s(interrupts.size_code());
        self.control.registers.write(IRTA, table);
        self.control
            .write_command(|command| command.with_sirtp(true), |status| status.irtps())?;
        self.invalidate(&[invalidation::all_interrupts()])?;
        // EIME blocks messages in compatibility format; that firmware let them through
        // should not come back if it is ever off.
        if self.control.read_status()?.cfis() {
            self.control
                .write_command(|command| command.with_cfi(false), |status| !status.cfis())?;
        }
        self.control
            .write_command(|command| command.with_ire(true), |status| status.ires())
    }

    /// What the unit can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What was on when it was taken over.
    pub fn leftovers(&self) -> Leftovers {
        self.leftovers
    }

    /// Blocks the DMA of all devices, whatever was allowed, for a machine that stops.
    ///
    /// # Errors
    /// If the unit does not confirm. New requests may be blocked all the same.
    pub fn block_all(&mut self) -> Result<(), Error> {
        self.tables.root.clear();
        self.invalidate(&invalidation::everything())
    }

    /// Carries out `descriptors`.
    pub(crate) fn invalidate(
        &mut self,
        descriptors: &[hwspec::vtd::InvalidationDescriptor],
    ) -> Result<(), Error> {
        self.tables.queue.submit(&mut self.control, descriptors)
    }

    /// After an entry that was not present has become so: a unit that caches such
    /// entries has to hear of it. With emulated units alone, so it need not be fast.
    /// [VT-d 5.10, 6.1 "Caching Mode"]
    pub(crate) fn announce_entry(&mut self) -> Result<(), Error> {
        if self.caches_absence() {
            self.invalidate(&invalidation::everything())
        } else {
            Ok(())
        }
    }

    /// Whether the unit may have cached that an entry of its tables is not there. Before
    /// it was told of them it cannot have done so; it may also be in legacy mode still,
    /// in which it refuses PASID-cache invalidations.
    /// [VT-d 5.10, 6.5.2.11 "Hardware Handling of Queued Invalidation Interface Errors",
    /// Table 26]
    pub(crate) fn caches_absence(&self) -> bool {
        self.capabilities.cap.cm() && self.has_root
    }
}

impl<R, P, C> fmt::Debug for RemappingUnit<R, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemappingUnit")
            .field("capabilities", &self.capabilities)
            .field("leftovers", &self.leftovers)
            .field("devices", &self.tables.devices.len())
            .field("domains", &self.tables.domains.len())
            .finish_non_exhaustive()
    }
}
