//! What the whole-machine tests share: starting an emulated lab box, talking with its serial
//! console, and asking QEMU and the DSA model questions while it runs.
//!
//! Start at [`lab_box::LabBox`]; [`qmp`] is the protocol that it speaks with QEMU, [`weir_box`]
//! the hypervisor on such a box. The tests
//! themselves lie beside this crate's manifest, one folder per kind.
#![forbid(unsafe_code)]

pub mod lab_box;
pub mod linux;
pub mod qmp;
pub mod weir_box;
