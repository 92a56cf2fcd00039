//! A device in its machine, driven as a driver would.

use dsa_model::{Answer, Dsa, Identity, Transaction};

use super::registers::{
    CMD, CMDSTATUS, CONTROL, ENABLE_DEVICE, ENABLE_WQ, ENGINES, GENCFG, MSIX_CONTROL,
    PASID_CONTROL, PCICMD, SWERROR, USER_INTERRUPTS, WQCFG, grpcfg, ims, msix, permission,
};
use super::{Bytes, Machine};

pub(crate) struct Rig {
    pub(crate) dsa: Dsa,
    pub(crate) machine: Machine,
}

/// The four portal pages of a queue. [341204 §9.3 "Portals (BAR2)"]
pub(crate) const UNLIMITED_MSIX: u64 = 0;
pub(crate) const LIMITED_MSIX: u64 = 1;
pub(crate) const UNLIMITED_IMS: u64 = 2;
pub(crate) const LIMITED_IMS: u64 = 3;
pub(crate) const PORTALS: [u64; 4] = [UNLIMITED_MSIX, LIMITED_MSIX, UNLIMITED_IMS, LIMITED_IMS];

/// What [`Rig::new`] makes MSI-X vector `vector` send.
pub(crate) fn message(vector: u32) -> (u64, u32) {
    (0xfee0_0000, 0x100 + vector)
}

/// How a queue is to be configured.
#[derive(Clone, Copy)]
pub(crate) struct QueueSetup {
    pub(crate) size: u32,
    pub(crate) threshold: u32,
    pub(crate) dedicated: bool,
    pub(crate) priority: u32,
    pub(crate) pasid: Option<u32>,
    pub(crate) privileged: bool,
    /// The group, and its engine if the group has none yet.
    pub(crate) group: u64,
}

impl Default for QueueSetup {
    fn default() -> Self {
        Self {
            size: 16,
            threshold: 16,
            dedicated: true,
            priority: 10,
            pasid: None,
            privileged: false,
            group: 0,
        }
    }
}

impl QueueSetup {
    /// A shared queue: PASID Enable must be 1, and the PASID counts for nothing.
    pub(crate) fn shared() -> Self {
        Self {
            dedicated: false,
            pasid: Some(0),
            ..Self::default()
        }
    }

    pub(crate) fn with_pasid(pasid: u32) -> Self {
        Self {
            pasid: Some(pasid),
            ..Self::default()
        }
    }
}

/// Registers, as software reaches them.
impl Rig {
    /// A device that PCI enumeration has been through: memory space and bus
    /// mastering on, PASID on with privileged mode, MSI-X on, and vectors whose
    /// messages tell them apart.
    pub(crate) fn new(options: &str) -> Self {
        let mut this = Self::powered_up(options);
        this.enumerate();
        this
    }

    /// What PCI enumeration does to a device after a reset.
    pub(crate) fn enumerate(&mut self) {
        self.config_write(PCICMD, 2, 0x0006);
        self.config_write(MSIX_CONTROL, 2, 0x8000);
        self.config_write(PASID_CONTROL, 2, 0x0005);
        for vector in 0..self.dsa.identity().msix_vectors() {
            let (address, data) = message(vector.into());
            let entry = msix(vector.into());
            self.write64(entry, address);
            self.write32(entry + 8, data);
            self.write32(entry + CONTROL, 0);
        }
    }

    /// A device that nobody has touched.
    pub(crate) fn powered_up(options: &str) -> Self {
        Self {
            dsa: Dsa::new(Identity::parse(options).unwrap()).unwrap(),
            machine: Machine::default(),
        }
    }

    /// A configuration write; returns whether it initiated an FLR.
    pub(crate) fn config_write(&mut self, offset: usize, size: usize, value: u32) -> bool {
        self.dsa
            .config_write(offset, size, value, &mut self.machine)
    }

    pub(crate) fn read(&mut self, offset: u64, size: u32) -> u64 {
        self.dsa.mmio_read(0, offset, size)
    }

    pub(crate) fn read32(&mut self, offset: u64) -> u32 {
        u32::try_from(self.read(offset, 4)).unwrap()
    }

    pub(crate) fn read64(&mut self, offset: u64) -> u64 {
        self.read(offset, 8)
    }

    pub(crate) fn write(&mut self, offset: u64, size: u32, value: u64) {
        self.dsa
            .mmio_write(0, offset, size, value, &mut self.machine);
    }

    pub(crate) fn write32(&mut self, offset: u64, value: u32) {
        self.write(offset, 4, value.into());
    }

    pub(crate) fn write64(&mut self, offset: u64, value: u64) {
        self.write(offset, 8, value);
    }

    /// WQCFG of queue `queue`.
    pub(crate) fn wqcfg(&self, queue: u64) -> u64 {
        let second_generation = self.dsa.identity().version() >= 0x200;
        WQCFG + queue * if second_generation { 64 } else { 32 }
    }

    /// SWERROR's four quadwords.
    pub(crate) fn software_error(&mut self) -> [u64; 4] {
        [0, 8, 16, 24].map(|offset| self.read64(SWERROR + offset))
    }

    /// The bench side.
    pub(crate) fn control(&mut self, command: &str) -> String {
        self.dsa.control(command, &mut self.machine).unwrap()
    }
}

