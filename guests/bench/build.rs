//! Links the guest at the fixed address that `guests/linker.ld` gives.

use std::env;

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed={here}/../linker.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=--script={here}/../linker.ld");
        // The target's default is a position independent executable; loaders
        // put the segments where the program headers say.
        println!("cargo:rustc-link-arg-bins=--no-pie");
    }
}
