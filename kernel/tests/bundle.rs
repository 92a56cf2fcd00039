//! What `boot/bundle` packs is what the boot bundle's reader reads.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "what fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kernel::bundle::Bundle;
use kernel::config::{Config, MachineFacts};

const CONFIG: &str = "
[[guest]]
name = 'a'
image = 'demo.elf'
input = 'file.txt'
memory = '64M'

[[guest]]
name = 'b'
kernel = 'linux/vmlinuz'
memory = '64M'
";

/// A fresh folder of files.
fn folder(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

/// Runs `boot/bundle` in a folder.
fn run(folder: &Path, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boot/bundle");
    let mut command = Command::new(script.canonicalize().unwrap());
    command.current_dir(folder).args(arguments);
    command.output().expect("python3 is installed")
}

/// What it packs.
fn packed(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = run(folder, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors, "");
    fs::read(folder.join("out.cpio")).unwrap()
}

/// What it says when it will not pack.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.join("out.cpio").exists());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn named_files_are_found_and_read_back() {
    let content = vec![0xa5; 100_001];
    let folder = folder(
        "bundle-found",
        &[
            ("config.toml", CONFIG.as_bytes()),
            ("file.txt", b"text"),
            ("elsewhere/demo.elf", &content),
            ("kernel", b"bzImage"),
        ],
    );
    let arguments = [
        "-o",
        "out.cpio",
        "config.toml",
        "--search",
        "elsewhere",
        "linux/vmlinuz=kernel",
    ];
    let archive = packed(&folder, &arguments);
    let bundle = Bundle::read(&archive).unwrap();
    assert_eq!(bundle.config(), CONFIG);
    let files: Vec<_> = bundle
        .files()
        .iter()
        .map(|file| (file.name, file.content))
        .collect();
    assert_eq!(
        files,
        [
            ("weir.toml", CONFIG.as_bytes()),
            ("linux/vmlinuz", b"bzImage"),
            ("demo.elf", &content),
            ("file.txt", b"text"),
        ]
    );
    // All that the configuration names is there.
    let machine = MachineFacts {
        memory_bytes: 128 << 20,
        cpus: 1,
        has_enqcmds: false,
        files: bundle.files(),
        dsas: &[],
    };
    let plan = Config::parse(bundle.config()).unwrap().check(&machine);
    assert_eq!(plan.unwrap().guests.len(), 2);
    // The same files make the same archive.
    assert_eq!(packed(&folder, &arguments), archive);
}

/// A configuration with every option that is needed, without `missing`.
fn kernel_config(missing: &[&str]) -> String {
    let options = [
        "X86_64=y",
        "X86_X2APIC=y",
        "KVM_GUEST=y",
        "ACPI=y",
        "PCI_MMCONFIG=y",
        "SERIAL_8250_CONSOLE=y",
        "INTEL_IDXD=m",
    ];
    let lines = options.map(|option| {
        let (name, _) = option.split_once('=').unwrap();
        match missing.contains(&name) {
            true => format!("# CONFIG_{name} is not set\n"),
            false => format!("CONFIG_{option}\n"),
        }
    });
    format!("CONFIG_X86_X2APIC_OTHER=y\n{}", lines.concat())
}

#[test]
fn a_kernel_without_what_guests_need_is_refused() {
    const GUEST: &str = "[[guest]]\nname = \"linux\"\nkernel = \"vmlinuz\"\nmemory = \"64M\"\n";
    const QUEUE: &str = "[[guest.queue]]\nwq = \"dsa0/wq0.0\"\n";
    let all = [
        "X86_64",
        "X86_X2APIC",
        "KVM_GUEST",
        "ACPI",
        "PCI_MMCONFIG",
        "SERIAL_8250_CONSOLE",
        "INTEL_IDXD",
    ];
    let driver = ["INTEL_IDXD"];
    let lacking = |missing: &str| {
        format!(
            "bundle: k/vmlinuz-6.1 is no kernel for a guest: k/config-6.1 lacks {missing}; \
             build it with these, or take a distribution's kernel\n"
        )
    };
    let arguments = ["-o", "out.cpio", "config.toml", "vmlinuz=k/vmlinuz-6.1"];
    for (name, queue, config, error) in [
        ("kernel-good", QUEUE, kernel_config(&[]), None),
        (
            "kernel-bad",
            QUEUE,
            kernel_config(&all),
            Some(all.join(", ")),
        ),
        (
            "kernel-no-driver",
            QUEUE,
            kernel_config(&driver),
            Some(driver.concat()),
        ),
        // It has no use for it.
        ("kernel-no-queue", "", kernel_config(&driver), None),
        // No kernel's.
        ("kernel-other", QUEUE, "[core]\n".to_owned(), None),
    ] {
        let toml = format!("{GUEST}{queue}");
        let files = [
            ("config.toml", toml.as_bytes()),
            ("k/vmlinuz-6.1", b"bzImage"),
            ("k/config-6.1", config.as_bytes()),
            // That of another one.
            ("k/config", b"CONFIG_ACPI=y\n"),
        ];
        let folder = folder(&format!("bundle-{name}"), &files);
        match error {
            None => assert!(!packed(&folder, &arguments).is_empty()),
            Some(missing) => assert_eq!(refusal(&folder, &arguments), lacking(&missing)),
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = folder("bundle-missing", &[("config.toml", CONFIG.as_bytes())]);
    assert_eq!(
        refusal(&folder, &["-o", "out.cpio", "config.toml", "--search", "x"]),
        "bundle: there is no 'demo.elf' in x, .; put it there, or give demo.elf=FILE\n"
    );
    assert_eq!(
        refusal(&folder, &["-o", "out.cpio", "none.toml"]),
        "bundle: cannot read none.toml: No such file or directory\n"
    );
    assert_eq!(
        refusal(&folder, &["-o", "out.cpio", "config.toml", "demo.elf"]),
        "bundle: 'demo.elf' is not NAME=FILE with a NAME that is new\n"
    );
}

#[test]
fn a_configuration_with_a_mistake_is_packed_for_weir_to_judge() {
    let folder = folder(
        "bundle-mistake",
        &[("config.toml", b"[[guest]]\nname = \n")],
    );
    let archive = packed(&folder, &["-o", "out.cpio", "config.toml"]);
    let bundle = Bundle::read(&archive).unwrap();
    let error = Config::parse(bundle.config()).unwrap_err();
    assert_eq!(error.line, 2);
    assert_eq!(bundle.files().len(), 1);
}
