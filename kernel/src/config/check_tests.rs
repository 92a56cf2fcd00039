use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::super::plan::{
    BootPlan, DsaPlan, GroupPlan, GuestPlan, QueuePlan, VirtualDsaPlan, VirtualQueuePlan,
};
use super::super::{DsaFacts, Mode, Policy, Restart};
use super::*;
use crate::bundle::File;

/// A DSA as Sapphire Rapids has it.
const DSA: DsaFacts = DsaFacts {
    device_id: 0x0b25,
    is_configurable: true,
    has_dedicated_mode: true,
    has_shared_mode: true,
    has_occupancy: true,
    queues: 8,
    entries: 128,
    groups: 4,
    engines: 4,
    ims_entries: 2048,
    max_transfer_log2: 31,
    max_batch_log2: 10,
};

const FILES: &[File<'_>] = &[
    File {
        name: "weir.toml",
        content: b"",
    },
    File {
        name: "demo",
        content: &[0; 1000],
    },
    File {
        name: "input",
        content: &[0; 0x1000],
    },
];

/// More than the smallest guest holds.
static LARGE: [u8; 0x20_0001] = [0; 0x20_0001];

const MACHINE: MachineFacts<'_> = MachineFacts {
    memory_bytes: 1 << 30,
    cpus: 2,
    has_enqcmds: true,
    files: FILES,
    dsas: &[DSA],
};

fn plan_on(machine: &MachineFacts<'_>, text: &str) -> Result<Plan, ConfigError> {
    Config::parse(text).unwrap().check(machine)
}

fn plan(text: &str) -> Plan {
    plan_on(&MACHINE, text).unwrap()
}

fn refusal_on(machine: &MachineFacts<'_>, text: &str) -> String {
    plan_on(machine, text).unwrap_err().to_string()
}

/// A guest of four lines, and then `lines`.
fn guest(name: &str, lines: &str) -> String {
    format!("[[guest]]\nname = \"{name}\"\nimage = \"demo\"\nmemory = \"64M\"\n{lines}")
}

/// A guest's queue of two lines, and then `lines`.
fn uses(queue: u8, lines: &str) -> String {
    format!("[[guest.queue]]\nwq = \"dsa0/wq0.{queue}\"\n{lines}")
}

/// A queue of two lines, and then `lines`.
fn wq(queue: u8, lines: &str) -> String {
    format!("[[wq]]\nname = \"dsa0/wq0.{queue}\"\n{lines}")
}

/// A test for each mistake: the machine, the text, and the whole line about it.
macro_rules! mistakes {
    ($($name:ident: $machine:expr, $text:expr => $line:expr;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(refusal_on(&$machine, &$text), $line);
        }
    )*};
}

