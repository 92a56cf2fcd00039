//! Making a guest, and taking it apart.
//!
//! Everything that a guest holds is taken in [`Parts::acquire`], in the order in which
//! it depends on each other, and given back in [`Parts::give_back`] in the reverse
//! order. There is no other place where a guest gets anything.
//!
//! | module | what |
//! |---|---|
//! | [`filling`] | its memory, in pieces |
//! | [`files`] | its files, into that |
//! | [`vdsa_parts`] | one virtual DSA |
//! | [`address_space`] | what its devices reach |
//! | [`batch_interrupts`] | interrupts of Weir's own for its batches |
//! | [`held`] | what it holds of the IOMMU, and giving that back |
//! | [`view`] | the same for people who ask |

mod address_space;
mod batch_interrupts;
mod error;
mod files;
pub mod filling;
mod held;
mod vdsa_parts;
mod view;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayString;
use hwspec::pci::SourceId;
use vdsa::VirtualDsa;

use crate::arch::clock;
use crate::arch::features::features;
use crate::bundle::Bundle;
use crate::config::plan::GuestPlan;
use crate::host::Host;
use crate::host::accelerator::Accelerator;
use crate::mm::OutOfMemory;
use crate::platform::kvm_clock::KvmClock;
use crate::platform::memory_map;
use crate::platform::pci_bus::PciBus;
use crate::virt::backend::{Backend, Vcpu};
use crate::virt::space::Space;

pub use error::BuildError;
pub use view::{HeldPasid, Reach};

use filling::Loaded;
use held::{Held, give_back};
use vdsa_parts::VdsaParts;

use super::guest::Guest;
use super::shared;
use super::vdsa_unit::VdsaUnit;
use super::vdsa_unit::backing::Backing;
use super::virtual_cpu::VirtualCpu;

const PAGE: u64 = 4096;

/// Everything that a guest holds of the machine.
#[derive(Debug)]
pub struct Parts<B: Backend> {
    /// The guest.
    pub guest: Arc<Guest<B>>,
    held: Vec<Held>,
    /// Memory beyond its RAM, in bytes.
    pub overhead_bytes: u64,
}

/// A guest that was just made, and its virtual processors, which are to be placed.
pub type Built<B> = (Parts<B>, Vec<Box<VirtualCpu<B>>>);

/// What a guest is made of.
#[derive(Clone, Copy, Debug)]
pub struct Blueprint<'p> {
    /// Its number.
    pub number: usize,
    /// What the configuration says.
    pub plan: &'p GuestPlan,
    /// Where its files are.
    pub bundle: &'p Bundle<'p>,
    /// The machine.
    pub host: &'static Host,
}

impl Blueprint<'_> {
    /// An accelerator of the guest that does not work any more.
    pub fn lost_device(&self) -> Option<u8> {
        let devices = self.plan.dsas.iter();
        let mut devices = devices.filter_map(|dsa| self.host.accelerators.get(dsa.dsa));
        let lost = devices.find(|accelerator| accelerator.is_lost());
        lost.map(Accelerator::number)
    }
}

