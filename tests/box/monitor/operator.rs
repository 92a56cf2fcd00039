//! Somebody who types at the monitor of a box.

use std::error::Error;
use std::time::Instant;

use system_tests::weir_box::{Ending, Images, Outcome, Setup, Weir};

use crate::LIMIT;

/// Somebody at the console of a box.
pub(crate) struct Operator {
    /// The box.
    pub(crate) weir: Weir,
    deadline: Instant,
    /// How many questions were asked.
    asked: u32,
}

impl Operator {
    pub(crate) fn type_in(&mut self, keys: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.weir.machine().send(keys.as_bytes())?)
    }

    pub(crate) fn until(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        Ok(self.weir.until(text, self.deadline)?)
    }

    /// Waits until each of these guests has said `text`.
    pub(crate) fn until_each_says(
        &mut self,
        guests: &[&str],
        text: &str,
    ) -> Result<(), Box<dyn Error>> {
        Ok(self.weir.until_each_says(guests, text, self.deadline)?)
    }

    /// Types a line, and returns what it is answered with: without what guests print and Weir
    /// logs meanwhile.
    pub(crate) fn ask(&mut self, keys: &str) -> Result<Vec<String>, Box<dyn Error>> {
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
    pub(crate) fn row(&mut self, command: &str, name: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let answer = self.ask(command)?;
        let words = |line: &String| line.split_whitespace().map(str::to_owned).collect();
        let mut rows = answer.iter().map(words);
        let row = rows.find(|words: &Vec<String>| words.first().is_some_and(|word| word == name));
        row.ok_or_else(|| format!("no {name} in {answer:#?}").into())
    }

    /// Waits until a guest is in this state.
    pub(crate) fn until_state(&mut self, name: &str, state: &str) -> Result<(), Box<dyn Error>> {
        while self.row("vms", name)?[1] != state {
            if Instant::now() > self.deadline {
                return Err(format!("{name} is never {state}").into());
            }
        }
        Ok(())
    }

    /// Ends the machine: it goes off, and nothing that guests held is lost but for `lost`.
    pub(crate) fn quit(mut self, lost: &[&str]) -> Result<Outcome, Box<dyn Error>> {
        self.type_in("quit\r")?;
        let outcome = self.weir.finish(Instant::now() + LIMIT)?;
        assert_eq!(outcome.ending, Ending::Off(Some(0)), "{:#?}", outcome.lines);
        outcome.assert_nothing_lost(lost);
        Ok(outcome)
    }
}

/// Boots a box and sits down at its console.
pub(crate) fn operate(setup: &Setup<'_>) -> Result<Operator, Box<dyn Error>> {
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
pub(crate) fn assert_has(answer: &[String], texts: &[&str]) {
    for text in texts {
        let is_there = answer.iter().any(|line| line.contains(text));
        assert!(is_there, "no '{text}' in {answer:#?}");
    }
}

/// Every row is as wide as the header says: where a column begins in one line, it begins in all.
#[track_caller]
pub(crate) fn assert_columns(table: &[String], columns: &[&str]) {
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