#[test]
fn a_plan_has_all_that_is_needed() {
    let text = r#"
        [[guest]]
        name = "a"
        image = "demo"
        input = "input"
        memory = "64M"
        cpus = 2
        pasids = [5, 1]

        [[guest.queue]]
        wq = "dsa1/wq1.0"
        [[guest.queue]]
        wq = "dsa0/wq0.3"
        batches = 2
        [[guest.queue]]
        wq = "dsa1/wq1.1"
        mode = "dedicated"

        [[guest]]
        name = "b"
        kernel = "demo"
        initrd = "input"
        memory = "128M"
        cmdline = "quiet"
        restart = "on-reset"
        trusted = true
        share-rate = 7
        [[guest.queue]]
        wq = "dsa1/wq1.1"
        [[guest.queue]]
        wq = "dsa0/wq0.2"
        policy = "direct"

        [[wq]]
        name = "dsa1/wq1.0"
        size = 32
        [[wq]]
        name = "dsa1/wq1.1"
        mode = "shared"
        threshold = 8
        priority = 3
        [[wq]]
        name = "dsa0/wq0.3"
        max-transfer = "2M"
        max-batch = 32
        [[wq]]
        name = "dsa0/wq0.2"
    "#;
    let machine = MachineFacts {
        dsas: &[DSA, DSA],
        ..MACHINE
    };
    let dedicated = |index, group, size| QueuePlan {
        index,
        mode: Mode::Dedicated,
        size,
        threshold: size,
        priority: 10,
        group,
        max_transfer_log2: 31,
        max_batch_log2: 10,
    };
    let small = QueuePlan {
        max_transfer_log2: 21,
        max_batch_log2: 5,
        ..dedicated(3, 0, 16)
    };
    let shared = QueuePlan {
        mode: Mode::Shared,
        threshold: 8,
        priority: 3,
        ..dedicated(1, 1, 16)
    };
    let checked = |physical, mode| VirtualQueuePlan {
        physical,
        mode,
        reserved: 0,
        policy: Policy::Checked,
        batches: 4,
    };
    let group = |index, queue, engines: [u8; 2]| GroupPlan {
        index,
        queues: Vec::from([queue]),
        engines: Vec::from(engines),
    };
    let expected = Plan {
        slice_ms: 2,
        report: true,
        dsas: Vec::from([
            DsaPlan {
                groups: Vec::from([group(0, 3, [0, 2]), group(1, 2, [1, 3])]),
                queues: Vec::from([small, dedicated(2, 1, 16)]),
            },
            DsaPlan {
                groups: Vec::from([group(0, 0, [0, 2]), group(1, 1, [1, 3])]),
                queues: Vec::from([dedicated(0, 0, 32), shared]),
            },
        ]),
        guests: Vec::from([
            GuestPlan {
                name: "a".to_owned(),
                boot: BootPlan::Pvh {
                    image: "demo".to_owned(),
                    input: Some("input".to_owned()),
                },
                command_line: String::new(),
                memory_bytes: 64 << 20,
                cpus: Vec::from([0, 1]),
                restart: Restart::Never,
                trusted: false,
                pasids: Vec::from([5, 1]),
                share_rate: 250,
                dsas: Vec::from([
                    VirtualDsaPlan {
                        dsa: 1,
                        queues: Vec::from([
                            checked(dedicated(0, 0, 32), Mode::Dedicated),
                            VirtualQueuePlan {
                                reserved: 8,
                                ..checked(shared, Mode::Dedicated)
                            },
                        ]),
                    },
                    VirtualDsaPlan {
                        dsa: 0,
                        queues: Vec::from([VirtualQueuePlan {
                            batches: 2,
                            ..checked(small, Mode::Dedicated)
                        }]),
                    },
                ]),
            },
            GuestPlan {
                name: "b".to_owned(),
                boot: BootPlan::Linux {
                    kernel: "demo".to_owned(),
                    initrd: Some("input".to_owned()),
                },
                command_line: "quiet".to_owned(),
                memory_bytes: 128 << 20,
                cpus: Vec::from([0]),
                restart: Restart::OnReset,
                trusted: true,
                pasids: Vec::new(),
                share_rate: 7,
                dsas: Vec::from([
                    VirtualDsaPlan {
                        dsa: 1,
                        queues: Vec::from([checked(shared, Mode::Shared)]),
                    },
                    VirtualDsaPlan {
                        dsa: 0,
                        queues: Vec::from([VirtualQueuePlan {
                            policy: Policy::Direct,
                            ..checked(dedicated(2, 1, 16), Mode::Dedicated)
                        }]),
                    },
                ]),
            },
        ]),
    };
    assert_eq!(plan_on(&machine, text), Ok(expected));
}

