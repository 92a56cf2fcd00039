//! What firmware left on.
//!
//! Firmware may have protected memory from DMA with the unit, a boot loader or another
//! system may have used all of it. Each part that is on is switched off in an order
//! that does not let DMA through: translation is not switched off here.

use hwio::{Clock, Registers};
use hwspec::vtd::{
    Cap, FECTL, FSTS, FrcdHigh, Fsts, GSTS, ICS, IECTL, IQH, IQT, Ics, PMEN, Pmen, QueueOffset,
    frcd_high,
};

use crate::Error;
use crate::control::Control;
use crate::error::RegisterName;

/// What was on when the unit was taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// DMA was translated.
    pub translation: bool,
    /// Translation had to be off for a moment, for the unit cannot go from legacy mode
    /// to scalable mode otherwise.
    pub translation_gap: bool,
    /// Interrupts were remapped.
    pub interrupt_remapping: bool,
    /// There was an invalidation queue.
    pub queued_invalidation: bool,
    /// Memory regions were protected from DMA.
    pub protected_memory: bool,
}

/// Switches off events, interrupt remapping and the invalidation queue, and clears what
/// was recorded.
pub(crate) fn take_over<R: Registers, C: Clock>(
    control: &mut Control<R, C>,
    cap: Cap,
) -> Result<Leftovers, Error> {
    let status = control.read_status()?;
    let registers = &mut control.registers;
    registers.modify(FECTL, |event| event.with_im(true));
    registers.modify(IECTL, |event| event.with_im(true));
    registers.acknowledge(ICS, Ics::new().with_iwc(true));

    // Before the table goes: entries may only change while nobody uses them, and EIME
    // only while remapping is off. No device has been told to interrupt us yet.
    // [VT-d 5.10, 6.7 "Set Interrupt Remapping Table Pointer Operation"]
    if status.ires() {
        control.write_command(|command| command.with_ire(false), |status| !status.ires())?;
    }
    if status.qies() {
        stop_queue(control)?;
    }
    clear_faults(&mut control.registers, cap);
    Ok(Leftovers {
        translation: status.tes(),
        translation_gap: false,
        interrupt_remapping: status.ires(),
        queued_invalidation: status.qies(),
        protected_memory: false,
    })
}

/// Lets the queue run empty and switches it off. If it stopped at an error there is
/// nothing to wait for.
/// [VT-d 5.10, 6.5.2 "Queued Invalidation Interface"]
fn stop_queue<R: Registers, C: Clock>(control: &mut Control<R, C>) -> Result<(), Error> {
    // Byte offsets: the descriptors may be 128 bits wide.
    let tail = control.registers.read(IQT).into_bits();
    control.wait_until(
        RegisterName::Iqh,
        |registers: &R| {
            let status = registers.read(FSTS);
            let is_stopped = status.iqe() || status.ite();
            if is_stopped && registers.read(GSTS).into_bits() != !0 {
                tail
            } else {
                QueueOffset::into_bits(registers.read(IQH))
            }
        },
        !0_u64,
        |head| head == tail,
    )?;
    control.write_command(|command| command.with_qie(false), |status| !status.qies())
}

/// Clears what is recorded in the fault registers.
fn clear_faults<R: Registers>(registers: &mut R, cap: Cap) {
    let base = cap.fault_recording_offset();
    for index in 0..cap.fault_recording_count() {
        let record = frcd_high(base, index);
        if registers.read(record).f() {
            registers.acknowledge(record, FrcdHigh::new().with_f(true));
        }
    }
    let all = Fsts::new()
        .with_pfo(true)
        .with_iqe(true)
        .with_ice(true)
        .with_ite(true);
    registers.acknowledge(FSTS, all);
}

/// Switches off the protection of memory regions, once translation protects all of it.
/// Returns whether it was on.
/// [VT-d 5.10, 11.4.8.1 "Protected Memory Enable Register"]
pub(crate) fn stop_protection<R: Registers, C: Clock>(
    control: &mut Control<R, C>,
    cap: Cap,
) -> Result<bool, Error> {
    if !(cap.plmr() || cap.phmr()) || !control.registers.read(PMEN).prs() {
        return Ok(false);
    }
    control
        .registers
        .modify(PMEN, |enable| enable.with_epm(false));
    control.wait_until(
        RegisterName::Pmen,
        |registers| registers.read(PMEN).into_bits(),
        !0,
        |enable| !Pmen::from_bits(enable).prs(),
    )?;
    Ok(true)
}
