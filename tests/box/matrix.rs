//! The matrix: whole boxes with Weir, its guests, and everything that can go wrong beside them.
//!
//! | module | what is seen |
//! |---|---|
//! | [`attacks`] | each attack of the adversary alone, beside a victim |
//! | [`faults`] | each fault that the device model can have while guests run |
//! | [`life`] | guests that end and begin again, and more of them than processors |
//! | [`shapes`] | several DSAs of several kinds, other tables, other processors |
//!
//! [`judge`] says what holds of all of them. All but the longest run with `cargo test`.
//! All of them take some six minutes:
//!
//! ```text
//! .ci/deep matrix
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "all of this is a test, its helpers too"
)]

#[path = "matrix/attacks.rs"]
mod attacks;
#[path = "matrix/config.rs"]
mod config;
#[path = "matrix/faults.rs"]
mod faults;
#[path = "matrix/judge.rs"]
mod judge;
#[path = "matrix/life.rs"]
mod life;
#[path = "matrix/scene.rs"]
mod scene;
#[path = "matrix/shapes.rs"]
mod shapes;