mistakes! {
    no_guest_is_refused: MACHINE, "" =>
        "weir.toml:1: there is no guest; add a [[guest]] with name, image and memory";
    two_guests_of_one_name_are_refused: MACHINE, guest("a", "") + &guest("a", "") =>
        "weir.toml:6: there is a guest 'a' in line 2 already; write another name";
    a_missing_image_is_refused: MACHINE,
        "[[guest]]\nname = \"a\"\nimage = \"dema\"\nmemory = \"64M\"\n" =>
        "weir.toml:3: guest 'a': there is no file 'dema' in the boot bundle, which has \
         weir.toml, demo, input; pack it or correct the name";
    a_missing_input_is_refused: MACHINE, guest("a", "input = \"no\\tfile\"\n") =>
        "weir.toml:5: guest 'a': there is no file 'no\\tfile' in the boot bundle, which has \
         weir.toml, demo, input; pack it or correct the name";
    a_missing_initrd_is_refused: MACHINE,
        "[[guest]]\nname = \"a\"\nkernel = \"demo\"\nmemory = \"64M\"\ninitrd = \"i\"\n" =>
        "weir.toml:5: guest 'a': there is no file 'i' in the boot bundle, which has \
         weir.toml, demo, input; pack it or correct the name";
    files_that_are_larger_than_the_guest_are_refused:
        MachineFacts {
            files: &[File { name: "demo", content: &LARGE }],
            ..MACHINE
        },
        "[[guest]]\nname = \"a\"\nimage = \"demo\"\nmemory = \"2M\"\n" =>
        "weir.toml:4: guest 'a': memory is \"2M\", but its files have 2097153 bytes; \
         give it more memory";
    more_memory_than_there_is_is_refused:
        MachineFacts { memory_bytes: 100 << 20, ..MACHINE },
        guest("a", "") + &guest("b", "") =>
        "weir.toml:8: guest 'b': memory is \"64M\", but of 100 MiB that guests can have 36 are \
         left; write less, here or above";

    a_dsa_that_is_not_there_is_refused: MACHINE, "[[wq]]\nname = \"dsa1/wq1.0\"\n" =>
        "weir.toml:2: there is no dsa1; this machine has dsa0 only";
    a_dsa_behind_the_last_is_refused: MachineFacts { dsas: &[DSA; 3], ..MACHINE },
        "[[wq]]\nname = \"dsa3/wq3.0\"\n" =>
        "weir.toml:2: there is no dsa3; this machine has dsa0 to dsa2";
    a_queue_without_any_dsa_is_refused: MachineFacts { dsas: &[], ..MACHINE }, wq(0, "") =>
        "weir.toml:2: there is no dsa0; this machine has no DSA";
    a_group_of_a_dsa_that_is_not_there_is_refused: MACHINE,
        "[[group]]\nname = \"dsa9/group9.0\"\n" =>
        "weir.toml:2: there is no dsa9; this machine has dsa0 only";
    a_guests_queue_of_a_dsa_that_is_not_there_is_refused: MACHINE,
        guest("a", "[[guest.queue]]\nwq = \"dsa2/wq2.0\"\n") =>
        "weir.toml:6: there is no dsa2; this machine has dsa0 only";
    a_dsa_that_cannot_be_set_up_is_refused:
        MachineFacts { dsas: &[DsaFacts { is_configurable: false, ..DSA }], ..MACHINE },
        wq(0, "") =>
        "weir.toml:2: dsa0 cannot be set up (its Configuration Support is 0); use another DSA";
    a_queue_that_is_not_there_is_refused: MACHINE, wq(8, "") =>
        "weir.toml:2: there is no dsa0/wq0.8; dsa0 has 8 queues, counted from 0";
    a_queue_twice_is_refused: MACHINE, wq(0, "") + &wq(0, "") =>
        "weir.toml:4: dsa0/wq0.0 is set up twice, first in line 2; remove one";
    sizes_beyond_the_entries_are_refused: MACHINE, wq(0, "size = 100\n") + &wq(1, "size = 29\n") =>
        "weir.toml:6: dsa0/wq0.1: size is 29, but of dsa0's 128 entries 28 are left; \
         write a smaller size";
    a_mode_that_is_not_there_is_refused:
        MachineFacts { dsas: &[DsaFacts { has_dedicated_mode: false, ..DSA }], ..MACHINE },
        wq(0, "") =>
        "weir.toml:2: dsa0/wq0.0: dsa0 has no dedicated queues; write mode = \"shared\"";
    shared_where_there_is_no_shared_mode_is_refused:
        MachineFacts { dsas: &[DsaFacts { has_shared_mode: false, ..DSA }], ..MACHINE },
        wq(0, "mode = \"shared\"") =>
        "weir.toml:3: dsa0/wq0.0: dsa0 has no shared queues; write mode = \"dedicated\"";
    a_shared_queue_without_enqcmds_is_refused: MachineFacts { has_enqcmds: false, ..MACHINE },
        wq(0, "mode = \"shared\"") =>
        "weir.toml:3: dsa0/wq0.0: a shared queue needs ENQCMDS, which this machine's processors \
         have not; write mode = \"dedicated\" here, and mode = \"shared\" in a [[guest.queue]] \
         whose guest wants to see a shared one";
    a_threshold_of_a_dedicated_queue_is_refused: MACHINE, wq(0, "threshold = 1") =>
        "weir.toml:3: dsa0/wq0.0: threshold is for shared queues, and this one is dedicated; \
         remove it";
    a_threshold_above_the_size_is_refused: MACHINE,
        wq(0, "mode = \"shared\"\nsize = 8\nthreshold = 9") =>
        "weir.toml:5: dsa0/wq0.0: threshold is 9; write at most the queue's size, 8";
    a_transfer_that_the_device_has_not_is_refused:
        MachineFacts { dsas: &[DsaFacts { max_transfer_log2: 21, ..DSA }], ..MACHINE },
        wq(0, "max-transfer = \"4M\"") =>
        "weir.toml:3: dsa0/wq0.0: max-transfer is \"4M\"; dsa0 has at most \"2M\"";
    a_batch_that_the_device_has_not_is_refused:
        MachineFacts { dsas: &[DsaFacts { max_batch_log2: 5, ..DSA }], ..MACHINE },
        wq(0, "max-batch = 64") =>
        "weir.toml:3: dsa0/wq0.0: max-batch is 64; dsa0 has at most 32";

    a_group_that_is_not_there_is_refused: MACHINE, wq(0, "group = \"group0.4\"") =>
        "weir.toml:3: there is no dsa0/group0.4; dsa0 has 4 groups, counted from 0";
    a_described_group_that_is_not_there_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.4\"\n" =>
        "weir.toml:2: there is no dsa0/group0.4; dsa0 has 4 groups, counted from 0";
    a_group_twice_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.1\"\n[[group]]\nname = \"dsa0/group0.1\"\n" =>
        "weir.toml:4: dsa0/group0.1 is set up twice, first in line 2; remove one";
    a_group_without_queues_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.1\"\n".to_owned() + &wq(0, "") =>
        "weir.toml:2: dsa0/group0.1 has no queue; write group = \"group0.1\" in a [[wq]], \
         or remove it";
    an_engine_that_is_not_there_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.1\"\nengines = [4]\n" =>
        "weir.toml:3: dsa0/group0.1: there is no engine 4; dsa0 has 4 engines, counted from 0";
    an_engine_in_two_groups_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.1\"\nengines = [2]\n\
         [[group]]\nname = \"dsa0/group0.2\"\nengines = [\n2]\n" =>
        "weir.toml:7: dsa0/group0.2: engine 2 is in a group already; give each engine once";
    an_engine_twice_in_a_group_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.1\"\nengines = [2, 2]\n" =>
        "weir.toml:3: dsa0/group0.1: engine 2 is in a group already; give each engine once";
    a_group_for_which_no_engine_is_left_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.0\"\nengines = [0, 1, 2, 3]\n".to_owned()
            + &wq(0, "group = \"group0.0\"\n") + &wq(1, "group = \"group0.1\"\n") =>
        "weir.toml:9: no engine is left for dsa0/group0.1; give other groups fewer, \
         or use fewer groups";
    a_queue_for_which_no_engine_is_left_is_refused: MACHINE,
        "[[group]]\nname = \"dsa0/group0.0\"\nengines = [0, 1, 2, 3]\n".to_owned()
            + &wq(0, "group = \"group0.0\"\n") + &wq(1, "") =>
        "weir.toml:8: no group and engine are left for dsa0/wq0.1; put it into a group that has \
         engines, with group = \"group0.N\"";

    a_queue_that_is_not_set_up_is_refused: MACHINE, guest("a", &uses(1, "")) + &wq(0, "") =>
        "weir.toml:6: guest 'a': dsa0/wq0.1 is not set up; \
         add a [[wq]] with name = \"dsa0/wq0.1\"";
    a_dedicated_queue_given_twice_is_refused: MACHINE,
        guest("a", &uses(0, "")) + &guest("b", &uses(0, "")) + &wq(0, "") =>
        "weir.toml:12: guest 'b': dsa0/wq0.0 is dedicated, and guest 'a' has it since line 6; \
         use another queue, or make it mode = \"shared\"";
    a_queue_twice_for_one_guest_is_refused: MACHINE,
        guest("a", &(uses(0, "") + &uses(0, ""))) + &wq(0, "mode = \"shared\"\n") =>
        "weir.toml:8: guest 'a' has dsa0/wq0.0 twice, first in line 6; remove one";
    a_dsa_without_ims_is_refused:
        MachineFacts { dsas: &[DsaFacts { ims_entries: 0, ..DSA }], ..MACHINE },
        guest("a", &uses(0, "")) + &wq(0, "") =>
        "weir.toml:6: guest 'a': dsa0/wq0.0 needs 2 IMS slots, and dsa0 has no more than 0; \
         use a DSA with more, or give out fewer queues";
    direct_on_a_part_that_is_not_fixed_is_refused: MACHINE,
        guest("a", &uses(0, "policy = \"direct\"\n")) + &wq(0, "") =>
        "weir.toml:7: guest 'a': direct is not safe on dsa0 (8086:0b25, CVE-2024-21823); \
         write policy = \"checked\", or trusted = true if you vouch for the guest";
    direct_on_a_part_that_nobody_knows_is_refused:
        MachineFacts { dsas: &[DsaFacts { device_id: 0x1213, ..DSA }], ..MACHINE },
        guest("a", &uses(0, "policy = \"direct\"\n")) + &wq(0, "") =>
        "weir.toml:7: guest 'a': direct is not safe on dsa0 (8086:1213, CVE-2024-21823); \
         write policy = \"checked\", or trusted = true if you vouch for the guest";
    direct_on_a_shared_queue_is_refused_even_to_the_trusted: MACHINE,
        guest("a", &format!("trusted = true\n{}", uses(0, "policy = \"direct\"\n")))
            + &wq(0, "mode = \"shared\"") =>
        "weir.toml:8: guest 'a': dsa0/wq0.0 is shared, and direct would let the guest claim any \
         PASID there; write policy = \"checked\", or use a dedicated queue";
    direct_in_another_mode_is_refused: MACHINE,
        guest("a", &format!("trusted = true\n{}",
            uses(0, "policy = \"direct\"\nmode = \"shared\"\n"))) + &wq(0, "") =>
        "weir.toml:9: guest 'a': dsa0/wq0.0 is dedicated, and with policy = \"direct\" the guest \
         sees it as it is; remove mode";
    batches_on_a_direct_queue_are_refused: MACHINE,
        guest("a", &format!("trusted = true\n{}",
            uses(0, "policy = \"direct\"\nbatches = 1\n"))) + &wq(0, "") =>
        "weir.toml:9: guest 'a': batches limits what Weir submits, which on dsa0/wq0.0 is \
         nothing, for it is direct; remove it";
    a_reservation_of_a_dedicated_queue_is_refused: MACHINE,
        guest("a", &uses(0, "reserve = 4\n")) + &wq(0, "") =>
        "weir.toml:7: guest 'a': reserve is for a guest that sees a shared queue as a dedicated \
         one; remove it, or write mode = \"dedicated\" for a dsa0/wq0.0 that is shared";
    a_reservation_of_a_queue_that_is_shown_as_shared_is_refused: MACHINE,
        guest("a", &uses(0, "reserve = 4\n")) + &wq(0, "mode = \"shared\"\n") =>
        "weir.toml:7: guest 'a': reserve is for a guest that sees a shared queue as a dedicated \
         one; remove it, or write mode = \"dedicated\" for a dsa0/wq0.0 that is shared";
    more_than_all_reserved_is_refused: MACHINE,
        guest("a", &uses(0, "mode = \"dedicated\"\nreserve = 12\n"))
            + &guest("b", &uses(0, "mode = \"dedicated\"\nreserve = 5\n"))
            + &wq(0, "mode = \"shared\"\n") =>
        "weir.toml:16: guest 'b': 5 entries of dsa0/wq0.0 are to be reserved, but of its 16 4 are \
         left, beside 0 for guests that share it; reserve fewer, or make the queue larger";
    all_reserved_where_another_shares_is_refused: MACHINE,
        guest("a", &uses(0, "mode = \"dedicated\"\nreserve = 16\n"))
            + &guest("b", &uses(0, "")) + &wq(0, "mode = \"shared\"\n") =>
        "weir.toml:8: guest 'a': 16 entries of dsa0/wq0.0 are to be reserved, but of its 16 15 are \
         left, beside 1 for guests that share it; reserve fewer, or make the queue larger";
    a_reservation_below_the_threshold_is_refused: MACHINE,
        guest("a", &uses(0, "mode = \"dedicated\"\n"))
            + &wq(0, "mode = \"shared\"\nthreshold = 9\n") =>
        "weir.toml:6: guest 'a': 8 entries of dsa0/wq0.0 are to be reserved, but of its 16 7 are \
         left, beside 9 for guests that share it; reserve fewer, or make the queue larger";
    a_reservation_where_the_device_does_not_tell_is_refused:
        MachineFacts { dsas: &[DsaFacts { has_occupancy: false, ..DSA }], ..MACHINE },
        guest("a", &uses(0, "mode = \"dedicated\"\n")) + &wq(0, "mode = \"shared\"\n") =>
        "weir.toml:7: guest 'a': dsa0 does not tell how full dsa0/wq0.0 is, so that no entries \
         can be reserved; remove mode, or use a dedicated queue";
    a_rate_without_a_shared_queue_is_refused: MACHINE,
        guest("a", &format!("share-rate = 5\n{}", uses(0, ""))) + &wq(0, "") =>
        "weir.toml:5: guest 'a': share-rate is for shared queues, and it has none; remove it";
    a_pasid_twice_is_refused: MACHINE, guest("a", "pasids = [\n1,\n2,\n1]\n") =>
        "weir.toml:8: guest 'a': PASID 1 is there twice; remove one";
}

