use std::vec::Vec;

use super::*;

/// MSRs by their numbers in the manual's table 12-6.
const ID: u32 = 0x802;
const VERSION_REGISTER: u32 = 0x803;
const TPR: u32 = 0x808;
const PPR: u32 = 0x80a;
const EOI: u32 = 0x80b;
const LDR: u32 = 0x80d;
const SVR: u32 = 0x80f;
const ISR: u32 = 0x810;
const TMR: u32 = 0x818;
const IRR: u32 = 0x820;
const ESR: u32 = 0x828;
const ICR: u32 = 0x830;
const LVT_TIMER: u32 = 0x832;
const LVT_LINT0: u32 = 0x835;
const LVT_ERROR: u32 = 0x837;
const INITIAL: u32 = 0x838;
const CURRENT: u32 = 0x839;
const DIVIDE: u32 = 0x83e;
const SELF_IPI: u32 = 0x83f;
const BASE_MSR: u32 = 0x1b;
const DEADLINE: u32 = 0x6e0;

/// An APIC with what is pending for it, and the task priority and the time that
/// the layers around it would have.
struct Rig {
    apic: LocalApic,
    pending: Pending,
    cr8: u8,
    now: u64,
}

impl Rig {
    /// Virtual processor `index` of `count`, as after a reset.
    fn reset(index: usize, count: usize) -> Self {
        Self {
            apic: LocalApic::new(index, count),
            pending: Pending::new(),
            cr8: 0,
            now: 0,
        }
    }

    /// Enabled by software, with spurious vector 0xff.
    fn enabled(index: usize, count: usize) -> Self {
        let mut rig = Self::reset(index, count);
        rig.set(SVR, 0x1ff);
        rig
    }

    fn read(&self, register: u32) -> Result<u64, BadAccess> {
        self.apic.read(&self.pending, register, self.cr8, self.now)
    }

    fn get(&self, register: u32) -> u64 {
        self.read(register).unwrap()
    }

    fn write(&mut self, register: u32, value: u64) -> Result<ApicEffect, BadAccess> {
        let effect = self.apic.write(&self.pending, register, value, self.now)?;
        if let ApicEffect::TaskPriority(priority) = effect {
            self.cr8 = priority;
        }
        Ok(effect)
    }

    fn set(&mut self, register: u32, value: u64) {
        let _ = self.write(register, value).unwrap();
    }

    fn highest(&self) -> Option<u8> {
        self.apic.highest(&self.pending, self.cr8)
    }

    /// Delivers the highest interrupt, if there is one.
    fn deliver(&mut self) -> Option<u8> {
        let vector = self.highest()?;
        self.apic.accept(&self.pending, vector);
        Some(vector)
    }

    fn sent(&mut self, command: u64) -> Option<(Vec<usize>, Delivery)> {
        match self.write(ICR, command).unwrap() {
            ApicEffect::Ipi(ipi) => Some((ipi.targets.iter().collect(), ipi.delivery)),
            effect => {
                assert_eq!(effect, ApicEffect::None);
                None
            }
        }
    }
}

#[test]
fn registers_after_a_reset() {
    let rig = Rig::reset(0x21, 64);
    for (register, value) in [
        (ID, 0x21),
        (VERSION_REGISTER, 0x5_0014),
        (TPR, 0),
        (PPR, 0),
        (LDR, 0x2_0002),
        (SVR, 0xff),
        (ESR, 0),
        (ICR, 0),
        (LVT_TIMER, 0x1_0000),
        (0x833, 0x1_0000),
        (0x834, 0x1_0000),
        (LVT_LINT0, 0x1_0000),
        (0x836, 0x1_0000),
        (LVT_ERROR, 0x1_0000),
        (INITIAL, 0),
        (CURRENT, 0),
        (DIVIDE, 0),
        (DEADLINE, 0),
        (BASE_MSR, 0xfee0_0c00),
    ] {
        assert_eq!(rig.read(register), Ok(value), "{register:#x}");
    }
    for number in 0..8 {
        for first in [ISR, TMR, IRR] {
            assert_eq!(rig.get(first + number), 0);
        }
    }
    assert_eq!(Rig::reset(0, 1).get(BASE_MSR), 0xfee0_0d00);
}

