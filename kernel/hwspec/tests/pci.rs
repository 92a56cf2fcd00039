//! Literal values of PCI configuration space. Where there are some, they are the
//! defaults of a DSA. [DSA 3.0, Appendix C "PCIe Configuration Registers"]

use hwspec::pci::{
    AtsControl, BUS_NUMBERS, BaseAddress, BusNumbers, CapabilityHeader, Command,
    DeviceCapabilities, DeviceControl, DeviceStatus, ExtendedCapabilityHeader, HeaderType,
    MsixCapability, MsixControl, MsixEntry, MsixLocation, PageRequestControl, Pasid,
    PasidCapabilities, PasidCapability, PasidControl, PcieCapabilities, PcieCapability,
    RevisionAndClass, SourceId, Status, base_address, base_address_high,
};

#[test]
fn source_ids_and_pasids_read_as_the_field_writes_them() {
    let source = SourceId::new()
        .with_bus(0x6a)
        .with_device(1)
        .with_function(0);
    assert_eq!(source.into_bits(), 0x6a08);
    assert_eq!(source.to_string(), "6a:01.0");
    assert_eq!(SourceId::from_bits(0x00ff).to_string(), "00:1f.7");
    assert_eq!(source.device_function(), 0x08);
    assert_eq!(source.ecam_offset(), 0x06a0_8000);
    assert_eq!(Pasid::new(0x10_0000), None);
    assert_eq!(Pasid::new(0xf_ffff), Some(Pasid::MAX));
    assert_eq!(Pasid::from_bits(0xfff1_2345).value(), 0x12345);
    assert_eq!(Pasid::MAX.to_string(), "0xfffff");
}

#[test]
fn header() {
    assert_eq!(
        Command::new()
            .with_memory_space(true)
            .with_bus_master(true)
            .into_bits(),
        6
    );
    assert_eq!(
        Command::new().with_interrupt_disable(true).into_bits(),
        0x400
    );
    assert!(Status::from_bits(0x10).capabilities_list());
    assert_eq!(RevisionAndClass::from_bits(0x0880_0002).base_class(), 8);
    assert_eq!(RevisionAndClass::from_bits(0x0880_0002).sub_class(), 0x80);
    assert!(HeaderType::from_bits(0x80).multi_function());
    assert_eq!(HeaderType::from_bits(0x81).layout(), HeaderType::BRIDGE);
    let bar = BaseAddress::from_bits(0xfe00_000c);
    assert!(!bar.io() && bar.prefetchable());
    assert_eq!(bar.memory_type(), BaseAddress::MEMORY_64);
    assert_eq!(bar.address_31_4(), 0x0fe0_0000);
    assert_eq!(base_address(2).offset(), 0x18);
    assert_eq!(base_address_high(2).offset(), 0x1c);
    let buses = BusNumbers::from_bits(0x0003_0200);
    assert_eq!(
        (buses.primary(), buses.secondary(), buses.subordinate()),
        (0, 2, 3)
    );
    assert_eq!(BUS_NUMBERS.offset(), 0x18);
}

#[test]
fn capability_lists() {
    let header = CapabilityHeader::from_bits(0x9011);
    assert_eq!((header.id(), header.next()), (0x11, 0x90));
    let header = ExtendedCapabilityHeader::from_bits(0x2401_001b);
    assert_eq!(
        (header.id(), header.version(), header.next()),
        (0x1b, 1, 0x240)
    );
}

#[test]
fn capabilities() {
    let pcie = PcieCapabilities::from_bits(0x0092);
    assert_eq!(pcie.version(), 2);
    assert_eq!(pcie.port_type(), PcieCapabilities::ROOT_COMPLEX_INTEGRATED);
    assert!(DeviceCapabilities::from_bits(0x1000_8022).flr());
    let control = DeviceControl::from_bits(0x2910);
    assert!(control.relaxed_ordering() && control.extended_tag() && control.no_snoop());
    assert_eq!(control.max_read_request_size(), 2);
    assert_eq!(
        DeviceControl::new().with_initiate_flr(true).into_bits(),
        0x8000
    );
    assert!(DeviceStatus::from_bits(0x20).transactions_pending());
    let at = PcieCapability { base: 0x40 };
    assert_eq!(at.device_capabilities().offset(), 0x44);
    assert_eq!(
        (at.device_control().offset(), at.device_status().offset()),
        (0x48, 0x4a)
    );

    assert_eq!(MsixControl::from_bits(0x0008).entries(), 9);
    assert_eq!(MsixControl::new().with_enable(true).into_bits(), 0x8000);
    assert_eq!(
        MsixControl::new().with_function_mask(true).into_bits(),
        0x4000
    );
    assert_eq!(MsixLocation::from_bits(0x0000_3002).offset(), 0x3000);
    assert_eq!(MsixLocation::from_bits(0x0000_3002).bir(), 2);
    assert_eq!(MsixCapability { base: 0x80 }.pending_bits().offset(), 0x88);
    assert_eq!(MsixEntry::at(0x2000, 3).control().offset(), 0x203c);

    let pasid = PasidCapabilities::from_bits(0x1404);
    assert!(pasid.privileged() && !pasid.execute());
    assert_eq!(pasid.width(), 20);
    let enabled = PasidControl::new().with_enable(true).with_privileged(true);
    assert_eq!(enabled.into_bits(), 5);
    assert_eq!(PasidCapability { base: 0x230 }.control().offset(), 0x236);
    assert_eq!(AtsControl::new().with_enable(true).into_bits(), 0x8000);
    assert_eq!(PageRequestControl::new().with_reset(true).into_bits(), 2);
}