#[test]
fn a_long_list_of_files_is_cut_short() {
    let files = [File {
        name: "f",
        content: b"",
    }; 9];
    let machine = MachineFacts {
        files: &files,
        ..MACHINE
    };
    let text = refusal_on(&machine, &guest("a", ""));
    assert!(
        text.contains("which has f, f, f, f, f, f, f, f, ...; pack it"),
        "{text}"
    );
}

#[test]
fn guests_can_have_exactly_the_memory_that_there_is() {
    let machine = MachineFacts {
        memory_bytes: 128 << 20,
        ..MACHINE
    };
    assert!(plan_on(&machine, &(guest("a", "") + &guest("b", ""))).is_ok());
}

#[test]
fn fixed_parts_are_direct_for_everyone() {
    for device_id in [0x11fb, 0x1212] {
        let machine = MachineFacts {
            dsas: &[DsaFacts { device_id, ..DSA }],
            ..MACHINE
        };
        let text = guest("a", &uses(0, "policy = \"direct\"\n")) + &wq(0, "");
        let plan = plan_on(&machine, &text).unwrap();
        assert_eq!(plan.guests[0].dsas[0].queues[0].policy, Policy::Direct);
    }
}

#[test]
fn a_guest_may_see_a_shared_queue_where_there_is_no_enqcmds() {
    let machine = MachineFacts {
        has_enqcmds: false,
        ..MACHINE
    };
    let text = guest("a", &uses(0, "mode = \"shared\"\n")) + &wq(0, "");
    let plan = plan_on(&machine, &text).unwrap();
    let queue = plan.guests[0].dsas[0].queues[0];
    assert_eq!(queue.mode, Mode::Shared);
    assert_eq!(queue.physical.mode, Mode::Dedicated);
}

