use std::string::String;
use std::vec::Vec;

use super::*;

#[derive(Default)]
struct Printed {
    text: String,
    is_full: bool,
}

impl Printer for Printed {
    fn has_room(&self) -> bool {
        !self.is_full
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.text.push_str(&std::format!("{text}\n"));
    }

    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

impl Printed {
    fn take(&mut self) -> String {
        core::mem::take(&mut self.text)
    }
}

fn output(text: &str) -> Arc<Output> {
    let output = Arc::new(Output::new());
    write(&output, text);
    output
}

fn write(output: &Output, text: &str) {
    for byte in text.bytes() {
        output.push(byte);
    }
}

#[test]
fn lines_have_the_name_of_their_guest_before_them() {
    let (mut consoles, mut to) = (Consoles::new(2), Printed::default());
    let outputs = [output("hello\r\nwor"), output("other\n")];
    let mut tick = |to: &mut Printed| {
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            consoles.print(number, name, Some(&outputs[number]), to);
        }
    };
    tick(&mut to);
    tick(&mut to);
    assert_eq!(to.take(), "[a] hello\n[b] other\n");
    write(&outputs[0], "ld\n");
    tick(&mut to);
    assert_eq!(to.take(), "[a] world\n");
}

#[test]
fn a_tick_prints_few_lines_and_none_without_room() {
    let (mut consoles, mut to) = (Consoles::new(1), Printed::default());
    let lines: Vec<_> = (0..6).map(|number| std::format!("{number}\n")).collect();
    let output = output(&lines.concat());
    to.is_full = true;
    assert!(!consoles.print(0, "a", Some(&output), &mut to));
    assert!(!consoles.print(0, "a", Some(&output), &mut to));
    assert_eq!(to.take(), "");
    to.is_full = false;
    consoles.print(0, "a", Some(&output), &mut to);
    assert!(!consoles.print(0, "a", Some(&output), &mut to));
    assert_eq!(to.take(), "[a] 0\n[a] 1\n[a] 2\n[a] 3\n");
    assert!(consoles.print(0, "a", Some(&output), &mut to));
    assert_eq!(to.take(), "[a] 4\n[a] 5\n");
}

/// There is room for so many more lines.
struct Narrow {
    left: usize,
    text: String,
}

impl Printer for Narrow {
    fn has_room(&self) -> bool {
        self.left > 0
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.left -= 1;
        self.text.push_str(&std::format!("{text}\n"));
    }

    fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

#[test]
fn a_guest_that_always_writes_leaves_room_to_the_others() {
    let mut consoles = Consoles::new(3);
    let outputs = [output(""), output("b\n"), output("c\n")];
    let mut text = String::new();
    for _ in 0..4 {
        write(&outputs[0], "a\na\na\na\na\n");
        let mut to = Narrow {
            left: 2,
            text: String::new(),
        };
        for number in consoles.order() {
            let name = ["a", "b", "c"][number];
            consoles.print(number, name, Some(&outputs[number]), &mut to);
        }
        text.push_str(&to.text);
    }
    assert!(
        text.contains("[b] b\n") && text.contains("[c] c\n"),
        "{text}"
    );
}

#[test]
fn what_a_guest_left_is_printed_when_it_is_gone() {
    let (mut consoles, mut to) = (Consoles::new(1), Printed::default());
    let first = output("");
    consoles.print(0, "a", Some(&first), &mut to);
    write(&first, "1\n2\n3\n4\n5\nbye");
    drop(first);
    assert!(!consoles.print(0, "a", None, &mut to));
    // It was started again meanwhile.
    let second = output("anew\n");
    assert!(!consoles.print(0, "a", Some(&second), &mut to));
    consoles.print(0, "a", Some(&second), &mut to);
    assert_eq!(
        to.take(),
        "[a] 1\n[a] 2\n[a] 3\n[a] 4\n[a] 5\n[a] bye\n[a] anew\n"
    );
    assert!(consoles.print(0, "a", None, &mut to));
    assert!(consoles.print(0, "a", None, &mut to));
    assert_eq!(to.take(), "");
}

#[test]
fn what_was_lost_is_said() {
    let (mut consoles, mut to) = (Consoles::new(1), Printed::default());
    let output = output("");
    consoles.print(0, "a", Some(&output), &mut to);
    let line = "x".repeat(99);
    for _ in 0..200 {
        write(&output, &std::format!("{line}\n"));
    }
    consoles.print(0, "a", Some(&output), &mut to);
    // 20,000 bytes were written, 16,384 are kept.
    let text = to.take();
    let first = text.lines().next();
    assert_eq!(first, Some("[a] ... 3616 bytes were lost here"));
}

#[test]
fn at_a_console_bytes_come_as_they_are_and_the_others_wait() {
    let (mut consoles, mut to) = (Consoles::new(2), Printed::default());
    let outputs = [output("login"), output("")];
    let tick = |consoles: &mut Consoles, to: &mut Printed| {
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            consoles.print(number, name, Some(&outputs[number]), to);
        }
    };
    tick(&mut consoles, &mut to);
    tick(&mut consoles, &mut to);
    assert_eq!(to.take(), "");
    consoles.attach(0, &mut to);
    assert_eq!(consoles.attached(), Some(0));
    write(&outputs[0], ": \x1b[6n\x1b[K# ");
    write(&outputs[1], "from b\n");
    tick(&mut consoles, &mut to);
    assert_eq!(to.take(), "login: \x1b[K# ");
    consoles.detach();
    write(&outputs[0], "done\n");
    tick(&mut consoles, &mut to);
    assert_eq!(to.take(), "[a] done\n[b] from b\n");
}
