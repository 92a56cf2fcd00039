//! Talking with whoever sits at the console.

use alloc::string::String;
use core::time::Duration;

use guest_rt::{clock, console, print, println};

/// The longest line; what is typed beyond is dropped.
const MAX_LINE: usize = 64;
/// How often it is looked whether something was typed.
const LOOK: Duration = Duration::from_millis(1);

/// Shows what is typed, as a terminal does, and repeats each line, until one says `go`.
pub(crate) fn until_go() {
    println!("demo: type a line and it comes back; 'go' begins the work");
    let mut line = String::new();
    loop {
        let Some(byte) = console::read() else {
            clock::spin_until(LOOK, || false);
            continue;
        };
        match byte {
            b'\r' | b'\n' => {
                println!();
                println!("demo: you typed '{line}'");
                if line == "go" {
                    return;
                }
                line.clear();
            }
            b' '..=b'~' if line.len() < MAX_LINE => {
                let character = char::from(byte);
                print!("{character}");
                line.push(character);
            }
            _ => {}
        }
    }
}
