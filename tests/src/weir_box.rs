//! Weir on a lab box of its own: builds what it takes, packs the boot bundle, boots, and reads
//! what Weir says on both of its serial ports.
//!
//! A test says what is special about its box in a [`Setup`], follows the console with
//! [`Weir::until`], and judges the [`Outcome`].

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::Value;

use crate::lab_box::{BoxError, LabBox};
use crate::linux;

/// How Weir says that a machine, or its configuration, will not do. It halts behind that.
pub const REFUSAL: &str = "weir: cannot run here: ";
/// How Weir's last words begin after a panic.
pub const PANIC: &str = "weir: panicked";

/// What `emulator/linux/build --kernel` calls a kernel, and what configurations call it and
/// its initial file system.
const KERNELS: [(&str, [&str; 2]); 2] = [
    ("stock", ["vmlinuz", "initrd"]),
    ("backports", ["vmlinuz-backports", "initrd-backports"]),
];

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const TARGET: &str = "x86_64-unknown-none";

/// Weir's image and those of the guests, by the names that configurations use: `demo`,
/// `adversary` and `bench`.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    release: PathBuf,
    guests: PathBuf,
}

impl Images {
    /// Builds them once, in `directory`, which is the test's `env!("CARGO_TARGET_TMPDIR")`.
    ///
    /// # Panics
    /// If that fails.
    pub fn build(directory: &str) -> &'static Self {
        static IMAGES: OnceLock<Images> = OnceLock::new();
        IMAGES.get_or_init(|| {
            // Not the directory that the cargo around us has locked; the same as those of
            // the tests that need only one of them.
            let build = |alias: &str, place: &str| {
                let target = Path::new(directory).join(place);
                let status = Command::new(env!("CARGO"))
                    .current_dir(ROOT)
                    .args([alias, "--quiet", "--target-dir"])
                    .arg(&target)
                    .status();
                assert!(
                    status.is_ok_and(|status| status.success()),
                    "`cargo {alias}` fails; does this help? rustup target add {TARGET}"
                );
                target.join(TARGET).join("release")
            };
            Self {
                directory: PathBuf::from(directory),
                release: build("image", "suites"),
                guests: build("guests", "guests"),
            }
        })
    }

    /// The hypervisor.
    pub fn weir(&self) -> PathBuf {
        self.release.join("weir")
    }

    /// A suite that takes the hypervisor's place, `guests` or `accelerator`.
    pub fn suite(&self, name: &str) -> PathBuf {
        self.release.join(format!("suite_{name}"))
    }

    /// A guest, by the name that a configuration uses.
    pub fn guest(&self, name: &str) -> PathBuf {
        self.guests.join(format!("guest_{name}"))
    }

    /// Packs `config`, the guests and the kernels that it names, and `input` if it names a
    /// file `input`.
    ///
    /// # Errors
    /// If a file cannot be written, or the script fails.
    pub fn pack(&self, name: &str, config: &str, input: &[u8]) -> Result<PathBuf, Box<dyn Error>> {
        let file = |what: &str| self.directory.join(format!("weir-{name}{what}"));
        let (toml, input_file, bundle) = (file(".toml"), file(".input"), file(".cpio"));
        fs::write(&toml, config)?;
        let mut command = Command::new(format!("{ROOT}/boot/bundle"));
        command.arg("-o").arg(&bundle).arg(&toml);
        for guest in ["demo", "adversary", "bench"] {
            if config.contains(&format!("\"{guest}\"")) {
                command.arg(format!("{guest}={}", self.guest(guest).display()));
            }
        }
        for (kernel, [image, initrd]) in KERNELS {
            if config.contains(&format!("\"{image}\"")) {
                let files = linux::build(kernel)?;
                command.arg(format!("{image}={}", files.join("vmlinuz").display()));
                command.arg(format!("{initrd}={}", files.join("initrd").display()));
            }
        }
        if config.contains("\"input\"") {
            fs::write(&input_file, input)?;
            command.arg(format!("input={}", input_file.display()));
        }
        let output = command.output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(bundle)
    }
}

/// What is special about a box.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'s> {
    /// Names the test's files.
    pub name: &'s str,
    /// weir.toml. Images are `demo`, `adversary` and `bench`, the input is `input`.
    pub config: &'s str,
    /// What guests with `input = "input"` get.
    pub input: &'s [u8],
    /// Options of `emulator/labbox`.
    pub options: &'s [&'s str],
    /// Weir's command line.
    pub words: &'s str,
    /// Whether there is a boot bundle.
    pub has_bundle: bool,
}

impl<'s> Setup<'s> {
    /// Two processors, `config`, and nothing special.
    pub const fn new(name: &'s str, config: &'s str) -> Self {
        Self {
            name,
            config,
            input: b"123456789",
            options: &["--cpus", "2"],
            words: "",
            has_bundle: true,
        }
    }
}

/// A box on which Weir runs.
#[derive(Debug)]
pub struct Weir {
    machine: LabBox,
    lines: Vec<String>,
    report: PathBuf,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Weir switched the box off, and QEMU ended with this status.
    Off(Option<i32>),
    /// Weir said why it cannot run.
    Refused(String),
    /// Weir panicked, with these words.
    Panicked(String),
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// All that the console showed.
    pub lines: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// The report, if there is one.
    pub report: Option<Value>,
}

