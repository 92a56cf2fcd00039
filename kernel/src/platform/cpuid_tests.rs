use super::*;

fn result(eax: u32, ebx: u32, ecx: u32, edx: u32) -> CpuidResult {
    CpuidResult { eax, ebx, ecx, edx }
}

/// A machine that has every feature there is, even those that nobody has
/// thought of, with vendor `ebx`.
fn everything(ebx: u32) -> impl Fn(u32, u32) -> CpuidResult {
    move |leaf, subleaf| match (leaf, subleaf) {
        (0, _) => result(0x24, ebx, 0x6c65_746e, 0x4965_6e69),
        (1, _) => result(0x000c_06f2, 0x3f20_0800, u32::MAX, u32::MAX),
        (4, 0) => result(0xfc1f_c121, 0x02c0_003f, 0x3f, 0),
        (4, 3) => result(0xfc1f_c163, 0x0240_003f, 0x1_7fff, 4),
        (4, _) => result(0, 0, 0, 0),
        (0xd, 0) => result(0x0006_02e7, 0x2b00, 0x2b00, 0),
        (0xd, 1) => result(0x1f, 0x2b00, 0x1_9900, 0),
        (0xd, 2) => result(0x100, 0x240, 0, 0),
        (0xd, 5) => result(0x40, 0x440, 0, 0),
        (0xd, 6) => result(0x200, 0x480, 0, 0),
        (0xd, 7) => result(0x400, 0x680, 0, 0),
        (0xd, 9) => result(0x8, 0xa80, 0, 0),
        (0xd, 10) => result(0x8, 0, 1, 0),
        (0xd, 17) => result(0x40, 0xac0, 2, 0),
        (0xd, 18) => result(0x2000, 0xb00, 6, 0),
        (0xd, _) => result(0, 0, 0, 0),
        (0x8000_0000, _) => result(0x8000_0028, ebx, 0x6c65_746e, 0x4965_6e69),
        (0x8000_0004, _) => result(0x20_4d54, 1, 2, 3),
        (0x8000_0008, _) => result(0x0034_3934, u32::MAX, u32::MAX, u32::MAX),
        _ => result(u32::MAX, u32::MAX, u32::MAX, u32::MAX),
    }
}

const INTEL: u32 = 0x756e_6547;
const AMD: u32 = 0x6874_7541;

/// Virtual processor 2 of 3.
fn guest() -> GuestCpu {
    GuestCpu {
        index: 2,
        count: 3,
        has_enqcmd: false,
        tsc_hz: 2_100_000_000,
        cr4: 0,
        xcr0: 1,
        supported_xcr0: 0x6_02e7,
    }
}

fn ask(guest: &GuestCpu, leaf: u32, subleaf: u32) -> CpuidResult {
    answer(everything(INTEL), guest, leaf, subleaf)
}

#[test]
fn the_vendor_is_the_machines() {
    let found = ask(&guest(), 0, 0);
    assert_eq!(found, result(0x1f, INTEL, 0x6c65_746e, 0x4965_6e69));
    let found = ask(&guest(), 0x8000_0000, 0);
    assert_eq!(found, result(0x8000_0008, INTEL, 0x6c65_746e, 0x4965_6e69));
    assert_eq!(ask(&guest(), 0x8000_0004, 0).eax, 0x20_4d54);
}

/// Bits by their numbers in the manuals.
fn has(register: u32, bits: &[u32]) -> bool {
    bits.iter().all(|bit| register >> bit & 1 == 1)
}

fn lacks(register: u32, bits: &[u32]) -> bool {
    has(!register, bits)
}

