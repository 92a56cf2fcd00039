//! The operator's side: what is typed at the monitor of a running box, and what it answers.
#![forbid(unsafe_code)]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failed test")]

use std::error::Error;
use std::time::{Duration, Instant};

use system_tests::qmp::DSA0;
use system_tests::weir_box::{Ending, Images, Setup, Weir};

/// More than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(300);

/// Ctrl-C, Ctrl-U, Ctrl-], backspace, escape.
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

/// Somebody at the console of a box.
struct Operator {
    weir: Weir,
    deadline: Instant,
    /// How many questions were asked.
    asked: u32,
}

impl Operator {
    fn type_in(&mut self, keys: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.weir.machine().send(keys.as_bytes())?)
    }

    fn until(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        Ok(self.weir.until(text, self.deadline)?)
    }

    /// Types a line, and returns what it is answered with: without what guests print and Weir
    /// logs meanwhile.
    fn ask(&mut self, keys: &str) -> Result<Vec<String>, Box<dyn Error>> {
        self.asked += 1;
        // Typed ahead: it is obeyed when the answer is complete.
        let mark = format!("mark-{}", self.asked);
        self.type_in(&format!("{keys}\r{mark}\r"))?;
        // The line itself, as the editor left it.
        self.until("weir> ")?;
        let begun = self.weir.lines().len();
        self.until(&format!("there is no command '{mark}'; try 'help'"))?;
        let lines = self.weir.lines()[begun..].iter();
        let is_answer = |line: &&String| {
            !["[", "weir> "].iter().any(|begin| line.starts_with(begin)) && !line.contains(&mark)
        };
        Ok(lines.filter(is_answer).cloned().collect())
    }

    /// The row of a table that begins with `name`, in words.
    fn row(&mut self, command: &str, name: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let answer = self.ask(command)?;
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect();
        let mut rows = answer.iter().map(words);
        let row = rows.find(|words: &Vec<String>| words.first().is_some_and(|word| word == name));
        row.ok_or_else(|| format!("no {name} in {answer:#?}").into())
    }

    /// Waits until a guest is in this state.
    fn until_state(&mut self, name: &str, state: &str) -> Result<(), Box<dyn Error>> {
        while self.row("vms", name)?[1] != state {
            if Instant::now() > self.deadline {
                return Err(format!("{name} is never {state}").into());
            }
        }
        Ok(())
    }
}

/// Boots a box and sits down at its console.
fn operate(setup: &Setup<'_>) -> Result<Operator, Box<dyn Error>> {
    let images = Images::build(env!("CARGO_TARGET_TMPDIR"));
    let mut operator = Operator {
        weir: Weir::start(images, setup)?,
        deadline: Instant::now() + LIMIT,
        asked: 0,
    };
    operator.until("weir: 'help' lists what you can type here")?;
    Ok(operator)
}

#[track_caller]
fn assert_has(answer: &[String], texts: &[&str]) {
    for text in texts {
        let is_there = answer.iter().any(|line| line.contains(text));
        assert!(is_there, "no '{text}' in {answer:#?}");
    }
}

/// Every row is as wide as the header says: where a column begins in one line, it begins in all.
#[track_caller]
fn assert_columns(table: &[String], columns: &[&str]) {
    let (header, rows) = table.split_first().expect("there is a header");
    assert!(!rows.is_empty(), "only {header}");
    for column in columns {
        let at = header
            .find(column)
            .unwrap_or_else(|| panic!("no {column} in '{header}'"));
        for row in rows {
            let is_separate = at == 0 || row[..at].ends_with(' ');
            let is_filled = row[at..].starts_with(|first| first != ' ');
            assert!(is_separate && is_filled, "{column} is not above '{row}'");
        }
    }
}

