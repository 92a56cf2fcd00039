//! A configuration of any text is planned or refused, with a line that is there.
#![no_main]

use kernel::bundle::File;
use kernel::config::{Config, ConfigError, DsaFacts, MachineFacts, Plan};
use libfuzzer_sys::fuzz_target;

const DSA: DsaFacts = DsaFacts {
    device_id: 0x0b25,
    is_configurable: true,
    has_dedicated_mode: true,
    has_shared_mode: true,
    has_occupancy: true,
    queues: 8,
    entries: 128,
    groups: 4,
    engines: 4,
    ims_entries: 2048,
    max_transfer_log2: 31,
    max_batch_log2: 10,
};

const MACHINE: MachineFacts<'_> = MachineFacts {
    memory_bytes: 1 << 30,
    cpus: 2,
    has_enqcmds: true,
    files: &[File {
        name: "demo",
        content: &[0; 64],
    }],
    dsas: &[DSA, DSA],
};

fn plan(text: &str) -> Result<Plan, ConfigError> {
    Config::parse(text)?.check(&MACHINE)
}

fuzz_target!(|text: &str| match plan(text) {
    Ok(plan) => {
        let memory: u64 = plan.guests.iter().map(|guest| guest.memory_bytes).sum();
        assert!(memory <= MACHINE.memory_bytes);
    }
    Err(error) => {
        let lines = text.matches('\n').count() + 1;
        assert!((1..=lines).contains(&usize::try_from(error.line).expect("lines are few")));
        assert!(!error.to_string().contains(char::is_control));
    }
});