#[test]
fn features_that_work_are_shown_and_others_are_not() {
    let found = ask(&guest(), 1, 0);
    assert_eq!(found.eax, 0x000c_06f2);
    // APIC ID 2, room for 4 IDs, CLFLUSH of 64 bytes, no brand.
    assert_eq!(found.ebx, 0x0204_0800);
    // SSE3, FMA, PCID, x2APIC, TSC deadline, XSAVE, AVX, RDRAND, hypervisor.
    assert!(has(found.ecx, &[0, 12, 17, 21, 24, 26, 28, 30, 31]));
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, PDCM, DCA, OSXSAVE.
    assert!(lacks(found.ecx, &[2, 3, 4, 5, 6, 7, 8, 15, 18, 27]));
    // FPU, TSC, MSR, PAE, CX8, APIC, SEP, MTRR, PGE, PAT, CLFSH, SSE2, HTT.
    assert!(has(
        found.edx,
        &[0, 4, 5, 6, 8, 9, 11, 12, 13, 16, 19, 26, 28]
    ));
    // MCE, MCA, PSN, DS, ACPI, TM, PBE.
    assert!(lacks(found.edx, &[7, 14, 18, 21, 22, 29, 31]));

    let found = ask(&guest(), 7, 0);
    assert_eq!(found.eax, 1);
    // FSGSBASE, SMEP, ERMS, INVPCID, AVX512F, SMAP, CLWB.
    assert!(has(found.ebx, &[0, 7, 9, 10, 16, 20, 24]));
    // TSC_ADJUST, SGX, HLE, RTM, RDT-M, MPX, RDT-A, processor trace.
    assert!(lacks(found.ebx, &[1, 2, 4, 11, 12, 14, 15, 25]));
    // UMIP, RDPID, MOVDIRI, MOVDIR64B.
    assert!(has(found.ecx, &[2, 22, 27, 28]));
    // PKU, OSPKE, WAITPKG, CET_SS, TME, LA57, KL, bus lock, ENQCMD, SGX_LC, PKS.
    assert!(lacks(found.ecx, &[3, 4, 5, 7, 13, 16, 23, 24, 29, 30, 31]));
    // SERIALIZE, ARCH_CAPABILITIES.
    assert!(has(found.edx, &[4, 10, 14, 29]));
    // Hybrid, PCONFIG, LBR, CET_IBT, AMX, IBRS, STIBP, L1D_FLUSH, SSBD.
    assert!(lacks(
        found.edx,
        &[15, 18, 19, 20, 22, 24, 25, 26, 27, 28, 31]
    ));
    assert_eq!(ask(&guest(), 7, 1), result(0x0080_1c30, 0, 0, 0));
    assert_eq!(ask(&guest(), 7, 2), NOTHING);

    let found = ask(&guest(), 0x8000_0001, 0);
    assert!(has(found.ecx, &[0, 5, 8]));
    // CmpLegacy, SVM, OSVW, IBS, SKINIT, TCE, TOPOEXT, counters, MWAITX.
    assert!(lacks(found.ecx, &[1, 2, 9, 10, 12, 17, 22, 23, 24, 28, 29]));
    assert_eq!(found.edx, 0x2c50_0800);
}

#[test]
fn enqcmd_is_shown_to_those_who_may_use_it() {
    let guest = GuestCpu {
        has_enqcmd: true,
        ..guest()
    };
    assert!(has(ask(&guest, 7, 0).ecx, &[28, 29]));
    // Though the machine has none.
    let without = |leaf: u32, subleaf: u32| match leaf {
        7 => result(0, 0, 1 << 28, 0),
        _ => everything(INTEL)(leaf, subleaf),
    };
    assert!(has(answer(without, &guest, 7, 0).ecx, &[28, 29]));
}

#[test]
fn os_xsave_follows_cr4() {
    let guest = GuestCpu {
        cr4: 1 << 18,
        ..guest()
    };
    assert!(has(ask(&guest, 1, 0).ecx, &[26, 27]));
}

