//! What the device says of descriptors.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Status of a completion: what the descriptor asked for was done. [DSA, 5.4]
pub(crate) const SUCCESS: u64 = 1;
/// Invalid interrupt handle.
pub(crate) const INVALID_HANDLE: u64 = 0x19;

/// What the device says of descriptors.
pub(crate) struct Trace(Vec<Value>);

impl Trace {
    pub(crate) fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("weir-{name}.trace"))
    }

    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(Self::path(name)).expect("the device wrote a trace");
        let lines = text.lines();
        Self(
            lines
                .map(|line| serde_json::from_str(line).expect("each line is JSON"))
                .collect(),
        )
    }

    /// Lines about a guest.
    fn of<'t>(&'t self, report: &'t Value) -> impl Iterator<Item = &'t Value> {
        let pasids = report["pasids"].as_array().expect("PASIDs");
        self.0
            .iter()
            .filter(|line| pasids.iter().any(|pasid| *pasid == line["pasid"]))
    }

    /// How many of a guest's copies ended with this status.
    pub(crate) fn copies(&self, report: &Value, status: u64) -> usize {
        self.of(report)
            .filter(|line| line["operation"] == "Memory Move" && line["status"] == status)
            .count()
    }

    /// How many different interrupt handles a guest used.
    pub(crate) fn handles(&self, report: &Value) -> usize {
        let mut handles: Vec<_> = self
            .of(report)
            .filter_map(|line| line["handle"].as_u64())
            .collect();
        handles.sort_unstable();
        handles.dedup();
        handles.len()
    }
}
