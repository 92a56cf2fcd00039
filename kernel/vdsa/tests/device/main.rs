//! The virtual accelerator as a whole, between a guest that reads and writes and a host
//! that records.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod halts_and_resets;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod linux;
#[cfg(test)]
mod portals;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod step;
#[cfg(test)]
mod strict_host;
