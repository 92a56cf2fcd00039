//! The processor: its MSRs, I/O ports, physical memory, and instructions that a guest
//! must not have.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use guest_rt::interrupt_ends::Ends;
use guest_rt::probe::{self, Foreign, Virtualization, Width};
use guest_rt::{Exception, hypercall, interrupt_ends, interrupts, second};

use crate::places::outside;
use crate::seen::Seen;
use crate::stage::{Stage, Verdict};

/// MSRs that are read, and written with what follows.
/// [AMD64 APM, vol. 2, appendix A "MSR Cross-Reference"; Intel SDM, vol. 4]
const MSRS: &[(u32, u64)] = &[
    // IA32_FEATURE_CONTROL, SMM monitor, PMC 0, and VMX capabilities.
    (0x3a, 5),
    (0x9b, 1),
    (0xc1, 0xffff),
    (0x186, 0x53_0076),
    (0x480, 1),
    // DEBUGCTL: branch records.
    (0x1d9, 1),
    // Machine check control.
    (0x17b, u64::MAX),
    (0x400, 0),
    // Power and frequency.
    (0x199, 0xff00),
    (0x1a0, 0),
    (0x610, u64::MAX),
    // HWCR, SYSCFG, TOP_MEM.
    (0xc001_0015, u64::MAX),
    (0xc001_0010, u64::MAX),
    (0xc001_001a, 0),
    // SMM base and mask.
    (0xc001_0111, 0x3_0000),
    (0xc001_0113, 3),
    // VM_CR, IGNNE, SMM_CTL, VM_HSAVE_PA.
    (0xc001_0114, 0),
    (0xc001_0116, 1),
    (0xc001_0117, 0x1000),
    // An MSR of nothing.
    (0x1234_5678, u64::MAX),
];
/// VM_HSAVE_PA: where a hypervisor's state goes.
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// EFER, and SVME in it.
const EFER: u32 = 0xc000_0080;
const EFER_SVME: u64 = 1 << 12;
/// All registers of an x2APIC, and its interrupt command.
const X2APIC: core::ops::Range<u32> = 0x800..0x840;
const INTERRUPT_COMMAND: u32 = 0x830;
/// Its register to interrupt oneself.
const SELF_IPI: u32 = 0x83f;
/// The vectors of interrupts that end by a word, and how long two may take.
const ENDED_VECTORS: [u8; 2] = [0x44, 0xd4];
const LIMIT: Duration = Duration::from_secs(1);
/// That of an interrupt by level.
const LEVEL_VECTOR: u8 = 0x45;
/// For what comes too often.
const SETTLE: Duration = Duration::from_millis(5);
/// Bits of IA32_PASID that do not exist.
const ODD_PASIDS: [u64; 4] = [1 << 20, 1 << 30, 1 << 32, u64::MAX];

/// MSRs. Contained if SVM stays off, no host state can be named, and reserved bits of
/// IA32_PASID are refused.
pub(crate) fn msrs(_: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let mut answered = 0;
    let mut note = |result: Result<(), Exception>| match result {
        Ok(()) => answered += 1,
        Err(exception) => seen.raised(exception),
    };
    let hsave = probe::read_msr(VM_HSAVE_PA).ok();
    for &(index, value) in MSRS {
        note(probe::read_msr(index).map(|_| ()));
        note(probe::write_msr(index, value));
    }
    for index in X2APIC {
        note(probe::read_msr(index).map(|_| ()));
    }
    // Fixed interrupts for processors that are not the guest's: the first 64, by
    // cluster, and one that cannot be.
    for destination in (2..64).chain([0x1_0001, 0x7fff_ffff]) {
        let command = destination << 32 | 1 << 14 | 0xd2;
        note(probe::write_msr(INTERRUPT_COMMAND, command));
        // INIT and start-up.
        note(probe::write_msr(
            INTERRUPT_COMMAND,
            destination << 32 | 1 << 14 | 5 << 8,
        ));
        note(probe::write_msr(
            INTERRUPT_COMMAND,
            destination << 32 | 1 << 14 | 6 << 8 | 8,
        ));
    }
    let odd = ODD_PASIDS.map(|value| probe::set_ia32_pasid(value).is_err());
    let svme = probe::enable_svm();
    let has_svm = probe::read_msr(EFER).is_ok_and(|efer| efer & EFER_SVME != 0);
    let moved = probe::read_msr(VM_HSAVE_PA).ok() != hsave;
    let came = interrupts::count(0xd2);
    Verdict {
        is_contained: !has_svm && !moved && odd == [true; 4] && came == 0,
        saw: format!(
            "{answered} answered, {} refused; EFER.SVME: {has_svm} ({}), host state moved: {moved}, \
             odd PASIDs refused: {odd:?}",
            seen.exceptions(),
            if svme.is_ok() {
                "ignored or set"
            } else {
                "#GP"
            }
        ),
    }
}

