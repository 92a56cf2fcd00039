//! Random accesses, answers and events, against a host that is strict about what it is
//! asked.

use hwio::Submission;
use hwspec::dsa::ResetType;
use hwspec::pci::Pasid;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use vdsa::{
    Answer, GuestAddr, Host, Message, MovedHandle, NotRam, QueueAction, QueueIndex, QueueSet,
    Request, SoftwareErrorRecord, SubmissionKind, SubmissionRequest, VirtualDsa,
};

use crate::rig::{CMDSTATUS, MSIX, MSIXPERM, dedicated, shape, shared, two_pasids};

const VECTORS: u16 = 4;
/// Of the three queues, then of guest PASIDs 5 and 6.
const HOST_PASIDS: [u32; 5] = [0x101, 0x102, 0x103, 0x205, 0x206];

#[derive(Clone, Copy, Debug)]
struct Slot {
    is_masked: bool,
    is_ignored: bool,
    pasid: Pasid,
    message: Option<Message>,
}

/// A host that panics where the device breaks its side of the contract.
#[derive(Debug, Default)]
struct StrictHost {
    slots: [Option<Slot>; 9],
    out: Option<Request>,
    /// Queues that are physically enabled, or may be.
    enabled: QueueSet,
    next_handle: u16,
}

impl StrictHost {
    fn slot(&mut self, vector: u16) -> &mut Slot {
        let slot = self.slots[usize::from(vector)].as_mut();
        slot.unwrap_or_else(|| panic!("vector {vector} has no slot"))
    }

    /// Does what is asked, and says what to answer.
    fn carry_out(&mut self, succeeds: bool) -> Option<Answer> {
        let request = self.out.take()?;
        if !succeeds {
            return Some(match request {
                Request::AllocateHandle { .. } => Answer::NoHandle,
                Request::EnableQueue { queue, .. } => {
                    self.enabled = self.enabled.without(QueueSet::EMPTY.with(queue));
                    Answer::Failed
                }
                _ => Answer::Failed,
            });
        }
        match request {
            Request::AllocateHandle { vector, pasid } => {
                self.slots[usize::from(vector)] = Some(Slot {
                    is_masked: true,
                    is_ignored: false,
                    pasid,
                    message: None,
                });
                self.next_handle += 1;
                return Some(Answer::Handle(self.next_handle));
            }
            Request::ReleaseHandle { vector } => self.slots[usize::from(vector)] = None,
            Request::Reset { queues } => {
                assert_eq!(self.enabled.without(queues), QueueSet::EMPTY);
                self.enabled = QueueSet::EMPTY;
                self.slots = Default::default();
            }
            Request::Queues {
                queues,
                action: QueueAction::Disable | QueueAction::Reset,
            } => self.enabled = self.enabled.without(queues),
            Request::Queues { .. } | Request::Pasid { .. } | Request::EnableQueue { .. } => {}
        }
        Some(Answer::Done)
    }
}

fn assert_known(pasid: Pasid) {
    assert!(HOST_PASIDS.contains(&pasid.value()), "host PASID {pasid}");
}

impl Host for StrictHost {
    fn read_guest(&self, at: GuestAddr, into: &mut [u64]) -> Result<(), NotRam> {
        assert!(at.0.is_multiple_of(8));
        into.fill(at.0);
        if at.0 < 1 << 32 { Ok(()) } else { Err(NotRam) }
    }

    fn write_guest(&mut self, at: GuestAddr, _: &[u64]) -> Result<(), NotRam> {
        assert!(at.0.is_multiple_of(8));
        if at.0 < 1 << 32 { Ok(()) } else { Err(NotRam) }
    }

    fn read_window(&self, offset: usize, into: &mut [u64]) {
        assert!(offset + 8 * into.len() <= 0x10_0000);
        into.fill(0x1);
    }

    fn write_window(&mut self, offset: usize, words: &[u64]) {
        assert!(offset + 8 * words.len() <= 0x10_0000);
    }

    fn submit(&mut self, queue: QueueIndex, descriptor: &[u64; 8]) -> Submission {
        assert!(self.enabled.contains(queue), "queue {queue:?} is disabled");
        let first = hwspec::dsa::DescriptorWord0::from_bits(descriptor[0]);
        assert_known(Pasid::from_bits(first.pasid()));
        assert!(!first.privileged());
        Submission::Accepted
    }

    fn set_masked(&mut self, vector: u16, masked: bool) {
        self.slot(vector).is_masked = masked;
    }

    fn set_ignored(&mut self, vector: u16, ignored: bool) {
        self.slot(vector).is_ignored = ignored;
    }

    fn set_slot_pasid(&mut self, vector: u16, pasid: Pasid) {
        assert_known(pasid);
        let slot = self.slot(vector);
        assert!(slot.is_masked, "the PASID of an unmasked slot changes");
        slot.pasid = pasid;
    }

