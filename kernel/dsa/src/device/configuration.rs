//! What the device is configured to, and how that is written.

use alloc::vec::Vec;

use hwio::{Clock, Registers};
use hwspec::dsa::{
    CommandCode, GENCFG, GENCTRL, GenCtrl, GroupConfig, OccupancyInterrupt, OccupancyLimit,
    WqConfig, WqLimits, WqMode, WqSize, WqState, WqThreshold,
};

use super::{Device, State};
use crate::{Capabilities, Error, Plan, QueueMode, QueuePasid, QueuePlan};

/// A queue of the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) plan: QueuePlan,
    /// How it was enabled, if it is.
    pub(super) enabled: Option<QueuePasid>,
}

/// What the device was configured to.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) plan: Plan,
    pub(super) queues: Vec<Queue>,
}

impl<R: Registers, C: Clock> Device<R, C> {
    /// Writes what was planned and enables the device.
    pub(super) fn write_configuration(&mut self) -> Result<(), Error> {
        let Configuration { plan, queues } = self.configuration.as_ref().ok_or(Error::NoPlan)?;
        let registers = &mut self.control.registers;
        let grpcfg = self.capabilities.offsets.grpcfg_offset();
        for group in 0..self.capabilities.count_groups() {
            let table = GroupConfig::at(grpcfg, group.into());
            let members = queues.iter().filter(|queue| queue.plan.group == group);
            let mut words = [0_u64; 4];
            for queue in members {
                if let Some(word) = words.get_mut(usize::from(queue.plan.index / 64)) {
                    *word |= 1 << (queue.plan.index % 64);
                }
            }
            for (word, bits) in words.into_iter().enumerate() {
                registers.write(table.wqs(word), bits);
            }
            let planned = plan
                .groups
                .get(usize::from(group))
                .copied()
                .unwrap_or_default();
            registers.write(table.engines(), planned.engines);
            // The rest are read buffers, of which every group may use all.
            registers.modify(table.flags(), |flags| {
                flags
                    .with_tc_a(planned.traffic_class)
                    .with_tc_b(planned.traffic_class)
            });
        }
        for index in 0..self.capabilities.count_queues() {
            let planned = queues.iter().find(|queue| queue.plan.index == index);
            let size = planned.map_or(0, |queue| queue.plan.shape.size);
            let table = wqcfg(&self.capabilities, index);
            registers.write(table.size(), WqSize::new().with_size(size));
        }

        // Without it, Request Completion Interrupt is a reserved flag of an unprivileged
        // queue. [DSA 3.0, 8.1.3 "Flags", Table 8-3; 9.2.8]
        registers.modify(GENCFG, |gencfg| gencfg.with_user_interrupts(true));
        let gencfg = registers.read(GENCFG);
        if !gencfg.user_interrupts() {
            let gencfg = gencfg.into_bits();
            return Err(Error::NoUserInterrupts { gencfg });
        }
        let interrupts = GenCtrl::new()
            .with_software_error(true)
            .with_halt_state(true);
        registers.write(GENCTRL, interrupts);
        self.execute_on_device(CommandCode::ENABLE_DEVICE)?;
        self.need_state(State::Enabled)
    }

    /// Writes all of a disabled queue's configuration but its size.
    pub(super) fn write_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), Error> {
        let shape = self.planned(queue)?.plan.shape;
        let state = self.queue_state(queue)?;
        if state != WqState::DISABLED {
            return Err(Error::QueueNotDisabled { queue, state });
        }
        let mode = WqMode::new()
            .with_priority(shape.priority)
            .with_pasid_enable(true);
        let mode = match shape.mode {
            QueueMode::Dedicated => mode
                .with_dedicated(true)
                .with_pasid(pasid.pasid.value())
                .with_privileged(pasid.privileged),
            QueueMode::Shared => mode,
        };
        let limits = WqLimits::new()
            .with_max_transfer_size(shape.max_transfer_log2)
            .with_max_batch_size(shape.max_batch_log2);
        let threshold = WqThreshold::new().with_threshold(shape.threshold);
        let table = self.wqcfg(queue);
        let registers = &mut self.control.registers;
        registers.write(table.threshold(), threshold);
        registers.write(table.mode(), mode);
        registers.write(table.limits(), limits);
        // No interrupts about occupancy.
        registers.write(table.occupancy_interrupt(), OccupancyInterrupt::new());
        registers.write(table.occupancy_limit(), OccupancyLimit::new());
        Ok(())
    }

    pub(super) fn wqcfg(&self, queue: u8) -> WqConfig {
        wqcfg(&self.capabilities, queue)
    }
}

fn wqcfg(capabilities: &Capabilities, queue: u8) -> WqConfig {
    let table = capabilities.offsets.wqcfg_offset();
    WqConfig::at(table, capabilities.wqcap.wqcfg_bytes(), queue.into())
}
