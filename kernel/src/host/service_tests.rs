use alloc::vec;
use alloc::vec::Vec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc as Shared, Mutex as Lock};

use dsa::ims::{Entry, ImsIndex, Message};
use dsa::{
    Command, FailedDescriptor, InterruptHandle, Outcome, Plan, Poll, QueuePasid, RegisterName,
    State,
};
use hwspec::dsa::{CmdStatus, CommandCode, CommandError, ImsControl, IntCause, Operation, Status};
use hwspec::pci::Pasid;

use super::super::client::{ClientSetup, Event, MAX_VECTORS, QueueAction, VectorError};
use super::super::hardware::OpenError;
use super::super::routes::{Completion, GuestTarget};
use super::*;

/// An IMS entry: what it holds, shared with the test.
#[derive(Clone, Debug, Default)]
struct FakeEntry(Shared<Lock<EntryState>>);

#[derive(Debug)]
struct EntryState {
    control: ImsControl,
    message: Option<Message>,
    /// It forgets what is written.
    is_broken: bool,
}

impl Default for EntryState {
    fn default() -> Self {
        Self {
            control: ImsControl::new().with_mask(true),
            message: None,
            is_broken: false,
        }
    }
}

impl Entry for FakeEntry {
    fn write_message(&mut self, message: Message) {
        self.0.lock().unwrap().message = Some(message);
    }

    fn write_control(&mut self, control: ImsControl) {
        let mut state = self.0.lock().unwrap();
        if !state.is_broken {
            state.control = control;
        }
    }

    fn read_control(&self) -> ImsControl {
        self.0.lock().unwrap().control
    }
}

/// A line, by number.
#[derive(Debug, PartialEq, Eq)]
struct FakeLine {
    number: u8,
    cpu: usize,
}

/// What the test and the service see of the device.
#[derive(Debug, Default)]
struct DeviceState {
    started: Vec<(Command, bool)>,
    active: Option<Command>,
    /// How the next commands end; those that follow succeed with result 0.
    outcomes: VecDeque<(CommandError, u16)>,
    /// Commands stay active.
    is_slow: bool,
    /// Commands time out.
    hangs: bool,
    is_gone: bool,
    has_handles: bool,
    causes: IntCause,
    error: Option<SoftwareError>,
    halted: Option<ResetType>,
    restart_fails: bool,
    enabled: BTreeMap<u8, QueuePasid>,
    /// What was done in which order during recovery.
    recovery: Vec<&'static str>,
    iommu_is_busy: bool,
    lines_left: u8,
    next_line: u8,
    targets: BTreeMap<u8, Option<GuestTarget>>,
    closed: Vec<u8>,
}

#[derive(Clone, Debug)]
struct FakeHardware(Shared<Lock<DeviceState>>);

const GONE: dsa::Error = dsa::Error::DeviceGone {
    register: RegisterName::CmdStatus,
};

impl Hardware for FakeHardware {
    type Entry = FakeEntry;
    type Line = FakeLine;

    fn start(&mut self, command: Command, with_interrupt: bool) -> Result<(), dsa::Error> {
        let mut state = self.0.lock().unwrap();
        assert!(state.active.is_none(), "{command} while another is active");
        state.started.push((command, with_interrupt));
        state.active = Some(command);
        Ok(())
    }

    fn poll(&mut self) -> Result<Poll, dsa::Error> {
        let mut state = self.0.lock().unwrap();
        if state.is_gone {
            return Err(GONE);
        }
        let Some(command) = state.active else {
            return Ok(Poll::Idle);
        };
        if state.hangs {
            return Err(dsa::Error::Timeout {
                command: command.code(),
                status: CmdStatus::new().with_active(true),
            });
        }
        if state.is_slow {
            return Ok(Poll::Active);
        }
        state.active = None;
        let (error, result) = state
            .outcomes
            .pop_front()
            .unwrap_or((CommandError::NONE, 0));
        Ok(Poll::Done(Outcome {
            command,
            error,
            result,
        }))
    }

    fn has_handle_commands(&self) -> bool {
        self.0.lock().unwrap().has_handles
    }

    fn take_causes(&mut self) -> Result<IntCause, dsa::Error> {
        let mut state = self.0.lock().unwrap();
        if state.is_gone {
            return Err(GONE);
        }
        Ok(core::mem::take(&mut state.causes))
    }

    fn take_software_error(&mut self) -> Result<Option<SoftwareError>, dsa::Error> {
        Ok(self.0.lock().unwrap().error.take())
    }

    fn state(&self) -> Result<State, dsa::Error> {
        let halted = self.0.lock().unwrap().halted;
        Ok(halted.map_or(State::Enabled, State::Halted))
    }

    fn configure(&mut self, _: &Plan) -> Result<(), dsa::Error> {
        Ok(())
    }

