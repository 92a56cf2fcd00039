//! The guests.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::super::plan::{
    BootPlan, DsaPlan, GuestPlan, QueuePlan, VirtualDsaPlan, VirtualQueuePlan,
};
use super::super::size::Size;
use super::super::{
    At, BootConfig, Config, ConfigError, DsaFacts, GuestConfig, GuestQueueConfig, MachineFacts,
    Mode, Policy, QueueName,
};
use super::FIXED_PARTS;
use super::queues::find_dsa;
use super::reservations;

/// How many descriptors a guest may hand to shared queues in a millisecond where
/// the file does not say: few enough to leave others room on the slowest box.
const DEFAULT_SHARE_RATE: u32 = 250;
/// How many batches a checked queue may have in flight where the file does not say.
const DEFAULT_BATCHES: u8 = 4;
/// How many slots of the Interrupt Message Store a virtual queue needs: one for
/// its guest's vector, one for the batches that Weir submits for it.
const SLOTS_PER_QUEUE: u32 = 2;
/// How many names of files a message lists.
const LISTED_FILES: usize = 8;

pub(super) fn plan(
    config: &Config,
    machine: &MachineFacts<'_>,
    dsas: &[DsaPlan],
) -> Result<Vec<GuestPlan>, ConfigError> {
    if config.guests.is_empty() {
        let message = "there is no guest; add a [[guest]] with name, image and memory".to_owned();
        return Err(ConfigError::new(1, message));
    }
    let mut state = State {
        machine,
        dsas,
        memory_left: machine.memory_bytes,
        load: vec![0; machine.cpus],
        given: Vec::new(),
        slots: vec![0; machine.dsas.len()],
    };
    let mut plans: Vec<GuestPlan> = Vec::new();
    for guest in &config.guests {
        let name = &guest.name;
        let earlier = config.guests.iter().take(plans.len());
        if let Some(first) = earlier.map(|g| &g.name).find(|g| g.value == name.value) {
            return Err(name.error(format!(
                "there is a guest '{}' in line {} already; write another name",
                name.value, first.line
            )));
        }
        plans.push(state.plan_guest(guest)?);
    }
    Ok(plans)
}

/// What is given out, guest after guest.
struct State<'c> {
    machine: &'c MachineFacts<'c>,
    dsas: &'c [DsaPlan],
    memory_left: u64,
    /// How many virtual processors each processor has.
    load: Vec<usize>,
    /// Every queue that a guest has got, where, and the guest's name.
    given: Vec<(At<QueueName>, &'c str)>,
    /// How many IMS slots of each accelerator are spoken for.
    slots: Vec<u32>,
}

impl<'c> State<'c> {
    fn plan_guest(&mut self, guest: &'c GuestConfig) -> Result<GuestPlan, ConfigError> {
        let name = &guest.name.value;
        let (boot, bytes) = self.plan_boot(guest)?;
        let memory = guest.memory;
        if bytes > memory.value {
            return Err(memory.error(format!(
                "guest '{name}': memory is \"{}\", but its files have {bytes} bytes; \
                 give it more memory",
                Size(memory.value)
            )));
        }
        let left = self.memory_left;
        self.memory_left = left.checked_sub(memory.value).ok_or_else(|| {
            memory.error(format!(
                "guest '{name}': memory is \"{}\", but of {} MiB that guests can have {} are \
                 left; write less, here or above",
                Size(memory.value),
                self.machine.memory_bytes >> 20,
                left >> 20
            ))
        })?;

        let mut dsas: Vec<VirtualDsaPlan> = Vec::new();
        for queue in &guest.queues {
            let (dsa, queue) = self.plan_queue(guest, queue)?;
            match dsas.iter_mut().find(|plan| plan.dsa == dsa) {
                Some(plan) => plan.queues.push(queue),
                None => dsas.push(VirtualDsaPlan {
                    dsa,
                    queues: Vec::from([queue]),
                }),
            }
        }
        let is_sharing = dsas
            .iter()
            .flat_map(|dsa| &dsa.queues)
            .any(|queue| queue.physical.mode == Mode::Shared && queue.reserved == 0);
        if let Some(rate) = guest.share_rate.filter(|_| !is_sharing) {
            return Err(rate.error(format!(
                "guest '{name}': share-rate is for shared queues, and it has none; remove it"
            )));
        }
        Ok(GuestPlan {
            name: name.clone(),
            boot,
            command_line: guest.command_line.clone(),
            memory_bytes: memory.value,
            cpus: self.place_cpus(guest.cpus),
            restart: guest.restart,
            trusted: guest.trusted,
            pasids: plan_pasids(guest)?,
            share_rate: guest
                .share_rate
                .map_or(DEFAULT_SHARE_RATE, |rate| rate.value),
            dsas,
        })
    }

