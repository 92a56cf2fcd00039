//! Links the kernel at the fixed address that `linker.ld` gives.

fn main() {
    let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed=linker.ld");
    println!("cargo:rustc-link-arg-bins=--script={here}/linker.ld");
    // The target's default is a position independent executable; PVH loads
    // segments where the program headers say.
    println!("cargo:rustc-link-arg-bins=--no-pie");
}