/// Time.
impl Rig {
    /// Lets time pass until the device has nothing left to do.
    pub(crate) fn run(&mut self) {
        for _ in 0..1_000_000 {
            let Some(deadline) = self.dsa.deadline() else {
                return;
            };
            self.machine.now_ns = self.machine.now_ns.max(deadline);
            self.dsa.advance(&mut self.machine);
        }
        panic!("the device does not come to rest");
    }

    /// Lets `ns` pass.
    pub(crate) fn run_for(&mut self, ns: u64) {
        let end = self.machine.now_ns + ns;
        while let Some(deadline) = self.dsa.deadline().filter(|deadline| *deadline <= end) {
            self.machine.now_ns = self.machine.now_ns.max(deadline);
            self.dsa.advance(&mut self.machine);
        }
        self.machine.now_ns = end;
    }

    /// Lets time pass until `done`, in steps of `step_ns`.
    pub(crate) fn run_until(&mut self, step_ns: u64, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1_000_000 {
            if done(self) {
                return;
            }
            self.run_for(step_ns);
        }
        panic!("it never happened");
    }
}

/// Commands and configuration.
impl Rig {
    /// Issues a command and does not wait for it.
    pub(crate) fn start(&mut self, word: u32) {
        self.write32(CMD, word);
    }

    /// Issues a command and lets time pass until the device is idle; returns
    /// CMDSTATUS.
    pub(crate) fn command(&mut self, word: u32) -> u32 {
        self.start(word);
        self.run();
        self.read32(CMDSTATUS)
    }

    pub(crate) fn enable_ats(&mut self) {
        self.config_write(super::registers::ATS_CONTROL, 2, 0x8000);
    }

    /// User-mode descriptors may ask for interrupts.
    pub(crate) fn allow_user_interrupts(&mut self) {
        let gencfg = self.read32(GENCFG);
        self.write32(GENCFG, gencfg | USER_INTERRUPTS);
    }

    /// Configures a queue and its group; the device must be Disabled.
    pub(crate) fn configure(&mut self, queue: u64, setup: QueueSetup) {
        let wqcfg = self.wqcfg(queue);
        self.write32(wqcfg, setup.size);
        self.write32(wqcfg + 4, setup.threshold);
        let pasid = setup.pasid.map_or(0, |pasid| 1 << 28 | pasid << 8);
        let word2 = u32::from(setup.dedicated)
            | setup.priority << 4
            | pasid
            | u32::from(setup.privileged) << 29;
        self.write32(wqcfg + 8, word2);
        self.write32(wqcfg + 12, 31 | 10 << 5);
        let group = grpcfg(setup.group);
        let queues = self.read64(group);
        self.write64(group, queues | 1 << queue);
        if self.read64(group + ENGINES) == 0 {
            self.write64(group + ENGINES, 1 << setup.group);
        }
    }

    /// Enables the device and the given queues.
    pub(crate) fn enable(&mut self, queues: &[u32]) {
        assert_eq!(self.command(ENABLE_DEVICE), 0, "Enable Device");
        for queue in queues {
            assert_eq!(self.command(ENABLE_WQ | queue), 0, "Enable WQ {queue}");
        }
    }

    /// A device with one queue, enabled, whose clients may ask for interrupts.
    pub(crate) fn with_queue(options: &str, setup: QueueSetup) -> Self {
        let mut this = Self::new(options);
        this.allow_user_interrupts();
        this.configure(0, setup);
        this.enable(&[0]);
        this
    }

    /// Programs IMS slot `slot` as a careful driver does: masked while it is
    /// written, and unmasked last.
    pub(crate) fn program_ims(&mut self, slot: u64, message: (u64, u32), pasid: Option<u32>) {
        let entry = ims(slot);
        self.write32(entry + CONTROL, permission(pasid) | 1);
        self.write64(entry, message.0);
        self.write32(entry + 8, message.1);
        self.write32(entry + CONTROL, permission(pasid));
    }
}

/// Submissions.
impl Rig {
    /// MOVDIR64B to a portal page of a queue.
    pub(crate) fn post(&mut self, queue: u64, page: u64, descriptor: &Bytes) {
        let offset = queue * 0x4000 + page * 0x1000;
        self.submit(2, offset, descriptor, Transaction::Posted);
    }

    /// ENQCMD likewise; returns whether it was accepted.
    pub(crate) fn enqueue(&mut self, queue: u64, page: u64, descriptor: &Bytes) -> bool {
        let offset = queue * 0x4000 + page * 0x1000;
        self.submit(2, offset, descriptor, Transaction::Deferrable) == Answer::Success
    }

    pub(crate) fn submit(
        &mut self,
        bar: u32,
        offset: u64,
        descriptor: &Bytes,
        transaction: Transaction,
    ) -> Answer {
        self.dsa
            .portal_write(bar, offset, &descriptor.0, transaction, &mut self.machine)
    }

    /// The status of the completion record at `record`, without a PASID.
    pub(crate) fn status(&self, record: u64) -> u8 {
        self.machine.peek_byte(None, record)
    }

    /// The statuses of `count` records that stand one behind the other.
    pub(crate) fn statuses(&self, first: u64, count: u64) -> Vec<u8> {
        (0..count)
            .map(|index| self.status(first + 32 * index))
            .collect()
    }
}