#[test]
fn what_is_not_there_cannot_be_accessed() {
    let mut rig = Rig::enabled(0, 1);
    // Absent: among them the arbitration priority, the remote read and the
    // destination format registers of xAPIC mode, the upper half of ICR, and CMCI.
    for register in [
        0x800, 0x801, 0x804, 0x807, 0x809, 0x80c, 0x80e, 0x829, 0x82f, 0x831, 0x83a, 0x83d, 0x840,
        0x8ff,
    ] {
        assert!(LocalApic::keeps(register));
        assert_eq!(rig.read(register), Err(BadAccess), "{register:#x}");
        assert_eq!(rig.write(register, 0), Err(BadAccess), "{register:#x}");
    }
    for write_only in [EOI, SELF_IPI] {
        assert_eq!(rig.read(write_only), Err(BadAccess), "{write_only:#x}");
    }
    for read_only in [
        ID,
        VERSION_REGISTER,
        PPR,
        LDR,
        ISR,
        TMR + 7,
        IRR + 3,
        CURRENT,
    ] {
        assert_eq!(rig.write(read_only, 0), Err(BadAccess), "{read_only:#x}");
    }
    assert!(LocalApic::keeps(BASE_MSR) && LocalApic::keeps(DEADLINE));
    assert!(!LocalApic::keeps(0x7ff) && !LocalApic::keeps(0x900));
}

#[test]
fn reserved_bits_must_be_zero() {
    let mut rig = Rig::enabled(0, 1);
    for (register, value) in [
        (TPR, 0x100),
        (EOI, 1),
        (SVR, 0x200),
        (SVR, 0x1000),
        (ESR, 1),
        (ICR, 1 << 13),
        (ICR, 1 << 16),
        (ICR, 1 << 17),
        (ICR, 1 << 20),
        (ICR, 1 << 31),
        (LVT_TIMER, 1 << 8),
        (LVT_TIMER, 1 << 19),
        (LVT_TIMER, 0b11 << 17),
        (0x833, 1 << 13),
        (0x834, 1 << 15),
        (LVT_LINT0, 1 << 11),
        (LVT_LINT0, 1 << 17),
        (LVT_ERROR, 1 << 8),
        (DIVIDE, 0b100),
        (DIVIDE, 0x10),
        (SELF_IPI, 0x100),
    ] {
        assert_eq!(rig.write(register, value), Err(BadAccess), "{register:#x}");
    }
    for register in [
        TPR, EOI, SVR, ESR, LVT_TIMER, LVT_ERROR, INITIAL, DIVIDE, SELF_IPI,
    ] {
        assert_eq!(
            rig.write(register, 1 << 32),
            Err(BadAccess),
            "{register:#x}"
        );
    }
    // Read-only bits are not reserved.
    rig.set(LVT_LINT0, 0x1_f7ff);
    assert_eq!(rig.get(LVT_LINT0), 0x1_a7ff);
    rig.set(ICR, 0x1000);
    assert_eq!(rig.get(ICR), 0);
}

#[test]
fn the_mode_cannot_be_changed() {
    let mut rig = Rig::reset(0, 2);
    assert_eq!(rig.write(BASE_MSR, 0xfee0_0d00), Ok(ApicEffect::None));
    // Disabled, xAPIC, the invalid combination, elsewhere, another BSP.
    for value in [
        0xfee0_0100,
        0xfee0_0900,
        0xfee0_0500,
        0xfed0_0d00,
        0xfee0_0c00,
    ] {
        assert_eq!(rig.write(BASE_MSR, value), Err(BadAccess), "{value:#x}");
    }
}

#[test]
fn an_interrupt_goes_from_request_to_service_to_nothing() {
    let mut rig = Rig::enabled(0, 1);
    assert!(rig.pending.is_empty());
    rig.pending.raise(0x51);
    assert!(!rig.pending.is_empty());
    assert_eq!(rig.get(IRR + 2), 1 << 0x11);
    assert_eq!(rig.deliver(), Some(0x51));
    assert!(rig.pending.is_empty());
    assert_eq!((rig.get(IRR + 2), rig.get(ISR + 2)), (0, 1 << 0x11));
    assert_eq!(rig.get(PPR), 0x50);
    // The same again while it is in service: it waits.
    rig.pending.raise(0x51);
    assert_eq!(rig.highest(), None);
    rig.set(EOI, 0);
    assert_eq!((rig.get(ISR + 2), rig.get(PPR)), (0, 0));
    assert_eq!(rig.deliver(), Some(0x51));
    rig.set(EOI, 0);
    rig.set(EOI, 0);
    assert_eq!(rig.highest(), None);
}