#[test]
fn slots_are_counted_over_all_guests() {
    let machine = MachineFacts {
        dsas: &[DsaFacts {
            ims_entries: 3,
            ..DSA
        }],
        ..MACHINE
    };
    let shared = wq(0, "mode = \"shared\"\n");
    let one = guest("a", &uses(0, ""));
    assert!(plan_on(&machine, &(one.clone() + &shared)).is_ok());
    let text = refusal_on(&machine, &(one + &guest("b", &uses(0, "")) + &shared));
    assert!(
        text.starts_with("weir.toml:12: guest 'b': dsa0/wq0.0 needs 2 IMS slots"),
        "{text}"
    );
}

#[test]
fn virtual_processors_are_apart_and_then_where_the_fewest_are() {
    let text = ["a", "b", "c", "d"].map(|name| {
        let cpus = match name {
            "a" => 1,
            "b" => 3,
            _ => 2,
        };
        guest(name, &format!("cpus = {cpus}\n"))
    });
    let machine = MachineFacts { cpus: 3, ..MACHINE };
    let plan = plan_on(&machine, &text.concat()).unwrap();
    let cpus: Vec<_> = plan.guests.iter().map(|guest| &guest.cpus[..]).collect();
    assert_eq!(cpus, [&[0][..], &[1, 2, 0], &[1, 2], &[0, 1]]);
    // One processor has them all.
    let machine = MachineFacts { cpus: 1, ..MACHINE };
    let plan = plan_on(&machine, &text.concat()).unwrap();
    assert_eq!(plan.guests[1].cpus, [0, 0, 0]);
}