    /// The files, and how many bytes they have together.
    fn plan_boot(&self, guest: &GuestConfig) -> Result<(BootPlan, u64), ConfigError> {
        let find = |file: &At<String>| self.find_file(guest, file);
        let find_optional = |file: &Option<At<String>>| file.as_ref().map_or(Ok(0), find);
        Ok(match &guest.boot {
            BootConfig::Pvh { image, input } => {
                let bytes = find(image)?.saturating_add(find_optional(input)?);
                let plan = BootPlan::Pvh {
                    image: image.value.clone(),
                    input: input.as_ref().map(|input| input.value.clone()),
                };
                (plan, bytes)
            }
            BootConfig::Linux { kernel, initrd } => {
                let bytes = find(kernel)?.saturating_add(find_optional(initrd)?);
                let plan = BootPlan::Linux {
                    kernel: kernel.value.clone(),
                    initrd: initrd.as_ref().map(|initrd| initrd.value.clone()),
                };
                (plan, bytes)
            }
        })
    }

    /// How many bytes the file has.
    fn find_file(&self, guest: &GuestConfig, name: &At<String>) -> Result<u64, ConfigError> {
        let mut files = self.machine.files.iter();
        if let Some(file) = files.find(|file| file.name == name.value) {
            return Ok(file.content.len() as u64);
        }
        let mut names: Vec<&str> = self.machine.files.iter().map(|file| file.name).collect();
        if names.len() > LISTED_FILES {
            names.truncate(LISTED_FILES);
            names.push("...");
        }
        Err(name.error(format!(
            "guest '{}': there is no file '{}' in the boot bundle, which has {}; \
             pack it or correct the name",
            guest.name.value,
            name.value.escape_debug(),
            names.join(", ")
        )))
    }

    /// The accelerator, and the queue as the guest gets it.
    fn plan_queue(
        &mut self,
        guest: &'c GuestConfig,
        queue: &GuestQueueConfig,
    ) -> Result<(usize, VirtualQueuePlan), ConfigError> {
        let wq = queue.wq;
        let name = &guest.name.value;
        let facts = find_dsa(self.machine, wq.value.dsa, wq.line)?;
        let dsa = usize::from(wq.value.dsa);
        let queues = self.dsas.get(dsa).map_or(&[][..], |plan| &plan.queues);
        let physical = queues.iter().find(|plan| plan.index == wq.value.queue);
        let physical = *physical.ok_or_else(|| {
            wq.error(format!(
                "guest '{name}': {0} is not set up; add a [[wq]] with name = \"{0}\"",
                wq.value
            ))
        })?;
        self.give(guest, wq, physical.mode)?;

        if let Some(slots) = self.slots.get_mut(dsa) {
            *slots += SLOTS_PER_QUEUE;
            if *slots > facts.ims_entries {
                return Err(wq.error(format!(
                    "guest '{name}': {} needs {SLOTS_PER_QUEUE} IMS slots, and dsa{dsa} has no \
                     more than {}; use a DSA with more, or give out fewer queues",
                    wq.value, facts.ims_entries
                )));
            }
        }
        let mode = queue.mode.map_or(physical.mode, |mode| mode.value);
        let reserved = check_reservation(guest, queue, &physical, facts)?;
        if queue.policy.value == Policy::Direct {
            check_direct(guest, queue, &physical, facts.device_id)?;
        }
        let plan = VirtualQueuePlan {
            physical,
            mode,
            reserved,
            policy: queue.policy.value,
            batches: queue
                .batches
                .map_or(DEFAULT_BATCHES, |batches| batches.value),
        };
        Ok((dsa, plan))
    }

