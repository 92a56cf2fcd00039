//! Linux believes the emulated DSA: the distribution's own kernel, driver and tools, none of them
//! written or changed by us, use it as they would use the real one.
//!
//! `emulator/linux/build` makes the kernel and initramfs, and `emulator/linux/init` is what runs
//! in it: it reports one line per step, which is judged here together with the kernel's log, the
//! registers of the IOMMU, and the record of violations that the model keeps.
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use system_tests::lab_box::LabBox;
use system_tests::linux::{self, COMPLAINTS, Step};
use system_tests::qmp::{DSA0, Qmp, QmpError};

/// How many copies `dmatest` makes of up to one page. Longer ones come on top.
const COPIES: u64 = 10_000;

/// What the init allows itself for all its steps; it reports which step was stuck.
const LIMIT: Duration = Duration::from_secs(400);

/// What booting and powering off may take.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// GENCAP of the default identity, and with the event log of 64-byte entries (bits 14:13 = 1).
const GENCAP: &str = "0x40915f0107";
const GENCAP_WITH_EVENT_LOG: &str = "0x40915f2107";

/// Root Table Address Register, RTADDR_REG, of the box's only remapping unit.
/// [VT-d 5.10 "Root Table Address Register"]
const RTADDR: u64 = 0xfed9_0000 + 0x20;

/// Bits 11:10, TTM, of [`RTADDR`]: 01b is scalable mode.
const RTADDR_TTM: u64 = 0b11 << 10;
const RTADDR_TTM_SCALABLE: u64 = 0b01 << 10;

#[test]
fn linux_uses_the_dsa_without_an_iommu() {
    let boot = Boot {
        box_options: &["--no-iommu"],
        ..Boot::of("linux")
    };
    uses_the_dsa_without_an_iommu(&boot);
}

#[test]
fn linux_uses_the_dsa_behind_an_iommu_in_scalable_mode() {
    uses_the_dsa_behind_an_iommu_in_scalable_mode(&Boot::of("linux-iommu"));
}

#[test]
fn linux_uses_the_dsa_behind_an_iommu_with_first_stage_tables() {
    let boot = Boot {
        box_options: &["--first-stage"],
        ..Boot::of("linux-first-stage")
    };
    uses_the_dsa_behind_an_iommu_in_scalable_mode(&boot);
}

// Linux 6.12 follows a null pointer when it disables a DSA without an event log, as the default
// identity is (`idxd_device_evl_free`, seen in 6.12.95 and 6.12.117), so it gets one with.

#[test]
#[ignore = "downloads a second kernel (300 MB), Debian's own is always tested; run by .ci/deep kernels"]
fn linux_6_12_uses_the_dsa_without_an_iommu() {
    let boot = Boot {
        kernel: "backports",
        box_options: &["--no-iommu", "--dsa", "event-log=on"],
        gencap: GENCAP_WITH_EVENT_LOG,
        ..Boot::of("linux-6.12")
    };
    uses_the_dsa_without_an_iommu(&boot);
}

#[test]
#[ignore = "downloads a second kernel (300 MB), Debian's own is always tested; run by .ci/deep kernels"]
fn linux_6_12_uses_the_dsa_behind_an_iommu_in_scalable_mode() {
    let boot = Boot {
        kernel: "backports",
        box_options: &["--dsa", "event-log=on"],
        gencap: GENCAP_WITH_EVENT_LOG,
        ..Boot::of("linux-6.12-iommu")
    };
    uses_the_dsa_behind_an_iommu_in_scalable_mode(&boot);
}

/// The other side of "no failure": what goes wrong in the device is noticed, and counted exactly.
#[test]
fn linux_notices_every_copy_that_the_device_fails() {
    let boot = Boot {
        box_options: &["--no-iommu"],
        ..Boot::of("linux-failures")
    };
    let run = boot.run("dmatest", |line, qemu| {
        if line.contains("] weir: enable ok") {
            // Three descriptors end with "page fault" where nothing was written.
            qemu.set(DSA0, "control", &json!("error-burst 3 0x03"))?;
        }
        Ok(())
    });
    let run = run.unwrap_or_else(|error| panic!("{error}"));
    let dmatest = run.find("dmatest");
    assert!(!dmatest.passed, "{dmatest:?}");
    assert_eq!(dmatest.values["failures"], "3", "{dmatest:?}");
    assert!(!run.find("end").passed);
}