#[test]
fn without_state_there_are_no_instructions_for_it() {
    let sse = GuestCpu {
        supported_xcr0: 0b11,
        ..guest()
    };
    assert!(has(ask(&sse, 1, 0).ecx, &[26]));
    assert!(lacks(ask(&sse, 1, 0).ecx, &[12, 28, 29]));
    assert!(lacks(ask(&sse, 7, 0).ebx, &[5, 16, 17, 21, 28, 30, 31]));
    assert!(lacks(ask(&sse, 7, 0).ecx, &[1, 6, 9, 10, 11, 12, 14]));
    assert!(lacks(ask(&sse, 7, 0).edx, &[8]));
    assert_eq!(ask(&sse, 7, 1).eax, 0x1c00);
    let avx = GuestCpu {
        supported_xcr0: 0b111,
        ..guest()
    };
    assert!(has(ask(&avx, 1, 0).ecx, &[12, 28, 29]));
    assert!(has(ask(&avx, 7, 0).ebx, &[5]) && lacks(ask(&avx, 7, 0).ebx, &[16]));
    let none = GuestCpu {
        supported_xcr0: 1,
        cr4: 1 << 18,
        ..guest()
    };
    assert!(lacks(ask(&none, 1, 0).ecx, &[12, 26, 27, 28, 29]));
    assert_eq!(ask(&none, 0xd, 0), NOTHING);
}

#[test]
fn the_state_that_is_shown_is_the_state_that_can_be_set() {
    // All of it supported, x87 enabled.
    let found = ask(&guest(), 0xd, 0);
    // XTILEDATA ends at b00h + 2000h.
    assert_eq!(found, result(0x6_02e7, 0x240, 0x2b00, 0));
    // XSAVEOPT, XSAVEC, XGETBV; neither XSAVES nor XFD.
    assert_eq!(ask(&guest(), 0xd, 1), result(0b111, 0x240, 0, 0));
    let with = |xcr0| GuestCpu { xcr0, ..guest() };
    assert_eq!(ask(&with(0b111), 0xd, 0).ebx, 0x340);
    assert_eq!(ask(&with(0b111), 0xd, 1).ebx, 0x340);
    // 240h + 100h + 40h + 200h + 400h.
    assert_eq!(ask(&with(0xe7), 0xd, 0).ebx, 0xa80);
    assert_eq!(ask(&with(0xe7), 0xd, 1).ebx, 0x980);
    // + 8h, aligned to 9c0h, + 40h, + 2000h.
    assert_eq!(ask(&with(0x6_02e7), 0xd, 0).ebx, 0x2b00);
    assert_eq!(ask(&with(0x6_02e7), 0xd, 1).ebx, 0x2a00);
    assert_eq!(ask(&guest(), 0xd, 2), result(0x100, 0x240, 0, 0));
    assert_eq!(ask(&guest(), 0xd, 17), result(0x40, 0xac0, 2, 0));
    assert_eq!(ask(&guest(), 0xd, 18), result(0x2000, 0xb00, 2, 0));
    // Not in the mask, for supervisors, and beyond all.
    for subleaf in [3, 8, 10, 19, 62, 63, 64, u32::MAX] {
        assert_eq!(ask(&guest(), 0xd, subleaf), NOTHING, "{subleaf}");
    }
}

#[test]
fn processors_are_cores_of_one_package() {
    for leaf in [0xb, 0x1f] {
        assert_eq!(ask(&guest(), leaf, 0), result(0, 1, 0x100, 2));
        assert_eq!(ask(&guest(), leaf, 1), result(2, 3, 0x201, 2));
        assert_eq!(ask(&guest(), leaf, 2), result(0, 0, 2, 2));
        assert_eq!(ask(&guest(), leaf, 0x109), result(0, 0, 9, 2));
    }
    // L1: of one core; L3: of all four IDs; four IDs in the package.
    assert_eq!(ask(&guest(), 4, 0).eax, 0x0c00_0121);
    assert_eq!(ask(&guest(), 4, 3).eax, 0x0c00_c163);
    assert_eq!(ask(&guest(), 4, 4), NOTHING);
    for (count, bits, ids) in [(1, 0, 1), (2, 1, 2), (4, 2, 4), (5, 3, 8), (64, 6, 64)] {
        let guest = GuestCpu {
            index: 0,
            count,
            ..guest()
        };
        assert_eq!(ask(&guest, 0xb, 1), result(bits, count, 0x201, 0));
        assert_eq!(ask(&guest, 1, 0).ebx, ids << 16 | 0x800);
        assert_eq!(ask(&guest, 1, 0).edx >> 28 & 1, u32::from(count > 1));
    }
    // AMD's way.
    let found = answer(everything(AMD), &guest(), 0x8000_0008, 0);
    assert_eq!(found, result(0x3030, 0b101, 0x2002, 0));
    let found = answer(everything(AMD), &guest(), 0x8000_0001, 0);
    assert!(has(found.ecx, &[1]) && lacks(found.ecx, &[22]));
    // FPU to APIC but MCE, SYSCALL, MTRR, PGE, CMOV, PAT, PSE36, NX, MMX
    // extensions, MMX, FXSR, pages of 1 GiB, RDTSCP, LM.
    assert_eq!(found.edx, 0x2dd3_bb7f);
    assert_eq!(ask(&guest(), 0x8000_0008, 0).ecx, 0);
}