impl<B: Backend> Parts<B> {
    /// Makes a guest around its memory. If that fails, everything is given back.
    ///
    /// # Errors
    /// What is missing, or what failed.
    pub fn acquire(blueprint: &Blueprint<'_>, loaded: Loaded) -> Result<Built<B>, BuildError> {
        let plan = blueprint.plan;
        if let Some(number) = blueprint.lost_device() {
            return Err(BuildError::DeviceLost(number));
        }
        let place = shared::place(blueprint.number).ok_or(BuildError::TooMany)?;
        place.open(plan.cpus.len());
        for (door, &cpu) in place.vcpus.iter().zip(&plan.cpus) {
            door.open(cpu);
        }
        let Loaded {
            memory,
            begin: entry,
        } = loaded;
        let space = Space::<B::Format>::new(memory, plan.cpus.len())?;

        let mut held = Vec::new();
        let mut bus = PciBus::new();
        for (index, vdsa) in plan.dsas.iter().enumerate() {
            let made = VdsaParts {
                blueprint,
                space: &space,
                vdsa,
                index,
            };
            match made.acquire() {
                Ok((unit, part)) => {
                    held.push(part);
                    let bars = unit.bars();
                    bus.add(device_address(index), unit, &bars);
                }
                Err(error) => {
                    close_clients(&bus);
                    if !give_back(blueprint.host, &mut held) {
                        // A device may still reach the guest's memory, and the windows.
                        core::mem::forget(bus);
                        core::mem::forget(space);
                    }
                    return Err(error);
                }
            }
        }
        let mut name = ArrayString::new();
        let _ = name.try_push_str(&plan.name);
        let clock = KvmClock {
            begun: clock::now(),
            tsc_hz: clock::tsc_hz(),
            is_invariant: features().has_invariant_tsc,
            wall_ns: 0,
        };
        let guest = Guest::new(blueprint.number, name, space, bus, plan.cpus.len(), clock);
        let mut parts = Self {
            guest: guest.ok_or(BuildError::TooMany)?,
            held,
            overhead_bytes: 0,
        };
        let vcpus = (0..plan.cpus.len())
            .map(|index| {
                Ok(Box::new(VirtualCpu::new(
                    &parts.guest,
                    index,
                    &entry.entry,
                )?))
            })
            .collect::<Result<Vec<_>, OutOfMemory>>();
        match vcpus {
            Ok(mut vcpus) => {
                if let Some(first) = vcpus.first_mut() {
                    let registers = first.vcpu_mut().registers_mut();
                    let (register, address) = entry.told;
                    registers.set(register, address.into());
                }
                parts.overhead_bytes = parts.measure(blueprint.host, &vcpus);
                Ok((parts, vcpus))
            }
            Err(error) => {
                parts.give_back(blueprint.host);
                Err(error.into())
            }
        }
    }

    /// How much memory the guest takes beyond its RAM: nested tables, IOMMU tables, the
    /// window, its virtual processors, its console.
    fn measure(&self, host: &Host, vcpus: &[Box<VirtualCpu<B>>]) -> u64 {
        let domains = self.held.iter().flat_map(|held| &held.domains);
        let iommu: u64 = domains
            .map(|domain| host.iommu.count_tables(domain).unwrap_or(0) as u64 * PAGE)
            .sum();
        let windows: u64 = self
            .guest
            .bus
            .functions()
            .map(|(_, unit)| {
                unit.look(|_, backing| {
                    let window = backing.window.as_ref();
                    let window = window.map_or(0, |window| hwio::DmaPages::len_words(window) * 8);
                    (window + size_of::<VirtualDsa>() + size_of::<VdsaUnit>()) as u64
                })
            })
            .sum();
        let vcpus: u64 = vcpus.iter().map(|vcpu| vcpu.overhead_bytes()).sum();
        let guest = size_of::<Guest<B>>() as u64;
        self.guest.space.overhead_bytes() + iommu + windows + vcpus + guest
    }

    /// Gives everything back. The guest's virtual processors are on no processor, and
    /// its accelerators have been reset.
    pub fn give_back(mut self, host: &'static Host) {
        close_clients(&self.guest.bus);
        if give_back(host, &mut self.held) {
            // They hold the guest, and with it its memory.
            self.guest.dismiss();
        } else {
            // A device may still reach its memory, which therefore stays what it is.
            core::mem::forget(self.guest);
        }
    }

    /// Its accelerators have nothing to do any more: what they did not finish is counted
    /// as abandoned.
    pub fn close_books(&self) {
        for (_, unit) in self.guest.bus.functions() {
            unit.close_books();
        }
    }

    /// Whether its accelerators have nothing to do any more. Asks for a reset of those
    /// that were not reset yet, which takes a while: to be asked again.
    pub fn is_quiet(&self) -> bool {
        let mut units = self.guest.bus.functions();
        units.all(|(_, unit)| unit.is_quiet())
    }
}

/// The function of a guest's bus that a virtual DSA is.
fn device_address(index: usize) -> SourceId {
    let device = usize::from(memory_map::FIRST_DEVICE) + index;
    let number = u16::try_from(device << 3).unwrap_or(u16::MAX);
    SourceId::from(number)
}

/// Gives up the clients of virtual DSAs. Waits.
fn close_clients(bus: &PciBus<VdsaUnit>) {
    for (_, unit) in bus.functions() {
        unit.with_backing(Backing::close);
    }
}