/// The groups of dsa0: index, queues, engines.
fn groups(text: &str) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
    let plan = plan(text);
    for group in &plan.dsas[0].groups {
        for &index in &group.queues {
            let queue = plan.dsas[0]
                .queues
                .iter()
                .find(|queue| queue.index == index);
            assert_eq!(queue.unwrap().group, group.index);
        }
    }
    let groups = plan.dsas[0].groups.iter().cloned();
    groups
        .map(|group| (group.index, group.queues, group.engines))
        .collect()
}

#[test]
fn each_queue_has_a_group_and_engines_of_its_own() {
    let text = guest("a", "") + &wq(5, "") + &wq(0, "") + &wq(1, "");
    assert_eq!(
        groups(&text),
        [
            (0, Vec::from([5]), Vec::from([0, 3])),
            (1, Vec::from([0]), Vec::from([1])),
            (2, Vec::from([1]), Vec::from([2])),
        ]
    );
}

#[test]
fn where_groups_do_not_reach_guests_are_kept_apart() {
    let two = |a, b| uses(a, "") + &uses(b, "");
    let guests = guest("a", &two(0, 3)) + &guest("b", &two(1, 4)) + &guest("c", &uses(2, ""));
    let queues: String = (0..5).map(|index| wq(index, "")).collect();
    assert_eq!(
        groups(&(guests + &queues)),
        [
            (0, Vec::from([0, 3]), Vec::from([0, 3])),
            (1, Vec::from([1, 4]), Vec::from([1])),
            (2, Vec::from([2]), Vec::from([2])),
        ]
    );
    // Queues of nobody are on their own, and more of them than groups share.
    let queues: String = (0..6).map(|index| wq(index, "")).collect();
    assert_eq!(
        groups(&(guest("a", "") + &queues)),
        [
            (0, Vec::from([0, 4]), Vec::from([0])),
            (1, Vec::from([1, 5]), Vec::from([1])),
            (2, Vec::from([2]), Vec::from([2])),
            (3, Vec::from([3]), Vec::from([3])),
        ]
    );
}

