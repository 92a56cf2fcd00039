//! The hypervisor's boot image.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
boot::main!(kernel::start);

/// So that the tests of the library run with those of the other packages: there is
/// nothing for a host's operating system to run.
#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!("weir runs on the bare machine; build it with `cargo image`");
    std::process::ExitCode::FAILURE
}
