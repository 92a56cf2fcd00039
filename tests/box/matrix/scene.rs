//! One run, and what is judged in all of them.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::qmp::DSA0;
use system_tests::weir_box::{Ending, Images, Outcome, Setup, Weir};

use crate::config::Config;

/// What a box may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What an operator comes to.
pub(crate) type Done = Result<(), Box<dyn Error>>;

/// What demos work on.
pub(crate) static INPUT: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..100_000_u32).flat_map(u32::to_le_bytes).collect());

/// Its CRC32C, bit by bit. [RFC 3720, B.4 "CRC Examples"]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let add = |crc: u32, &byte: &u8| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, add)
}

pub(crate) fn input_crc() -> u32 {
    static CRC: LazyLock<u32> = LazyLock::new(|| crc32c(&INPUT));
    *CRC
}

#[test]
fn the_checksum_is_the_one_that_catalogues_list() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

/// How a box is set up and treated.
#[derive(Debug)]
pub(crate) struct Scene<'s> {
    pub(crate) name: &'s str,
    pub(crate) config: Config,
    pub(crate) cpus: u32,
    /// Model options of each DSA.
    pub(crate) dsas: &'s [&'s str],
    /// Further options of the box.
    pub(crate) options: &'s [&'s str],
    /// A command for the model of dsa0, and the words on the console that it comes after.
    pub(crate) command: Option<(&'s str, &'s str)>,
    /// What the model may complain about.
    pub(crate) may_violate: bool,
    /// Whether the model writes its trace: long for those that are long at work.
    pub(crate) is_traced: bool,
}

impl<'s> Scene<'s> {
    pub(crate) fn new(name: &'s str, config: Config) -> Self {
        Self {
            name,
            config,
            cpus: 2,
            dsas: &[""],
            options: &[],
            command: None,
            may_violate: false,
            is_traced: true,
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("matrix-{}{what}", self.name))
    }

    /// The trace of a DSA's descriptors, one JSON object each.
    pub(crate) fn trace(&self, dsa: usize) -> Vec<Value> {
        let text = fs::read_to_string(self.file(&format!("-trace{dsa}"))).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The reports that have been written so far, one a line.
    pub(crate) fn reports(&self) -> Vec<Value> {
        let name = format!("weir-matrix-{}.report.json", self.name);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let text = fs::read_to_string(path).unwrap();
        // The last line may not be whole yet.
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Runs it until Weir switches the box off. Weir must neither panic nor refuse, and the model
    /// have nothing to complain about.
    ///
    /// # Panics
    /// If that is not so.
    #[track_caller]
    pub(crate) fn run(&self) -> Outcome {
        self.boot("", |_, _| Ok(()))
    }

    /// The same with somebody at the monitor, who has until the deadline, and ends it all then.
    ///
    /// # Panics
    /// Likewise, or if the operator fails.
    #[track_caller]
    pub(crate) fn operate(&self, operator: impl FnOnce(&mut Weir, Instant) -> Done) -> Outcome {
        self.boot("interactive=on", |weir, deadline| {
            operator(weir, deadline)?;
            Ok(weir.machine().send(b"quit\r")?)
        })
    }

    #[track_caller]
    fn boot(&self, words: &str, action: impl FnOnce(&mut Weir, Instant) -> Done) -> Outcome {
        let violations = self.file("-violations");
        let _ = fs::remove_file(&violations);
        let mut options = vec!["--cpus".to_owned(), self.cpus.to_string()];
        for (number, dsa) in self.dsas.iter().enumerate() {
            let trace = self.file(&format!("-trace{number}"));
            let _ = fs::remove_file(&trace);
            let mut model = format!("violations={};{dsa}", violations.display());
            if self.is_traced {
                model += &format!(";trace={}", trace.display());
            }
            options.extend(["--dsa".to_owned(), model]);
        }
        options.extend(self.options.iter().map(ToString::to_string));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let config = self.config.text();
        let name = format!("matrix-{}", self.name);
        let setup = Setup {
            input: &INPUT,
            options: &options,
            words,
            ..Setup::new(&name, &config)
        };
        let images = Images::build(env!("CARGO_TARGET_TMPDIR"));
        let deadline = Instant::now() + LIMIT;
        let run = || -> Result<Outcome, Box<dyn Error>> {
            let mut weir = Weir::start(images, &setup)?;
            if let Some((after, command)) = self.command {
                weir.until(after, deadline)?;
                let mut control = weir.machine().control()?;
                control.set(DSA0, "control", &json!(command))?;
            }
            action(&mut weir, deadline)?;
            weir.finish(deadline)
        };
        let outcome = run().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let is_off = outcome.ending == Ending::Off(Some(0));
        assert!(
            is_off,
            "{}: {:?}: {:#?}",
            self.name, outcome.ending, outcome.lines
        );
        let found = fs::read_to_string(&violations).unwrap_or_default();
        assert!(
            self.may_violate || found.is_empty(),
            "{}: the model complains: {found}",
            self.name
        );
        outcome
    }
}

/// Whether the guest ended in this way, by Weir's own words.
pub(crate) fn has_ended(outcome: &Outcome, guest: &str, how: &str) -> bool {
    outcome.has_line(&format!("guest={guest} ended: {how}"))
}

/// The guest passed.
#[track_caller]
pub(crate) fn assert_passed(outcome: &Outcome, guest: &str) {
    assert!(
        has_ended(outcome, guest, "passed"),
        "{guest}: {:#?}",
        outcome.lines
    );
}