/// Interrupts for the guest's other processor, again and again: whoever else runs where
/// that one belongs must not be left for each. Contained if all are taken, and the guest
/// goes on; what it costs a neighbour is for the neighbour to say.
pub(crate) fn interrupt_flood(stage: &mut Stage) -> Verdict {
    const COMMAND: u64 = (second::APIC_ID as u64) << 32 | 1 << 14 | 0xd3;
    let mut seen = Seen::default();
    let count = stage.effort * 10;
    for _ in 0..count {
        if let Err(exception) = probe::write_msr(INTERRUPT_COMMAND, COMMAND) {
            seen.raised(exception);
        }
    }
    Verdict {
        is_contained: seen.exceptions() == 0,
        saw: format!("{count} sent; {seen}"),
    }
}

/// Ends of interrupts by a word of memory: words where there is none, offers that are not
/// taken, that are forged, or whose word is given up while they stand. Contained if bad
/// words are refused, no offer is left behind, and each interrupt comes, once.
pub(crate) fn interrupt_ends(stage: &mut Stage) -> Verdict {
    if !stage.guest.platform.is_weir() {
        return Verdict {
            is_contained: true,
            saw: String::from("not tried: there is no hypervisor"),
        };
    }
    let reserved = [2, 3, 0x1002, u64::MAX];
    let outside = outside(stage);
    let bad = reserved.into_iter().chain(outside.iter().map(|at| at | 1));
    let taken = bad
        .filter(|&value| probe::write_msr(interrupt_ends::REGISTER, value).is_ok())
        .count();

    let count = || ENDED_VECTORS.map(interrupts::count);
    let (before, by_word_before) = (count(), interrupt_ends::count());
    let mut is_well = interrupt_ends::begin().is_ok();
    let (mut offers, mut rounds) = (0, 0_u32);
    for round in 0..stage.effort {
        interrupt_ends::end_them(match round % 4 {
            0 => Ends::BY_WORD,
            1 => Ends {
                before: || note(interrupt_ends::begin()),
                ..Ends::BY_WORD
            },
            2 => Ends {
                before: || note(interrupt_ends::finish()),
                ..Ends::BY_WORD
            },
            _ => Ends::BY_WRITING,
        });
        is_well &= interrupt_ends::begin().is_ok();
        // An offer that nobody made, seen by Weir. Taken by the guest it would leave the
        // next interrupt in service.
        if round % 3 == 0 {
            interrupt_ends::set_word(u32::MAX);
            is_well &= probe::read_msr(interrupt_ends::REGISTER).is_ok();
            interrupt_ends::set_word(0);
        }
        // The lower one has to wait for the end of the higher one, which is no offer then.
        for vector in ENDED_VECTORS {
            is_well &= probe::write_msr(SELF_IPI, vector.into()).is_ok();
        }
        rounds += 1;
        let expected = before.map(|count| count.wrapping_add(rounds));
        if !interrupts::run_until(LIMIT, || count() == expected) {
            break;
        }
        offers += interrupt_ends::word() & 1;
    }
    // The I/O APIC waits for the end of each, which is no offer then.
    let has_levels = level_comes_again();
    is_well &= has_levels && FAILED_IN_HANDLER.load(Ordering::Relaxed) == 0;
    interrupt_ends::end_them(Ends::BY_WRITING);
    is_well &= interrupt_ends::finish().is_ok();
    interrupts::settle(SETTLE);
    let came: u32 = (count().into_iter().zip(before))
        .map(|(now, before)| now.wrapping_sub(before))
        .sum();
    let by_word = interrupt_ends::count().wrapping_sub(by_word_before);
    let sent = 2 * u32::try_from(stage.effort).unwrap_or(u32::MAX);
    // One round of four takes an offer: an eighth of the interrupts, the lower ones. More
    // would be higher ones, whose ends the lower ones wait for. Others may come between.
    let is_used = (sent / 16..sent * 3 / 16).contains(&by_word);
    Verdict {
        is_contained: taken == 0 && came == sent && offers == 0 && is_well && is_used,
        saw: format!(
            "{taken} of {} bad words taken; {came} of {sent} interrupts came, {by_word} ended by \
             the word, {offers} offers left; a level comes again: \
             {has_levels}",
            reserved.len() + outside.len()
        ),
    }
}

