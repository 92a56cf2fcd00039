//! The README names every option of a device and every command of its bench,
//! as the model itself lists them.

use dsa_model::{HELP, Identity};

const README: &str = include_str!("../README.md");

/// The words in backticks that begin the rows of the README's tables.
fn rows() -> Vec<String> {
    let tables = README.lines().filter(|line| line.starts_with("| `"));
    tables
        .flat_map(|row| row.split(" | ").next().unwrap_or_default().split('`'))
        .flat_map(|cell| cell.split(", "))
        .map(|words| words.replace("\\|", "|"))
        .collect()
}

#[test]
#[cfg_attr(miri, ignore = "minutes of splitting text, and no device in it")]
fn every_device_option_is_explained() {
    let refusal = Identity::parse("no-such-option=1").unwrap_err().to_string();
    let (_, names) = refusal.split_once("there are ").unwrap();
    let names: Vec<&str> = names
        .split(", ")
        .flat_map(|name| name.split(" and "))
        .collect();
    assert!(names.contains(&"device-id") && names.contains(&"violations"));
    for name in names {
        assert!(
            rows().iter().any(|row| row == name),
            "{name} is not in the README"
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "minutes of splitting text, and no device in it")]
fn every_command_of_the_bench_is_explained() {
    let (_, commands) = HELP.split_once("commands: ").unwrap();
    for command in commands.split(" | ") {
        assert!(
            rows().iter().any(|row| row == command),
            "{command} is not in the README"
        );
    }
}
