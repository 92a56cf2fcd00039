//! From whatever was before to the first interrupt.

use dsa::ims::Counts;
use dsa::{Command, Device, Error, QueuePasid, State};
use hwspec::dsa::{Status, WqState};

use crate::lab::{
    Lab, RECORD, TIMEOUT, checked, handle, message, no_op, pasid, plan, sent, take_over,
};
use crate::model::Model;

/// Each step as a kernel goes it, with what the device shows after it.
#[test]
fn a_device_is_brought_up_step_by_step() {
    let model = Model::new("");

    // 1. Take over: reset, disabled, every slot masked.
    let (mut device, mut store) = take_over(&model).unwrap();
    assert_eq!(device.state(), Ok(State::Disabled));
    let total = 2048;
    assert_eq!(
        store.counts(),
        Counts {
            total,
            free: total,
            peak: 0
        }
    );
    assert_eq!(model.read_register(0x1_000c, 4), 1, "slot 0 is masked");

    // 2. Configure: GENCFG.12 and GENCTRL 1:0 on, the device enabled, no queue yet.
    let plan = plan(device.capabilities());
    device.configure(&plan).unwrap();
    assert_eq!(device.state(), Ok(State::Enabled));
    assert_eq!(model.read_register(0x80, 4), 0x1060, "GENCFG");
    assert_eq!(model.read_register(0x88, 4), 3, "GENCTRL");
    assert_eq!(model.read_register(0x90, 4), 1, "GENSTS");
    // Group 0 has queue 0 and engines 0 and 3; group 2 has queue 2 and engine 2.
    assert_eq!(model.read_register(0x400, 8), 1);
    assert_eq!(model.read_register(0x420, 8), 0b1001);
    assert_eq!(model.read_register(0x480, 8), 0b100);
    assert_eq!(model.read_register(0x4a0, 8), 0b100);
    assert_eq!(device.queue_state(0), Ok(WqState::DISABLED));

    // 3. Enable a queue with a PASID.
    let number = 0x1_2345;
    device
        .enable_queue(0, QueuePasid::unprivileged(pasid(number)))
        .unwrap();
    assert_eq!(device.queue_state(0), Ok(WqState::ENABLED));
    assert_eq!(
        model.read_register(0x4008, 4),
        0x1123_4581,
        "dedicated, priority 8"
    );

    // 4. A slot for the same PASID.
    let mut slot = store.allocate(checked(number)).unwrap();
    let index = u64::from(slot.index().0);
    slot.enable(message(0x31)).unwrap();
    assert_eq!(model.read_register(0x1_0000 + 16 * index, 8), 0xfee0_1000);
    assert_eq!(model.read_register(0x1_0008 + 16 * index, 4), 0x31);
    assert_eq!(model.read_register(0x1_000c + 16 * index, 4), 0x1234_5008);

    // 5. A descriptor, its completion record, its interrupt.
    model.map(Some(number), RECORD);
    let lab = Lab {
        model: model.clone(),
        device,
        store,
    };
    lab.post(0, &no_op(handle(slot.index())));
    model.run();
    assert_eq!(
        lab.model.record(Some(number), RECORD).word0.status(),
        Status::SUCCESS
    );
    assert_eq!(model.take_messages(), [sent(0x31)]);
}

/// Another system left queues running, work in them, an error recorded.
#[test]
fn what_ran_before_is_ended() {
    let mut lab = Lab::ready("");
    let slot = lab.slot(1);
    lab.model.control("delay-completions 1 1000000000");
    lab.post(0, &no_op(handle(slot.index())));
    lab.model.run_for(10_000);
    // A misaligned record address, so that there is a software error.
    let mut bad = no_op(0);
    bad.completion_record_address += 1;
    lab.post(1, &bad);
    lab.model.run_for(10_000);
    assert_ne!(lab.model.read_register(0xc0, 8) & 1, 0, "SWERROR is valid");
    lab.model.take_messages();

    let (mut device, _) = take_over(&lab.model).unwrap();
    assert_eq!(device.state(), Ok(State::Disabled));
    assert_eq!(device.take_software_error(), Ok(None));
    lab.model.run();
    assert_eq!(lab.take_record(1).word0.status(), Status::NONE, "abandoned");
    assert_eq!(lab.model.take_messages(), []);
}

/// The command of another system is at work when the device is taken over.
#[test]
fn a_command_of_another_system_is_waited_for() {
    let mut lab = Lab::ready("");
    lab.model.control("delay-completions 1 500000");
    lab.post(0, &no_op(0));
    lab.model.run_for(10_000);
    lab.device.start(Command::DrainQueue(0)).unwrap();
    take_over(&lab.model).unwrap();
}

#[test]
fn a_hanging_command_of_another_system_is_reported() {
    let mut lab = Lab::ready("");
    lab.model.control("hang-command");
    lab.device.start(Command::DrainAll).unwrap();
    let error = take_over(&lab.model).unwrap_err();
    assert!(matches!(error, Error::StaleCommand { .. }), "{error}");
    lab.model.reset_function();
    lab.model.enumerate();
    take_over(&lab.model).unwrap();
}

#[test]
fn devices_that_lack_something_are_refused() {
    let refused = |options: &str| take_over(&Model::new(options)).map(|_| ()).unwrap_err();
    assert!(matches!(
        refused("configurable=off"),
        Error::NotConfigurable(_)
    ));
    assert!(matches!(refused("ims=0"), Error::NoInterruptStore(_)));
    // A window that ends before the queues are configured at 0x4000.
    let model = Model::new("");
    let small = model.registers(0..0x4000);
    let error = Device::take_over(small, model.clone(), TIMEOUT).unwrap_err();
    assert!(matches!(error, Error::TableOutside { .. }), "{error}");
}

/// The largest device that the model can be, and the smallest.
#[test]
fn devices_of_every_size_are_brought_up() {
    for (options, queues, slots) in [
        (
            "queues=64;entries=1024;groups=16;engines=16;ims=16128",
            64,
            16128,
        ),
        ("queues=1;entries=16;groups=1;engines=1;ims=256", 1, 256),
        ("device-id=0x1212", 8, 2048),
    ] {
        let model = Model::new(options);
        let (mut device, store) = take_over(&model).unwrap();
        assert_eq!(device.capabilities().count_queues(), queues);
        assert_eq!(store.counts().total, slots);
        let capabilities = *device.capabilities();
        let size = capabilities.count_entries() / u16::from(queues);
        let shape = dsa::QueueShape::largest(dsa::QueueMode::Dedicated, size, &capabilities);
        let shapes = vec![shape; queues.into()];
        device
            .configure(&dsa::Plan::spread(&capabilities, &shapes).unwrap())
            .unwrap();
        for queue in 0..queues {
            device
                .enable_queue(queue, QueuePasid::unprivileged(pasid(1)))
                .unwrap();
        }
    }
}
