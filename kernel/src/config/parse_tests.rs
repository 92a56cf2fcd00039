use alloc::string::ToString;

use proptest::prelude::*;

use super::*;

/// What is said of a text with a mistake.
fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// A test for each mistake: the text, and the whole line about it.
macro_rules! mistakes {
    ($($name:ident: $text:expr => $line:expr;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(refusal(&$text), $line);
        }
    )*};
}

/// A guest with further lines, of which the first is line 5.
fn guest_with(lines: &str) -> String {
    format!("[[guest]]\nname = \"a\"\nimage = \"demo\"\nmemory = \"64M\"\n{lines}")
}

/// A guest's queue with further lines, of which the first is line 7.
fn guest_queue_with(lines: &str) -> String {
    guest_with(&format!("[[guest.queue]]\nwq = \"dsa0/wq0.1\"\n{lines}"))
}

/// A queue with further lines, of which the first is line 3.
fn queue_with(lines: &str) -> String {
    format!("[[wq]]\nname = \"dsa0/wq0.1\"\n{lines}")
}

const fn at<T>(line: u32, value: T) -> At<T> {
    At { line, value }
}

#[test]
fn everything_that_can_be_written_is_read() {
    let text = r#"
[machine]
slice-ms = 5
report = false

[[guest]]
name = "linux-1"
kernel = "vmlinuz"
initrd = "initrd.gz"
cmdline = "console=ttyS0"
memory = "5G"
cpus = 8
trusted = true
restart = "on-reset"
pasids = [1, 0xfffff]
share-rate = 100

[[guest.queue]]
wq = "dsa0/wq0.0"
policy = "direct"
mode = "dedicated"

[[guest.queue]]
wq = "dsa1/wq1.7"
policy = "checked"
batches = 16

[[wq]]
name = "dsa1/wq1.7"
mode = "shared"
size = 32
group = "group1.3"
priority = 15
threshold = 24
max-transfer = "2G"
max-batch = 1024

[[group]]
name = "dsa1/group1.3"
engines = [0, 2]
"#;
    let expected = Config {
        machine: MachineConfig {
            slice_ms: 5,
            report: false,
        },
        guests: Vec::from([GuestConfig {
            name: at(7, "linux-1".to_owned()),
            boot: BootConfig::Linux {
                kernel: at(8, "vmlinuz".to_owned()),
                initrd: Some(at(9, "initrd.gz".to_owned())),
            },
            memory: at(11, 5 << 30),
            cpus: 8,
            trusted: true,
            command_line: "console=ttyS0".to_owned(),
            restart: Restart::OnReset,
            pasids: Vec::from([at(15, 1), at(15, 0xf_ffff)]),
            share_rate: Some(at(16, 100)),
            queues: Vec::from([
                GuestQueueConfig {
                    wq: at(19, QueueName { dsa: 0, queue: 0 }),
                    policy: at(20, Policy::Direct),
                    mode: Some(at(21, Mode::Dedicated)),
                    reserve: None,
                    batches: None,
                },
                GuestQueueConfig {
                    wq: at(24, QueueName { dsa: 1, queue: 7 }),
                    policy: at(25, Policy::Checked),
                    mode: None,
                    reserve: None,
                    batches: Some(at(26, 16)),
                },
            ]),
        }]),
        queues: Vec::from([QueueConfig {
            name: at(29, QueueName { dsa: 1, queue: 7 }),
            mode: at(30, Mode::Shared),
            size: at(31, 32),
            group: Some(at(32, GroupName { dsa: 1, group: 3 })),
            priority: 15,
            threshold: Some(at(34, 24)),
            max_transfer_log2: Some(at(35, 31)),
            max_batch_log2: Some(at(36, 10)),
        }]),
        groups: Vec::from([GroupConfig {
            name: at(39, GroupName { dsa: 1, group: 3 }),
            engines: Some(Vec::from([at(40, 0), at(40, 2)])),
        }]),
    };
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn what_is_left_out_has_a_default() {
    let text = guest_queue_with("[[wq]]\nname = \"dsa0/wq0.1\"");
    let config = parse(&text).unwrap();
    let machine = MachineConfig {
        slice_ms: 2,
        report: true,
    };
    assert_eq!(config.machine, machine);
    let guest = &config.guests[0];
    assert_eq!((guest.cpus, guest.trusted), (1, false));
    assert_eq!(guest.restart, Restart::Never);
    assert_eq!(guest.command_line, "");
    assert_eq!(guest.pasids, []);
    assert_eq!(guest.share_rate, None);
    assert_eq!(guest.queues[0].policy, at(6, Policy::Checked));
    assert_eq!(guest.queues[0].batches, None);
    let queue = config.queues[0];
    assert_eq!(queue.mode, at(8, Mode::Dedicated));
    assert_eq!(queue.size, at(8, 16));
    assert_eq!(queue.priority, 10);
    assert_eq!(queue.group, None);
}

#[test]
fn an_array_over_several_lines_has_a_line_for_each_element() {
    let text = guest_with("pasids = [\n  1,\n  0,\n]");
    assert_eq!(
        refusal(&text),
        "weir.toml:7: guest 'a': pasids is 0; write a number from 1 to 1048575"
    );
}

mistakes! {
    what_is_no_toml_is_refused: "[machine]\nslice-ms = \n" =>
        "weir.toml:2: string values must be quoted, expected literal string; \
         correct the line as TOML wants it";
    a_key_twice_is_refused: "[machine]\nreport = true\nreport = true\n" =>
        "weir.toml:3: duplicate key; correct the line as TOML wants it";
    a_file_that_is_too_long_is_refused: "#".repeat(MAX_CONFIG + 1) =>
        "weir.toml:1: the file has 65537 bytes; write at most 65536";
    an_unknown_table_is_refused: "\n[[guests]]\n" =>
        "weir.toml:2: the file: unknown key 'guests'; the keys are machine, guest, wq, group";
    an_unknown_key_of_the_machine_is_refused: "[machine]\nslice = 2\n" =>
        "weir.toml:2: [machine]: unknown key 'slice'; the keys are slice-ms, report";
    an_unknown_key_of_a_guest_is_refused: guest_with("memry = \"64M\"\n") =>
        "weir.toml:5: [[guest]]: unknown key 'memry'; the keys are name, image, input, kernel, \
         initrd, cmdline, memory, cpus, trusted, restart, pasids, share-rate, queue";
    an_unknown_key_of_a_guests_queue_is_refused: guest_queue_with("size = 16") =>
        "weir.toml:7: [[guest.queue]]: unknown key 'size'; the keys are wq, policy, mode, reserve, batches";
    an_unknown_key_of_a_queue_is_refused: queue_with("type = \"kernel\"") =>
        "weir.toml:3: [[wq]]: unknown key 'type'; the keys are name, mode, size, group, priority, \
         threshold, max-transfer, max-batch";
    an_unknown_key_of_a_group_is_refused:
        "[[group]]\nname = \"dsa0/group0.0\"\nwqs = []\n" =>
        "weir.toml:3: [[group]]: unknown key 'wqs'; the keys are name, engines";
    of_two_unknown_keys_the_first_is_named: "[machine]\nz = 1\na = 1\n" =>
        "weir.toml:2: [machine]: unknown key 'z'; the keys are slice-ms, report";

    a_table_where_an_array_of_tables_belongs_is_refused: "[guest]\nname = \"a\"\n" =>
        "weir.toml:1: the file: guest is a table; write [[guest]], in double brackets, \
         on a line of its own";
    numbers_where_tables_belong_are_refused: "wq = [1]\n" =>
        "weir.toml:1: the file: wq is an integer; write [[wq]], in double brackets, \
         on a line of its own";
    an_array_of_machines_is_refused: "[[machine]]\n" =>
        "weir.toml:1: the file: machine is an array; write [machine] on a line of its own";
    a_slice_of_no_time_is_refused: "[machine]\nslice-ms = 0\n" =>
        "weir.toml:2: [machine]: slice-ms is 0; write a number from 1 to 1000";
    a_boolean_in_quotes_is_refused: "[machine]\nreport = \"yes\"\n" =>
        "weir.toml:2: [machine]: report is a string; write true or false, without quotes";

    a_guest_without_a_name_is_refused: "\n\n[[guest]]\nmemory = \"64M\"\n" =>
        "weir.toml:3: [[guest]] has no name; add name = \"demo\"";
    a_guests_name_in_capitals_is_refused: "[[guest]]\nname = \"Demo\"\n" =>
        "weir.toml:2: [[guest]]: name is \"Demo\"; write 1 to 15 of a-z, 0-9 and -";
    a_guests_name_that_is_too_long_is_refused: "[[guest]]\nname = \"abcdefghijklmnop\"\n" =>
        "weir.toml:2: [[guest]]: name is \"abcdefghijklmnop\"; write 1 to 15 of a-z, 0-9 and -";
    an_empty_name_is_refused: "[[guest]]\nname = \"\"\n" =>
        "weir.toml:2: [[guest]]: name is \"\"; write 1 to 15 of a-z, 0-9 and -";
    a_name_without_quotes_is_refused: "[[guest]]\nname = 1\n" =>
        "weir.toml:2: [[guest]]: name is an integer; write a string in quotes";
    control_characters_are_not_printed: "[[guest]]\nname = \"\\u001b[2J\"\n" =>
        "weir.toml:2: [[guest]]: name is \"\\u{1b}[2J\"; write 1 to 15 of a-z, 0-9 and -";
    a_guest_without_memory_is_refused: "[[guest]]\nname = \"a\"\nimage = \"demo\"\n" =>
        "weir.toml:1: guest 'a' has no memory; add memory = \"64M\"";
    memory_without_quotes_is_refused: "[[guest]]\nname = \"a\"\nmemory = 64\n" =>
        "weir.toml:3: guest 'a': memory is an integer; \
         write a size such as \"64M\", with K, M or G";
    memory_of_another_unit_is_refused: "[[guest]]\nname = \"a\"\nmemory = \"64 MiB\"\n" =>
        "weir.toml:3: guest 'a': memory is \"64 MiB\"; \
         write a size such as \"64M\", with K, M or G";
    memory_in_parts_of_a_large_page_is_refused: "[[guest]]\nname = \"a\"\nmemory = \"63M\"\n" =>
        "weir.toml:3: guest 'a': memory is \"63M\"; write a multiple of 2M, at most 255G";
    no_memory_is_refused: "[[guest]]\nname = \"a\"\nmemory = \"0\"\n" =>
        "weir.toml:3: guest 'a': memory is \"0\"; write a multiple of 2M, at most 255G";
    memory_up_to_the_window_is_refused: "[[guest]]\nname = \"a\"\nmemory = \"256G\"\n" =>
        "weir.toml:3: guest 'a': memory is \"256G\"; write a multiple of 2M, at most 255G";
    a_guest_without_an_image_is_refused: "[[guest]]\nname = \"a\"\nmemory = \"64M\"\n" =>
        "weir.toml:1: guest 'a' has no image; add image = \"FILE\", or kernel = \"FILE\" for Linux";
    an_image_beside_a_kernel_is_refused: guest_with("kernel = \"vmlinuz\"") =>
        "weir.toml:5: guest 'a' has an image and a kernel; keep one of them";
    an_initrd_without_a_kernel_is_refused: guest_with("initrd = \"initrd.gz\"") =>
        "weir.toml:5: guest 'a': initrd goes with kernel; remove it";
    an_input_without_an_image_is_refused:
        "[[guest]]\nname = \"a\"\nmemory = \"64M\"\nkernel = \"k\"\ninput = \"i\"\n" =>
        "weir.toml:5: guest 'a': input goes with image; remove it";
    too_many_cpus_are_refused: guest_with("cpus = 9") =>
        "weir.toml:5: guest 'a': cpus is 9; write a number from 1 to 8";
    a_negative_number_is_refused: guest_with("cpus = -1") =>
        "weir.toml:5: guest 'a': cpus is -1; write a number from 1 to 8";
    a_huge_number_is_refused: guest_with("cpus = 0x1_0000_0000_0000_0001") =>
        "weir.toml:5: guest 'a': cpus is 0x10000000000000001; write a number from 1 to 8";
    a_fraction_is_refused: guest_with("cpus = 1.5") =>
        "weir.toml:5: guest 'a': cpus is a float; write a number from 1 to 8, without quotes";
    trust_in_numbers_is_refused: guest_with("trusted = 1") =>
        "weir.toml:5: guest 'a': trusted is an integer; write true or false, without quotes";
    a_command_line_of_two_lines_is_refused: guest_with("cmdline = \"a\\nb\"") =>
        "weir.toml:5: guest 'a': cmdline is \"a\\nb\"; write at most 1023 bytes on one line";
    an_unknown_restart_is_refused: guest_with("restart = \"always\"") =>
        "weir.toml:5: guest 'a': restart is \"always\"; write \"never\" or \"on-reset\"";
    a_pasid_of_more_than_20_bits_is_refused: guest_with("pasids = [0x100000]") =>
        "weir.toml:5: guest 'a': pasids is 0x100000; write a number from 1 to 1048575";
    a_pasid_without_brackets_is_refused: guest_with("pasids = 1") =>
        "weir.toml:5: guest 'a': pasids is an integer; write numbers in brackets, such as [1, 2]";
    too_many_pasids_are_refused:
        guest_with("pasids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]") =>
        "weir.toml:5: guest 'a': pasids has 17 elements; write at most 16";
    a_rate_of_nothing_is_refused: guest_with("share-rate = 0") =>
        "weir.toml:5: guest 'a': share-rate is 0; write a number from 1 to 1000000";
    too_many_guests_are_refused: "[[guest]]\n".repeat(33) =>
        "weir.toml:33: there are more than 32 guests; leave some out";

    a_guests_queue_without_a_name_is_refused: guest_with("[[guest.queue]]\nbatches = 1\n") =>
        "weir.toml:5: guest 'a', [[guest.queue]] has no wq; add wq = \"dsa0/wq0.0\"";
    a_guests_queue_by_half_its_name_is_refused: guest_with("[[guest.queue]]\nwq = \"wq0.1\"\n") =>
        "weir.toml:6: guest 'a', [[guest.queue]]: wq is \"wq0.1\"; \
         write a queue as accel-config names it, such as \"dsa0/wq0.1\"";
    an_unknown_policy_is_refused: guest_queue_with("policy = \"unchecked\"") =>
        "weir.toml:7: guest 'a', dsa0/wq0.1: policy is \"unchecked\"; \
         write \"checked\" or \"direct\"";
    an_unknown_mode_of_a_guests_queue_is_refused: guest_queue_with("mode = \"user\"") =>
        "weir.toml:7: guest 'a', dsa0/wq0.1: mode is \"user\"; write \"dedicated\" or \"shared\"";
    too_many_batches_are_refused: guest_queue_with("batches = 17") =>
        "weir.toml:7: guest 'a', dsa0/wq0.1: batches is 17; write a number from 1 to 16";

    a_queue_without_a_name_is_refused: "[[wq]]\nsize = 16\n" =>
        "weir.toml:1: [[wq]] has no name; add name = \"dsa0/wq0.0\"";
    a_queue_of_two_devices_is_refused: "[[wq]]\nname = \"dsa0/wq1.1\"\n" =>
        "weir.toml:2: [[wq]]: name is \"dsa0/wq1.1\"; \
         write a queue as accel-config names it, such as \"dsa0/wq0.1\"";
    an_unknown_mode_is_refused: queue_with("mode = \"user\"") =>
        "weir.toml:3: dsa0/wq0.1: mode is \"user\"; write \"dedicated\" or \"shared\"";
    a_queue_of_no_size_is_refused: queue_with("size = 0") =>
        "weir.toml:3: dsa0/wq0.1: size is 0; write a number from 1 to 65535";
    a_group_of_another_device_is_refused: queue_with("group = \"group1.0\"") =>
        "weir.toml:3: dsa0/wq0.1: group is \"group1.0\"; \
         write a group of the same device, such as \"group0.0\"";
    a_priority_of_nothing_is_refused: queue_with("priority = 0") =>
        "weir.toml:3: dsa0/wq0.1: priority is 0; write a number from 1 to 15";
    a_threshold_of_nothing_is_refused: queue_with("threshold = 0") =>
        "weir.toml:3: dsa0/wq0.1: threshold is 0; write a number from 1 to 65535";
    a_transfer_that_is_no_power_of_two_is_refused: queue_with("max-transfer = \"3M\"") =>
        "weir.toml:3: dsa0/wq0.1: max-transfer is \"3M\"; write a power of two, at most \"2G\"";
    a_transfer_that_is_too_long_is_refused: queue_with("max-transfer = \"4G\"") =>
        "weir.toml:3: dsa0/wq0.1: max-transfer is \"4G\"; write a power of two, at most \"2G\"";
    a_batch_that_is_no_power_of_two_is_refused: queue_with("max-batch = 100") =>
        "weir.toml:3: dsa0/wq0.1: max-batch is 100; write a power of two";
    a_batch_that_is_too_long_is_refused: queue_with("max-batch = 2048") =>
        "weir.toml:3: dsa0/wq0.1: max-batch is 2048; write a number from 2 to 1024";

    a_group_without_a_name_is_refused: "[[group]]\nengines = [0]\n" =>
        "weir.toml:1: [[group]] has no name; add name = \"dsa0/group0.0\"";
    a_group_by_half_its_name_is_refused: "[[group]]\nname = \"group0.0\"\n" =>
        "weir.toml:2: [[group]]: name is \"group0.0\"; \
         write a group as accel-config names it, such as \"dsa0/group0.0\"";
    a_group_without_engines_is_refused:
        "[[group]]\nname = \"dsa0/group0.0\"\nengines = []\n" =>
        "weir.toml:3: dsa0/group0.0: engines is empty; write at least one, or leave it out";
    an_engine_of_a_high_number_is_refused:
        "[[group]]\nname = \"dsa0/group0.0\"\nengines = [\n0,\n256]\n" =>
        "weir.toml:5: dsa0/group0.0: engines is 256; write a number from 0 to 255";
}

#[test]
fn a_long_command_line_is_refused() {
    let text = guest_with(&format!("cmdline = \"{}\"", "x".repeat(MAX_COMMAND_LINE)));
    assert!(parse(&text).is_ok());
    let text = guest_with(&format!(
        "cmdline = \"{}\"",
        "x".repeat(MAX_COMMAND_LINE + 1)
    ));
    assert!(refusal(&text).ends_with("; write at most 1023 bytes on one line"));
}

#[test]
fn deep_nesting_is_refused() {
    for nested in [
        format!("wq = {}", "[".repeat(60_000)),
        format!("wq = {}", "{a=".repeat(20_000)),
        format!("machine{} = 1", ".a".repeat(30_000)),
        format!("[machine{}]", ".a".repeat(30_000)),
    ] {
        assert_eq!(
            refusal(&nested),
            "weir.toml:1: more than 6 brackets in each other; write fewer"
        );
    }
}

/// The boot processor's stack has 64 KiB; an unoptimised parser needs most of it.
#[test]
fn the_deepest_nesting_needs_little_stack() {
    let arrays = "wq = [[[[[[1]]]]]]".to_owned();
    let tables = format!("[[guest]]\nname = {}1{}", "{a=".repeat(6), "}".repeat(6));
    let parser = std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || (refusal(&arrays), refusal(&tables)));
    let (arrays, tables) = parser.unwrap().join().unwrap();
    assert!(arrays.contains("wq is an array"), "{arrays}");
    assert!(tables.contains("name is a table"), "{tables}");
}

