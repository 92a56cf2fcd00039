//! A device that hangs while guests of it are stopped.

use std::error::Error;

use system_tests::qmp::DSA0;
use system_tests::weir_box::Setup;

use crate::operator::{assert_has, operate};

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
    let guests = ["demo-a", "demo-b", "other"];
    it.until_each_says(&guests, "demo: 9 bytes copied and verified")?;
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
    // Nothing can mask the slots of a device that does nothing.
    let outcome = operator.quit(&["ims_slots"])?;
    assert!(
        outcome.has_line("[warn] dsa: dsa1 at=00:05.0 does not do what it is told, or is gone: ")
    );
    for guest in guests {
        let guest = outcome.guest(guest);
        assert_eq!(guest["result"], "stopped", "{guest:#}");
        assert_eq!(
            guest["reported"]["failed"],
            serde_json::Value::Null,
            "{guest:#}"
        );
    }
    Ok(())
}
