//! Units that do not do what they are told: waits end, what the unit may still use stays,
//! and the error says which register told it.

use hwio::Clock;
use hwio::fake::{AllOnes, FakeClock, FakePages, FakeRegisters, Log, Memory, Vanishes};
use hwspec::vtd::QueueErrorInfo;
use vtd::{Error, Iova, RegisterName, RemappingUnit, Route};

use crate::hardware::{CFI, Hardware, ICE, IQE, IRE, ITE, QIE, SIRTP, SRTP, TE};
use crate::lab::{
    CACHING, DSA, FIRST, KINDS, Lab, Machine, PAGE, SECOND, SERVER, TIMEOUT, WINDOW, pasid, setup,
};

const ROUTE: Route = Route {
    apic_id: 1,
    vector: 0x41,
};

#[test]
fn a_command_that_is_never_carried_out_is_given_up() {
    for (command, status) in [
        (QIE, 0),
        (SRTP, QIE),
        (TE, QIE | SRTP),
        (SIRTP, QIE | SRTP | TE),
        (IRE, QIE | SRTP | TE | SIRTP),
    ] {
        let mut machine = Machine::new(SECOND);
        machine.hardware.borrow_mut().defects.ignored_commands = command;
        let before = machine.clock.now();
        let error = machine.bring_up().unwrap_err();
        let register = RegisterName::Gsts;
        let value = status.into();
        assert_eq!(error, Error::Timeout { register, value });
        assert!(error.to_string().contains("GSTS_REG is 0x"), "{error}");
        let waited = machine.clock.now() - before;
        assert!(waited >= TIMEOUT && waited < 2 * TIMEOUT, "{waited:?}");
        // What the unit was told of may still be read: nothing went back.
        assert_eq!(machine.memory.count_allocated(), 5);
    }
}

#[test]
fn what_firmware_left_on_and_stays_on_is_given_up() {
    for command in [IRE, QIE, CFI, TE] {
        let mut machine = Machine::new(SECOND);
        let mut hardware = machine.hardware.borrow_mut();
        hardware.gsts = command;
        hardware.defects.ignored_commands = command;
        drop(hardware);
        let error = machine.bring_up().unwrap_err();
        let register = RegisterName::Gsts;
        assert!(
            matches!(error, Error::Timeout { register: of, value }
                if of == register && value & u64::from(command) != 0),
            "{error}"
        );
        machine.hardware.borrow_mut().take_violations();
    }
}

#[test]
fn protection_that_stays_on_is_given_up() {
    let mut machine = Machine::new(SERVER);
    machine.hardware.borrow_mut().pmen = 0x8000_0001;
    machine.hardware.borrow_mut().defects.protects_for_ever = true;
    let error = machine.bring_up().unwrap_err();
    let register = RegisterName::Pmen;
    assert_eq!(error, Error::Timeout { register, value: 1 });
    assert_eq!(
        error.to_string(),
        "the IOMMU does not get done: PMEN_REG is 0x1"
    );
}