#[test]
fn time_is_told_exactly() {
    assert_eq!(ask(&guest(), 0x15, 0), result(1, 1, 2_100_000_000, 0));
    let fast = GuestCpu {
        tsc_hz: 5_000_000_000,
        ..guest()
    };
    assert_eq!(ask(&fast, 0x15, 0), NOTHING);
    assert_eq!(ask(&fast, 0x4000_0001, 0), result(1, 5_000_000, 0, 0));
    assert_eq!(ask(&guest(), 0x8000_0007, 0), result(0, 0, 0, 0x100));
    assert_eq!(ask(&guest(), 6, 0), result(4, 0, 0, 0));
}

#[test]
fn the_hypervisor_is_found() {
    let found = ask(&guest(), 0x4000_0000, 0);
    // "Weir", three times.
    let weir = 0x7269_6557;
    assert_eq!(found, result(0x4000_0001, weir, weir, weir));
    assert_eq!(ask(&guest(), 0x4000_0001, 0), result(1, 2_100_000, 0, 0));
    assert_eq!(ask(&guest(), 0x4000_0002, 0), NOTHING);
    // "KVMK", "VMKV", "M".
    let found = ask(&guest(), 0x4000_0100, 0);
    assert_eq!(
        found,
        result(0x4000_0101, 0x4b4d_564b, 0x564b_4d56, 0x0000_004d)
    );
    // No I/O delay, the clock's registers, ends of interrupts without an exit, and a stable
    // clock: the counter is invariant.
    assert_eq!(ask(&guest(), 0x4000_0101, 0), result(0x0100_004a, 0, 0, 0));
    assert_eq!(ask(&guest(), 0x4000_0102, 0), NOTHING);
}

#[test]
fn what_is_hidden_is_nothing() {
    // MONITOR, direct cache access, performance monitoring, RDT, SGX, processor
    // trace, frequencies, key locker, AMX, and beyond the last leaves.
    for leaf in [
        3,
        5,
        9,
        0xa,
        0xf,
        0x10,
        0x12,
        0x14,
        0x16,
        0x19,
        0x1b,
        0x1d,
        0x1e,
        0x20,
        0x24,
        0x3fff_ffff,
        0x4000_0102,
        0x8000_0009,
        0x8000_000a,
        0x8000_001e,
        0xc000_0000,
        u32::MAX,
    ] {
        assert_eq!(ask(&guest(), leaf, 0), NOTHING, "{leaf:#x}");
    }
}

#[test]
fn an_old_machine_has_no_more_than_it_has() {
    let old = |leaf: u32, _| match leaf {
        0 => result(1, AMD, 0, 0),
        0x8000_0000 => result(0x8000_0001, AMD, 0, 0),
        1 => result(0x600, 0x800, 0, 0x1),
        0x8000_0001 => result(0x600, 0, 0, 0),
        _ => panic!("leaf {leaf:#x} is not there"),
    };
    let ask = |leaf| answer(old, &guest(), leaf, 0);
    assert_eq!(ask(1).edx, 0x1000_1201);
    assert_eq!(ask(1).ecx, 0x8120_0000);
    for leaf in [2, 4, 7, 0xd, 0x8000_0002, 0x8000_0008] {
        assert_eq!(ask(leaf), NOTHING, "{leaf:#x}");
    }
    assert_eq!(ask(0x8000_0000).eax, 0x8000_0001);
    assert_eq!(ask(0xb).ebx, 1);
}
