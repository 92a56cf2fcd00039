//! Every command, and what is no command.

use std::error::Error;

use system_tests::weir_box::Setup;

use crate::operator::{Operator, assert_columns, assert_has, operate};

/// What keys send.
const CTRL_C: &str = "\x03";
const CTRL_U: &str = "\x15";
const LEAVE: &str = "\x1d";
const DELETE: &str = "\x7f";

/// Two guests that work until they are stopped, of which one first talks with its console, and
/// two that had something refused and have ended.
const CONFIG: &str = r#"
[[guest]]
name = "demo-a"
image = "demo"
input = "input"
memory = "32M"
cpus = 1
pasids = [5]
cmdline = "pasid=5 seconds=600"
[[guest.queue]]
wq = "dsa0/wq0.0"
[[guest.queue]]
wq = "dsa0/wq0.3"

[[guest]]
name = "demo-b"
image = "demo"
input = "input"
memory = "32M"
cpus = 1
pasids = [5]
cmdline = "pasid=5 talk=1 seconds=600"
[[guest.queue]]
wq = "dsa0/wq0.1"
[[guest.queue]]
wq = "dsa0/wq0.3"

[[guest]]
name = "handles"
image = "adversary"
memory = "32M"
cpus = 1
cmdline = "attack=handle-foreign"
[[guest.queue]]
wq = "dsa0/wq0.2"

[[guest]]
name = "names"
image = "adversary"
memory = "32M"
cpus = 1
pasids = [5]
cmdline = "pasid=5 attack=pasid-enqcmds"
[[guest.queue]]
wq = "dsa0/wq0.3"

[[wq]]
name = "dsa0/wq0.0"
size = 16
[[wq]]
name = "dsa0/wq0.1"
size = 16
[[wq]]
name = "dsa0/wq0.2"
size = 16
[[wq]]
name = "dsa0/wq0.3"
mode = "shared"
size = 32
threshold = 16
"#;

#[test]
fn an_operator_sees_and_does_everything() -> Result<(), Box<dyn Error>> {
    let mut operator = operate(&Setup {
        words: "interactive=on",
        ..Setup::new("monitor", CONFIG)
    })?;
    let it = &mut operator;
    it.until_each_says(
        &["handles", "names"],
        "adversary: 1 attacks, 0 not contained",
    )?;
    it.until_each_says(&["demo-a"], "demo: 9 bytes copied and verified")?;
    it.until_state("handles", "ended")?;
    it.until_state("names", "ended")?;
    questions(it)?;
    refusals(it)?;
    mistakes(it)?;
    life(it)?;
    consoles(it)?;
    let outcome = operator.quit(&[])?;
    assert!(outcome.has_line("all guests are stopped, then the machine is switched off"));
    for (guest, result) in [
        ("demo-a", "stopped"),
        ("demo-b", "stopped"),
        ("names", "passed"),
    ] {
        let guest = outcome.guest(guest);
        assert_eq!(guest["result"], result, "{guest:#}");
    }
    Ok(())
}

