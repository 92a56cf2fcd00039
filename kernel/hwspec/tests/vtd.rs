//! Literal values of VT-d registers and tables, worked out by hand from the tables
//! of the specification.

use hwspec::register::Layout;
use hwspec::vtd::paging::{FirstStageEntry, SecondStageEntry};
use hwspec::vtd::{
    AddressMask, Cap, ContextCacheInvalidate, ContextEntry, ContextEntry0, ContextEntry1,
    ContextTablePointer, Ecap, EventAddress, EventControl, EventData, FaultReason, FrcdHigh,
    FrcdLow, Fsts, GCMD, Gcmd, Granularity, Gsts, IQA, IQH, IQT, IRTA,
    InterruptEntryCacheInvalidate, InvalidationDescriptor, InvalidationWait, IotlbInvalidate, Iqa,
    Iqercd, Irta, IrteHigh, IrteLow, PasidCacheGranularity, PasidCacheInvalidate,
    PasidDirectoryEntry, PasidEntry, PasidEntry0, PasidEntry1, PasidEntry2, PasidIotlbInvalidate,
    Pgtt, Pmen, QueueErrorInfo, QueueOffset, RTADDR, RemappableAddress, Rtaddr, SourceValidation,
    TranslationTableMode, Ver, WaitAddress, frcd_high, frcd_low,
};

#[test]
fn capabilities_of_the_emulated_unit() {
    // Second-stage form.
    let cap = Cap::from_bits(0x00d2_008c_222f_0606);
    assert_eq!(cap.nd(), 6);
    assert_eq!(cap.domain_id_bits(), Some(16));
    assert!(!cap.rwbf() && !cap.plmr() && !cap.phmr() && !cap.cm());
    assert_eq!(cap.sagaw(), 0b00110);
    assert_eq!(cap.guest_address_bits(), 48);
    assert!(!cap.zlr());
    assert_eq!(cap.fault_recording_offset(), 0x220);
    assert_eq!(cap.fault_recording_count(), 1);
    assert_eq!(cap.sslps(), 0b0011);
    assert!(cap.psi());
    assert_eq!(cap.mamv(), 18);
    assert!(cap.drd() && cap.dwd());
    assert!(!cap.fs1gp() && !cap.pi() && !cap.fs5lp() && !cap.ecmds());
    assert!(!cap.esirtps() && !cap.esrtps());
    // First-stage form.
    assert!(Cap::from_bits(0x01d2_008c_222f_0606).fs1gp());

    let ecap = Ecap::from_bits(0x0000_4900_80f0_0f5a);
    assert!(!ecap.c() && ecap.qi() && !ecap.dt() && ecap.ir() && ecap.eim());
    assert!(ecap.pt() && !ecap.sc());
    assert_eq!(ecap.iro(), 0x0f);
    assert_eq!(ecap.mhmv(), 15);
    assert!(!ecap.mts() && !ecap.nest() && !ecap.prs() && !ecap.ers() && ecap.srs());
    assert_eq!(ecap.pasid_bits(), 1);
    assert!(ecap.pasid() && ecap.smts() && ecap.ssts() && !ecap.fsts());
    assert!(!ecap.smpwcs() && !ecap.rps() && !ecap.adms() && !ecap.irreq());

    let ecap = Ecap::from_bits(0x0000_8998_00f0_0f5a);
    assert!(ecap.fsts() && !ecap.ssts() && !ecap.srs());
    assert_eq!(ecap.pasid_bits(), 20);
}

#[test]
fn capability_bits_that_the_emulated_unit_lacks() {
    assert!(Cap::from_bits(1 << 4).rwbf());
    assert!(Cap::from_bits(1 << 7).cm());
    assert!(Cap::from_bits(1 << 59).pi());
    assert!(Cap::from_bits(1 << 63).esrtps());
    assert_eq!(Cap::from_bits(7).domain_id_bits(), None);
    assert_eq!(
        Cap::from_bits(0x0000_ff00_0000_0000).fault_recording_count(),
        256
    );
    assert!(Ecap::from_bits(1 << 7).sc());
    assert!(Ecap::from_bits(1 << 48).smpwcs());
    assert!(Ecap::from_bits(1 << 49).rps());
    assert!(Ecap::from_bits(1 << 52).adms());
    assert!(Ecap::from_bits(1 << 61).eimer());
    assert!(Ecap::from_bits(1 << 62).irreq());
    assert_eq!(Ver::from_bits(0x60).max(), 6);
}

