//! Running guests: what the layers above see of it, and the backends below.
//!
//! A guest has a [`space`], its physical memory with nested page tables, and
//! virtual processors, which a [`backend`] makes and runs until there is an
//! [`exit`]. What the guest's instruction wanted is found out by [`fetch`] and
//! [`decode`]. [`svm`] is the backend for AMD's extensions; nothing outside of it
//! knows that.
#![expect(
    unsafe_code,
    reason = "guest memory, and the instructions that enter a guest"
)]

pub mod address;
pub mod backend;
pub mod decode;
pub mod exit;
pub mod extended_state;
pub mod fetch;
pub mod memory;
pub mod nested;
pub mod registers;
pub mod space;
mod start;
pub mod svm;
pub mod walk;

pub use start::start;