/// A queue that hangs is not used any more: what was not forgotten stays as it was, in
/// the books too, and no call waits a second time.
#[test]
fn a_queue_that_hangs_is_waited_for_once() {
    for kind in KINDS {
        let mut lab = Lab::new(kind);
        let domain = lab.domain(0x1000, 0xa000);
        let spare = lab.domain(0x1000, 0xb000);
        lab.allow(DSA).unwrap();
        lab.set_pasid(DSA, 1, domain).unwrap();
        lab.write(DSA, 1, 0x1000).unwrap();
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        lab.unit.set_interrupt(index, ROUTE).unwrap();
        lab.send(DSA, index).unwrap();
        lab.hardware.borrow_mut().defects.queue_hangs = true;
        let allocated = lab.memory.count_allocated();

        let head = lab.hardware.borrow().iqh;
        let before = lab.clock.now();
        let error = lab.unit.clear_pasid(DSA, pasid(1)).unwrap_err();
        let (register, value) = (RegisterName::Iqh, head);
        assert_eq!(error, Error::Timeout { register, value }, "{}", kind.name);
        let waited = lab.clock.now() - before;
        assert!(waited >= TIMEOUT && waited < 2 * TIMEOUT, "{waited:?}");

        let before = lab.clock.now();
        let stuck = Err(Error::QueueStuck);
        assert_eq!(lab.unit.clear_pasid(DSA, pasid(1)), stuck);
        assert_eq!(lab.unit.block_device(DSA), stuck);
        assert_eq!(lab.unit.destroy_domain(spare), stuck);
        assert_eq!(lab.unit.unmap(spare, Iova(0x1000), PAGE), stuck);
        assert_eq!(lab.unit.set_interrupt(index, ROUTE), stuck);
        assert_eq!(lab.unit.release_interrupt(index), stuck);
        assert_eq!(lab.unit.block_all(), stuck);
        assert!(lab.clock.now() - before < TIMEOUT / 10);
        assert_eq!(
            Error::QueueStuck.to_string(),
            "the IOMMU's invalidation queue is stuck"
        );

        // Old requests still get through, so all is still there and nothing is free.
        assert_eq!(lab.write(DSA, 1, 0x1000), Ok(0xa000));
        assert_eq!(lab.memory.count_allocated(), allocated);
        let in_use = Error::PasidInUse {
            source: DSA,
            pasid: pasid(1),
        };
        assert_eq!(lab.set_pasid(DSA, 1, spare), Err(in_use));
        assert_eq!(lab.allow(DSA), Err(Error::DeviceAllowed(DSA)));
        let in_use = Error::DomainInUse { domain, users: 1 };
        assert_eq!(lab.unit.destroy_domain(domain), Err(in_use));
        assert_ne!(lab.unit.allocate_interrupt(DSA), Ok(index));
        // Faults can be read all the same.
        lab.write(DSA, 9, 0x1000).unwrap_err();
        lab.unit.read_faults(|_| ()).unwrap();
    }
}

#[test]
fn a_queue_that_hangs_at_the_start_is_given_up() {
    let mut machine = Machine::new(SECOND);
    machine.hardware.borrow_mut().defects.queue_hangs = true;
    let error = machine.bring_up().unwrap_err();
    let (register, value) = (RegisterName::Iqh, 0);
    assert_eq!(error, Error::Timeout { register, value });
    // Nothing gets through that did not before, and translation is not on.
    assert_eq!(machine.hardware.borrow().gsts & TE, 0);
}

/// A descriptor that the unit does not take is named; those around it are carried out,
/// and the queue goes on.
#[test]
fn a_refused_descriptor_is_named_and_replaced() {
    let mut lab = Lab::new(SECOND);
    let domain = lab.domain(0x1000, 0xa000);
    lab.allow(DSA).unwrap();
    lab.set_pasid(DSA, 1, domain).unwrap();
    lab.write(DSA, 1, 0x1000).unwrap();
    lab.invalidations();
    // PASID-cache invalidations: a reserved field.
    lab.hardware.borrow_mut().defects.refused.insert(7, 4);
    let error = lab.unit.clear_pasid(DSA, pasid(1)).unwrap_err();
    let expected = Error::InvalidationRefused {
        info: QueueErrorInfo::RESERVED_FIELD,
        descriptor: 0x1_0002_0017,
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "the IOMMU refused invalidation 0x100020017, reason 4"
    );
    assert_eq!(lab.invalidations(), [[0x2_00e2, 0, 0, 0]]);
    assert_eq!(lab.hardware.borrow().fsts & IQE, 0);
    // It was not forgotten, so it is in use; later it can be cleared.
    let in_use = Error::PasidInUse {
        source: DSA,
        pasid: pasid(1),
    };
    assert_eq!(lab.set_pasid(DSA, 1, domain), Err(in_use));
    lab.hardware.borrow_mut().defects.refused.clear();
    lab.unit.clear_pasid(DSA, pasid(1)).unwrap();
    assert_eq!(lab.write(DSA, 1, 0x1000), Err(0x59));
    lab.set_pasid(DSA, 1, domain).unwrap();
    assert_eq!(lab.write(DSA, 1, 0x1000), Ok(0xa000));
}