#[test]
fn an_operator_sees_and_does_everything() -> Result<(), Box<dyn Error>> {
    let mut operator = operate(&Setup {
        words: "interactive=on",
        ..Setup::new("monitor", CONFIG)
    })?;
    let it = &mut operator;
    for guest in ["handles", "names", "demo-a"] {
        let end = match guest {
            "demo-a" => "[demo-a] demo: 9 bytes copied and verified".to_owned(),
            _ => format!("guest={guest} ended: passed"),
        };
        if !it.weir.has_line(&end) {
            it.until(&end)?;
        }
    }
    questions(it)?;
    refusals(it)?;
    mistakes(it)?;
    life(it)?;
    consoles(it)?;
    it.type_in("quit\r")?;
    let outcome = operator.weir.finish(Instant::now() + LIMIT)?;
    assert_eq!(outcome.ending, Ending::Off(Some(0)), "{:#?}", outcome.lines);
    assert!(outcome.has_line("all guests are stopped, then the machine is switched off"));
    for (guest, result) in [
        ("demo-a", "stopped"),
        ("demo-b", "stopped"),
        ("names", "passed"),
    ] {
        let guest = outcome.guest(guest);
        assert_eq!(guest["result"], result, "{guest:#}");
        assert_eq!(guest["books"]["balance"], true, "{guest:#}");
    }
    let held = &outcome.report()["held"];
    for what in ["ims_slots", "pasids", "domains"] {
        assert_eq!(
            held["before"][what], held["after"][what],
            "{what}: {held:#}"
        );
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
    assert_has(
        &why,
        &["Completion Interrupt Handle = 0x3, of demo-b: IMS slot 3, "],
    );

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

/// Two guests on one DSA, and one on another.
const TWO_DSAS: &str = r#"
[[guest]]
name = "demo-a"
image = "demo"
input = "input"
memory = "32M"
cpus = 1
cmdline = "seconds=600"
[[guest.queue]]
wq = "dsa0/wq0.0"

[[guest]]
name = "demo-b"
image = "demo"
input = "input"
memory = "32M"
cpus = 1
restart = "on-reset"
cmdline = "seconds=600"
[[guest.queue]]
wq = "dsa0/wq0.1"

[[guest]]
name = "other"
image = "demo"
input = "input"
memory = "32M"
cpus = 1
cmdline = "seconds=600"
[[guest.queue]]
wq = "dsa1/wq1.0"

[[wq]]
name = "dsa0/wq0.0"
size = 16
[[wq]]
name = "dsa0/wq0.1"
size = 16
[[wq]]
name = "dsa1/wq1.0"
size = 16
"#;

/// The device does not carry out what a stop needs: its guests are stopped, nobody else is, and
/// all that they held is given back.
#[test]
fn guests_are_stopped_although_their_device_hangs() -> Result<(), Box<dyn Error>> {
    let mut operator = operate(&Setup {
        words: "interactive=on",
        options: &["--cpus", "2", "--dsa", "", "--dsa", ""],
        ..Setup::new("hang", TWO_DSAS)
    })?;
    let it = &mut operator;
    for guest in ["demo-a", "demo-b", "other"] {
        let begun = format!("[{guest}] demo: 9 bytes copied and verified");
        if !it.weir.has_line(&begun) {
            it.until(&begun)?;
        }
    }
    let mut control = it.weir.machine().control()?;
    control.set(DSA0, "control", &"hang-command".into())?;
    it.type_in("stop demo-a\r")?;
    it.until("guest=demo-a ended: stopped by the operator")?;
    // Meanwhile the others work, and the monitor answers.
    it.until_state("demo-a", "draining")?;
    assert_eq!(it.row("vms", "demo-b")?[1], "running");
    let cause =
        it.until("[warn] dsa: dsa0 at=00:04.0 does not do what it is told, or is gone: ")?;
    assert!(
        cause.contains("abort PASID (0x0c) has not ended, CMDSTATUS is 0x8")
            && cause.contains("; its guests are stopped; restart the machine"),
        "{cause}"
    );
    it.until("guest=demo-b ended: its accelerator dsa0 is lost")?;
    it.until_state("demo-a", "ended")?;
    it.until_state("demo-b", "ended")?;
    assert_has(
        &it.ask("dsa")?,
        &["  failed: abort PASID (0x0c) has not ended"],
    );
    assert_has(&it.ask("pasids")?, &["1 host PASIDs in use"]);
    let vms = it.ask("vms")?;
    assert_has(
        &vms,
        &["stopped by the operator", "its accelerator dsa0 is lost"],
    );
    it.type_in("start demo-a\r")?;
    it.until("guest=demo-a not started: its accelerator dsa0 does not work any more; restart")?;
    // The guest of the other device has noticed nothing.
    let before: u64 = it.row("vms", "other")?[8].parse()?;
    let after = it.row("vms", "other")?;
    assert_eq!(after[1], "running");
    assert!(after[8].parse::<u64>()? > before, "{after:?} was {before}");

    // The end of the machine does not wait for ever either.
    control.set(
        "/machine/peripheral/dsa1",
        "control",
        &"hang-command".into(),
    )?;
    it.type_in("quit\r")?;
    it.until("[warn] dsa: dsa1 at=00:05.0 does not do what it is told, or is gone: ")?;
    let outcome = operator.weir.finish(Instant::now() + LIMIT)?;
    assert_eq!(outcome.ending, Ending::Off(Some(0)), "{:#?}", outcome.lines);
    for guest in ["demo-a", "demo-b", "other"] {
        let guest = outcome.guest(guest);
        assert_eq!(guest["result"], "stopped", "{guest:#}");
        assert_eq!(
            guest["reported"]["failed"],
            serde_json::Value::Null,
            "{guest:#}"
        );
        assert_eq!(guest["books"]["balance"], true, "{guest:#}");
    }
    let held = &outcome.report()["held"];
    for what in [
        "remapping_entries",
        "vectors",
        "pasids",
        "domains",
        "free_pages",
    ] {
        assert_eq!(
            held["before"][what], held["after"][what],
            "{what}: {held:#}"
        );
    }
    Ok(())
}

/// Two guests on one processor, one of which has much memory.
const LARGE: &str = r#"
[[guest]]
name = "small"
image = "demo"
input = "input"
memory = "32M"
cpus = 1
cmdline = "seconds=600"
[[guest.queue]]
wq = "dsa0/wq0.0"

[[guest]]
name = "large"
image = "demo"
input = "input"
memory = "512M"
cpus = 1
cmdline = "seconds=600"
[[guest.queue]]
wq = "dsa0/wq0.1"

[[wq]]
name = "dsa0/wq0.0"
size = 16
[[wq]]
name = "dsa0/wq0.1"
size = 16
"#;

/// A guest that is started anew again and again holds nobody up: its memory is cleared and
/// filled in pieces, between the turns of the others. Where instructions are counted, time does
/// not depend on how busy this machine is.
#[test]
fn a_start_holds_nobody_up() -> Result<(), Box<dyn Error>> {
    let mut operator = operate(&Setup {
        words: "interactive=on",
        options: &["--cpus", "1", "--icount"],
        ..Setup::new("pieces", LARGE)
    })?;
    let it = &mut operator;
    it.until("[small] demo: 9 bytes copied and verified")?;
    it.until("[large] demo: 9 bytes copied and verified")?;
    let before: u64 = it.row("vms", "small")?[8].parse()?;
    it.type_in("reset large\r")?;
    it.until("guest=large ended: stopped by the operator")?;
    it.until_state("large", "starting")?;
    it.until("guest=large started")?;
    let after: u64 = it.row("vms", "small")?[8].parse()?;
    assert!(after > before, "it submitted {before}, and then {after}");
    // One that is stopped before its memory is complete.
    it.type_in("reset large\r")?;
    it.until("guest=large ended: stopped by the operator")?;
    it.until_state("large", "starting")?;
    it.ask("stop large")?;
    assert_eq!(it.row("vms", "large")?[1], "ended");

    let stats = it.ask("stats")?;
    let longest = stats.iter().find_map(|line| {
        let (_, rest) = line.split_once("longest tick ")?;
        let (number, _) = rest.split_once(" ms,")?;
        number.parse::<f64>().ok()
    });
    assert!(longest.is_some_and(|ms| ms < 3.0), "{stats:#?}");
    it.type_in("quit\r")?;
    let outcome = operator.weir.finish(Instant::now() + LIMIT)?;
    assert_eq!(outcome.ending, Ending::Off(Some(0)), "{:#?}", outcome.lines);
    let held = &outcome.report()["held"];
    for what in ["ims_slots", "pasids", "domains", "free_pages"] {
        assert_eq!(
            held["before"][what], held["after"][what],
            "{what}: {held:#}"
        );
    }
    Ok(())
}
