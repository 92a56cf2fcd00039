//! Faults and their events. [VT-d 5.10, 7.2 "Non-Recoverable Fault Reporting", 11.4.7]

use super::{Hardware, ICE, IM, IP, IQE, ITE, PFO, PPF, Requester, bit};

impl Hardware {
    /// FSTS_REG. PPF is the logical OR of all F.
    pub(super) fn fault_status(&self) -> u32 {
        let is_pending = self.records.iter().any(|record| bit(record[1], 63));
        if is_pending {
            self.fsts | PPF
        } else {
            self.fsts & !(PPF | 0xff00)
        }
    }

    /// Sets a bit of FSTS_REG; an event comes of it if no other was set.
    pub(super) fn raise(&mut self, status: u32) {
        let is_first = self.fault_status() & (PFO | PPF | IQE | ICE | ITE) == 0;
        self.fsts |= status;
        if is_first {
            self.send_event();
        }
    }

    fn send_event(&mut self) {
        if self.fectl & IM == 0 {
            let event = (self.feuaddr, self.feaddr, self.fedata);
            self.events.push(event);
        } else {
            self.fectl |= IP;
        }
    }

    /// A write to FSTS_REG: ones clear.
    pub(super) fn acknowledge_status(&mut self, value: u32) {
        self.fsts &= !(value & (PFO | IQE | ICE | ITE));
        if self.fault_status() & (PFO | PPF | IQE | ICE | ITE) == 0 {
            self.fectl &= !IP;
        }
        self.run_queue();
    }

    /// A write to FECTL_REG. [VT-d 5.10, 11.4.7.2 "Fault Event Control Register"]
    pub(super) fn write_event_control(&mut self, value: u32) {
        self.fectl = value & IM | self.fectl & IP;
        if self.fectl == IP {
            self.fectl = 0;
            self.send_event();
        }
    }

    /// Records a request to memory that was blocked.
    pub(super) fn record_blocked(
        &mut self,
        (source, pasid): Requester,
        address: u64,
        is_write: bool,
        reason: u8,
    ) {
        let mut high = u64::from(source) | u64::from(reason) << 32 | 1 << 63;
        if let Some(pasid) = pasid {
            high |= 1 << 31 | u64::from(pasid) << 40;
        }
        if !is_write {
            high |= 1 << 62;
        }
        self.record([address & !0xfff, high]);
    }

    /// Records an interrupt that was blocked.
    pub(super) fn record_interrupt(&mut self, source: u16, index: Option<u16>, reason: u8) {
        let high = u64::from(source) | u64::from(reason) << 32 | 1 << 63;
        self.record([u64::from(index.unwrap_or(0)) << 48, high]);
    }

    /// Puts a record into the next register, if it is free.
    /// [VT-d 5.10, 7.2.1 "Primary Fault Logging"]
    pub(crate) fn record(&mut self, record: [u64; 2]) {
        if self.fsts & PFO != 0 {
            return;
        }
        if bit(self.records[self.next_record][1], 63) {
            self.raise(PFO);
            return;
        }
        if self.fault_status() & PPF == 0 {
            let index = u32::try_from(self.next_record).unwrap();
            self.fsts = self.fsts & !0xff00 | index << 8;
        }
        let is_first = self.fault_status() & (PFO | PPF | IQE | ICE | ITE) == 0;
        self.records[self.next_record] = record;
        self.next_record = (self.next_record + 1) % self.records.len();
        if is_first {
            self.send_event();
        }
    }
}