    fn is_pending(&self, vector: u16) -> bool {
        assert!(self.slots[usize::from(vector)].is_some());
        true
    }

    fn set_message(&mut self, vector: u16, message: Option<Message>) {
        let slot = self.slot(vector);
        assert!(slot.is_masked, "the message of an unmasked slot changes");
        slot.message = message;
    }

    fn inject(&mut self, message: Message) {
        assert_eq!(message.address >> 20, 0xfee);
    }

    fn request(&mut self, request: Request) {
        assert_eq!(self.out, None, "{request:?} while another is out");
        match request {
            Request::EnableQueue { queue, pasid } => {
                assert_known(pasid);
                assert!(!self.enabled.contains(queue));
                self.enabled = self.enabled.with(queue);
            }
            Request::Queues { queues, .. } => {
                assert!(!queues.is_empty());
                assert_eq!(queues.without(self.enabled), QueueSet::EMPTY);
            }
            Request::Pasid { pasid, .. } => assert_known(pasid),
            Request::AllocateHandle { vector, pasid } => {
                assert_known(pasid);
                assert!((1..VECTORS).contains(&vector));
                assert!(self.slots[usize::from(vector)].is_none());
            }
            Request::ReleaseHandle { vector } => {
                assert!(self.slot(vector).is_masked, "an unmasked slot is released");
            }
            Request::Reset { .. } => {
                let mut slots = self.slots.iter().flatten();
                assert!(
                    slots.all(|slot| slot.is_masked),
                    "unmasked slots at a reset"
                );
            }
        }
        self.out = Some(request);
    }
}

#[derive(Clone, Debug)]
enum Step {
    WriteConfig(u16, u8, u32),
    Write(u32, u8, u64),
    Answer(bool),
    Submit(SubmissionRequest),
    Collect,
    Revoke(u16),
    ReportHalt(u8),
    ReportError([u64; 3], Option<usize>),
    Reset,
}

fn any_width() -> impl Strategy<Value = u8> {
    prop_oneof![8 => prop::sample::select(vec![1, 2, 4, 8]), 1 => any::<u8>()]
}

/// Where something is, mostly.
fn any_offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => (0_u32..0x40).prop_map(|word| MSIX + 4 * (word % 20)),
        4 => (0_u32..8).prop_map(|word| MSIXPERM + 4 * word),
        2 => (0_u32..26).prop_map(|word| 0x500 + 4 * word),
        2 => 0_u32..0x800,
        1 => any::<u32>(),
    ]
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => any::<u64>(),
        2 => Just(0),
        1 => Just(0xfee0_1000),
        // MSIXPERM and WQCFG with PASIDs, known and not.
        3 => (4_u64..8).prop_map(|pasid| pasid << 12 | 8),
        2 => (4_u64..8).prop_map(|pasid| pasid << 8 | 1 << 28),
    ]
}

/// A command that is mostly a good one.
fn any_command() -> impl Strategy<Value = Step> {
    let operand = prop_oneof![8 => 0_u32..4, 1 => any::<u32>().prop_map(|bits| bits & 0xf_ffff)];
    let code = prop_oneof![
        12 => prop::sample::select(vec![1_u32, 6, 6, 6, 13, 13]),
        3 => 1_u32..15,
        1 => 0_u32..0x400
    ];
    (code, operand, any::<bool>()).prop_map(|(code, operand, interrupt)| {
        let no_operand = (1..=5).contains(&code) && operand < 7;
        let operand = if no_operand { 0 } else { operand };
        let command = u32::from(interrupt) << 31 | code << 20 & 0x7ff0_0000 | operand;
        Step::Write(0xa0, 4, command.into())
    })
}