#[test]
fn each_vector_has_its_bit() {
    let mut rig = Rig::enabled(0, 1);
    for vector in 16..=255_u8 {
        rig.pending.raise(vector);
        let (number, bit) = (u32::from(vector) / 32, 1 << (vector % 32));
        assert_eq!(rig.get(IRR + number), bit);
        assert_eq!(rig.deliver(), Some(vector));
        assert_eq!(rig.get(ISR + number), bit);
        rig.set(EOI, 0);
        assert_eq!(rig.get(ISR + number), 0);
    }
}

#[test]
fn higher_classes_interrupt_lower_ones() {
    let mut rig = Rig::enabled(0, 1);
    rig.pending.raise(0x35);
    assert_eq!(rig.deliver(), Some(0x35));
    // Same class, though a higher vector.
    rig.pending.raise(0x3f);
    assert_eq!(rig.highest(), None);
    rig.pending.raise(0x40);
    rig.pending.raise(0xf1);
    assert_eq!(rig.deliver(), Some(0xf1));
    assert_eq!(rig.highest(), None);
    rig.set(EOI, 0);
    assert_eq!(rig.deliver(), Some(0x40));
    assert_eq!(rig.get(PPR), 0x40);
    rig.set(EOI, 0);
    assert_eq!(rig.get(PPR), 0x30);
    assert_eq!(rig.highest(), None);
    rig.set(EOI, 0);
    assert_eq!(rig.deliver(), Some(0x3f));
}

#[test]
fn the_task_priority_holds_interrupts_back() {
    let mut rig = Rig::enabled(0, 1);
    assert_eq!(rig.write(TPR, 0x4a), Ok(ApicEffect::TaskPriority(4)));
    assert_eq!((rig.get(TPR), rig.get(PPR)), (0x4a, 0x4a));
    rig.pending.raise(0x4f);
    assert_eq!(rig.highest(), None);
    assert_eq!(rig.apic.held_by_task_priority(&rig.pending, 4), Some(0x4f));
    rig.pending.raise(0x50);
    assert_eq!(rig.highest(), Some(0x50));
    assert_eq!(rig.apic.held_by_task_priority(&rig.pending, 4), None);
    // The guest sets CR8, which nobody but the backend sees.
    rig.cr8 = 5;
    assert_eq!((rig.get(TPR), rig.get(PPR)), (0x50, 0x50));
    assert_eq!(rig.highest(), None);
    rig.cr8 = 3;
    assert_eq!(rig.deliver(), Some(0x50));
    // In service above the task priority, and below it.
    assert_eq!(rig.get(PPR), 0x50);
    assert_eq!(rig.apic.held_by_task_priority(&rig.pending, 15), None);
    rig.set(TPR, 0x5c);
    assert_eq!(rig.get(PPR), 0x5c);
    rig.cr8 = 15;
    rig.set(EOI, 0);
    rig.pending.raise(0xff);
    assert_eq!(rig.highest(), None);
}

/// What the manual says, word for word, on every combination of classes.
#[test]
fn priorities_are_those_of_the_manual() {
    for task in 0..=255_u8 {
        for service in (0..16_u8).map(|class| class << 4 | 3) {
            let mut rig = Rig::enabled(0, 1);
            if service >= 16 {
                rig.pending.raise(service);
                assert_eq!(rig.deliver(), Some(service));
            }
            rig.set(TPR, task.into());
            let service_class = if service >= 16 { service >> 4 } else { 0 };
            let processor = if task >> 4 >= service_class {
                task
            } else {
                service_class << 4
            };
            assert_eq!(rig.get(PPR), u64::from(processor));
            for class in 1..16_u8 {
                let vector = class << 4 | 9;
                rig.pending.raise(vector);
                let is_deliverable = class > processor >> 4;
                assert_eq!(rig.highest(), is_deliverable.then_some(vector));
                rig.pending.clear(vector);
            }
        }
    }
}