    fn enable_queue(&mut self, queue: u8, pasid: QueuePasid) -> Result<(), dsa::Error> {
        self.0.lock().unwrap().enabled.insert(queue, pasid);
        Ok(())
    }

    fn queue_pasid(&self, queue: u8) -> Option<QueuePasid> {
        let state = self.0.lock().unwrap();
        state.enabled.get(&queue).copied()
    }

    fn restart(&mut self) -> Result<(), dsa::Error> {
        let mut state = self.0.lock().unwrap();
        state.recovery.push("restart");
        if state.restart_fails {
            return Err(GONE);
        }
        state.halted = None;
        state.active = None;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), dsa::Error> {
        self.0.lock().unwrap().recovery.push("resume");
        Ok(())
    }

    fn request_handle(&mut self, index: ImsIndex) -> Result<InterruptHandle, dsa::Error> {
        self.0.lock().unwrap().recovery.push("handle");
        Ok(InterruptHandle(0x200 + index.0))
    }

    fn open_line(&mut self, cpu: usize, target: GuestTarget) -> Result<FakeLine, OpenError> {
        let mut state = self.0.lock().unwrap();
        if state.iommu_is_busy {
            return Err(OpenError::Busy);
        }
        state.lines_left = state.lines_left.checked_sub(1).ok_or(OpenError::NoneLeft)?;
        let number = state.next_line;
        state.next_line += 1;
        state.targets.insert(number, Some(target));
        Ok(FakeLine { number, cpu })
    }

    fn message(line: &FakeLine) -> Message {
        Message::new(0xfee0_0000 + (u64::from(line.number) << 4), 0).unwrap()
    }

    fn line_cpu(line: &FakeLine) -> usize {
        line.cpu
    }

    fn line_vector(line: &FakeLine) -> u8 {
        0x30 + line.number
    }

    fn set_line_target(&mut self, line: &FakeLine, target: Option<GuestTarget>) {
        let mut state = self.0.lock().unwrap();
        state.targets.insert(line.number, target);
    }

    fn close_line(&mut self, line: FakeLine) -> Result<(), FakeLine> {
        let mut state = self.0.lock().unwrap();
        if state.iommu_is_busy {
            return Err(line);
        }
        state.closed.push(line.number);
        Ok(())
    }
}

/// A service, and everything that the test holds of it.
struct Bench {
    service: Service<FakeHardware>,
    device: Shared<Lock<DeviceState>>,
    entries: Vec<FakeEntry>,
}

fn bench(entries: usize) -> Bench {
    let device = Shared::new(Lock::new(DeviceState {
        lines_left: 200,
        ..DeviceState::default()
    }));
    let entries: Vec<FakeEntry> = (0..entries).map(|_| FakeEntry::default()).collect();
    let store = Store::new(entries.iter().cloned()).unwrap();
    Bench {
        service: Service::new(FakeHardware(Shared::clone(&device)), store),
        device,
        entries,
    }
}

type TestClient = (usize, Arc<Client<FakeHardware>>);

impl Bench {
    fn device(&self) -> std::sync::MutexGuard<'_, DeviceState> {
        self.device.lock().unwrap()
    }

    /// A client with these queues, and PASID 100 + the lowest of them.
    fn client(&self, queues: &[u8]) -> TestClient {
        let pasid = 100 + u32::from(*queues.first().unwrap_or(&50));
        self.service.add_client(setup(queues, &[], pasid)).unwrap()
    }

    fn post(&self, client: &TestClient, request: Request) -> Option<Answer> {
        client.1.post(request);
        self.service.post(client.0);
        client.1.take_answer()
    }

    fn allocate(&self, client: &TestClient, vector: u8) -> Option<Answer> {
        let pasid = client.1.setup.pasids[0];
        self.post(client, allocate(vector, pasid, 1))
    }

    fn interrupt(&self, causes: IntCause) {
        self.device().causes = causes;
        self.service.note_interrupt();
        self.service.run();
    }

    fn commands(&self) -> Vec<Command> {
        let mut device = self.device();
        device
            .started
            .drain(..)
            .map(|(command, _)| command)
            .collect()
    }

    fn control(&self, index: usize) -> ImsControl {
        self.entries[index].read_control()
    }
}

fn pasid(value: u32) -> Pasid {
    Pasid::new(value).unwrap()
}

fn setup(queues: &[u8], shared: &[u8], of: u32) -> ClientSetup {
    ClientSetup {
        queues: queues.iter().copied().collect(),
        shared_queues: shared.iter().copied().collect(),
        pasids: vec![pasid(of)],
        notify: |_| {},
        token: 0,
    }
}

fn target(vector: u8) -> GuestTarget {
    GuestTarget {
        vm: 3,
        device: 0,
        completion: Completion::Vector(vector.into()),
    }
}

fn allocate(vector: u8, pasid: Pasid, cpu: usize) -> Request {
    Request::AllocateVector {
        vector,
        pasid,
        cpu,
        target: target(vector),
    }
}

