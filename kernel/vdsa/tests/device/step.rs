//! What can happen to a virtual accelerator, and what has to be true after it.

use hwspec::dsa::{ResetType, SwError0, SwError1};
use hwspec::pci::Pasid;
use vdsa::{
    Message, MovedHandle, QueueIndex, QueueSet, SoftwareErrorRecord, SubmissionRequest, VirtualDsa,
};

use crate::rig::{CMDSTATUS, MSIX, MSIXPERM, dedicated, shape, shared, two_pasids};
use crate::strict_host::{StrictHost, VECTORS};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    WriteConfig(u16, u8, u32),
    Write(u32, u8, u64),
    Answer(bool),
    Submit(SubmissionRequest),
    /// The device completes batches with this record, and says so.
    Collect([u64; 4]),
    Revoke(u16),
    ReportHalt(u8),
    ReportError([u64; 3], Option<usize>),
    Poke(u64, u64),
    Reset,
}

pub(crate) fn take(dsa: &mut VirtualDsa, host: &mut StrictHost, step: Step) {
    match step {
        Step::WriteConfig(offset, width, value) => {
            dsa.write_config(host, offset, width, value);
            dsa.read_config(offset, width);
        }
        Step::Write(offset, width, value) => {
            dsa.write_register(host, offset, width, value);
            dsa.read_register(host, offset, width);
        }
        Step::Answer(succeeds) => {
            if let Some(answer) = host.carry_out(succeeds) {
                dsa.answer(host, answer);
            }
        }
        Step::Submit(request) => {
            dsa.submit(host, &request);
        }
        Step::Collect(record) => {
            host.complete(record);
            dsa.collect_batches(host);
        }
        Step::Revoke(vector) => {
            // Not while the slot is on its way out or in.
            if host.out.is_none() {
                let handle = host.new_handle();
                if let Some(Some(slot)) = host.slots.get_mut(usize::from(vector)) {
                    slot.is_masked = true;
                    slot.is_ignored = false;
                    slot.message = None;
                    slot.handle = handle;
                }
                dsa.revoke_handles(host, &[MovedHandle { vector, handle }]);
            }
        }
        Step::ReportHalt(kind) => {
            let reset = [ResetType::ResetDevice, ResetType::FunctionLevel];
            if let Some(reset) = reset.get(usize::from(kind)) {
                dsa.report_halt(host, *reset);
            }
        }
        Step::ReportError([word0, word1, address], queue) => {
            let record = SoftwareErrorRecord {
                word0: SwError0::from_bits(word0),
                word1: SwError1::from_bits(word1),
                address,
            };
            dsa.report_error(host, queue.and_then(QueueIndex::new), record);
        }
        Step::Poke(at, word) => host.poke(at, word),
        Step::Reset => dsa.reset(host),
    }
}

/// What the slots were told is what the guest's tables say.
pub(crate) fn check_slots(dsa: &VirtualDsa, host: &StrictHost) {
    let control = dsa.read_config(0x42, 2);
    let is_off = control & 0x8000 == 0 || control & 0x4000 != 0;
    let handles = dsa.view(0).unwrap().handles;
    for vector in 1..VECTORS {
        let read = |offset: u32, width| dsa.read_register(host, offset, width);
        let entry = MSIX + 16 * u32::from(vector);
        let (address, data) = (read(entry, 8), read(entry + 8, 4));
        let permission = read(MSIXPERM + 8 * u32::from(vector), 4);
        let guest = permission >> 12;
        let pasid = match permission & 8 {
            0 => Some(0x100 + u32::from(vector)),
            _ if guest == 5 || guest == 6 => Some(0x200 + u32::try_from(guest).unwrap()),
            _ => None,
        };
        let handle = handles.of_vector(vector);
        let Some(handle) = handle else {
            continue;
        };
        let slot = host.slots[usize::from(vector)].unwrap();
        let is_masked = is_off || read(entry + 12, 4) & 1 != 0 || pasid.is_none();
        assert_eq!(slot.is_masked, is_masked, "vector {vector}");
        assert_eq!(slot.is_ignored, permission & 4 != 0, "vector {vector}");
        assert_eq!(handle.pasid.map(Pasid::value), pasid, "vector {vector}");
        if let Some(pasid) = pasid {
            assert_eq!(slot.pasid.value(), pasid, "vector {vector}");
        }
        if !is_masked {
            let message = (address >> 20 == 0xfee).then(|| Message {
                address: u32::try_from(address & !3).unwrap(),
                data: u32::try_from(data).unwrap(),
            });
            assert_eq!(slot.message, message, "vector {vector}");
        }
    }
    // A slot that no handle stands for is quiet.
    for (vector, slot) in (0..).zip(&host.slots) {
        if handles.of_vector(vector).is_none() {
            assert!(slot.is_none_or(|slot| slot.is_masked), "vector {vector}");
        }
    }
}

fn new_device() -> VirtualDsa {
    let queues = [dedicated(0x101), shared(0x102), dedicated(0x103)];
    VirtualDsa::new(&shape(&queues, &two_pasids())).unwrap()
}

/// Enabled, with all vectors unmasked.
pub(crate) fn device() -> (VirtualDsa, StrictHost) {
    let mut dsa = new_device();
    let mut host = StrictHost::default();
    dsa.write_config(&mut host, 0x04, 2, 6);
    dsa.write_config(&mut host, 0x42, 2, 0x8000);
    for vector in 0..u32::from(VECTORS) {
        let entry = MSIX + 16 * vector;
        dsa.write_register(&mut host, entry, 8, 0xfee0_0000);
        dsa.write_register(&mut host, entry + 8, 8, 0x40);
    }
    dsa.write_register(&mut host, 0xa0, 4, 0x0010_0000);
    (dsa, host)
}

/// Answered, everything comes to an end; and whatever happened, resets bring it back.
pub(crate) fn finish(mut dsa: VirtualDsa, mut host: StrictHost) {
    for _ in 0..4 {
        take(&mut dsa, &mut host, Step::Answer(true));
        check_slots(&dsa, &host);
    }
    assert_eq!(host.out, None);
    assert_eq!(dsa.read_register(&host, CMDSTATUS, 4) >> 31, 0);
    dsa.reset(&mut host);
    for _ in 0..4 {
        take(&mut dsa, &mut host, Step::Answer(true));
    }
    assert!(dsa.is_idle());
    assert_eq!(host.enabled, QueueSet::EMPTY);
    assert!(host.slots.iter().all(Option::is_none));
    let fresh = new_device();
    for offset in (0..0x800).step_by(4) {
        let value = dsa.read_register(&host, offset, 4);
        let expected = fresh.read_register(&host, offset, 4);
        assert_eq!(value, expected, "{offset:#x}");
    }
}