#[test]
fn an_apic_that_is_not_enabled_takes_no_interrupts() {
    let mut rig = Rig::reset(0, 1);
    rig.pending.raise(0x40);
    assert!(rig.pending.is_empty());
    // Masks cannot be taken away.
    rig.set(LVT_LINT0, 0x700);
    assert_eq!(rig.get(LVT_LINT0), 0x1_0700);
    rig.set(SVR, 0x1ff);
    assert_eq!(rig.highest(), None);
    rig.set(LVT_LINT0, 0x700);
    assert_eq!(rig.get(LVT_LINT0), 0x700);
    // What is there when it is disabled is held.
    rig.pending.raise(0x40);
    rig.set(SVR, 0xff);
    assert_eq!((rig.highest(), rig.get(IRR + 2)), (None, 1));
    assert_eq!(rig.get(LVT_LINT0), 0x1_0700);
    rig.pending.raise(0x41);
    // Signals come through.
    rig.pending.deliver(Delivery::Nmi);
    assert!(rig.pending.take_signals().nmi);
    rig.set(SVR, 0x1ff);
    assert_eq!(rig.deliver(), Some(0x40));
    rig.set(EOI, 0);
    assert_eq!(rig.highest(), None);
}

#[test]
fn interrupts_go_to_the_processors_that_are_named() {
    let mut rig = Rig::enabled(1, 40);
    let fixed = |targets: &[usize], vector| Some((targets.to_vec(), Delivery::Fixed(vector)));
    // Physical.
    assert_eq!(rig.sent(0x2_0000_0041), fixed(&[2], 0x41));
    assert_eq!(rig.sent(0x27_0000_0041), fixed(&[39], 0x41));
    assert_eq!(rig.sent(0x28_0000_0041), None);
    assert_eq!(rig.sent(0x8000_0000_0000_0041), None);
    // Logical: members 0 and 15 of cluster 0, 7 and 8 of cluster 2, none of 4.
    assert_eq!(rig.sent(0x8001_0000_0842), fixed(&[0, 15], 0x42));
    assert_eq!(rig.sent(0x0002_0180_0000_0842), fixed(&[39], 0x42));
    assert_eq!(rig.sent(0x0004_0001_0000_0842), None);
    assert_eq!(rig.sent(0x0001_0000_0000_0842), None);
    assert!(rig.pending.is_empty());
    assert_eq!(rig.get(ICR), 0x0001_0000_0000_0842);
    // Everybody, which includes the sender.
    let others: Vec<_> = (0..40).filter(|&index| index != 1).collect();
    for command in [0xffff_ffff_0000_0043, 0xffff_ffff_0000_0843, 0x8_0043] {
        assert_eq!(rig.sent(command), fixed(&others, 0x43), "{command:#x}");
        assert_eq!(rig.deliver(), Some(0x43));
        rig.set(EOI, 0);
    }
    // All but the sender.
    assert_eq!(rig.sent(0xc_0044), fixed(&others, 0x44));
    assert!(rig.pending.is_empty());
    // Lowest priority goes to one of them.
    assert_eq!(rig.sent(0x8050_0000_0945), fixed(&[4], 0x45));
}

#[test]
fn processors_interrupt_themselves() {
    let mut rig = Rig::enabled(3, 4);
    for (register, value) in [(SELF_IPI, 0x61), (ICR, 0x4_0061), (ICR, 0x3_0000_0061)] {
        assert_eq!(rig.write(register, value), Ok(ApicEffect::None));
        assert_eq!(rig.deliver(), Some(0x61));
        rig.set(EOI, 0);
    }
}

