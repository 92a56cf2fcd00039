//! Not written yet: ends at once with 3, as a guest that cannot begin.
#![no_std]
#![no_main]

use guest_rt::{Guest, println};

guest_rt::main!(run);

fn run(_: &'static Guest) -> u64 {
    println!("adversary: cannot begin: not written yet");
    3
}
