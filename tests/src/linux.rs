//! Linux as `emulator/linux/build` makes it, and what its init says.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What the kernel's log says only if something is wrong.
pub const COMPLAINTS: [&str; 8] = [
    "BUG:",
    "WARNING: CPU",
    "Oops",
    "Call Trace",
    "DMAR: [DMA",
    "DMAR: [INTR-REMAP]",
    "DMAR: DRHD: handling fault",
    "blocked for more than",
];

/// One line of the init: what step it was, whether it passed, and what it found.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which step.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What it found.
    pub values: HashMap<String, String>,
}

impl Step {
    /// Reads `[TIME] weir: NAME ok|fail KEY=VALUE...`; `None` if the line is no such line.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, step) = line.split_once("] weir: ")?;
        let mut words = step.split_whitespace();
        let name = words.next()?.to_owned();
        let passed = match words.next()? {
            "ok" => true,
            "fail" | "fail:" => false,
            _ => return None,
        };
        let values = words
            .filter_map(|word| word.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Some(Self {
            name,
            passed,
            values,
        })
    }
}

/// The directory with the kernel and the initramfs, built first if need be, which is shown on
/// standard error.
///
/// # Errors
/// If the script fails; it has said why.
pub fn build(kernel: &str) -> Result<PathBuf, Box<dyn Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../emulator/linux/build");
    let output = Command::new(script)
        .args(["--kernel", kernel])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("emulator/linux/build failed, see what it printed".into());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_from_other_lines_of_the_console() {
        let step = Step::parse("[    7.61] weir: dmatest ok copies=20 failures=0").unwrap();
        assert!(step.passed);
        assert_eq!(
            (step.name.as_str(), step.values["copies"].as_str()),
            ("dmatest", "20")
        );
        assert!(
            !Step::parse("[    7.61] weir: flr fail: still bound")
                .unwrap()
                .passed
        );
        assert_eq!(Step::parse("[    7.61] weir: end ok").unwrap().name, "end");
        assert_eq!(
            Step::parse("[    0.19] Kernel command line: weir.test=dmatest"),
            None
        );
        assert_eq!(
            Step::parse("[    7.61] weir: hold: a line on the console powers off"),
            None
        );
    }
}
