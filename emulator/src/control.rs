//! The commands of the bench: one line of words each, answered with one line,
//! or with the report.

use std::path::Path;

use serde::Serialize;

use crate::bus::Bus;
use crate::device::Dsa;
use crate::interrupt::Table;
use crate::registers::{INTCAUSE_HANDLES_REVOKED, ResetType};
use crate::work_queue::QueueCounters;

/// What `help` answers, and what an unknown command is answered with.
pub const HELP: &str = "commands: report | clear-violations | trace FILE|off | \
halt software|flr|warm|cold | hang-command | fail-command CODE | lose-interrupts COUNT | \
spurious msix|ims INDEX | delay-completions COUNT NANOSECONDS | dma-fault NTH | \
error-burst COUNT STATUS | queue-full QUEUE on|off | all-ones on|off | revoke-handles";

/// What the bench sees of the device, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    device_id: String,
    state: String,
    violations_total: u64,
    /// The first of them.
    violations: &'a [String],
    blocked_messages: u64,
    queues: Vec<&'a QueueCounters>,
}

impl Dsa {
    /// The violations recorded so far; only the first few hundred are kept.
    pub fn violations(&self) -> &[String] {
        self.bench.violations.kept()
    }

    /// What happened at each queue.
    pub fn queue_counters(&self) -> Vec<QueueCounters> {
        self.queues.iter().map(|queue| queue.counters).collect()
    }

    /// Carries out a command of the bench.
    ///
    /// # Errors
    /// One line that says what was wrong with the command.
    pub fn control(&mut self, command: &str, bus: &mut dyn Bus) -> Result<String, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["help"] => return Ok(HELP.to_owned()),
            ["report"] => return self.report_as_json(),
            ["clear-violations"] => self.bench.violations.clear(),
            ["trace", "off"] => self.bench.stop_trace(),
            ["trace", file] => self
                .bench
                .start_trace(Path::new(file))
                .map_err(|error| format!("trace: cannot write {file}: {error}"))?,
            ["halt", reset_type] => {
                let reset_type = match *reset_type {
                    "software" => ResetType::Software,
                    "flr" => ResetType::FunctionLevel,
                    "warm" => ResetType::Warm,
                    "cold" => ResetType::Cold,
                    other => {
                        return Err(format!(
                            "halt: '{other}' is no reset type, there are software, flr, warm, cold"
                        ));
                    }
                };
                self.halt(reset_type, bus);
            }
            ["hang-command"] => self.bench.hang_next_command(),
            ["fail-command", code] => self.bench.fail_next_command(number(code)?),
            ["lose-interrupts", count] => self.bench.lose_interrupts(number(count)?),
            ["spurious", table, index] => {
                let table = match *table {
                    "msix" => Table::Msix,
                    "ims" => Table::Ims,
                    other => return Err(format!("spurious: '{other}' is neither msix nor ims")),
                };
                self.raise(table, number(index)?, bus);
            }
            ["delay-completions", count, nanoseconds] => {
                self.bench
                    .delay_completions(number(count)?, number::<u32>(nanoseconds)?.into());
            }
            ["dma-fault", nth] => self.bench.dma_faults.arm(number::<u32>(nth)?.into()),
            ["error-burst", count, status] => {
                self.bench.burst_errors(number(count)?, number(status)?);
            }
            ["queue-full", queue, switch] => {
                let held_full = on_or_off(switch)?;
                let index: usize = number::<u16>(queue)?.into();
                let count = self.queues.len();
                let queue = self.queues.get_mut(index);
                queue
                    .ok_or(format!("queue-full: there are only {count} queues"))?
                    .held_full = held_full;
            }
            ["all-ones", switch] => self.bench.set_gone(on_or_off(switch)?),
            ["revoke-handles"] => {
                if !self.identity.handle_commands {
                    return Err("revoke-handles: this device has no interrupt handles".to_owned());
                }
                self.handles.revoke_all();
                self.raise_cause(INTCAUSE_HANDLES_REVOKED, bus);
            }
            _ => return Err(format!("'{command}' is not a command; {HELP}")),
        }
        Ok("done".to_owned())
    }

    fn report_as_json(&self) -> Result<String, String> {
        let report = Report {
            device_id: format!("{:#06x}", self.identity.device_id),
            state: format!("{:?}", self.state),
            violations_total: self.bench.violations.total(),
            violations: self.bench.violations.kept(),
            blocked_messages: self.bench.blocked_messages(),
            queues: self.queues.iter().map(|queue| &queue.counters).collect(),
        };
        serde_json::to_string(&report).map_err(|error| format!("report: {error}"))
    }
}

fn number<T: TryFrom<u32>>(word: &str) -> Result<T, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => word.parse(),
    };
    let number = parsed.ok().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("'{word}' is not a number in its range"))
}

fn on_or_off(word: &str) -> Result<bool, String> {
    match word {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{word}' is neither on nor off")),
    }
}
