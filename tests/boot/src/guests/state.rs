//! Guests that share a processor do not see each other's registers.

use boot_suites::Suite;
use kernel::virt::address::GuestPhysAddr;
use kernel::virt::backend::Vcpu;
use kernel::virt::exit::Exit;
use kernel::virt::registers::Register;

use super::programs::{self, DATA};
use super::test_guest::{TestGuest, write};

pub(crate) fn run(suite: &mut Suite) {
    let values = [0x1111_1111_u64, 0x2222_2222, 0x3333_3333];
    let mut guests = values.map(|value| TestGuest::new(programs::registers()).with_rbx(value));
    for _ in 0..3 {
        for guest in &mut guests {
            suite.equal("each_guest_has_its_turn", guest.run(), Exit::Hypercall);
            guest.vcpu.skip(Exit::Hypercall);
        }
    }
    for (guest, value) in guests.iter().zip(values) {
        for (name, number) in [
            ("sse_registers_are_kept_apart", 12),
            ("x87_registers_are_kept_apart", 13),
            ("debug_registers_are_kept_apart", 14),
            ("lstar_is_kept_apart", 15),
            ("gs_base_is_kept_apart", 10),
            ("tsc_aux_is_kept_apart", 11),
        ] {
            let found = guest.vcpu.registers().get(Register::new(number));
            suite.equal(name, found, value);
        }
    }
    check_memory(suite);
    check_registers(suite);
    check_many(suite);
}

/// Two guests read the same address.
fn check_memory(suite: &mut Suite) {
    let mut guests = [5_u64, 6].map(|value| {
        let guest = TestGuest::new(programs::load()).with_rbx(DATA);
        write(&guest.space.memory, DATA, &value.to_le_bytes());
        guest
    });
    for _ in 0..2 {
        for (guest, value) in guests.iter_mut().zip([5, 6]) {
            guest.run();
            guest.vcpu.skip(Exit::Hypercall);
            let found = guest.vcpu.registers().get(Register::RAX);
            suite.equal("memory_is_kept_apart", found, value);
        }
    }
    let [guest, _] = &guests;
    let outside = guest.space.memory.read_u64(GuestPhysAddr(1 << 40));
    suite.equal("addresses_beyond_memory_are_no_memory", outside, None);
}

/// The registers that the control block keeps.
fn check_registers(suite: &mut Suite) {
    const EFER: u32 = 0xc000_0080;
    const PAT: u32 = 0x277;
    let mut guest = TestGuest::new(programs::spin());
    let vcpu = &mut guest.vcpu;
    // LMA and LME; SVME is not the guest's to see.
    suite.equal(
        "efer_shows_the_guests_mode",
        vcpu.read_msr(EFER),
        Some(0x500),
    );
    suite.equal(
        "svme_cannot_be_set",
        vcpu.write_msr(EFER, 0x1500),
        Some(false),
    );
    suite.equal("sce_can", vcpu.write_msr(EFER, 0x501), Some(true));
    suite.equal("and_is_seen", vcpu.read_msr(EFER), Some(0x501));
    suite.equal(
        "lme_stays_while_paging_is_on",
        vcpu.write_msr(EFER, 1),
        Some(false),
    );
    suite.equal(
        "page_attributes_are_checked",
        vcpu.write_msr(PAT, 2),
        Some(false),
    );
    suite.equal("other_registers_are_not_kept", vcpu.read_msr(0x1b), None);
    let mut loaded = guest.load();
    suite.equal("xcr0_is_checked", loaded.set_xcr0(0), false);
    suite.equal(
        "xcr0_can_be_set",
        (loaded.set_xcr0(3), loaded.xcr0()),
        (true, 3),
    );
}

/// More guests than there are address-space identifiers.
fn check_many(suite: &mut Suite) {
    const COUNT: usize = 20;
    let mut guests: [TestGuest; COUNT] = core::array::from_fn(|index| {
        let guest = TestGuest::new(programs::load()).with_rbx(DATA);
        write(&guest.space.memory, DATA, &(index as u64).to_le_bytes());
        guest
    });
    let mut right = 0;
    for _ in 0..3 {
        for (index, guest) in guests.iter_mut().enumerate() {
            guest.run();
            guest.vcpu.skip(Exit::Hypercall);
            right += usize::from(guest.vcpu.registers().get(Register::RAX) == index as u64);
        }
    }
    suite.equal("many_guests_are_kept_apart", right, 3 * COUNT);
}