#[test]
fn signals_are_sent_and_taken() {
    let mut rig = Rig::enabled(0, 3);
    assert_eq!(rig.sent(0x1_0000_4500), Some(([1].into(), Delivery::Init)));
    assert_eq!(
        rig.sent(0x1_0000_0699),
        Some(([1].into(), Delivery::StartUp(0x99)))
    );
    assert_eq!(rig.sent(0xc_4500), Some(([1, 2].into(), Delivery::Init)));
    assert_eq!(rig.sent(0xc_0400), Some(([1, 2].into(), Delivery::Nmi)));
    // To itself by name, but not by shorthand.
    assert_eq!(rig.sent(0x0400), Some(([0].into(), Delivery::Nmi)));
    for command in [
        0x4_0400,
        0x8_0400,
        0x4_4500,
        0x8_4500,
        0x8_0699,
        0x8_0150,
        // INIT level de-assert, SMI, and two that are reserved.
        0x1_0000_8500,
        0x1_0000_0200,
        0x1_0000_0350,
        0x1_0000_0750,
    ] {
        assert_eq!(rig.sent(command), None, "{command:#x}");
    }

    let pending = Pending::new();
    assert_eq!(pending.take_signals(), Signals::default());
    pending.deliver(Delivery::Init);
    pending.deliver(Delivery::StartUp(0x9a));
    pending.deliver(Delivery::Nmi);
    assert!(pending.has_signals() && !pending.is_empty());
    assert_eq!(
        pending.take_signals(),
        Signals {
            init: true,
            start_up: Some(0x9a),
            nmi: true
        }
    );
    assert!(!pending.has_signals() && pending.is_empty());
    // INIT ends what came before it.
    pending.deliver(Delivery::StartUp(0x9a));
    pending.deliver(Delivery::Init);
    assert_eq!(pending.take_signals().start_up, None);
}

#[test]
fn errors_are_shown_when_they_are_asked_for() {
    let mut rig = Rig::enabled(0, 1);
    rig.set(LVT_ERROR, 0xfe);
    rig.set(ICR, 0x4_000f);
    assert_eq!(rig.get(ESR), 0);
    assert_eq!(rig.deliver(), Some(0xfe));
    rig.set(ESR, 0);
    assert_eq!(rig.get(ESR), 0x20);
    rig.set(ESR, 0);
    assert_eq!(rig.get(ESR), 0);
    // A device sends a vector that is none.
    rig.pending.raise(0x0f);
    assert!(rig.pending.is_empty());
    rig.set(SELF_IPI, 0x08);
    rig.set(ESR, 0);
    assert_eq!(rig.get(ESR), 0x60);
}

#[test]
fn init_leaves_only_the_id_and_the_signals() {
    let mut rig = Rig::enabled(5, 8);
    rig.pending.raise(0x30);
    rig.pending.raise(0x80);
    assert_eq!(rig.deliver(), Some(0x80));
    rig.set(LVT_TIMER, 0x4_0040);
    rig.set(DEADLINE, 1000);
    rig.set(TPR, 0x20);
    rig.pending.deliver(Delivery::StartUp(7));
    rig.apic.reset(&rig.pending);
    rig.cr8 = 0;
    for (register, value) in [
        (ID, 5),
        (SVR, 0xff),
        (TPR, 0),
        (PPR, 0),
        (LVT_TIMER, 0x1_0000),
        (DEADLINE, 0),
        (ISR + 4, 0),
        (IRR + 1, 0),
    ] {
        assert_eq!(rig.get(register), value, "{register:#x}");
    }
    assert_eq!(rig.apic.timer_deadline(), None);
    assert_eq!(rig.pending.take_signals().start_up, Some(7));
}

#[test]
fn a_one_shot_timer_fires_once() {
    let mut rig = Rig::enabled(0, 1);
    rig.now = 1_000_000;
    rig.set(LVT_TIMER, 0xec);
    rig.set(DIVIDE, 0b1011);
    assert_eq!(rig.write(INITIAL, 5000), Ok(ApicEffect::TimerChanged));
    assert_eq!(rig.apic.timer_deadline(), Some(1_005_000));
    rig.now += 1200;
    assert_eq!((rig.get(INITIAL), rig.get(CURRENT)), (5000, 3800));
    assert_eq!(rig.apic.take_expired_timer(1_004_999), None);
    assert_eq!(rig.apic.take_expired_timer(1_005_000), Some(0xec));
    assert_eq!(rig.apic.take_expired_timer(1_005_001), None);
    assert_eq!((rig.get(CURRENT), rig.apic.timer_deadline()), (0, None));
    // Stopped, and masked.
    rig.set(INITIAL, 10);
    rig.set(INITIAL, 0);
    assert_eq!(rig.apic.timer_deadline(), None);
    rig.set(LVT_TIMER, 0x1_00ec);
    rig.set(INITIAL, 10);
    assert_eq!(rig.apic.take_expired_timer(rig.now + 10), None);
    assert_eq!(rig.apic.timer_deadline(), None);
}