/// What there is to see.
fn questions(it: &mut Operator) -> Result<(), Box<dyn Error>> {
    let help = it.ask("help")?;
    for command in [
        "help", "vms", "dsa", "ims", "pasids", "iommu", "stats", "trace", "why", "start", "stop",
        "reset", "console", "report", "quit",
    ] {
        let is_listed = help.iter().any(|line| line.starts_with(command));
        assert!(is_listed, "no {command} in {help:#?}");
    }
    assert_eq!(it.ask("?")?, help);

    let vms = it.ask("vms")?;
    assert_eq!(vms.len(), 5, "{vms:#?}");
    assert_columns(&vms, &["VM ", "STATE", "CPUS", "LAST ENDING"]);
    assert_has(
        &vms,
        &[
            "demo-a          running",
            "names           ended",
            " 32 MiB",
        ],
    );

    let dsa = it.ask("dsa")?;
    assert_has(
        &dsa,
        &[
            "dsa0  0000:00:04.0  8086:0b25",
            "2048 IMS slots",
            "  works; ",
        ],
    );
    assert_has(
        &dsa,
        &[
            "  wq0.0   dedicated  enabled   0x1 ",
            "  wq0.2   dedicated  disabled  - ",
        ],
    );
    assert_has(
        &dsa,
        &["  wq0.3   shared     enabled ", " demo-a, demo-b, names"],
    );
    assert_columns(
        &dsa[2..],
        &[
            "QUEUE", "MODE", "STATE", "PASID", "GROUP", "ENGINES", "POLICY",
        ],
    );

    let ims = it.ask("ims")?;
    assert_columns(
        &ims[..ims.len() - 1],
        &["DSA", "HANDLE", "PASID", "VECTOR", "VM", "FOR"],
    );
    assert_has(
        &ims,
        &[
            " virtual vector 1",
            " batches of queue 0",
            "dsa0: 10 of 2048 slots in use",
        ],
    );

    let pasids = it.ask("pasids")?;
    assert_columns(&pasids[..pasids.len() - 1], &["PASID", "VM", "DSA", "FOR"]);
    assert_has(
        &pasids,
        &["0x1      demo-a ", "queue 0 of vDSA 0 (wq0.0, checked)"],
    );
    assert_has(
        &pasids,
        &["guest PASID 0x5 on vDSA 0", "6 host PASIDs in use"],
    );

    let iommu = it.ask("iommu")?;
    assert_has(
        &iommu,
        &["unit 0 at 0xfed90000, segment 0000: second-stage tables"],
    );
    assert_has(
        &iommu,
        &[
            "  0000:00:04.0 dsa0       6",
            "its RAM, and the window of its checked",
        ],
    );
    assert_has(&iommu, &["faults: "]);

    let stats = it.ask("stats")?;
    assert_has(
        &stats,
        &[
            "time ",
            "memory ",
            " MiB free",
            "longest tick",
            "exits: submission",
        ],
    );
    assert_has(
        &stats,
        &[
            "vDSA: members refused",
            "demo-a          demo-b         handles",
        ],
    );

    let trace = it.ask("trace")?;
    assert_columns(&trace, &["AGO", "VM", "EVENT"]);
    assert_has(
        &trace,
        &[" demo-a          start ", " names           end "],
    );

    assert_eq!(it.ask("report")?, Vec::<String>::new());
    Ok(())
}

/// Why something was refused: the rule, the field, whose it was, and what to do.
fn refusals(it: &mut Operator) -> Result<(), Box<dyn Error>> {
    let why = it.ask("why")?;
    let begins = |text: &str| why.iter().filter(|line| line.starts_with(text)).count();
    assert_eq!(
        ["demo-a: 3 d", "demo-b: n", "handles: ", "names: "].map(begins),
        [1; 4],
        "{why:#?}"
    );
    assert_has(&why, &["demo-b: nothing was refused"]);

    let why = it.ask("why demo-a")?;
    assert_eq!(why[0], "demo-a: 3 descriptors refused");
    assert_has(
        &why,
        &[
            "field Transfer Size, completed with 0x13",
            "stay within WQCFG's maximum",
        ],
    );
    assert_has(
        &why,
        &["vDSA 0 queue 1, memory move (0x03), member 1 of a batch: transfer size"],
    );

    let why = it.ask("why handles")?;
    assert_has(
        &why,
        &["x  interrupt handle is not one of this guest; field Completion Interrupt"],
    );
    assert_has(&why, &["completed with 0x19", "request the handle again"]);
    assert_has(
        &why,
        &["Completion Interrupt Handle = 0x0, of demo-a: IMS slot 0, for Weir's batches"],
    );
    assert_has(&why, &[", of demo-b: IMS slot "]);

    let why = it.ask("why names")?;
    assert_has(
        &why,
        &[
            "guest PASID not declared; field PASID",
            "; the host PASID of that number is of",
        ],
    );
    Ok(())
}