const fn just(queue: u8, action: QueueAction) -> Request {
    Request::Queues {
        queues: Set::just(queue),
        action,
        pasids: Set::EMPTY,
    }
}

const HANDLE_0: Option<Answer> = Some(Answer::Handle(InterruptHandle(0)));
const NOT_YOURS: Option<Answer> = Some(Answer::Failed(Failure::NotYours));
const STOPPED: Option<Answer> = Some(Answer::Failed(Failure::Stopped));

#[test]
fn a_request_is_one_command_after_the_other() {
    let bench = bench(4);
    let client = bench.client(&[0, 2]);
    let enable = QueuePasid::unprivileged(pasid(100));
    let answer = bench.post(
        &client,
        Request::EnableQueue {
            queue: 2,
            pasid: enable,
        },
    );
    assert_eq!(answer, Some(Answer::Done));
    let queues = Set(0b101);
    let request = Request::Queues {
        queues,
        action: QueueAction::Drain,
        pasids: Set::EMPTY,
    };
    assert_eq!(bench.post(&client, request), Some(Answer::Done));
    let abort = Request::AbortPasid(pasid(100));
    assert_eq!(bench.post(&client, abort), Some(Answer::Done));
    assert_eq!(
        bench.commands(),
        [
            Command::EnableQueue {
                queue: 2,
                pasid: enable
            },
            Command::DrainQueue(0),
            Command::DrainQueue(2),
            Command::AbortPasid(pasid(100)),
        ]
    );
}

#[test]
fn commands_that_take_long_end_with_an_interrupt() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    bench.post(&client, just(0, QueueAction::Disable));
    let pasid = QueuePasid::unprivileged(pasid(100));
    bench.post(&client, Request::EnableQueue { queue: 0, pasid });
    let with_interrupt: Vec<bool> = bench.device().started.iter().map(|it| it.1).collect();
    assert_eq!(with_interrupt, [true, false]);
}

#[test]
fn clients_take_turns_and_wait_for_nobody() {
    let bench = bench(1);
    let clients = [0, 1, 2].map(|queue| bench.client(&[queue]));
    bench.device().is_slow = true;
    for (queue, client) in (0..).zip(&clients) {
        assert_eq!(bench.post(client, just(queue, QueueAction::Drain)), None);
    }
    assert_eq!(bench.commands(), [Command::DrainQueue(0)]);
    bench.device().is_slow = false;
    bench.service.run();
    for client in &clients {
        assert_eq!(client.1.take_answer(), Some(Answer::Done));
    }
    assert_eq!(
        bench.commands(),
        [Command::DrainQueue(1), Command::DrainQueue(2)]
    );
}

#[test]
fn what_is_not_a_clients_own_is_refused() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    let own = QueuePasid::unprivileged(pasid(100));
    let other = QueuePasid::unprivileged(pasid(101));
    for request in [
        Request::EnableQueue {
            queue: 1,
            pasid: own,
        },
        Request::EnableQueue {
            queue: 0,
            pasid: other,
        },
        Request::EnableQueue {
            queue: 64,
            pasid: own,
        },
        just(1, QueueAction::Reset),
        Request::DrainPasid(pasid(101)),
        Request::AbortPasid(pasid(101)),
        allocate(1, pasid(101), 0),
        allocate(u8::try_from(MAX_VECTORS).unwrap(), pasid(100), 0),
        Request::MoveVector { vector: 1, cpu: 0 },
        Request::MoveVector {
            vector: 255,
            cpu: 0,
        },
    ] {
        assert_eq!(bench.post(&client, request), NOT_YOURS, "{request:?}");
    }
    assert_eq!(bench.commands(), []);
    assert_eq!(bench.service.slot_counts().free, 1);
}

#[test]
fn a_queue_belongs_to_one_client_or_to_those_that_share_it() {
    let bench = bench(1);
    let add = |setup| bench.service.add_client(setup).map(|(number, _)| number);
    assert_eq!(add(setup(&[0], &[2], 100)), Ok(0));
    assert_eq!(add(setup(&[1], &[2], 101)), Ok(1));
    let taken = |bits| Err(ClientError::QueueTaken(Set(bits)));
    assert_eq!(add(setup(&[0, 1, 3], &[], 102)), taken(0b011));
    assert_eq!(add(setup(&[2], &[], 102)), taken(0b100));
    assert_eq!(add(setup(&[], &[0], 102)), taken(0b001));
    for number in 2..MAX_CLIENTS {
        assert_eq!(add(setup(&[], &[2], 102)), Ok(number));
    }
    assert_eq!(add(setup(&[], &[2], 102)), Err(ClientError::TooMany));
    bench.service.remove_client(5);
    assert_eq!(add(setup(&[], &[2], 102)), Ok(5));
}

