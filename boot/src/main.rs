//! The hypervisor's boot image.
#![no_std]
#![no_main]

boot::main!(kernel::start);