#[test]
fn commands_and_status() {
    assert_eq!(Gcmd::new().with_te(true).into_raw(), 0x8000_0000);
    assert_eq!(Gcmd::new().with_srtp(true).into_raw(), 0x4000_0000);
    assert_eq!(Gcmd::new().with_qie(true).into_raw(), 0x0400_0000);
    assert_eq!(Gcmd::new().with_ire(true).into_raw(), 0x0200_0000);
    assert_eq!(Gcmd::new().with_sirtp(true).into_raw(), 0x0100_0000);
    assert_eq!(Gcmd::new().with_cfi(true).into_raw(), 0x0080_0000);
    let status = Gsts::from_raw(0xc600_0000);
    assert!(status.tes() && status.rtps() && status.qies() && status.ires());
    assert!(!status.irtps() && !status.cfis() && !status.wbfs());
    assert_eq!(GCMD.offset(), 0x18);
}

#[test]
fn address_registers() {
    let root = Rtaddr::new()
        .with_rta(0x12345)
        .with_ttm(TranslationTableMode::SCALABLE);
    assert_eq!(root.into_raw(), 0x1234_5400);
    assert_eq!(
        Rtaddr::from_raw(0xc00).ttm(),
        TranslationTableMode::ABORT_DMA
    );
    assert_eq!(RTADDR.offset(), 0x20);
    let queue = Iqa::new().with_iqa(0x76543).with_dw(true).with_qs(2);
    assert_eq!(queue.into_raw(), 0x7654_3802);
    assert_eq!(IQA.offset(), 0x90);
    assert_eq!(QueueOffset::new().with_descriptor(3).into_raw(), 0x60);
    assert_eq!(QueueOffset::from_raw(0x7_ffe0).descriptor(), 0x3fff);
    assert_eq!((IQH.offset(), IQT.offset()), (0x80, 0x88));
    let table = Irta::new().with_irta(0xabcde).with_eime(true).with_s(7);
    assert_eq!(table.into_raw(), 0xabcd_e807);
    assert_eq!(IRTA.offset(), 0xb8);
}

#[test]
fn tables_from_the_root_to_a_pasid() {
    assert_eq!(
        ContextTablePointer::new()
            .with_p(true)
            .with_ctp(0x20001)
            .into_bits(),
        0x2000_1001
    );
    let context = ContextEntry {
        word0: ContextEntry0::new()
            .with_p(true)
            .with_paside(true)
            .with_pdts(2)
            .with_pasiddirptr(0x20001),
        word1: ContextEntry1::new()
            .with_rid_pasid(0x12345)
            .with_rid_priv(true),
        ..ContextEntry::default()
    };
    assert_eq!(context.words(), [0x2000_1409, 0x0011_2345, 0, 0]);
    let directory = PasidDirectoryEntry::new().with_p(true).with_smptblptr(5);
    assert_eq!(directory.into_bits(), 0x5001);

    let second_stage = PasidEntry {
        word0: PasidEntry0::new()
            .with_p(true)
            .with_aw(2)
            .with_pgtt(Pgtt::SECOND_STAGE)
            .with_ssptptr(9),
        word1: PasidEntry1::new()
            .with_did(0x1234)
            .with_pwsnp(true)
            .with_pgsnp(true),
        ..PasidEntry::default()
    };
    assert_eq!(
        second_stage.words(),
        [0x9089, 0x0180_1234, 0, 0, 0, 0, 0, 0]
    );
    let first_stage = PasidEntry {
        word0: PasidEntry0::new().with_p(true).with_pgtt(Pgtt::FIRST_STAGE),
        word1: PasidEntry1::new().with_did(1),
        word2: PasidEntry2::new()
            .with_fsptptr(0xa)
            .with_sre(true)
            .with_wpe(true),
        ..PasidEntry::default()
    };
    assert_eq!(first_stage.words(), [0x41, 1, 0xa011, 0, 0, 0, 0, 0]);
}

#[test]
fn page_table_entries() {
    let page = SecondStageEntry::new()
        .with_r(true)
        .with_w(true)
        .with_ps(true)
        .with_addr(0x40200);
    assert_eq!(page.into_bits(), 0x4020_0083);
    assert_eq!(page.with_snp(true).into_bits(), 0x4020_0883);
    assert_eq!(
        SecondStageEntry::new()
            .with_addr(0xff_ffff_ffff)
            .into_bits(),
        0xf_ffff_ffff_f000
    );
    let page = FirstStageEntry::new()
        .with_p(true)
        .with_rw(true)
        .with_us(true)
        .with_a(true)
        .with_d(true)
        .with_ps(true)
        .with_addr(0x40200);
    assert_eq!(page.into_bits(), 0x4020_00e7);
}