#[test]
fn groups_that_the_file_describes_come_first() {
    let text = guest("a", "")
        + "[[group]]\nname = \"dsa0/group0.2\"\nengines = [3, 1]\n"
        + &wq(0, "group = \"group0.2\"\n")
        + &wq(1, "group = \"dsa0/group0.2\"\n")
        + &wq(2, "group = \"group0.0\"\n")
        + &wq(3, "")
        + &wq(4, "");
    assert_eq!(
        groups(&text),
        [
            (0, Vec::from([2]), Vec::from([0])),
            (1, Vec::from([3, 4]), Vec::from([2])),
            (2, Vec::from([0, 1]), Vec::from([3, 1])),
        ]
    );
}

#[test]
fn the_documents_example_can_be_used() {
    let document = include_str!("../../../docs/configuration.md");
    let (_, rest) = document.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let files = ["demo.elf", "file.txt", "adversary.elf"].map(|name| File { name, content: b"" });
    let machine = MachineFacts {
        files: &files,
        ..MACHINE
    };
    let plan = plan_on(&machine, example).unwrap();
    assert_eq!(plan.guests.len(), 3);
}

/// What is reserved and what others may fill are the queue together.
#[test]
fn others_stop_where_reservations_begin() {
    let reserves = |name, count: u16| {
        let lines = format!("mode = \"dedicated\"\nreserve = {count}\n");
        guest(name, &uses(0, &lines))
    };
    let shared = wq(0, "mode = \"shared\"\nsize = 24\n");
    let threshold = |text: &str| plan(text).dsas[0].queues[0].threshold;
    let two = reserves("a", 10) + &reserves("b", 6);
    assert_eq!(
        threshold(&(two.clone() + &guest("c", &uses(0, "")) + &shared)),
        8
    );
    assert_eq!(threshold(&(two + &shared)), 8);
    // All of it; no queue has a threshold of 0.
    let plan = plan(&(reserves("a", 24) + &shared));
    assert_eq!(plan.dsas[0].queues[0].threshold, 1);
    assert_eq!(plan.guests[0].dsas[0].queues[0].reserved, 24);
    let nobody = guest("a", &uses(0, "")) + &shared;
    assert_eq!(threshold(&nobody), 24);
}