impl Weir {
    /// Boots Weir.
    ///
    /// # Errors
    /// If the bundle cannot be packed or the box not be started.
    pub fn start(images: &Images, setup: &Setup<'_>) -> Result<Self, Box<dyn Error>> {
        let file = |what: &str| images.directory.join(format!("weir-{}{what}", setup.name));
        let (log, report) = (file(".log"), file(".report.json"));
        // What an earlier run left is not of this one.
        fs::write(&report, "")?;
        let kernel = images.weir().display().to_string();
        let serial = format!("file:{}", report.display());
        let mut arguments = vec!["-kernel", &kernel, "-serial", &serial];
        let bundle;
        if setup.has_bundle {
            bundle = images.pack(setup.name, setup.config, setup.input)?;
            arguments.extend(["-initrd", bundle.to_str().ok_or("a path is not UTF-8")?]);
        }
        if !setup.words.is_empty() {
            arguments.extend(["-append", setup.words]);
        }
        Ok(Self {
            machine: LabBox::start(&log, setup.options, &arguments)?,
            lines: Vec::new(),
            report,
        })
    }

    /// Boots Weir and waits for its end.
    ///
    /// # Errors
    /// If it cannot be started, or has not ended at `deadline`.
    pub fn run(
        images: &Images,
        setup: &Setup<'_>,
        deadline: Instant,
    ) -> Result<Outcome, Box<dyn Error>> {
        Self::start(images, setup)?.finish(deadline)
    }

    /// The box.
    pub fn machine(&mut self) -> &mut LabBox {
        &mut self.machine
    }

    /// Reads the console until a line contains `text`, and returns that line. All of them
    /// are kept for the outcome.
    ///
    /// # Errors
    /// If it does not come before `deadline`, or the box ends first.
    pub fn until(&mut self, text: &str, deadline: Instant) -> Result<String, BoxError> {
        loop {
            let line = shown(&self.machine.next_line(deadline)?);
            self.lines.push(line.clone());
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// What the console has shown so far, as far as it was waited for.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether a line that was waited for, or came before one, contains `text`.
    pub fn has_line(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    /// Reads the console until the guests of all these names have said `text`.
    ///
    /// # Errors
    /// Like [`Weir::until`].
    pub fn until_each_says(
        &mut self,
        guests: &[&str],
        text: &str,
        deadline: Instant,
    ) -> Result<(), BoxError> {
        let has_said = |lines: &[String], guest: &str| {
            let prefix = format!("[{guest}] ");
            let mut lines = lines.iter();
            lines.any(|line| line.contains(&prefix) && line.contains(text))
        };
        while !guests.iter().all(|guest| has_said(&self.lines, guest)) {
            let line = shown(&self.machine.next_line(deadline)?);
            self.lines.push(line);
        }
        Ok(())
    }

    /// Waits until the box is off or Weir has stopped.
    ///
    /// # Errors
    /// If that is not so at `deadline`.
    pub fn finish(mut self, deadline: Instant) -> Result<Outcome, Box<dyn Error>> {
        let ending = loop {
            let line = match self.machine.next_line(deadline) {
                Ok(line) => shown(&line),
                Err(BoxError::Ended { .. }) => {
                    break Ending::Off(self.machine.wait_for_exit(deadline)?.code());
                }
                Err(error) => return Err(error.into()),
            };
            self.lines.push(line.clone());
            if let Some((_, reason)) = line.split_once(REFUSAL) {
                break Ending::Refused(reason.to_owned());
            }
            if line.contains(PANIC) {
                break Ending::Panicked(line);
            }
        };
        let report = fs::read_to_string(&self.report)?;
        Ok(Outcome {
            lines: self.lines,
            ending,
            // An operator may have asked for others before it.
            report: match report.lines().last() {
                None => None,
                Some(text) => Some(serde_json::from_str(text)?),
            },
        })
    }
}

/// A line as a terminal shows it: what was taken away again, such as the operator's prompt,
/// is not there.
fn shown(line: &str) -> String {
    let shown = line.rsplit("\r\x1b[K").next();
    shown.unwrap_or_default().to_owned()
}

impl Outcome {
    /// The report.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn report(&self) -> &Value {
        let report = self.report.as_ref();
        report.unwrap_or_else(|| panic!("no report; {:?}: {:#?}", self.ending, self.lines))
    }

    /// The part of the report that is about the guest of this name.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn guest(&self, name: &str) -> &Value {
        let guests = self.report()["vms"].as_array();
        let guest = guests.and_then(|guests| guests.iter().find(|guest| guest["name"] == name));
        guest.unwrap_or_else(|| panic!("no guest {name} in {:#}", self.report()))
    }

    /// What the guest of this name wrote on its console, line by line.
    pub fn console(&self, name: &str) -> Vec<&str> {
        let prefix = format!("[{name}] ");
        let lines = self.lines.iter();
        lines
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect()
    }

    /// Whether a line contains `text`.
    pub fn has_line(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    /// The books of all guests balance, and nothing that they held is lost but for `lost`,
    /// names of the report's `held`.
    ///
    /// # Panics
    /// If that is not so.
    #[track_caller]
    pub fn assert_nothing_lost(&self, lost: &[&str]) {
        /// What lists keep of the room that they had at their longest.
        const ROOM: u64 = 2048;
        let report = self.report();
        for guest in report["vms"].as_array().into_iter().flatten() {
            let balance = guest.pointer("/books/balance");
            assert_eq!(balance, Some(&Value::Bool(true)), "{guest:#}");
        }
        let held = |when| report.pointer(when).and_then(Value::as_object);
        let (Some(before), Some(after)) = (held("/held/before"), held("/held/after")) else {
            panic!("the report does not say what was held: {report:#}");
        };
        assert!(!before.is_empty(), "{report:#}");
        for (name, value) in before {
            let then = after.get(name).and_then(Value::as_u64);
            let is_right = match (name.as_str(), value.as_u64(), then) {
                ("heap_bytes", Some(before), Some(then)) => then <= before + ROOM,
                (name, Some(before), Some(then)) => before == then || lost.contains(&name),
                _ => false,
            };
            assert!(is_right, "{name}: before {before:#?}, after {after:#?}");
        }
    }
}