#[test]
fn a_vector_gets_a_masked_slot_with_its_pasid_and_its_line() {
    let bench = bench(2);
    let client = bench.client(&[0]);
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    let expected = ImsControl::new()
        .with_mask(true)
        .with_pasid_enable(true)
        .with_pasid(100);
    assert_eq!(bench.control(0), expected);
    let message = bench.entries[0].0.lock().unwrap().message;
    assert_eq!(message, Some(Message::new(0xfee0_0000, 0).unwrap()));
    assert_eq!(bench.device().targets[&0], Some(target(1)));
    // Once more gives the same.
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    assert_eq!(bench.service.slot_counts().free, 1);
    // Its owner unmasks it and moves it to another PASID, but not to a foreign one.
    client
        .1
        .with_slot(1, |slot| slot.set_masked(false))
        .unwrap();
    assert!(!bench.control(0).mask());
    let foreign = client.1.set_vector_pasid(1, pasid(7));
    assert_eq!(foreign, Err(VectorError::NotYours(pasid(7))));
    assert_eq!(client.1.set_vector_pasid(1, pasid(100)), Ok(()));
    let none = client.1.with_slot(2, |slot| slot.set_masked(false));
    assert_eq!(none, Err(VectorError::NoSlot(2)));
}

#[test]
fn a_device_that_gives_handles_is_asked_for_them() {
    let bench = bench(2);
    bench.device().has_handles = true;
    bench.device().outcomes = VecDeque::from([(CommandError::NONE, 0x4001)]);
    let client = bench.client(&[0]);
    let handle = InterruptHandle(0x4001);
    assert_eq!(bench.allocate(&client, 1), Some(Answer::Handle(handle)));
    assert_eq!(client.1.handle(1), Some(handle));
    let released = bench.post(&client, Request::ReleaseVectors(Set::just(1)));
    assert_eq!(released, Some(Answer::Done));
    assert_eq!(
        bench.commands(),
        [
            Command::RequestHandle(ImsIndex(0)),
            Command::DrainPasid(pasid(100)),
            Command::ReleaseHandle(handle)
        ]
    );
    assert_eq!(bench.service.slot_counts().free, 2);
}

/// Otherwise a descriptor of the old owner would interrupt the next one.
#[test]
fn a_slot_is_nobody_elses_before_what_named_it_is_drained() {
    let bench = bench(1);
    let setup = ClientSetup {
        pasids: vec![pasid(100), pasid(101), pasid(102)],
        ..setup(&[0], &[], 100)
    };
    let client = bench.service.add_client(setup).unwrap();
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    // The device may have descriptors with the old PASID and with the new one.
    client.1.set_vector_pasid(1, pasid(102)).unwrap();
    bench.device().is_slow = true;
    let release = Request::ReleaseVectors(Set::just(1));
    assert_eq!(bench.post(&client, release), None);
    assert!(!bench.control(0).pasid_enable());
    assert_eq!(bench.service.slot_counts().free, 0);
    assert_eq!(bench.device().targets[&0], Some(target(1)));
    bench.device().is_slow = false;
    bench.service.run();
    assert_eq!(client.1.take_answer(), Some(Answer::Done));
    assert_eq!(bench.service.slot_counts().free, 1);
    let drains = [100, 102].map(|of| Command::DrainPasid(pasid(of)));
    assert_eq!(bench.commands(), drains);
    // What the device does not drain is not given to anybody.
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    bench.device().outcomes = VecDeque::from([(CommandError::HARDWARE, 0)]);
    let failed = Answer::Failed(Failure::Command(CommandError::HARDWARE));
    assert_eq!(bench.post(&client, release), Some(failed));
    assert_eq!(bench.service.slot_counts().free, 0);
    assert_eq!(bench.post(&client, release), Some(Answer::Done));
}

#[test]
fn in_shared_queues_a_client_waits_for_its_pasids() {
    let bench = bench(1);
    let setup = ClientSetup {
        pasids: vec![pasid(100), pasid(101), pasid(102)],
        ..setup(&[0], &[2], 100)
    };
    let client = bench.service.add_client(setup).unwrap();
    let request = |pasids| Request::Queues {
        queues: Set::just(0),
        action: QueueAction::Disable,
        pasids: Set(pasids),
    };
    assert_eq!(bench.post(&client, request(0b110)), Some(Answer::Done));
    let reset = Request::Reset {
        queues: Set::EMPTY,
        pasids: Set(0b001),
        vectors: Set::EMPTY,
    };
    assert_eq!(bench.post(&client, reset), Some(Answer::Done));
    let drain = |of| Command::DrainPasid(pasid(of));
    assert_eq!(
        bench.commands(),
        [Command::DisableQueue(0), drain(101), drain(102), drain(100)]
    );
    assert_eq!(bench.post(&client, request(0b1000)), NOT_YOURS);
}