fn any_submission() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![
        SubmissionKind::Movdir64b,
        SubmissionKind::Movdir64b,
        SubmissionKind::Movdir64b,
        SubmissionKind::Enqcmd,
        SubmissionKind::Enqcmds,
    ]);
    let operation = prop::sample::select(vec![0_u64, 1, 2, 3, 4, 0x10, 0x30]);
    // Mostly the MSI-X pages of the three queues.
    let offset = prop_oneof![
        4 => (0_u64..6).prop_map(|page| page / 2 * 0x4000 + page % 2 * 0x1000),
        1 => (0_u64..0x1_4000).prop_map(|offset| offset & !63),
    ];
    let wild = (operation, 0_u64..6, any::<u32>(), any::<[u32; 4]>()).prop_map(
        |(operation, handle, pasid, addresses)| {
            let [record, first, second, flags] = addresses.map(u64::from);
            let word0 = operation << 56 | (flags & 0x1c) << 32 | u64::from(pasid & 7);
            let (first, second) = (first & !63, second & !63);
            [
                word0,
                record & !31,
                first,
                second,
                handle << 32 | 4,
                0,
                0,
                0,
            ]
        },
    );
    // A no-op, a batch of two, a drain; all with a record.
    let tame = prop_oneof![
        Just([0xc_0000_0005, 0x2000, 0, 0, 0, 0, 0, 0]),
        Just([0x0100_000c_0000_0005, 0x2000, 0x1_0000, 0, 2, 0, 0, 0]),
        Just([0x0200_000c_0000_0006, 0x2000, 0, 0, 0, 0, 0, 0]),
    ];
    let words = prop_oneof![wild, tame];
    let fields = (offset, kind, 0_u32..8, words);
    fields.prop_map(|(offset, kind, pasid, words)| {
        Step::Submit(SubmissionRequest {
            offset,
            kind,
            pasid: Pasid::new(pasid),
            words,
            now_ns: 0,
        })
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let config = prop_oneof![
        4 => Just(0x04), 4 => Just(0x40), 2 => Just(0x58), 2 => 0_u16..0x80, 1 => any::<u16>()
    ];
    let config_value = prop_oneof![
        // Mostly on.
        20 => Just(0x8000_0006_u32),
        1 => any::<u32>(),
        1 => Just(0x8000),
    ];
    prop_oneof![
        2 => (config, any_width(), config_value).prop_map(|(o, w, v)| Step::WriteConfig(o, w, v)),
        8 => (any_offset(), any_width(), any_value()).prop_map(|(o, w, v)| Step::Write(o, w, v)),
        10 => any_command(),
        12 => prop::bool::weighted(0.9).prop_map(Step::Answer),
        16 => any_submission(),
        1 => Just(Step::Collect),
        1 => any::<u16>().prop_map(|vector| Step::Revoke(vector % 6)),
        1 => (0_u8..24).prop_map(Step::ReportHalt),
        1 => (any::<[u64; 3]>(), prop::option::of(0_usize..4))
            .prop_map(|(words, queue)| Step::ReportError(words, queue)),
        1 => prop::bool::weighted(0.2).prop_map(|really| if really { Step::Reset } else { Step::Collect }),
    ]
}

fn take(dsa: &mut VirtualDsa, host: &mut StrictHost, step: Step) {
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
        Step::Collect => dsa.collect_batches(host),
        Step::Revoke(vector) => {
            // Not while the slot is on its way out or in.
            if host.out.is_none() {
                let handle = 0x100 + vector;
                if let Some(Some(slot)) = host.slots.get_mut(usize::from(vector)) {
                    slot.is_masked = true;
                    slot.is_ignored = false;
                    slot.message = None;
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
                word0: hwspec::dsa::SwError0::from_bits(word0),
                word1: hwspec::dsa::SwError1::from_bits(word1),
                address,
            };
            dsa.report_error(host, queue.and_then(QueueIndex::new), record);
        }
        Step::Reset => dsa.reset(host),
    }
}

/// What the slots were told is what the guest's tables say.
fn check_slots(dsa: &VirtualDsa, host: &StrictHost) {
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
fn device() -> (VirtualDsa, StrictHost) {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 200 }))]

    #[test]
    fn nothing_that_a_guest_does_breaks_the_device(
        steps in prop::collection::vec(any_step(), 1..160)
    ) {
        let (mut dsa, mut host) = device();
        for step in steps {
            take(&mut dsa, &mut host, step);
            check_slots(&dsa, &host);
        }
        // Answered, everything comes to an end.
        for _ in 0..4 {
            take(&mut dsa, &mut host, Step::Answer(true));
            check_slots(&dsa, &host);
        }
        prop_assert_eq!(host.out, None);
        prop_assert_eq!(dsa.read_register(&host, CMDSTATUS, 4) >> 31, 0);
        // And whatever happened, resets bring it back.
        dsa.reset(&mut host);
        for _ in 0..4 {
            take(&mut dsa, &mut host, Step::Answer(true));
        }
        prop_assert!(dsa.is_idle());
        prop_assert_eq!(host.enabled, QueueSet::EMPTY);
        prop_assert!(host.slots.iter().all(Option::is_none));
        let fresh = new_device();
        for offset in (0..0x800).step_by(4) {
            let value = dsa.read_register(&host, offset, 4);
            prop_assert_eq!(value, fresh.read_register(&host, offset, 4), "{:#x}", offset);
        }
    }
}

/// The random steps reach what they are meant to reach.
#[test]
fn random_steps_get_somewhere() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(any_step(), 100..160);
    let (mut accepted, mut batches, mut handles, mut halts) = (0, 0, 0, 0);
    for _ in 0..100 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let (mut dsa, mut host) = device();
        for step in steps {
            take(&mut dsa, &mut host, step);
        }
        accepted += dsa.counters().accepted;
        batches += dsa.counters().batches;
        handles += u64::from(host.next_handle);
        halts += u64::from(dsa.read_register(&host, 0x90, 4) & 3 == 3);
    }
    let reached = (accepted, batches, handles, halts);
    assert!(accepted > 100 && batches > 20, "{reached:?}");
    assert!(handles > 50 && halts > 5, "{reached:?}");
}
