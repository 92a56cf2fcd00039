//! What the unit refused.

use core::fmt;

use hwio::{Clock, DmaPages, Registers};
use hwspec::pci::{Pasid, SourceId};
use hwspec::vtd::{
    EventAddress, EventData, FEADDR, FECTL, FEDATA, FEUADDR, FSTS, FaultReason, FrcdHigh, FrcdLow,
    Fsts, frcd_high, frcd_low,
};

use crate::error::RegisterName;
use crate::{Error, RemappingUnit, Route};

/// A request that was blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub reason: FaultReason,
    /// Whose it was.
    pub source: SourceId,
    /// Its PASID, if it had one.
    pub pasid: Option<Pasid>,
    /// What it was for.
    pub target: FaultTarget,
}

/// What a blocked request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultTarget {
    /// Memory.
    Memory {
        /// What it wanted to do there.
        kind: RequestKind,
        /// The address of the page.
        address: u64,
    },
    /// An interrupt, through this entry of the remapping table, if it got that far.
    Interrupt(Option<u16>),
}

/// What a request wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Write.
    Write,
    /// Read.
    Read,
    /// Read and write at once.
    Atomic,
    /// Have a page made present.
    PageRequest,
}

/// What there was besides the faults that were reported one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSummary {
    /// Faults were lost because the records were full.
    pub overflow: bool,
    /// There is more to read already.
    pub more: bool,
}

impl Fault {
    fn decode(low: FrcdLow, high: FrcdHigh) -> Self {
        let reason = high.fr();
        let target = if reason.is_interrupt() {
            let index = reason.has_interrupt_index().then(|| low.interrupt_index());
            FaultTarget::Interrupt(index)
        } else {
            let kind = match (high.t1(), high.t2()) {
                (false, false) => RequestKind::Write,
                (false, true) => RequestKind::PageRequest,
                (true, false) => RequestKind::Read,
                (true, true) => RequestKind::Atomic,
            };
            let address = low.page_address();
            FaultTarget::Memory { kind, address }
        };
        let has_pasid = high.pp() && !reason.is_interrupt();
        Self {
            reason,
            source: SourceId::from_bits(high.sid()),
            pasid: has_pasid.then(|| Pasid::from_bits(high.pv())),
            target,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(pasid) = self.pasid {
            write!(f, " PASID {pasid}")?;
        }
        match self.target {
            FaultTarget::Memory { kind, address } => {
                let kind = match kind {
                    RequestKind::Write => "write to",
                    RequestKind::Read => "read of",
                    RequestKind::Atomic => "atomic operation on",
                    RequestKind::PageRequest => "page request for",
                };
                write!(f, ", {kind} {address:#x}: ")?;
            }
            FaultTarget::Interrupt(Some(index)) => write!(f, ", interrupt {index}: ")?,
            FaultTarget::Interrupt(None) => f.write_str(", interrupt: ")?,
        }
        write!(f, "{}", self.reason)
    }
}

impl<R: Registers, P: DmaPages, C: Clock> RemappingUnit<R, P, C> {
    /// Lets the unit interrupt a CPU when it records a fault, or another CPU from now on.
    /// The message is not remapped.
    ///
    /// [VT-d 5.10, 5.1.6.2 "Programming in Intel 64 x2APIC Mode"]
    pub fn enable_fault_events(&mut self, route: Route) {
        let registers = &mut self.control.registers;
        let [low, ..] = route.apic_id.to_le_bytes();
        // An event that comes meanwhile stays pending: no message is half the old one.
        // [VT-d 5.10, 11.4.7.2 "Fault Event Control Register", IM and IP]
        registers.modify(FECTL, |event| event.with_im(true));
        registers.write(FEDATA, EventData::new().with_vector(route.vector));
        registers.write(FEADDR, EventAddress::new().with_destination_7_0(low));
        registers.write(FEUADDR, route.apic_id & !0xff);
        registers.modify(FECTL, |event| event.with_im(false));
    }

    /// Hands each fault that is recorded to `report`, oldest first, and makes room for
    /// others. Takes no longer than there are records, allocates nothing and waits for
    /// nothing.
    ///
    /// # Errors
    /// If the unit is gone.
    pub fn read_faults(&mut self, mut report: impl FnMut(Fault)) -> Result<FaultSummary, Error> {
        let cap = self.capabilities.cap;
        let base = cap.fault_recording_offset();
        let count = cap.fault_recording_count();
        let registers = &mut self.control.registers;
        let status = read_fault_status(registers)?;
        if status.ppf() {
            let first = usize::from(status.fri());
            for index in (first..).take(count) {
                let high = registers.read(frcd_high(base, index % count));
                if high.into_bits() == !0 {
                    let register = RegisterName::Frcd;
                    return Err(Error::DeviceGone { register });
                }
                if !high.f() {
                    break;
                }
                let low = registers.read(frcd_low(base, index % count));
                report(Fault::decode(low, high));
                let done = FrcdHigh::new().with_f(true);
                registers.acknowledge(frcd_high(base, index % count), done);
            }
        }
        // While any of these is set there is no further event. Between calls the
        // invalidation queue is empty, so no error of it is anyone's.
        let handled = status.with_ppf(false).with_fri(0);
        registers.acknowledge(FSTS, handled);
        Ok(FaultSummary {
            overflow: status.pfo(),
            more: read_fault_status(registers)?.ppf(),
        })
    }
}

fn read_fault_status(registers: &impl Registers) -> Result<Fsts, Error> {
    let status = registers.read(FSTS);
    if status.into_bits() == !0 {
        let register = RegisterName::Fsts;
        return Err(Error::DeviceGone { register });
    }
    Ok(status)
}