fn uses_the_dsa_without_an_iommu(boot: &Boot) {
    let run = boot.run_every_test();
    run.assert_every_step_passed(boot);
    assert_eq!(run.find("iommu").values["domain"], "none");
    assert_eq!(run.rtaddr, None, "the box has an IOMMU");
}

fn uses_the_dsa_behind_an_iommu_in_scalable_mode(boot: &Boot) {
    let run = Boot {
        kernel_words: "intel_iommu=on,sm_on",
        ..*boot
    }
    .run_every_test();
    run.assert_every_step_passed(boot);
    let domain = &run.find("iommu").values["domain"];
    assert!(domain.starts_with("DMA"), "the device's domain is {domain}");
    let rtaddr = run.rtaddr.expect("the box has an IOMMU");
    assert_eq!(
        rtaddr & RTADDR_TTM,
        RTADDR_TTM_SCALABLE,
        "RTADDR_REG is {rtaddr:#x}"
    );
}

/// Which Linux is booted on which box.
#[derive(Clone, Copy)]
struct Boot {
    /// The name of the log.
    name: &'static str,
    /// What `emulator/linux/build --kernel` calls it.
    kernel: &'static str,
    box_options: &'static [&'static str],
    /// What comes on the kernel's command line besides the words of our init.
    kernel_words: &'static str,
    /// What the driver must read from GENCAP.
    gencap: &'static str,
}

impl Boot {
    /// The release's own kernel on the default box.
    fn of(name: &'static str) -> Self {
        Self {
            name,
            kernel: "stock",
            box_options: &[],
            kernel_words: "",
            gencap: GENCAP,
        }
    }

    fn run_every_test(&self) -> Run {
        self.run("dmatest,reenable,rebind,flr,reload", |_, _| Ok(()))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Boots Linux, which carries out `tests`; shows each line of the console to `on_line`.
    fn run(
        &self,
        tests: &str,
        mut on_line: impl FnMut(&str, &mut Qmp) -> Result<(), QmpError>,
    ) -> Result<Run, Box<dyn Error>> {
        let linux = linux::build(self.kernel)?;
        let (kernel, initrd) = (path(&linux, "vmlinuz"), path(&linux, "initrd"));
        let append = format!(
            "console=ttyS0 {} weir.test={tests} weir.copies={COPIES} weir.limit={} weir.hold",
            self.kernel_words,
            LIMIT.as_secs(),
        );
        let qemu_arguments = ["-kernel", &kernel, "-initrd", &initrd, "-append", &append];
        let box_options = [&["--cpus", "2"], self.box_options].concat();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", self.name));

        let mut linux = LabBox::start(&log, &box_options, &qemu_arguments)?;
        let deadline = Instant::now() + BOOT_LIMIT + LIMIT;
        let mut qemu = linux.control()?;
        let mut lines = Vec::new();
        loop {
            let line = linux.next_line(deadline)?;
            on_line(&line, &mut qemu)?;
            let held = line.contains("] weir: hold");
            lines.push(line);
            if held {
                break;
            }
        }
        let report = qemu.dsa_report(DSA0)?;
        let rtaddr = qemu.read_physical(RTADDR)?;
        linux.send_line("")?;
        let status = linux.wait_for_exit(Instant::now() + BOOT_LIMIT)?;
        if !status.success() {
            return Err(format!("QEMU ended with {status}, see {}", log.display()).into());
        }
        Ok(Run::new(log, lines, report, rtaddr))
    }
}

/// What one boot showed.
#[derive(Debug)]
struct Run {
    log: PathBuf,
    /// The console from the first line to the end of the tests.
    lines: Vec<String>,
    steps: Vec<Step>,
    /// What `accel-config list -i` printed.
    listed: Value,
    /// What the model reports of itself, after the tests and before the machine powers off.
    report: Value,
    /// RTADDR_REG at the same time, if there is an IOMMU.
    rtaddr: Option<u64>,
}

impl Run {
    fn new(log: PathBuf, lines: Vec<String>, report: Value, rtaddr: Option<u64>) -> Self {
        let listed: String = lines
            .iter()
            .filter_map(|line| Some(line.split_once("] weir| ")?.1))
            .collect();
        Self {
            steps: lines.iter().filter_map(|line| Step::parse(line)).collect(),
            listed: serde_json::from_str(&listed).unwrap_or(Value::String(listed)),
            log,
            lines,
            report,
            rtaddr,
        }
    }