#[test]
fn invalidation_descriptors() {
    let words = |descriptor: InvalidationDescriptor| descriptor.0;
    assert_eq!(
        words(
            ContextCacheInvalidate::new()
                .with_g(Granularity::DEVICE)
                .with_sid(0x00a0)
                .into()
        ),
        [0x0000_00a0_0000_0031, 0, 0, 0]
    );
    assert_eq!(
        words(
            ContextCacheInvalidate::new()
                .with_g(Granularity::GLOBAL)
                .into()
        ),
        [0x11, 0, 0, 0]
    );
    let pasid = PasidCacheInvalidate::new()
        .with_g(PasidCacheGranularity::PASID)
        .with_did(5)
        .with_pasid(0x12345);
    assert_eq!(words(pasid.into()), [0x0001_2345_0005_0017, 0, 0, 0]);
    assert_eq!(
        words(
            PasidCacheInvalidate::new()
                .with_g(PasidCacheGranularity::GLOBAL)
                .into()
        ),
        [0x37, 0, 0, 0]
    );
    let drained = IotlbInvalidate::new()
        .with_dr(true)
        .with_dw(true)
        .with_did(5);
    assert_eq!(
        words(drained.with_g(Granularity::DOMAIN).into()),
        [0x500e2, 0, 0, 0]
    );
    let pages = AddressMask::new().with_am(9).with_addr(0x40200);
    assert_eq!(
        words((drained.with_g(Granularity::PAGE), pages).into()),
        [0x500f2, 0x4020_0009, 0, 0]
    );
    assert_eq!(pages.with_ih(true).into_bits(), 0x4020_0049);
    let pasid = PasidIotlbInvalidate::new()
        .with_g(Granularity::DOMAIN)
        .with_did(5)
        .with_pasid(0x12345);
    assert_eq!(words(pasid.into()), [0x0001_2345_0005_0026, 0, 0, 0]);
    let entry = InterruptEntryCacheInvalidate::new()
        .with_g(true)
        .with_iidx(0x123)
        .with_im(3);
    assert_eq!(words(entry.into()), [0x0000_0123_1800_0014, 0, 0, 0]);
    let wait = InvalidationWait::new().with_sw(true).with_status_data(7);
    let address = WaitAddress::new().with_status_address(0x8008 >> 2);
    assert_eq!(
        words((wait, address).into()),
        [0x0000_0007_0000_0025, 0x8008, 0, 0]
    );
    assert_eq!(
        wait.with_fence(true).with_interrupt(true).into_bits() & 0xff,
        0x75
    );
}

#[test]
fn interrupt_remapping() {
    let low = IrteLow::new().with_p(true).with_v(0x51).with_dst(0x102);
    assert_eq!(low.into_bits(), 0x0000_0102_0051_0001);
    let high = IrteHigh::new()
        .with_sid(0x0020)
        .with_svt(SourceValidation::SOURCE_ID);
    assert_eq!(high.into_bits(), 0x4_0020);
    assert_eq!(RemappableAddress::for_index(5).into_bits(), 0xfee0_00b0);
    assert_eq!(
        RemappableAddress::for_index(0x8001).into_bits(),
        0xfee0_0034
    );
    assert_eq!(
        RemappableAddress::for_index(0xffff).into_bits(),
        0xfeef_fff4
    );
    assert_eq!(EventControl::new().with_im(true).into_bits(), 0x8000_0000);
    assert_eq!(EventData::new().with_vector(0x41).into_bits(), 0x41);
    assert_eq!(
        EventAddress::new().with_destination_7_0(0x12).into_bits(),
        0xfee1_2000
    );
}

#[test]
fn fault_records() {
    let status = Fsts::from_raw(0x0000_0173);
    assert!(status.pfo() && status.ppf() && status.iqe() && status.ice() && status.ite());
    assert_eq!(status.fri(), 1);

    // A read with PASID 0x12345 by 00:04.0 of a page that is not mapped.
    let high = FrcdHigh::from_raw(0xc123_4579_8000_0020);
    assert!(high.f() && high.t1() && !high.t2() && high.pp());
    assert!(!high.privileged() && !high.exe());
    assert_eq!(high.at(), 0);
    assert_eq!(high.fr(), FaultReason::SECOND_STAGE_NOT_PRESENT);
    assert_eq!((high.pv(), high.sid()), (0x12345, 0x20));
    assert_eq!(FrcdLow::from_raw(0x7654_3000).page_address(), 0x7654_3000);
    assert_eq!(
        FrcdLow::from_raw(0x0123_0000_0000_0000).interrupt_index(),
        0x123
    );
    assert_eq!(frcd_low(0x220, 1).offset(), 0x230);
    assert_eq!(frcd_high(0x220, 1).offset(), 0x238);

    assert!(FaultReason::INTERRUPT_SOURCE.has_interrupt_index());
    assert!(!FaultReason::INTERRUPT_COMPATIBILITY.has_interrupt_index());
    assert!(!FaultReason::NO_WRITE.is_interrupt());
    assert_eq!(FaultReason::NO_WRITE.to_string(), "page not writable (85h)");
    assert_eq!(FaultReason(0x7f).to_string(), "unknown reason 7Fh");

    let error = Iqercd::from_raw(0x0020_0028_0000_0004);
    assert_eq!(error.iqei(), QueueErrorInfo::RESERVED_FIELD);
    assert_eq!((error.itesid(), error.icesid()), (0x28, 0x20));
    assert!(Pmen::from_raw(0x8000_0001).epm() && Pmen::from_raw(1).prs());
}