    /// Notes that the guest has the queue, if it can have it.
    fn give(
        &mut self,
        guest: &'c GuestConfig,
        wq: At<QueueName>,
        mode: Mode,
    ) -> Result<(), ConfigError> {
        let name = &guest.name.value;
        let mut earlier = self
            .given
            .iter()
            .filter(|(other, _)| other.value == wq.value);
        let own = earlier.clone().find(|(_, other)| other == name);
        if let Some((first, _)) = own {
            return Err(wq.error(format!(
                "guest '{name}' has {} twice, first in line {}; remove one",
                wq.value, first.line
            )));
        }
        if let Some((first, other)) = earlier.next().filter(|_| mode == Mode::Dedicated) {
            return Err(wq.error(format!(
                "guest '{name}': {} is dedicated, and guest '{other}' has it since line {}; \
                 use another queue, or make it mode = \"shared\"",
                wq.value, first.line
            )));
        }
        self.given.push((wq, name));
        Ok(())
    }

    /// A processor for each virtual processor: apart from each other first, and
    /// then where the fewest are.
    fn place_cpus(&mut self, count: u8) -> Vec<usize> {
        let mut own = vec![0; self.load.len()];
        (0..count)
            .map(|_| {
                let loads = self.load.iter().zip(&own);
                let ranked = loads
                    .enumerate()
                    .min_by_key(|&(_, (load, own))| (*own, *load));
                let cpu = ranked.map_or(0, |(cpu, _)| cpu);
                for counts in [&mut self.load, &mut own] {
                    if let Some(count) = counts.get_mut(cpu) {
                        *count += 1;
                    }
                }
                cpu
            })
            .collect()
    }
}

/// How many entries of the physical queue are reserved for the guest.
fn check_reservation(
    guest: &GuestConfig,
    queue: &GuestQueueConfig,
    physical: &QueuePlan,
    facts: &DsaFacts,
) -> Result<u16, ConfigError> {
    let name = &guest.name.value;
    let wq = queue.wq.value;
    let reserved = reservations::reserved(queue, physical);
    if let Some(reserve) = queue.reserve.filter(|_| reserved == 0) {
        return Err(reserve.error(format!(
            "guest '{name}': reserve is for a guest that sees a shared queue as a dedicated one; \
             remove it, or write mode = \"dedicated\" for a {wq} that is shared"
        )));
    }
    if let Some(mode) = queue.mode.filter(|_| reserved > 0 && !facts.has_occupancy) {
        return Err(mode.error(format!(
            "guest '{name}': dsa{} does not tell how full {wq} is, so that no entries can be \
             reserved; remove mode, or use a dedicated queue",
            wq.dsa
        )));
    }
    Ok(reserved)
}

/// Whether the guest may write to the queue's portal itself.
fn check_direct(
    guest: &GuestConfig,
    queue: &GuestQueueConfig,
    physical: &QueuePlan,
    device_id: u16,
) -> Result<(), ConfigError> {
    let name = &guest.name.value;
    let wq = queue.wq.value;
    let policy = queue.policy;
    if physical.mode == Mode::Shared {
        return Err(policy.error(format!(
            "guest '{name}': {wq} is shared, and direct would let the guest claim any PASID \
             there; write policy = \"checked\", or use a dedicated queue"
        )));
    }
    if !guest.trusted && !FIXED_PARTS.contains(&device_id) {
        return Err(policy.error(format!(
            "guest '{name}': direct is not safe on dsa{} (8086:{device_id:04x}, CVE-2024-21823); \
             write policy = \"checked\", or trusted = true if you vouch for the guest",
            wq.dsa
        )));
    }
    if let Some(mode) = queue.mode.filter(|mode| mode.value == Mode::Shared) {
        return Err(mode.error(format!(
            "guest '{name}': {wq} is dedicated, and with policy = \"direct\" the guest sees it \
             as it is; remove mode"
        )));
    }
    if let Some(batches) = queue.batches {
        return Err(batches.error(format!(
            "guest '{name}': batches limits what Weir submits, which on {wq} is nothing, for it \
             is direct; remove it"
        )));
    }
    Ok(())
}

/// The guest's own PASIDs, each once.
fn plan_pasids(guest: &GuestConfig) -> Result<Vec<u32>, ConfigError> {
    let mut pasids = Vec::new();
    for pasid in &guest.pasids {
        if pasids.contains(&pasid.value) {
            return Err(pasid.error(format!(
                "guest '{}': PASID {} is there twice; remove one",
                guest.name.value, pasid.value
            )));
        }
        pasids.push(pasid.value);
    }
    Ok(pasids)
}