    /// The first step called `name`.
    #[track_caller]
    fn find(&self, name: &str) -> &Step {
        match self.steps.iter().find(|step| step.name == name) {
            Some(step) => step,
            None => panic!("Linux did not report '{name}', see {}", self.log.display()),
        }
    }

    /// What must hold however the box is made up.
    fn assert_every_step_passed(&self, boot: &Boot) {
        let log = self.log.display();
        let failed: Vec<_> = self.steps.iter().filter(|step| !step.passed).collect();
        assert!(failed.is_empty(), "{failed:?}, see {log}");
        let names: Vec<_> = self.steps.iter().map(|step| step.name.as_str()).collect();
        let expected = "kernel probe iommu list \
                        enable dmatest dmatest dmatest disable \
                        enable reenable disable \
                        rebind enable rebind disable \
                        flr enable flr disable \
                        reload enable reload disable \
                        interrupts end";
        assert_eq!(
            names,
            expected.split_whitespace().collect::<Vec<_>>(),
            "see {log}"
        );

        self.assert_the_driver_saw_the_identity(boot);
        self.assert_the_device_counted_what_linux_copied();
        self.assert_nothing_complained();
    }

    fn assert_the_driver_saw_the_identity(&self, boot: &Boot) {
        let probe = &self.find("probe").values;
        assert_eq!(probe["id"], "0x0b25");
        assert_eq!(probe["version"], "0x100");
        assert_eq!(probe["configurable"], "1");

        let device = &self.listed[0];
        assert_eq!(device["dev"], "dsa0", "accel-config listed {}", self.listed);
        assert_eq!(device["max_groups"], 4);
        assert_eq!(device["max_work_queues"], 8);
        assert_eq!(device["max_engines"], 4);
        assert_eq!(device["work_queue_size"], 128);
        assert_eq!(device["gen_cap"], boot.gencap);
        assert_eq!(device["groups"].as_array().map(Vec::len), Some(4));
        assert_eq!(
            device["ungrouped workqueues"].as_array().map(Vec::len),
            Some(8)
        );
    }

    /// The device's own count of descriptors against dmatest's of copies.
    fn assert_the_device_counted_what_linux_copied(&self) {
        let copies: u64 = self
            .steps
            .iter()
            .filter_map(|step| step.values.get("copies"))
            .map(|copies| copies.parse::<u64>().unwrap_or_default())
            .sum();
        assert!(copies >= COPIES, "only {copies} copies");
        let queue = &self.report["queues"][0];
        assert_eq!(queue["submitted"], copies, "{queue}");
        assert_eq!(queue["completed"], copies, "{queue}");
    }

    /// Neither the kernel nor the model may have anything to say.
    fn assert_nothing_complained(&self) {
        let complaints: Vec<_> = self
            .lines
            .iter()
            .filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
            .collect();
        assert!(
            complaints.is_empty(),
            "{complaints:#?}, see {}",
            self.log.display()
        );
        assert_eq!(self.report["violations"], Value::Array(Vec::new()));
        assert_eq!(self.report["blocked_messages"], 0);
    }
}

/// The file `name` of `directory` as an argument of a command.
fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}