/// Pieces of which texts are made that are nearly right.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "[[guest]]\n",
            "[[guest.queue]]\n",
            "[[wq]]\n",
            "[[group]]\n",
            "[machine]\n",
            "[guest]\n",
            "name = ",
            "image = ",
            "memory = ",
            "wq = ",
            "pasids = ",
            "engines = ",
            "cpus = ",
            "mode = ",
            "policy = ",
            "max-transfer = ",
            "size = ",
            "slice-ms = ",
            "= ",
            "\"a\"\n",
            "\"64M\"\n",
            "\"dsa0/wq0.1\"\n",
            "\"dsa0/group0.0\"\n",
            "[1, 2]\n",
            "0\n",
            "-1\n",
            "0xffffffffffffffffffffffff\n",
            "1.5\n",
            "true\n",
            "{a=1}\n",
            "1979-05-27\n",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "'''",
            "\\u001b",
            "\n",
            "#",
            "\u{feff}",
            "é",
            "\0",
        ][..],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_pieces_make_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        if let Err(error) = parse(&text) {
            let message = error.to_string();
            prop_assert!(!message.contains(char::is_control), "{message:?}");
            let lines = text.matches('\n').count() + 1;
            prop_assert!((1..=lines).contains(&usize::try_from(error.line).unwrap()));
        }
    }
}