#[test]
fn when_anything_is_short_nothing_is_kept() {
    // Handles.
    let bench0 = bench(2);
    bench0.device().has_handles = true;
    bench0.device().outcomes = VecDeque::from([(CommandError::NO_INTERRUPT_HANDLE, 0)]);
    let client = bench0.client(&[0]);
    assert_eq!(bench0.allocate(&client, 1), Some(Answer::NoHandle));
    assert_eq!(bench0.service.slot_counts().free, 2);
    assert_eq!(client.1.handle(1), None);
    // Lines.
    let bench1 = bench(2);
    bench1.device().lines_left = 0;
    let client = bench1.client(&[0]);
    assert_eq!(bench1.allocate(&client, 1), Some(Answer::NoHandle));
    assert_eq!(bench1.service.slot_counts().free, 2);
    // Slots.
    let bench2 = bench(1);
    let client = bench2.client(&[0]);
    assert_eq!(bench2.allocate(&client, 1), HANDLE_0);
    assert_eq!(bench2.allocate(&client, 2), Some(Answer::NoHandle));
    assert_eq!(bench2.device().next_line, 1);
}

#[test]
fn lines_are_used_again_by_their_client() {
    let bench = bench(2);
    let client = bench.client(&[0]);
    for _ in 0..100 {
        assert!(matches!(
            bench.allocate(&client, 1),
            Some(Answer::Handle(_))
        ));
        assert_eq!(bench.device().targets[&0], Some(target(1)));
        let release = Request::ReleaseVectors(Set::just(1));
        assert_eq!(bench.post(&client, release), Some(Answer::Done));
        assert_eq!(bench.device().targets[&0], None);
    }
    assert_eq!(bench.device().next_line, 1);
    bench.service.remove_client(client.0);
    assert!(bench.device().closed.is_empty());
    bench.service.housekeep();
    assert_eq!(bench.device().closed, [0]);
    assert_eq!(bench.service.count_retired(), 0);
}

#[test]
fn a_vector_moves_with_its_mask_and_leaves_its_old_target() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    client
        .1
        .with_slot(1, |slot| slot.set_masked(false))
        .unwrap();
    let moved = bench.post(&client, Request::MoveVector { vector: 1, cpu: 0 });
    assert_eq!(moved, Some(Answer::Done));
    let message = bench.entries[0].0.lock().unwrap().message;
    assert_eq!(message, Some(Message::new(0xfee0_0010, 0).unwrap()));
    assert!(!bench.control(0).mask());
    // What is on its way to the old processor still arrives.
    assert_eq!(bench.device().targets[&0], Some(target(1)));
    // Back and forth takes no more lines.
    for cpu in [1, 0, 1] {
        bench.post(&client, Request::MoveVector { vector: 1, cpu });
    }
    assert_eq!(bench.device().next_line, 2);
}

/// Vector 1 gets another slot, and the old one is called 9.
const REPLACE: Request = Request::ReplaceVector {
    vector: 1,
    cpu: 0,
    aside: 9,
};

#[test]
fn a_vector_gets_another_slot_and_keeps_the_old_one_for_a_while() {
    let bench = bench(2);
    let client = bench.client(&[0]);
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    let unmask = |vector| client.1.with_slot(vector, |slot| slot.set_masked(false));
    unmask(1).unwrap();
    let handle_1 = Some(Answer::Handle(InterruptHandle(1)));
    assert_eq!(bench.post(&client, REPLACE), handle_1);
    // The new one is masked, and has the PASID; the old one is as it was.
    assert!(bench.control(1).mask() && bench.control(1).pasid_enable());
    assert_eq!(bench.control(1).pasid(), 100);
    assert!(!bench.control(0).mask());
    assert_eq!(client.1.handle(9), Some(InterruptHandle(0)));
    assert_eq!(client.1.handle(1), Some(InterruptHandle(1)));
    // Both lead to the same vector of the guest.
    let targets = bench.device().targets.clone();
    assert_eq!([targets[&0], targets[&1]], [Some(target(1)); 2]);
    // There can be but one old one.
    assert_eq!(bench.post(&client, REPLACE), NOT_YOURS);
    assert_eq!(client.1.handle(1), Some(InterruptHandle(1)));
    let release = Request::ReleaseVectors(Set(1 << 9));
    assert_eq!(bench.post(&client, release), Some(Answer::Done));
    assert_eq!(
        bench.control(0),
        ImsControl::new().with_mask(true).with_ignore(true)
    );
    assert_eq!(bench.service.slot_counts().free, 1);
    assert_eq!(bench.post(&client, REPLACE), HANDLE_0);
}

#[test]
fn without_another_slot_a_vector_keeps_its_own() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    assert_eq!(bench.post(&client, REPLACE), NOT_YOURS);
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    assert_eq!(bench.post(&client, REPLACE), Some(Answer::NoHandle));
    assert_eq!(client.1.handle(1), Some(InterruptHandle(0)));
    assert_eq!(client.1.handle(9), None);
}

