//! What an operator can type.

use core::fmt;

/// A line that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'l> {
    /// Lists the commands.
    Help,
    /// Guests: state, processors, memory, exits.
    Vms,
    /// Accelerators: groups, queues, who has them.
    Dsa,
    /// Interrupt slots, and who owns which.
    Ims,
    /// Gives a virtual vector of a guest another interrupt slot.
    ImsMove(&'l str, u32),
    /// Host PASIDs, and what they lead to.
    Pasids,
    /// Remapping units: domains, devices, faults.
    Iommu,
    /// Counters.
    Stats,
    /// The last events.
    Trace,
    /// What was refused, of one guest or of all.
    Why(Option<&'l str>),
    /// Starts a guest.
    Start(&'l str),
    /// Stops a guest.
    Stop(&'l str),
    /// Stops a guest and starts it anew.
    Reset(&'l str),
    /// Types on a guest's console from now on.
    Console(&'l str),
    /// Writes the report.
    Report,
    /// Stops all guests and switches the machine off.
    Quit,
}

/// A line that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'l> {
    /// There is no such command.
    Unknown(&'l str),
    /// The command wants a guest's name.
    NoGuest(&'static str),
    /// The command wants the number of a vector that has a slot, not this.
    NoVector(&'l str),
    /// There is more on the line than the command wants.
    TooMuch(&'l str),
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "there is no command '{word}'; try 'help'"),
            Self::NoGuest(command) => {
                write!(f, "'{command}' wants a guest's name; 'vms' lists them")
            }
            Self::NoVector(word) => write!(
                f,
                "'ims move VM VECTOR' wants a vector from 1 to {}, not '{word}'",
                vdsa::MAX_VECTORS - 1
            ),
            Self::TooMuch(word) => write!(f, "'{word}' is too much on this line; try 'help'"),
        }
    }
}

/// Each command, what it takes, and what it does.
pub const HELP: [(&str, &str, &str); 15] = [
    ("help", "", "lists the commands"),
    ("vms", "", "guests: state, processors, memory, descriptors"),
    (
        "dsa",
        "",
        "accelerators, groups and queues, and who has them",
    ),
    (
        "ims",
        "",
        "interrupt slots in use; 'ims move VM VECTOR' gives a vector another",
    ),
    ("pasids", "", "host PASIDs in use: guest, queue, domain"),
    ("iommu", "", "remapping units, what they found to refuse"),
    ("stats", "", "exits by reason, interrupts, memory"),
    ("trace", "", "the last events"),
    (
        "why",
        "[VM]",
        "what was refused: rule, field, whose it was, what to do",
    ),
    ("start", "VM", "starts a guest that has ended"),
    (
        "stop",
        "VM",
        "stops a guest and takes everything back that it held",
    ),
    ("reset", "VM", "stops a guest and starts it anew"),
    ("console", "VM", "types to a guest; Ctrl-] comes back"),
    ("report", "", "writes the report to the second serial port"),
    ("quit", "", "stops all guests and switches the machine off"),
];

/// Understands a line; nothing if it is empty.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Option<Command<'_>>, CommandError<'_>> {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else {
        return Ok(None);
    };
    let argument = words.next();
    let guest = |command| argument.ok_or(CommandError::NoGuest(command));
    let (command, takes_guest) = match name {
        "help" | "?" => (Command::Help, false),
        "vms" => (Command::Vms, false),
        "dsa" => (Command::Dsa, false),
        "ims" if argument == Some("move") => {
            let guest = words.next().ok_or(CommandError::NoGuest("ims move"))?;
            let vector = words.next().unwrap_or("");
            let known = vector.parse().ok();
            let known = known.filter(|number| (1..vdsa::MAX_VECTORS).contains(number));
            let known = known.and_then(|number| u32::try_from(number).ok());
            let number = known.ok_or(CommandError::NoVector(vector))?;
            (Command::ImsMove(guest, number), true)
        }
        "ims" => (Command::Ims, false),
        "pasids" => (Command::Pasids, false),
        "iommu" => (Command::Iommu, false),
        "stats" => (Command::Stats, false),
        "trace" => (Command::Trace, false),
        "why" => (Command::Why(argument), true),
        "start" => (Command::Start(guest("start")?), true),
        "stop" => (Command::Stop(guest("stop")?), true),
        "reset" => (Command::Reset(guest("reset")?), true),
        "console" => (Command::Console(guest("console")?), true),
        "report" => (Command::Report, false),
        "quit" => (Command::Quit, false),
        other => return Err(CommandError::Unknown(other)),
    };
    let rest = if takes_guest { words.next() } else { argument };
    match rest {
        Some(word) => Err(CommandError::TooMuch(word)),
        None => Ok(Some(command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_help_lists_is_understood() {
        for (name, argument, _) in HELP {
            let line = std::format!("{name} {}", argument.trim_matches(['[', ']']));
            assert!(matches!(parse(&line), Ok(Some(_))), "{line}");
        }
    }

    #[test]
    fn words_are_taken_apart() {
        assert_eq!(parse("  "), Ok(None));
        assert_eq!(parse("why"), Ok(Some(Command::Why(None))));
        assert_eq!(parse(" why  demo0 "), Ok(Some(Command::Why(Some("demo0")))));
        assert_eq!(parse("stop demo0"), Ok(Some(Command::Stop("demo0"))));
    }

    #[test]
    fn vectors_are_moved_by_number() {
        let moved = Command::ImsMove("linux", 1);
        assert_eq!(parse("ims move linux 1"), Ok(Some(moved)));
        assert_eq!(parse("ims"), Ok(Some(Command::Ims)));
        assert_eq!(parse("ims move"), Err(CommandError::NoGuest("ims move")));
        // Vector 0 has no slot.
        for word in ["0", "9", "x", "-1"] {
            let line = std::format!("ims move linux {word}");
            assert_eq!(parse(&line), Err(CommandError::NoVector(word)));
        }
        assert_eq!(parse("ims move linux"), Err(CommandError::NoVector("")));
        assert_eq!(parse("ims move a 1 2"), Err(CommandError::TooMuch("2")));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let error = |line| std::format!("{}", parse(line).unwrap_err());
        assert_eq!(error("halt"), "there is no command 'halt'; try 'help'");
        assert_eq!(
            error("stop"),
            "'stop' wants a guest's name; 'vms' lists them"
        );
        assert_eq!(
            error("stop a b"),
            "'b' is too much on this line; try 'help'"
        );
        assert_eq!(
            error("vms now"),
            "'now' is too much on this line; try 'help'"
        );
    }
}
