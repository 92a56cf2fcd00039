//! From a machine that was taken over to guests that run.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use dsa::{GroupPlan, Plan as DevicePlan, QueueMode, QueuePlan, QueueShape};

use crate::arch::{clock, percpu, smp};
use crate::bundle::{Bundle, BundleError};
use crate::config::facts::{DsaFacts, MachineFacts};
use crate::config::plan::{DsaPlan, Mode, Plan};
use crate::config::{Config, ConfigError};
use crate::host::Host;
use crate::host::accelerator::Accelerator;
use crate::host::error::HostError;
use crate::machine::Machine;
use crate::mm::{self, PAGE_SIZE, frames};
use crate::monitor::Monitor;
use crate::refusal::Refusal;
use crate::virt::backend::Backend;
use crate::{trace, virt};

use super::hypervisor::{self, Hypervisor};

/// Memory that stays Weir's own, for what comes and goes with guests: tables, virtual
/// processors, windows.
const KEPT_BYTES: u64 = 16 << 20;

/// When the hypervisor was entered, in ticks of the time-stamp counter.
static ENTERED: AtomicU64 = AtomicU64::new(0);

/// Notes when the hypervisor was entered.
pub fn note_entry(ticks: u64) {
    ENTERED.store(ticks, Ordering::Relaxed);
}

/// When the hypervisor was entered.
pub fn entered() -> u64 {
    ENTERED.load(Ordering::Relaxed)
}

/// Ticks from the hypervisor's entry to the first guest's first instruction, 0 before.
static ENTRY_TO_GUEST: AtomicU64 = AtomicU64::new(0);

/// Notes that a guest is about to run. The first one counts.
pub(super) fn note_guest() {
    if ENTRY_TO_GUEST.load(Ordering::Relaxed) == 0 {
        let elsewhere = clock::waited_ticks() + clock::filled_ticks();
        let ticks = clock::now()
            .wrapping_sub(entered())
            .saturating_sub(elsewhere);
        let _ = ENTRY_TO_GUEST.compare_exchange(0, ticks, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Ticks from the hypervisor's entry to the first guest's first instruction, without
/// what hardware had to be waited for, and without clearing guests' memory and copying
/// their images.
pub fn entry_to_guest() -> Option<u64> {
    match ENTRY_TO_GUEST.load(Ordering::Relaxed) {
        0 => None,
        ticks => Some(ticks),
    }
}

/// Why no guest was started.
#[derive(Debug)]
pub enum StartError {
    /// The machine lacks something.
    Refusal(Refusal),
    /// A device failed.
    Host(HostError),
    /// There is no boot bundle.
    NoBundle,
    /// The boot bundle is not one.
    Bundle(BundleError<'static>),
    /// There is a mistake in the configuration.
    Config(ConfigError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(refusal) => refusal.fmt(f),
            Self::Host(error) => error.fmt(f),
            Self::NoBundle => f.write_str(
                "the loader brought no boot bundle; \
                 give it one (QEMU: -initrd, GRUB: module2; see boot/bundle)",
            ),
            Self::Bundle(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<Refusal> for StartError {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<HostError> for StartError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// Runs the guests of the configuration, for ever.
///
/// # Errors
/// What keeps all of them from being started.
pub fn run<B: Backend>(machine: &Machine) -> Result<core::convert::Infallible, StartError> {
    // Mistakes of the operator come before anything is touched.
    let module = machine.boot.modules.first().copied();
    let archive = module.and_then(|range| mm::module(machine.boot, range));
    let bundle = Bundle::read(archive.ok_or(StartError::NoBundle)?).map_err(StartError::Bundle)?;
    let config = Config::parse(bundle.config()).map_err(StartError::Config)?;

    trace::init();
    let host = Host::bring_up(machine, hypervisor::deliver)?;
    if host.accelerators.is_empty() {
        return Err(Refusal::NoDsa.into());
    }
    let plan = check(&config, &bundle, host).map_err(StartError::Config)?;
    for (accelerator, dsa) in host.accelerators.iter().zip(&plan.dsas) {
        configure(accelerator, dsa)?;
    }
    virt::start::<B>()?;
    let options = machine.boot;
    let hypervisor = Hypervisor::<B>::new(host, plan, bundle, machine.ram_bytes());
    for index in 0..percpu::all().len() {
        if index != percpu::current().index {
            smp::call(index, run_processor::<B>);
        }
    }
    let monitor = Monitor::new(hypervisor, options, clock::now());
    hypervisor.processors.run(monitor)
}

/// What another processor does.
fn run_processor<B: Backend>() {
    let hypervisor = Hypervisor::<B>::get();
    hypervisor.processors.run(super::schedule::NoHousekeeping);
}

fn check(config: &Config, bundle: &Bundle<'_>, host: &Host) -> Result<Plan, ConfigError> {
    let dsas: Vec<DsaFacts> = host.accelerators.iter().map(facts).collect();
    let free = frames::count_free() * PAGE_SIZE;
    config.check(&MachineFacts {
        memory_bytes: free.saturating_sub(KEPT_BYTES),
        cpus: percpu::all().len(),
        has_enqcmds: crate::arch::features::features().stores.enqcmd(),
        files: bundle.files(),
        dsas: &dsas,
    })
}

/// An accelerator as the configuration is compared with it.
fn facts(accelerator: &Accelerator) -> DsaFacts {
    let has = accelerator.capabilities();
    let (gencap, wqcap) = (has.gencap, has.wqcap);
    DsaFacts {
        device_id: accelerator.function().device,
        is_configurable: gencap.configuration(),
        has_dedicated_mode: wqcap.dedicated_mode(),
        has_shared_mode: wqcap.shared_mode(),
        has_occupancy: wqcap.occupancy(),
        queues: has.count_queues().into(),
        entries: has.count_entries(),
        groups: has.count_groups().into(),
        engines: has.count_engines().into(),
        ims_entries: u32::try_from(has.count_ims_entries()).unwrap_or(u32::MAX),
        max_transfer_log2: gencap.max_transfer_size(),
        max_batch_log2: gencap.max_batch_size(),
    }
}

/// Divides an accelerator as the configuration says.
fn configure(accelerator: &Accelerator, plan: &DsaPlan) -> Result<(), HostError> {
    if plan.queues.is_empty() {
        return Ok(());
    }
    let queues = plan.queues.iter().map(|queue| QueuePlan {
        index: queue.index,
        group: queue.group,
        shape: QueueShape {
            size: queue.size,
            mode: match queue.mode {
                Mode::Dedicated => QueueMode::Dedicated,
                Mode::Shared => QueueMode::Shared,
            },
            threshold: queue.threshold,
            priority: queue.priority,
            max_transfer_log2: queue.max_transfer_log2,
            max_batch_log2: queue.max_batch_log2,
        },
    });
    // Groups by their index; those in between have nothing.
    let count = plan
        .groups
        .iter()
        .map(|group| usize::from(group.index) + 1)
        .max();
    let mut groups = vec![GroupPlan::default(); count.unwrap_or(0)];
    for group in &plan.groups {
        let engines = group.engines.iter().filter(|&&engine| engine < 64);
        if let Some(place) = groups.get_mut(usize::from(group.index)) {
            place.engines = engines.fold(0, |all, engine| all | 1 << engine);
        }
    }
    accelerator.configure(&DevicePlan {
        groups,
        queues: queues.collect(),
    })?;
    for queue in plan
        .queues
        .iter()
        .filter(|queue| queue.mode == Mode::Shared)
    {
        accelerator.enable_shared_queue(queue.index)?;
    }
    Ok(())
}