#[test]
fn no_client_takes_more_than_its_lines() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    assert_eq!(bench.allocate(&client, 1), HANDLE_0);
    let moves = |cpu| bench.post(&client, Request::MoveVector { vector: 1, cpu });
    for cpu in 2..=super::super::client::MAX_LINES {
        assert_eq!(moves(cpu), Some(Answer::Done));
    }
    assert_eq!(moves(1000), Some(Answer::NoHandle));
    assert_eq!(client.1.handle(1), Some(InterruptHandle(0)));
}

#[test]
fn a_busy_iommu_delays_and_fails_nothing() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    bench.device().iommu_is_busy = true;
    assert_eq!(bench.allocate(&client, 1), None);
    bench.service.run();
    assert_eq!(client.1.take_answer(), None);
    bench.device().iommu_is_busy = false;
    bench.service.run();
    assert_eq!(client.1.take_answer(), HANDLE_0);
}

#[test]
fn a_reset_takes_queues_and_vectors() {
    let bench = bench(4);
    let client = bench.client(&[0, 1]);
    for vector in [1, 2, 20] {
        bench.allocate(&client, vector).unwrap();
    }
    let reset = Request::Reset {
        queues: Set(0b11),
        pasids: Set::EMPTY,
        vectors: Set(0b110),
    };
    assert_eq!(bench.post(&client, reset), Some(Answer::Done));
    assert_eq!(
        bench.commands(),
        [
            Command::ResetQueue(0),
            Command::ResetQueue(1),
            Command::DrainPasid(pasid(100))
        ]
    );
    // The vector that was not named is still there.
    assert_eq!(bench.service.slot_counts().free, 3);
    assert_eq!(client.1.handle(20), Some(InterruptHandle(2)));
    // Should its client end all the same, its slot is lost, and the device refuses it.
    bench.service.remove_client(client.0);
    assert!(!bench.control(2).pasid_enable());
    assert_eq!(bench.service.slot_counts().free, 3);
    bench.service.housekeep();
    assert_eq!(bench.service.count_retired(), 0);
    assert_eq!(bench.device().closed.len(), 3);
}

#[test]
fn a_refused_command_is_the_clients_to_know() {
    let bench = bench(1);
    let client = bench.client(&[0, 1]);
    bench.device().outcomes = VecDeque::from([(CommandError::WQ_NOT_ENABLED, 0)]);
    let request = Request::Queues {
        queues: Set(0b11),
        action: QueueAction::Disable,
        pasids: Set::EMPTY,
    };
    let refused = Answer::Failed(Failure::Command(CommandError::WQ_NOT_ENABLED));
    assert_eq!(bench.post(&client, request), Some(refused));
    assert_eq!(bench.commands(), [Command::DisableQueue(0)]);
    assert_eq!(bench.service.health(), Health::Works);
    let refused = bench
        .service
        .counters
        .refused_commands
        .load(Ordering::Relaxed);
    assert_eq!(refused, 1);
    assert_eq!(
        bench.service.counters.last_refused(),
        (
            Command::DisableQueue(0).code(),
            CommandError::WQ_NOT_ENABLED
        )
    );
}

#[test]
fn a_command_that_never_ends_stops_the_users_of_its_device() {
    let bench = bench(2);
    let one = bench.client(&[0]);
    let two = bench.client(&[1]);
    bench.allocate(&two, 1).unwrap();
    bench.device().hangs = true;
    let answer = bench.post(&one, just(0, QueueAction::Drain));
    assert!(matches!(
        answer,
        Some(Answer::Failed(Failure::Device(dsa::Error::Timeout {
            command: CommandCode::DRAIN_WQ,
            ..
        })))
    ));
    assert_eq!(bench.service.health(), Health::Failed);
    assert!(matches!(
        bench.service.cause(),
        Some(dsa::Error::Timeout {
            command: CommandCode::DRAIN_WQ,
            ..
        })
    ));
    assert_eq!(one.1.take_event(), Some(Event::Failed));
    assert_eq!(two.1.take_event(), Some(Event::Failed));
    assert_eq!(two.1.take_event(), None);
    assert_eq!(bench.post(&two, just(1, QueueAction::Drain)), STOPPED);
    // It can still let go of what it has.
    let release = Request::ReleaseVectors(Set::ALL_VECTORS);
    assert_eq!(bench.post(&two, release), Some(Answer::Done));
    bench.service.remove_client(two.0);
    bench.service.housekeep();
    assert_eq!(bench.device().closed, [0]);
    // Who comes later hears of it at once.
    let late = bench.client(&[5]);
    assert_eq!(late.1.take_event(), Some(Event::Failed));
}