#[test]
fn the_clock_is_divided() {
    for (code, by) in [
        (0b0000, 2),
        (0b0001, 4),
        (0b0010, 8),
        (0b0011, 16),
        (0b1000, 32),
        (0b1001, 64),
        (0b1010, 128),
        (0b1011, 1),
    ] {
        let mut rig = Rig::enabled(0, 1);
        rig.set(DIVIDE, code);
        assert_eq!(rig.get(DIVIDE), code);
        rig.set(INITIAL, 1000);
        assert_eq!(rig.apic.timer_deadline(), Some(1000 * by));
        // It changes after each whole count.
        rig.now = 10 * by;
        assert_eq!(rig.get(CURRENT), 990);
        // What is left goes on at the new speed.
        rig.set(DIVIDE, 0b0001);
        assert_eq!(rig.apic.timer_deadline(), Some(10 * by + 990 * 4));
    }
    let mut rig = Rig::enabled(0, 1);
    rig.set(DIVIDE, 0b1010);
    rig.set(INITIAL, 0xffff_ffff);
    assert_eq!(rig.apic.timer_deadline(), Some(0x7f_ffff_ff80));
}

#[test]
fn a_periodic_timer_keeps_its_beat() {
    let mut rig = Rig::enabled(0, 1);
    rig.set(DIVIDE, 0b1011);
    rig.set(LVT_TIMER, 0x2_0050);
    rig.set(INITIAL, 30_000);
    assert_eq!(rig.apic.take_expired_timer(30_010), Some(0x50));
    assert_eq!(rig.apic.timer_deadline(), Some(60_000));
    // Two periods and a half late: one interrupt, and on with the beat.
    assert_eq!(rig.apic.take_expired_timer(135_000), Some(0x50));
    assert_eq!(rig.apic.take_expired_timer(135_000), None);
    assert_eq!(rig.apic.timer_deadline(), Some(150_000));
    rig.now = 140_000;
    assert_eq!(rig.get(CURRENT), 10_000);
    // As one-shot it comes to its end.
    rig.set(LVT_TIMER, 0x50);
    assert_eq!(rig.apic.take_expired_timer(150_000), Some(0x50));
    assert_eq!(rig.apic.timer_deadline(), None);
}

#[test]
fn no_timer_is_faster_than_anybody_needs() {
    let mut rig = Rig::enabled(0, 1);
    rig.set(DIVIDE, 0b1011);
    rig.set(LVT_TIMER, 0x2_0050);
    rig.set(INITIAL, 1);
    assert_eq!(rig.apic.take_expired_timer(5), Some(0x50));
    assert_eq!(rig.apic.timer_deadline(), Some(20_001));
    assert_eq!(rig.get(CURRENT), 1);
}

#[test]
fn a_deadline_is_met_once() {
    let mut rig = Rig::enabled(0, 1);
    // Not in this mode.
    rig.set(DEADLINE, 500);
    assert_eq!((rig.get(DEADLINE), rig.apic.timer_deadline()), (0, None));
    rig.set(LVT_TIMER, 0x4_00ec);
    assert_eq!(rig.write(DEADLINE, 500), Ok(ApicEffect::TimerChanged));
    assert_eq!(rig.get(DEADLINE), 500);
    assert_eq!(rig.apic.timer_deadline(), Some(500));
    // Counts have no effect, and do not count.
    rig.set(INITIAL, 100);
    assert_eq!((rig.get(INITIAL), rig.get(CURRENT)), (0, 0));
    assert_eq!(rig.apic.take_expired_timer(499), None);
    assert_eq!(rig.apic.take_expired_timer(500), Some(0xec));
    assert_eq!((rig.get(DEADLINE), rig.apic.timer_deadline()), (0, None));
    // In the past, disarmed, and disarmed by another mode.
    rig.set(DEADLINE, 1);
    assert_eq!(rig.apic.take_expired_timer(600), Some(0xec));
    rig.set(DEADLINE, u64::MAX);
    rig.set(DEADLINE, 0);
    assert_eq!(rig.apic.timer_deadline(), None);
    rig.set(DEADLINE, 1000);
    rig.set(LVT_TIMER, 0x4_00ed);
    assert_eq!(rig.apic.timer_deadline(), Some(1000));
    rig.set(LVT_TIMER, 0xec);
    assert_eq!(rig.apic.timer_deadline(), None);
}

