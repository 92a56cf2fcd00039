//! The whole path of a submission, against a host that records.
//!
//! Descriptors are written down as the eight words that they are, worked out from
//! [DSA 3.0, 8.1 "Common Descriptor Fields", 8.3 "Descriptor Types"].

mod admission;
mod batches;
mod rules;
mod slices;
mod support;
