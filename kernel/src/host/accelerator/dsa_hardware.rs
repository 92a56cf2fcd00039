//! A DSA as the [`Service`](crate::host::service::Service) knows it: the driver, and the
//! way of its interrupts through an IOMMU to a processor.

use dsa::ims::{DeviceEntry, ImsIndex, Message};
use dsa::{Command, Device, InterruptHandle, Plan, Poll, QueuePasid, SoftwareError, State};
use hwio::{Mmio, TscClock};
use hwspec::dsa::IntCause;
use hwspec::pci::SourceId;

use crate::host::error::HostError;
use crate::host::hardware::{Hardware, OpenError};
use crate::host::iommu::{Interrupt, Iommu, UnitIndex};
use crate::host::routes::{GuestTarget, Route, Routes, Target};
use crate::host::window::WindowAround;

/// The way of an interrupt from a device to a target.
#[derive(Debug)]
pub(in crate::host) struct Line {
    pub(super) interrupt: Interrupt,
    pub(super) route: Route,
}

/// A DSA, with what its interrupts need.
pub(in crate::host) struct DsaHardware {
    pub(super) device: Device<WindowAround<Mmio>, TscClock>,
    pub(super) source: SourceId,
    pub(super) unit: UnitIndex,
    pub(super) iommu: &'static Iommu,
    pub(super) routes: &'static Routes,
}

impl Hardware for DsaHardware {
    type Entry = DeviceEntry<Mmio>;
    type Line = Line;

    fn start(&mut self, command: Command, with_interrupt: bool) -> Result<(), dsa::Error> {
        if with_interrupt {
            self.device.start_with_interrupt(command)
        } else {
            self.device.start(command)
        }
    }

    fn poll(&mut self) -> Result<Poll, dsa::Error> {
        self.device.poll()
    }

    fn has_handle_commands(&self) -> bool {
        self.device.capabilities().has_handle_commands()
    }

    fn take_causes(&mut self) -> Result<IntCause, dsa::Error> {
        self.device.take_causes()
    }

    fn take_software_error(&mut self) -> Result<Option<SoftwareError>, dsa::Error> {
        self.device.take_software_error()
    }

    fn state(&self) -> Result<State, dsa::Error> {
        self.device.state()
    }

    fn configure(&mut self, plan: &Plan) -> Result<(), dsa::Error> {
        self.device.configure(plan)
    }

    fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), dsa::Error> {
        self.device.enable_queue(queue, pasid)
    }

    fn restart(&mut self) -> Result<(), dsa::Error> {
        self.device.restart()
    }

    fn resume(&mut self) -> Result<(), dsa::Error> {
        self.device.resume()
    }

    fn queue_pasid(&self, queue: u8) -> Option<QueuePasid> {
        self.device.queue_pasid(queue)
    }

    fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, dsa::Error> {
        self.device.request_handle(index)
    }

    fn open_line(&mut self, cpu: usize, target: GuestTarget) -> Result<Line, OpenError> {
        let route = self.routes.allocate(cpu).map_err(|_| OpenError::NoneLeft)?;
        self.routes.set_target(&route, Target::Guest(target));
        let opened = self
            .iommu
            .try_allocate_interrupt(self.unit, self.source, &route);
        match opened {
            Some(Ok(interrupt)) => Ok(Line { interrupt, route }),
            refused => {
                // Nothing was ever sent there.
                self.routes.free_unused(route);
                Err(match refused {
                    None => OpenError::Busy,
                    Some(Err(HostError::Iommu(_, vtd::Error::OutOfInterrupts { .. }))) => {
                        OpenError::NoneLeft
                    }
                    Some(_) => OpenError::Failed,
                })
            }
        }
    }

    fn message(line: &Line) -> Message {
        let message = line.interrupt.message();
        let message = Message::new(message.address, message.data);
        message.expect("remappable messages are in the interrupt range")
    }

    fn line_cpu(line: &Line) -> usize {
        line.route.cpu()
    }

    fn line_vector(line: &Line) -> u8 {
        line.route.vector()
    }

    fn set_line_target(&mut self, line: &Line, target: Option<GuestTarget>) {
        match target {
            Some(target) => self.routes.set_target(&line.route, Target::Guest(target)),
            None => self.routes.clear_target(&line.route),
        }
    }

    fn close_line(&mut self, line: Line) -> Result<(), Line> {
        let Line { interrupt, route } = line;
        match self.iommu.try_release_interrupt(interrupt) {
            Ok(()) => {
                self.routes.free(route);
                Ok(())
            }
            Err((interrupt, _)) => Err(Line { interrupt, route }),
        }
    }
}
