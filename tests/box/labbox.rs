//! The launcher itself: its help, what it makes of options, one clear line for each kind of bad
//! input, and the bench side of a running box from the command line.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use system_tests::lab_box::{LABBOX, LabBox};

/// Every option of the box, as `labbox` reads them.
const OPTIONS: [&str; 16] = [
    "--memory",
    "--cpus",
    "--no-svm",
    "--no-movdir64b",
    "--no-enqcmd",
    "--no-iommu",
    "--first-stage",
    "--dsa",
    "--no-dsa",
    "--model",
    "--icount",
    "--all-keys",
    "--control",
    "--print-command",
    "--build-only",
    "--help",
];

fn labbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(LABBOX);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{LABBOX} cannot be started: {error}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// QEMU's command line for these options.
fn qemu_command(options: &[&str]) -> String {
    let output = run(labbox(&["--print-command"]).args(options));
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{options:?}: {errors}");
    text(&output.stdout)
}

/// Nothing on standard output, and one line of errors, which contains `words`.
#[track_caller]
fn assert_refused(command: &mut Command, code: i32, words: &str) {
    let output = run(command);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {errors}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    assert!(errors.contains(words), "{command:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{command:?}: {errors}");
}

/// A folder of this test's own, empty.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("labbox-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

#[test]
fn help_and_readme_explain_every_option() {
    let output = run(&mut labbox(&["--help"]));
    assert!(output.status.success());
    let help = text(&output.stdout);
    let readme = include_str!("../../emulator/README.md");
    for option in OPTIONS {
        assert!(help.contains(&format!("\n  {option} ")), "{option}: {help}");
        assert!(
            option == "--help" || readme.contains(option),
            "{option} is not in the README"
        );
    }
    // And there are no others.
    let script = include_str!("../../emulator/labbox");
    let cases = script.lines().filter(|line| line.contains(") "));
    let labels = cases.filter_map(|line| line.trim().split_once(')'));
    for label in labels.flat_map(|(labels, _)| labels.split(" | ")) {
        let known = OPTIONS.contains(&label) || label == "--";
        assert!(!label.starts_with("--") || known, "{label} is new");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for (arguments, words) in [
        (&["--dsas"][..], "unknown option '--dsas'"),
        (&["-kernel", "vmlinuz"], "QEMU's own arguments follow --"),
        (&["--memory"], "--memory needs a value"),
        (&["--model", "--"], "--model needs a value"),
        (
            &["--no-iommu", "--first-stage"],
            "--first-stage needs the IOMMU",
        ),
        (&["--no-dsa", "--dsa", "queues=1"], "exclude each other"),
        (
            &["--model", "/nowhere.so"],
            "no device model at /nowhere.so",
        ),
        (&["--dsa", ""].repeat(9), "at most 8 DSAs"),
        (&["control", "socket"], "usage: labbox control"),
        (&["report", "socket"], "usage: labbox report"),
    ] {
        assert_refused(&mut labbox(arguments), 2, words);
    }
    assert_refused(
        &mut labbox(&["report", "/nowhere.sock", "dsa0"]),
        1,
        "no box at /nowhere.sock",
    );
}

#[test]
fn options_reach_qemu() {
    let plain = qemu_command(&[]);
    for part in [
        "+svm",
        "+movdir64b",
        "+enqcmd",
        "intel-iommu",
        "addr=04.0",
        "-m 1G",
        "-smp 1",
    ] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    assert!(!plain.contains("addr=05.0") && !plain.contains("x-flts"));
    for (options, there, not_there) in [
        (&["--memory", "3G", "--cpus", "2"][..], "-smp 2 -m 3G", "1G"),
        (&["--no-svm"], "-svm", "+svm"),
        (&["--no-movdir64b"], "+enqcmd", "movdir64b"),
        (&["--no-enqcmd"], "+movdir64b", "enqcmd"),
        (&["--no-iommu"], "dsa0", "intel-iommu"),
        (&["--first-stage"], "x-flts=on", "dsa1"),
        (&["--no-dsa"], "intel-iommu", "dsa0"),
        (&["--icount"], "shift=0", "shift=1"),
        (&["--icount", "3"], "shift=3", "shift=0"),
        (&["--control", "/tmp/x"], "unix:/tmp/x", "dsa1"),
        (&["--", "-kernel", "x"], "-kernel x", "dsa1"),
    ] {
        let command = qemu_command(options);
        assert!(command.contains(there), "{options:?}: {command}");
        assert!(!command.contains(not_there), "{options:?}: {command}");
    }
    let two = qemu_command(&["--dsa", "queues=2;ims=256", "--dsa", ""]);
    for part in ["id=dsa0", "addr=04.0", "queues=2", "id=dsa1", "addr=05.0"] {
        assert!(two.contains(part), "{part}: {two}");
    }
}

/// A shared library that defines `functions` of the model, each of which returns 999.
fn library(folder: &Path, name: &str, functions: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let source = folder.join(format!("{name}.rs"));
    let functions = functions.iter().map(|function| {
        format!(
            "#[unsafe(no_mangle)] pub extern \"C\" fn dsa_model_{function}() -> u32 {{ 999 }}\n"
        )
    });
    fs::write(&source, functions.collect::<String>())?;
    let library = folder.join(format!("{name}.so"));
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(compiler)
        .args(["--crate-type", "cdylib", "-o"])
        .args([&library, &source])
        .status()?;
    assert!(status.success(), "{} cannot be built", source.display());
    Ok(library)
}

#[test]
fn a_model_that_does_not_fit_is_refused() -> Result<(), Box<dyn Error>> {
    let folder = scratch("models");
    let no_library = folder.join("text.so");
    fs::write(&no_library, "This is no library.\n")?;
    let other_version = library(&folder, "version", &["abi"])?;
    let of_something_else = library(&folder, "other", &["name"])?;
    for (model, words) in [
        (no_library, "no device model: "),
        (other_version, "has interface version 999, this QEMU needs "),
        (of_something_else, "lacks the function dsa_model_abi"),
    ] {
        let mut command = labbox(&["--model"]);
        command.arg(&model);
        assert_refused(&mut command, 1, words);
    }
    Ok(())
}

#[test]
fn a_dsa_that_cannot_be_is_refused() {
    for (options, words) in [
        (
            "queue=4",
            "unknown device option 'queue'; there are device-id, ",
        ),
        ("queue=4", "trace and violations\n"),
        ("queues=65", "queues must be 1 to 64"),
        ("ims=16384", "up to 16128"),
        ("trace=/nowhere/trace", "cannot write /nowhere/trace"),
    ] {
        assert_refused(&mut labbox(&["--dsa", options]), 1, words);
    }
}

#[test]
fn unsuitable_sources_of_qemu_are_refused() -> Result<(), Box<dyn Error>> {
    let folder = scratch("sources");
    let build = |source: &Path| {
        let mut command = labbox(&["--build-only"]);
        command
            .env("QEMU_SRC", source)
            .env("WEIR_CACHE", folder.join("cache"));
        command
    };
    assert_refused(&mut build(&folder), 1, "no QEMU sources in ");
    for version in ["9.2.4", "10.1.0", "110.0.0"] {
        fs::write(folder.join("VERSION"), format!("{version}\n"))?;
        let words = format!("holds QEMU {version}; the overlay is for the 10.0 series");
        assert_refused(&mut build(&folder), 1, &words);
    }
    Ok(())
}

/// With every proxy where nobody listens, nothing can be fetched.
#[test]
fn a_failed_download_is_one_line() -> Result<(), Box<dyn Error>> {
    const NOBODY: &str = "http://127.0.0.1:9";
    let folder = scratch("download");
    let configuration = folder.join("apt.conf");
    fs::write(
        &configuration,
        format!(
            "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             Acquire::Retries \"0\";\n\
             Acquire::http::Proxy \"{NOBODY}\";\nAcquire::https::Proxy \"{NOBODY}\";\n"
        ),
    )?;
    let output = run(labbox(&["--build-only"])
        .env("APT_CONFIG", &configuration)
        .env("http_proxy", NOBODY)
        .env("https_proxy", NOBODY)
        .env_remove("QEMU_SRC")
        .env("WEIR_CACHE", folder.join("cache")));
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(text(&output.stdout), "");
    // What was being done, a line each, and then the failure.
    assert!(errors.lines().all(|line| line.starts_with("labbox: ")));
    let last = errors.lines().last().unwrap_or_default();
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if os.lines().any(|line| line == "ID=debian") {
        assert!(last.starts_with("labbox: failed: "), "{errors}");
        assert!(last.contains("E: Failed to fetch "), "{errors}");
    } else {
        let named = ["not Debian", "missing"];
        assert!(named.iter().any(|words| last.contains(words)), "{errors}");
    }
    Ok(())
}

/// Two devices in one box; the model's side of each while it runs.
#[test]
fn the_bench_reaches_each_device_of_a_running_box() -> Result<(), Box<dyn Error>> {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("labbox-bench.log");
    let options = ["--dsa", "", "--dsa", "device-id=0x11fb;queues=2"];
    let machine = LabBox::start(&log, &options, &[])?;
    machine.control()?;
    let socket = machine.socket().display().to_string();
    let report = |device: &str| -> Result<Value, Box<dyn Error>> {
        let output = run(&mut labbox(&["report", &socket, device]));
        assert!(output.status.success(), "{}", text(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let control = |device: &str, command: &str| {
        let output = run(&mut labbox(&["control", &socket, device, command]));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let [first, second] = [report("dsa0")?, report("dsa1")?];
    assert_eq!(first.get("device_id"), Some(&Value::from("0x0b25")));
    assert_eq!(second.get("device_id"), Some(&Value::from("0x11fb")));
    let queues = second.get("queues").and_then(Value::as_array);
    assert_eq!(queues.map(Vec::len), Some(2));

    assert!(control("dsa1", "help").contains("halt software|flr|warm|cold"));
    assert_eq!(control("dsa1", "halt warm"), "done\n");
    let states = [report("dsa0")?, report("dsa1")?].map(|report| report.get("state").cloned());
    assert_eq!(states, ["Disabled", "Halt"].map(|state| Some(state.into())));

    for (device, command, words) in [
        ("dsa0", "stop", "'stop' is not a command"),
        ("dsa0", "halt hot", "'hot' is no reset type"),
        ("dsa2", "help", "dsa2"),
    ] {
        let mut command = labbox(&["control", &socket, device, command]);
        assert_refused(&mut command, 1, words);
    }
    Ok(())
}