#[test]
fn a_device_that_is_gone_answers_everybody() {
    let bench = bench(1);
    let clients = [0, 1].map(|queue| bench.client(&[queue]));
    bench.device().is_slow = true;
    for (queue, client) in (0..).zip(&clients) {
        bench.post(client, just(queue, QueueAction::Drain));
    }
    bench.device().is_gone = true;
    bench.service.note_interrupt();
    bench.service.run();
    for client in &clients {
        assert_eq!(client.1.take_answer(), STOPPED);
        assert_eq!(client.1.take_event(), Some(Event::Failed));
    }
}

#[test]
fn a_slot_that_keeps_nothing_fails_the_device() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    bench.entries[0].0.lock().unwrap().is_broken = true;
    let answer = bench.allocate(&client, 1);
    assert!(matches!(
        answer,
        Some(Answer::Failed(Failure::Device(
            dsa::Error::SlotNotWritten { .. }
        )))
    ));
    assert_eq!(bench.service.health(), Health::Failed);
    assert_eq!(client.1.handle(1), None);
}

fn error(queue: Option<u8>, of: Option<u32>, overflow: bool) -> SoftwareError {
    SoftwareError {
        code: Status::INTERRUPT_HANDLE,
        queue,
        descriptor: of.map(|of| FailedDescriptor {
            operation: Operation::MEMORY_MOVE,
            pasid: pasid(of),
            privileged: false,
            batch_index: None,
        }),
        is_write: false,
        address: 0,
        information: None,
        overflow,
    }
}

const ERROR: IntCause = IntCause::new().with_software_error(true);
const HALT: IntCause = IntCause::new().with_halt_state(true);

#[test]
fn errors_go_to_the_owner_of_the_queue_else_of_the_pasid() {
    let bench = bench(1);
    let one = bench.service.add_client(setup(&[0], &[2], 100)).unwrap().1;
    let two = bench.service.add_client(setup(&[1], &[2], 101)).unwrap().1;
    let tell = |error: SoftwareError| {
        bench.device().error = Some(error);
        bench.interrupt(ERROR);
        (one.take_event(), two.take_event())
    };
    let told = |error| Some(Event::SoftwareError(error));
    let by_queue = error(Some(1), Some(100), false);
    assert_eq!(tell(by_queue), (None, told(by_queue)));
    let shared = error(Some(2), Some(100), false);
    assert_eq!(tell(shared), (told(shared), None));
    let by_pasid = error(None, Some(101), false);
    assert_eq!(tell(by_pasid), (None, told(by_pasid)));
    let nobodys = error(Some(7), None, false);
    assert_eq!(tell(nobodys), (None, None));
    assert_eq!(
        bench.service.try_status().unwrap().last_error,
        Some(nobodys)
    );
    let counters = &bench.service.counters;
    assert_eq!(counters.software_errors.load(Ordering::Relaxed), 4);
    assert_eq!(counters.unowned_errors.load(Ordering::Relaxed), 1);
}

#[test]
fn lost_errors_may_have_been_anybodys() {
    let bench = bench(1);
    let one = bench.client(&[0]).1;
    let two = bench.client(&[1]).1;
    let first = error(Some(0), Some(100), true);
    bench.device().error = Some(first);
    bench.interrupt(ERROR);
    assert_eq!(one.take_event(), Some(Event::SoftwareError(first)));
    assert_eq!(one.take_event(), Some(Event::ErrorsLost));
    assert_eq!(one.take_event(), None);
    assert_eq!(two.take_event(), Some(Event::ErrorsLost));
    // One that was not taken in time is lost to its owner alone.
    let (second, third) = (
        error(Some(0), None, false),
        error(Some(0), Some(100), false),
    );
    for error in [second, third] {
        bench.device().error = Some(error);
        bench.interrupt(ERROR);
    }
    assert_eq!(one.take_event(), Some(Event::SoftwareError(second)));
    assert_eq!(one.take_event(), Some(Event::ErrorsLost));
    assert_eq!(two.take_event(), None);
}

#[test]
fn a_halted_device_is_reset_with_its_slots_before_its_queues() {
    let bench = bench(2);
    bench.device().has_handles = true;
    bench.device().outcomes = VecDeque::from([(CommandError::NONE, 0x4001)]);
    let one = bench.client(&[0]);
    let two = bench.client(&[1]);
    bench.allocate(&one, 1).unwrap();
    one.1.with_slot(1, |slot| slot.set_masked(false)).unwrap();
    bench.device().is_slow = true;
    assert_eq!(bench.post(&two, just(1, QueueAction::Drain)), None);
    bench.device().halted = Some(ResetType::ResetDevice);
    // The halt wiped the slots.
    bench.entries[0].0.lock().unwrap().control = ImsControl::new().with_mask(true);
    bench.interrupt(HALT);
    assert_eq!(bench.service.health(), Health::Recovers);
    assert_eq!(bench.device().recovery, [""; 0]);
    // Nothing is answered before, and nothing is sent to the device.
    assert_eq!(bench.post(&one, just(0, QueueAction::Drain)), None);
    bench.device().is_slow = false;
    bench.commands();

    bench.service.housekeep();
    assert_eq!(bench.device().recovery, ["restart", "handle", "resume"]);
    let expected = ImsControl::new().with_pasid_enable(true).with_pasid(100);
    assert_eq!(bench.control(0), expected);
    assert_eq!(one.1.handle(1), Some(InterruptHandle(0x200)));
    assert_eq!(two.1.take_answer(), STOPPED);
    assert_eq!(two.1.take_event(), Some(Event::WasReset));
    assert_eq!(one.1.take_event(), Some(Event::WasReset));
    // What waited goes on.
    assert_eq!(one.1.take_answer(), Some(Answer::Done));
    assert_eq!(bench.commands(), [Command::DrainQueue(0)]);
    assert_eq!(bench.service.health(), Health::Works);
}

