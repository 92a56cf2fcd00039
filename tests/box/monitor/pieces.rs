//! A guest that is started while others work.

use std::error::Error;

use system_tests::weir_box::Setup;

use crate::operator::operate;

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
    it.until_each_says(&["small", "large"], "demo: 9 bytes copied and verified")?;
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
    operator.quit(&[])?;
    Ok(())
}
