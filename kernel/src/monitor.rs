//! What the operator sees and does, on the boot processor beside its guests.
//!
//! [`Monitor`] is the housekeeping of [`schedule`](crate::vm::schedule): each tick moves
//! what guests printed to the console, looks after devices and guests on their way in
//! or out, and takes what was typed. A tick does a bounded amount of work.
#![forbid(unsafe_code)]

pub mod command;
pub mod line_editor;

use alloc::vec::Vec;

use crate::arch::{clock, power};
use crate::boot_info::BootInfo;
use crate::host::iommu::FaultReport;
use crate::platform::serial_port::OutputReader;
use crate::println;
use crate::trace::{self, Kind};
use crate::virt::backend::Backend;
use crate::vm::account;
use crate::vm::hypervisor::Hypervisor;
use crate::vm::schedule::Housekeeping;

/// How often the monitor looks, in nanoseconds.
const INTERVAL_NS: u64 = 2_000_000;
/// Lines of one guest that are printed in a tick.
const LINES: usize = 8;

/// The monitor.
#[derive(Debug)]
pub struct Monitor<B: Backend> {
    hypervisor: &'static Hypervisor<B>,
    /// It stays when all guests have ended.
    is_interactive: bool,
    readers: Vec<OutputReader>,
    begun: u64,
}

impl<B: Backend> Monitor<B> {
    /// The monitor of `hypervisor`.
    pub fn new(hypervisor: &'static Hypervisor<B>, boot: &BootInfo, begun: u64) -> Self {
        Self {
            hypervisor,
            is_interactive: boot.option("interactive") == Some("on"),
            readers: hypervisor
                .plan
                .guests
                .iter()
                .map(|_| OutputReader::new())
                .collect(),
            begun,
        }
    }

    /// Prints what guests have written.
    fn print_consoles(&mut self) {
        let records = self.hypervisor.records.lock();
        for (record, reader) in records.iter().zip(&mut self.readers) {
            let Some(guest) = record.guest() else {
                continue;
            };
            for _ in 0..LINES {
                let Some(line) = reader.next_line(&guest.output) else {
                    break;
                };
                println!("[{}] {line}", guest.name);
            }
        }
    }
}

fn report_fault(report: FaultReport) {
    let guest = report.vm.map_or(0xff, usize::from);
    trace::record(Kind::FAULT, guest, 0, 0);
    println!("fault: {report:?}");
}

impl<B: Backend> Housekeeping for Monitor<B> {
    fn tick(&mut self) {
        self.print_consoles();
        self.hypervisor.host.housekeep(report_fault);
        self.hypervisor.step();
        if !self.is_interactive && self.hypervisor.is_over() {
            let ns = clock::nanoseconds(clock::now().wrapping_sub(self.begun));
            println!("weir: all guests have ended after {} ms", ns / 1_000_000);
            account::write_report(self.hypervisor);
            power::off();
        }
    }

    fn interval_ns(&self) -> u64 {
        INTERVAL_NS
    }
}