#[test]
fn messages_of_devices_are_taken_apart() {
    let sent = |address, data| {
        let ipi = message(address, data, 12)?;
        Some((ipi.targets.iter().collect::<Vec<_>>(), ipi.delivery))
    };
    let fixed = |targets: &[usize], vector| Some((targets.to_vec(), Delivery::Fixed(vector)));
    assert_eq!(sent(0xfee0_3000, 0x4041), fixed(&[3], 0x41));
    assert_eq!(sent(0xfee0_300c, 0x41), fixed(&[0], 0x41));
    assert_eq!(sent(0xfee8_1004, 0x41), fixed(&[0, 7], 0x41));
    let all: Vec<_> = (0..12).collect();
    assert_eq!(sent(0xfeef_f000, 0x41), fixed(&all, 0x41));
    assert_eq!(sent(0xfeef_f000, 0x141), fixed(&[0], 0x41));
    assert_eq!(sent(0xfee0_b000, 0x400), Some(([11].into(), Delivery::Nmi)));
    // Nobody, no vector, ExtINT, SMI, and no interrupt message.
    for (address, data) in [
        (0xfee0_c000, 0x41),
        (0xfee0_0000, 0x0f),
        (0xfee0_0000, 0x741),
        (0xfee0_0000, 0x200),
        (0xfed0_0000, 0x41),
        (0x1_fee0_0000, 0x41),
    ] {
        assert_eq!(sent(address, data), None, "{address:#x} {data:#x}");
    }
}

/// A guest that sends the same again and again does not make another processor be left
/// each time: only the first is worth a look.
#[test]
fn what_is_pending_already_is_no_news() {
    let mut rig = Rig::enabled(0, 1);
    let deliver = |delivery| rig.pending.deliver(delivery);
    let taken = [0x41, 0x42, 0x41].map(|vector| deliver(Delivery::Fixed(vector)));
    assert_eq!(taken, [true, true, false]);
    assert!(!deliver(Delivery::Fixed(15)));
    // Signals are taken all at once.
    assert!(deliver(Delivery::Init));
    for signal in [Delivery::StartUp(8), Delivery::Init, Delivery::Nmi] {
        assert!(!deliver(signal), "{signal:?}");
    }
    let signals = rig.pending.take_signals();
    assert!(signals.init && signals.nmi && signals.start_up.is_none());
    assert!(rig.pending.deliver(Delivery::StartUp(8)));
    // This takes the place of the start-up, which may have been taken just before.
    assert!(rig.pending.deliver(Delivery::Init));
    // Once it is in service it can come again.
    rig.apic.accept(&rig.pending, 0x42);
    assert!(rig.pending.deliver(Delivery::Fixed(0x42)));
    // Nobody takes anything where software has not enabled it.
    rig.pending.forget();
    assert!(!rig.pending.deliver(Delivery::Fixed(0x41)));
}

#[test]
#[should_panic(expected = "no guest has a virtual processor 2 of 2")]
fn processors_are_numbered_from_zero() {
    LocalApic::new(2, 2);
}

#[test]
fn requests_may_come_from_anywhere() {
    let rig = Rig::enabled(0, 1);
    std::thread::scope(|scope| {
        for first in [16, 17, 18, 19_u8] {
            let pending = &rig.pending;
            scope.spawn(move || {
                for vector in (first..=255).step_by(4) {
                    pending.raise(vector);
                }
            });
        }
    });
    let registers = (0..8).map(|number| rig.get(IRR + number));
    let mut expected = [0xffff_ffff; 8];
    expected[0] = 0xffff_0000;
    assert!(registers.eq(expected));
}