#[test]
fn a_halt_during_an_allocation_keeps_nothing_of_it() {
    let bench = bench(1);
    bench.device().has_handles = true;
    bench.device().is_slow = true;
    let client = bench.client(&[0]);
    assert_eq!(bench.allocate(&client, 1), None);
    bench.device().halted = Some(ResetType::ResetDevice);
    bench.interrupt(HALT);
    bench.service.housekeep();
    assert_eq!(client.1.take_answer(), STOPPED);
    assert_eq!(client.1.handle(1), None);
    assert_eq!(bench.service.slot_counts().free, 1);
}

#[test]
fn a_halt_that_needs_more_than_a_command_stops_the_users() {
    for reset in [ResetType::FunctionLevel, ResetType::Warm, ResetType::Cold] {
        let bench = bench(1);
        let client = bench.client(&[0]);
        bench.device().halted = Some(reset);
        bench.interrupt(HALT);
        assert_eq!(client.1.take_event(), Some(Event::Halted(reset)));
        assert_eq!(client.1.take_event(), None);
        assert_eq!(bench.service.health(), Health::Halted(reset));
        assert_eq!(bench.post(&client, just(0, QueueAction::Drain)), STOPPED);
        bench.service.housekeep();
        assert_eq!(bench.device().recovery, [""; 0]);
    }
}

#[test]
fn a_recovery_that_fails_stops_the_users() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    bench.device().halted = Some(ResetType::ResetDevice);
    bench.device().restart_fails = true;
    bench.interrupt(HALT);
    bench.service.housekeep();
    assert_eq!(bench.service.health(), Health::Failed);
    assert_eq!(client.1.take_event(), Some(Event::Failed));
}

#[test]
fn an_interrupt_that_was_lost_is_made_up_for() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    let told = error(Some(0), None, false);
    bench.device().error = Some(told);
    bench.device().causes = ERROR;
    bench.service.run();
    assert_eq!(client.1.take_event(), None);
    bench.service.housekeep();
    assert_eq!(client.1.take_event(), Some(Event::SoftwareError(told)));
}

#[test]
#[should_panic(expected = "a client asks for one thing at a time")]
fn asking_twice_is_a_defect() {
    let bench = bench(1);
    let client = bench.client(&[0]);
    bench.device().is_slow = true;
    bench.post(&client, just(0, QueueAction::Drain));
    bench.post(&client, just(0, QueueAction::Drain));
}

/// Many processors post and serve at once; every request is answered.
#[test]
fn nothing_is_lost_between_processors() {
    const ROUNDS: usize = if cfg!(miri) { 4 } else { 200 };
    let bench = bench(64);
    let clients: Vec<TestClient> = (0..8).map(|queue| bench.client(&[queue])).collect();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| {
                let queues = client.1.setup.queues;
                for _ in 0..ROUNDS {
                    let action = QueueAction::Drain;
                    let pasids = Set::EMPTY;
                    client.1.post(Request::Queues {
                        queues,
                        action,
                        pasids,
                    });
                    bench.service.post(client.0);
                    let mut tries = 0;
                    while client.1.take_answer() != Some(Answer::Done) {
                        std::thread::yield_now();
                        // A tick, for what was posted while somebody was leaving.
                        bench.service.run();
                        tries += 1;
                        assert!(tries < 1_000_000, "a request is never answered");
                    }
                }
            });
        }
    });
    assert_eq!(bench.commands().len(), 8 * ROUNDS);
}

/// A client looks whether it is answered while the service takes its request up.
#[test]
fn a_client_that_waits_disturbs_nobody() {
    const LOOKS: usize = if cfg!(miri) { 200 } else { 200_000 };
    let bench = bench(1);
    let client = bench.client(&[0]);
    client.1.post(just(0, QueueAction::Drain));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..LOOKS {
                assert!(client.1.posted().is_some());
            }
        });
        for _ in 0..LOOKS {
            assert!(client.1.is_waiting());
        }
    });
    bench.service.post(client.0);
    assert!(!client.1.is_waiting());
    assert_eq!(client.1.take_answer(), Some(Answer::Done));
}

#[path = "service/view_tests.rs"]
mod view;