#[test]
fn a_refused_descriptor_at_the_end_of_the_ring_is_replaced() {
    for turns in 0..130 {
        let mut lab = Lab::new(SECOND);
        let domain = lab.domain(0x1000, 0xa000);
        lab.map(domain, 0x2000, 0xb000, PAGE).unwrap();
        // Two descriptors each: wherever the ring ends is met, with an odd one.
        let index = lab.unit.allocate_interrupt(DSA).unwrap();
        for _ in 0..=turns {
            lab.unit.set_interrupt(index, ROUTE).unwrap();
        }
        lab.hardware.borrow_mut().defects.refused.insert(2, 3);
        let error = lab.unit.unmap(domain, Iova(0x1000), PAGE).unwrap_err();
        let expected = Error::InvalidationRefused {
            info: QueueErrorInfo::INVALID_TYPE,
            descriptor: 0x2_00f2,
        };
        assert_eq!(error, expected, "after {turns}");
        lab.hardware.borrow_mut().defects.refused.clear();
        lab.unit.unmap(domain, Iova(0x2000), PAGE).unwrap();
    }
}

#[test]
fn a_unit_that_refuses_everything_is_given_up() {
    let mut lab = Lab::new(SECOND);
    let index = lab.unit.allocate_interrupt(DSA).unwrap();
    lab.unit.set_interrupt(index, ROUTE).unwrap();
    lab.hardware.borrow_mut().defects.refuses_for_ever = true;
    let error = lab.unit.set_interrupt(index, ROUTE).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Timeout {
                register: RegisterName::Iqh,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(lab.unit.block_all(), Err(Error::QueueStuck));
}

/// A device that does not answer aborts the wait; that says nothing of the rest, so it is
/// done again, once.
#[test]
fn an_aborted_wait_is_repeated_once() {
    let mut lab = Lab::new(SECOND);
    let index = lab.unit.allocate_interrupt(DSA).unwrap();
    lab.unit.set_interrupt(index, ROUTE).unwrap();
    lab.invalidations();
    lab.hardware.borrow_mut().defects.time_outs = 1;
    lab.hardware.borrow_mut().defects.time_out_source = 0x6aff;
    lab.unit.set_interrupt(index, ROUTE).unwrap();
    assert_eq!(lab.invalidations(), [[0x14, 0, 0, 0]; 2]);
    assert_eq!(lab.hardware.borrow().fsts & ITE, 0);

    // The wait that was aborted is tried again when ITE is cleared, so it takes more than
    // two to fail twice.
    lab.hardware.borrow_mut().defects.time_outs = 10;
    let error = lab.unit.set_interrupt(index, ROUTE).unwrap_err();
    let source = crate::lab::OTHER;
    assert_eq!(error, Error::DeviceTlbTimeout { source });
    assert_eq!(
        error.to_string(),
        "6a:1f.7 did not answer an invalidation of its cache"
    );
    // It is not stuck.
    lab.hardware.borrow_mut().defects.time_outs = 0;
    lab.unit.set_interrupt(index, ROUTE).unwrap();
    lab.unit.release_interrupt(index).unwrap();
}

#[test]
fn an_answer_that_nobody_waits_for_is_cleared() {
    let mut lab = Lab::new(SECOND);
    let index = lab.unit.allocate_interrupt(DSA).unwrap();
    lab.unit.set_interrupt(index, ROUTE).unwrap();
    lab.hardware.borrow_mut().defects.completion_error = true;
    lab.unit.set_interrupt(index, ROUTE).unwrap();
    lab.unit.read_faults(|_| ()).unwrap();
    assert_eq!(lab.hardware.borrow().fsts & ICE, 0);
}

/// Everything that a unit is used for.
fn use_all<D: hwio::fake::Device>(
    registers: FakeRegisters<D>,
    memory: &mut Memory,
) -> Result<(), Error> {
    let region = vtd::ReservedRegion {
        source: crate::lab::OTHER,
        base: x86_64::PhysAddr::new(0x1000),
        limit: x86_64::PhysAddr::new(0x1fff),
    };
    let setup = vtd::Setup {
        reserved: &[region],
        ..setup()
    };
    let mut unit: RemappingUnit<_, FakePages, _> =
        RemappingUnit::bring_up(registers, FakeClock::new(), memory, &setup)?;
    let domain = unit.create_domain(memory)?;
    let mapping = vtd::Mapping {
        iova: Iova(0x1000),
        physical: x86_64::PhysAddr::new(0xa000),
        len_bytes: PAGE,
        access: vtd::Access::ReadWrite,
    };
    unit.map(memory, domain, mapping)?;
    unit.allow_device(memory, DSA)?;
    unit.set_pasid(memory, DSA, pasid(1), domain)?;
    let index = unit.allocate_interrupt(DSA)?;
    unit.set_interrupt(index, ROUTE)?;
    unit.set_interrupt(index, ROUTE)?;
    unit.release_interrupt(index)?;
    unit.enable_fault_events(ROUTE);
    unit.unmap(domain, Iova(0x1000), PAGE)?;
    unit.clear_pasid(DSA, pasid(1))?;
    unit.block_device(DSA)?;
    unit.destroy_domain(domain)?;
    unit.block_all()?;
    unit.read_faults(|_| ())?;
    Ok(())
}

#[test]
fn a_unit_that_is_gone_is_noticed_wherever_it_goes() {
    let ones = FakeRegisters::new(AllOnes, WINDOW, &Log::new());
    let error = use_all(ones, &mut Memory::coherent(&Log::new())).unwrap_err();
    let register = RegisterName::Cap;
    assert_eq!(error, Error::DeviceGone { register });
    assert_eq!(
        error.to_string(),
        "the IOMMU is gone: CAP_REG reads as ones"
    );

    for kind in [SECOND, FIRST, SERVER, CACHING] {
        let mut seen = Vec::new();
        for accesses in 0.. {
            let log = Log::new();
            let mut memory = Memory::non_coherent(&log);
            let mut hardware = Hardware::new(&memory, kind.cap, kind.ecap);
            hardware.pmen = 0x8000_0001;
            hardware.record([0x1000, 0xc000_0079_0000_0020]);
            let vanishes = Vanishes::after(accesses, hardware);
            let registers = FakeRegisters::new(vanishes, WINDOW, &log);
            match use_all(registers, &mut memory) {
                Ok(()) => {
                    // It lived long enough.
                    assert!(accesses > 45, "{}: {accesses}", kind.name);
                    break;
                }
                Err(Error::DeviceGone { register }) => seen.push(register),
                Err(error) => panic!("{}: after {accesses} accesses: {error}", kind.name),
            }
        }
        for register in [
            RegisterName::Cap,
            RegisterName::Ecap,
            RegisterName::Gsts,
            RegisterName::Fsts,
        ] {
            assert!(seen.contains(&register), "{register}");
        }
    }
}

/// In the middle of reading faults, records that read as ones are no faults.
#[test]
fn a_unit_that_goes_while_faults_are_read_reports_none_of_ones() {
    let mut seen = Vec::new();
    for accesses in 0..7 {
        let log = Log::new();
        let mut memory = Memory::non_coherent(&log);
        let hardware = Hardware::new(&memory, SECOND.cap, SECOND.ecap);
        let registers = FakeRegisters::new(Counted::new(hardware), WINDOW, &log);
        let device = registers.device();
        let result = RemappingUnit::bring_up(registers, FakeClock::new(), &mut memory, &setup());
        let mut unit = result.unwrap();
        let record = [0x1000, 0xc000_0079_0000_0020];
        device.borrow_mut().inner.record(record);
        device.borrow_mut().left = accesses;
        let mut faults = 0;
        let outcome = unit.read_faults(|fault| {
            faults += 1;
            if accesses > 3 {
                assert_eq!(fault.source, DSA);
            }
        });
        match outcome {
            Err(Error::DeviceGone { register }) => seen.push(register),
            Err(error) => panic!("{error}"),
            Ok(_) => assert_eq!(faults, 1),
        }
    }
    assert!(seen.contains(&RegisterName::Frcd));
    assert!(seen.contains(&RegisterName::Fsts));
}

/// A device that is gone after so many accesses from some moment on.
struct Counted {
    inner: Hardware,
    left: usize,
}

impl Counted {
    fn new(inner: Hardware) -> Self {
        let left = usize::MAX;
        Self { inner, left }
    }
}

impl hwio::fake::Device for Counted {
    fn read(&mut self, offset: usize, len_bytes: usize) -> u64 {
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        if is_there {
            self.inner.read(offset, len_bytes)
        } else {
            !0
        }
    }

    fn write(&mut self, offset: usize, len_bytes: usize, value: u64) {
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        if is_there {
            self.inner.write(offset, len_bytes, value);
        }
    }
}
