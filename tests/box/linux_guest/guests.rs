//! The guests of a box, and the queues behind theirs.

/// The tests of the init, and what its steps are then, in their order.
const ALL: (&str, &str) = ("dmatest,reenable,rebind,flr,reload", ALL_STEPS);
const ALL_STEPS: &str = "kernel probe iommu list \
                         enable dmatest dmatest dmatest disable \
                         reenable \
                         rebind enable rebind disable \
                         flr enable flr disable \
                         reload enable reload disable \
                         interrupts end";

/// Linux 6.12 follows a null pointer when it disables a DSA without an event log, under Weir as on
/// the bare box (see `linux.rs`), so there the device stays enabled.
const COPY: (&str, &str) = (
    "copy",
    "kernel probe iommu list enable dmatest dmatest dmatest disable interrupts end",
);

/// How a guest reaches the device.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// Weir checks each descriptor.
    Checked,
    /// It writes to the device itself.
    Direct,
    /// Weir checks each, and hands it to a shared queue that others have too.
    Slice,
}

/// A Linux guest.
#[derive(Clone, Copy)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    /// "" or "-backports".
    pub(crate) kernel: &'static str,
    pub(crate) way: Way,
    queue: u8,
    pub(crate) cpus: u8,
    pub(crate) copies: u64,
}

impl Guest {
    pub(crate) const fn new(
        name: &'static str,
        way: Way,
        queue: u8,
        cpus: u8,
        copies: u64,
    ) -> Self {
        Self {
            name,
            kernel: "",
            way,
            queue,
            cpus,
            copies,
        }
    }

    /// What it tests, and its steps.
    pub(crate) fn tests(&self) -> (&'static str, &'static str) {
        if self.kernel.is_empty() { ALL } else { COPY }
    }

    pub(crate) fn config(&self) -> String {
        let Self {
            name,
            kernel,
            way,
            queue,
            cpus,
            copies,
        } = self;
        let (tests, _) = self.tests();
        let is_trusted = *way == Way::Direct;
        let queue_words = match way {
            Way::Checked => "",
            Way::Direct => "policy = \"direct\"",
            Way::Slice => "mode = \"dedicated\"",
        };
        format!(
            r#"
[[guest]]
name = "{name}"
kernel = "vmlinuz{kernel}"
initrd = "initrd{kernel}"
cmdline = "console=ttyS0 panic=1 weir.test={tests} weir.copies={copies} weir.limit=1500"
memory = "256M"
cpus = {cpus}
trusted = {is_trusted}
[[guest.queue]]
wq = "dsa0/wq0.{queue}"
{queue_words}
"#
        )
    }
}

/// A physical queue.
pub(crate) fn queue(number: u8, mode: &str, size: u8) -> String {
    format!("[[wq]]\nname = \"dsa0/wq0.{number}\"\nmode = \"{mode}\"\nsize = {size}\n")
}

/// The adversary, on a queue of its own.
pub(crate) const ADVERSARY: &str = r#"
[[guest]]
name = "adversary"
image = "adversary"
memory = "32M"
pasids = [5]
[[guest.queue]]
wq = "dsa0/wq0.7"
[[wq]]
name = "dsa0/wq0.7"
size = 16
"#;