/// What handlers of interrupts did and may not fail.
static FAILED_IN_HANDLER: AtomicU32 = AtomicU32::new(0);

fn note(result: Result<(), Exception>) {
    if result.is_err() {
        FAILED_IN_HANDLER.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether an interrupt by level comes again after its end: that of the console, which has
/// nothing to send, at an input of the I/O APIC that takes it so.
fn level_comes_again() -> bool {
    /// The I/O APIC's registers, and that of the lower half of an input's entry.
    const SELECT: u64 = 0xfec0_0000;
    const WINDOW: u64 = SELECT + 0x10;
    const CONSOLE_ENTRY: u64 = 0x10 + 2 * 4;
    const LEVEL: u64 = 1 << 15;
    const MASKED: u64 = 1 << 16;
    /// The console's Interrupt Enable Register: it asks for one if the transmitter is empty. OUT2 of its Modem
    /// Control Register connects that.
    const CONSOLE_ENABLE: u16 = 0x3f9;
    const TRANSMITTER_EMPTY: u32 = 1 << 1;
    const MODEM_CONTROL: u16 = 0x3fc;
    const OUT2: u32 = 1 << 3;

    let (Some(select), Some(window)) = (Foreign::new(SELECT), Foreign::new(WINDOW)) else {
        return false;
    };
    let set_entry = |value: u64| {
        probe::write(select, Width::Four, CONSOLE_ENTRY).is_ok()
            && probe::write(window, Width::Four, value).is_ok()
    };
    interrupt_ends::end_them(Ends {
        after: || note(probe::write_port(CONSOLE_ENABLE, Width::One, 0)),
        ..Ends::BY_WORD
    });
    let is_set = set_entry(LEVEL | u64::from(LEVEL_VECTOR))
        && probe::write_port(MODEM_CONTROL, Width::One, OUT2).is_ok();
    let comes = || {
        let before = interrupts::count(LEVEL_VECTOR);
        let asked = probe::write_port(CONSOLE_ENABLE, Width::One, TRANSMITTER_EMPTY);
        asked.is_ok() && interrupts::run_until(LIMIT, || interrupts::count(LEVEL_VECTOR) != before)
    };
    is_set && (0..3).all(|_| comes()) && set_entry(MASKED)
}

/// Instructions of a hypervisor. Contained if each raises an exception.
pub(crate) fn virtualization(_: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let mut worked = 0;
    for instruction in Virtualization::ALL {
        match instruction.execute() {
            Ok(()) => worked += 1,
            Err(exception) => seen.raised(exception),
        }
    }
    Verdict {
        is_contained: worked == 0,
        saw: format!("{seen}; {worked} worked"),
    }
}

/// The second serial port belongs to Weir, and 0xf4 ends the box.
const PORTS_OF_WEIR: [core::ops::RangeInclusive<u16>; 4] = [
    0x2f8..=0x2ff,
    0xf4..=0xf4,
    0xcf8..=0xcf8,
    // What lies between is the guest's own reset.
    0xcfa..=0xcff,
];
/// The guest's console.
const COM1: core::ops::RangeInclusive<u16> = 0x3f8..=0x3ff;
/// Stores that reset, power off or disturb a PC, each with its width.
const DANGEROUS: &[(u16, Width, u32)] = &[
    (0xf4, Width::One, 0x55),
    (0x64, Width::One, 0xfe),
    (0x92, Width::One, 1),
    (0x604, Width::Two, 0x3400),
    (0xb004, Width::Two, 0x2000),
    (0xb2, Width::One, 1),
    (0x2f8, Width::One, 0x41),
    (0xcf8, Width::Four, 0x8000_0000),
    (0xcfc, Width::Four, u32::MAX),
    (0x20, Width::One, 0x11),
    (0x43, Width::One, 0x34),
    (0x70, Width::One, 0x8f),
    (0x80, Width::One, 0xaa),
    (0x5658, Width::Four, 0x564d_5868),
];

/// Ends the guest by the port that resets a PC: its own processors, and nothing else.
pub(crate) fn reset() -> ! {
    const RESET: u16 = 0xcf9;
    loop {
        // Weir ends the guest here.
        let _ = probe::write_port(RESET, Width::One, 0x0e);
        core::hint::spin_loop();
    }
}

/// I/O ports. Contained if the guest goes on, and those of Weir's own answer as absent.
pub(crate) fn ports(stage: &mut Stage) -> Verdict {
    if !stage.guest.platform.is_weir() {
        return Verdict {
            is_contained: true,
            saw: String::from("not tried: on the bare box it would end the box"),
        };
    }
    let mut seen = Seen::default();
    let (mut answered, mut told) = (0, 0);
    for port in (0..=u16::MAX).filter(|port| !COM1.contains(port)) {
        match probe::read_port(port, Width::One) {
            Ok(value) => {
                let is_absent = value & 0xff == 0xff;
                answered += u32::from(!is_absent);
                let is_weirs = PORTS_OF_WEIR.iter().any(|ports| ports.contains(&port));
                told += u32::from(is_weirs && !is_absent);
            }
            Err(exception) => seen.raised(exception),
        }
    }
    for &(port, width, value) in DANGEROUS {
        if let Err(exception) = probe::write_port(port, width, value) {
            seen.raised(exception);
        }
    }
    Verdict {
        is_contained: told == 0,
        saw: format!("{answered} ports answer, {told} of Weir's own; {seen}"),
    }
}

/// Physical addresses. Contained if they tell nothing and keep nothing.
pub(crate) fn memory(stage: &mut Stage) -> Verdict {
    let mut seen = Seen::default();
    let (mut told, mut kept, mut tried) = (0, 0, 0);
    // Its own devices, the I/O APIC among them, answer.
    let devices = [
        stage.device.bar0().0,
        stage.device.bar2().0,
        0xe000_0000,
        0xfec0_0000,
    ];
    let places = outside(stage);
    for place in places
        .iter()
        .copied()
        .filter(|place| !devices.contains(place))
    {
        let Some(at) = Foreign::new(place) else {
            continue;
        };
        for width in Width::ALL {
            tried += 1;
            let ones = u64::MAX >> (64 - 8 * width.bytes());
            match probe::read(at, width) {
                Ok(value) => told += u32::from(value != 0 && value != ones),
                Err(exception) => seen.raised(exception),
            }
            let value = 0x0123_4567_89ab_cdef & ones;
            if let Err(exception) = probe::write(at, width, value) {
                seen.raised(exception);
            }
            kept += u32::from(probe::read(at, width) == Ok(value));
        }
        if let Err(exception) = probe::movdir64b(at, &[0x55; 8]) {
            seen.raised(exception);
        }
    }
    Verdict {
        is_contained: told == 0 && kept == 0,
        saw: format!("{tried} loads: {told} tell something, {kept} stores kept; {seen}"),
    }
}

/// Hypercalls that do not exist. Contained if Weir knows none of them.
pub(crate) fn hypercalls(stage: &mut Stage) -> Verdict {
    if !stage.guest.platform.is_weir() {
        return Verdict {
            is_contained: true,
            saw: String::from("not tried: there is no hypervisor"),
        };
    }
    let keys = [13, 14, 63, 64, 255, 1 << 32, u64::MAX];
    let known = keys
        .iter()
        .filter(|&&key| hypercall::call(key, u64::MAX))
        .count();
    Verdict {
        is_contained: known == 0,
        saw: format!("{known} of {} known", keys.len()),
    }
}