/// What cannot be done is said in a line, and nothing is done.
fn mistakes(it: &mut Operator) -> Result<(), Box<dyn Error>> {
    let long = "x".repeat(200);
    let stop_long = format!("stop demo-a {long}");
    for (keys, answer) in [
        ("", None),
        ("   ", None),
        ("halt", Some("weir: there is no command 'halt'; try 'help'")),
        (
            "vms now",
            Some("weir: 'now' is too much on this line; try 'help'"),
        ),
        (
            "stop",
            Some("weir: 'stop' wants a guest's name; 'vms' lists them"),
        ),
        (
            "console",
            Some("weir: 'console' wants a guest's name; 'vms' lists them"),
        ),
        (
            "stop demo-c",
            Some("weir: there is no guest 'demo-c'; 'vms' lists them"),
        ),
        (
            "why demo-c",
            Some("weir: there is no guest 'demo-c'; 'vms' lists them"),
        ),
        (
            &stop_long,
            Some("weir: a line has at most 79 characters; nothing was done"),
        ),
        (
            "start demo-a",
            Some("weir: demo-a is there already; 'reset demo-a' starts it anew"),
        ),
        (
            "stop names",
            Some("weir: names is not there; 'start names' starts it"),
        ),
        // Bytes that nobody types on purpose.
        (
            "\x01\x02\x00\u{e9}\tfoo\x1b[C\x1b[3~bar",
            Some("weir: there is no command 'foobar'; try 'help'"),
        ),
    ] {
        let expected: Vec<_> = answer.into_iter().map(str::to_owned).collect();
        assert_eq!(it.ask(keys)?, expected, "'{keys}'");
    }
    // Typing mistakes can be mended, and an answer that is too long be left out.
    let help = it.ask("help")?;
    assert_eq!(it.ask(&format!("hex{DELETE}lp"))?, help);
    assert_eq!(it.ask(&format!("stop demo-a{CTRL_U}help"))?, help);
    assert_eq!(it.ask(&format!("stop demo-a{CTRL_C}help"))?, help);
    // Up brings back the last line: the mark, and the line before it.
    assert_eq!(it.ask("\x1b[A\x1b[A")?, help);
    it.until_state("demo-a", "running")
}

/// Guests are stopped, started and reset.
fn life(it: &mut Operator) -> Result<(), Box<dyn Error>> {
    it.ask("stop demo-a")?;
    it.until_state("demo-a", "ended")?;
    assert!(
        it.weir
            .has_line("[info] vm: guest=demo-a ended: stopped by the operator")
    );
    let pasids = it.ask("pasids")?;
    assert_has(&pasids, &["3 host PASIDs in use"]);
    assert!(
        !pasids.iter().any(|line| line.contains("demo-a")),
        "{pasids:#?}"
    );
    // Why it was refused what it was is still known.
    assert_eq!(it.ask("why demo-a")?[0], "demo-a: 3 descriptors refused");

    it.type_in("start demo-a\r")?;
    it.until("[info] vm: guest=demo-a started")?;
    it.until("[demo-a] demo: 9 bytes copied and verified")?;
    it.type_in("reset demo-a\r")?;
    it.until("[info] vm: guest=demo-a ended: stopped by the operator")?;
    it.until("[info] vm: guest=demo-a started")?;
    it.until("[demo-a] demo: 9 bytes copied and verified")?;
    assert_eq!(
        it.row("vms", "demo-a")?[7],
        "3",
        "it was started three times"
    );
    // One that has ended by itself.
    it.type_in("start names\r")?;
    it.until("[info] vm: guest=names ended: passed")?;
    Ok(())
}

/// The operator sits down at a guest's console, and comes back.
fn consoles(it: &mut Operator) -> Result<(), Box<dyn Error>> {
    it.type_in("console demo-b\r")?;
    it.until("weir: this is the console of demo-b; Ctrl-] comes back")?;
    it.type_in("hello there\r")?;
    // As the guest shows it: without its name before it.
    assert_eq!(it.until("hello there")?, "hello there");
    assert_eq!(it.until("you typed")?, "demo: you typed 'hello there'");
    // What would be commands is the guest's.
    it.type_in("stop demo-b\r")?;
    assert_eq!(it.until("you typed")?, "demo: you typed 'stop demo-b'");
    it.type_in(LEAVE)?;
    it.until("weir: back")?;
    assert_eq!(it.row("vms", "demo-b")?[1], "running");
    // Again, and now it works; once the operator has left, its lines have its name.
    it.type_in("console demo-b\rgo\r")?;
    it.until("you typed 'go'")?;
    it.type_in(LEAVE)?;
    it.until("weir: back")?;
    it.type_in("console handles\r")?;
    it.until("weir: handles is not there, so nobody reads what you type; Ctrl-] comes back")?;
    it.type_in(&format!("vms\r{LEAVE}"))?;
    it.until("weir: back")?;
    it.until_state("demo-b", "running")
}
