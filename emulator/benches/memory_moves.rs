//! Memory moves through the whole model, from the portal write to the
//! completion record, against a plain copy of the same bytes.
//!
//! `cargo bench -p dsa_model` measures both side by side. At the end it takes
//! the ratio of the two, alternating between them, and fails if a move takes
//! more than [`LIMIT`] times as long as the copy.
//!
//! The ratio is taken twice: with every run on the next buffers of two large
//! arenas, as traffic would be, so that both sides fetch their data from memory;
//! and with the same buffers again and again, in the cache. Both are with a
//! [`Bus::copy`]. A bus without one, such as QEMU's, makes the model copy
//! everything twice; what that costs is printed too, without a limit.
#![expect(
    clippy::indexing_slicing,
    reason = "a benchmark that looks beyond its own memory has failed"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

use dsa_model::{Answer, Bus, BusError, Dsa, Identity, Requester, Transaction, TransferError};

/// How much longer than a plain copy a move may take.
const LIMIT: f64 = 2.0;
/// The sizes that the limit holds for.
const SIZES: [usize; 2] = [64 << 10, 1 << 20];
/// Transfer size for the rate of descriptors.
const SMALL: usize = 4 << 10;
/// Descriptors that are submitted before the device gets time to work.
const BURST: usize = 32;

/// Sources, and as many destinations: far more than caches hold.
const ARENA: usize = 64 << 20;
const RECORDS: usize = 2 * ARENA;
const MEMORY_BYTES: usize = RECORDS + BURST * 32;

/// Flat memory from address 0 on, and a clock that is set from outside.
struct Host {
    memory: Vec<u8>,
    now_ns: u64,
    /// [`Bus::copy`] does something.
    copies: bool,
}

impl Host {
    fn slice(&mut self, address: u64, length: usize) -> Result<&mut [u8], TransferError> {
        let absent = TransferError {
            transferred: 0,
            cause: BusError::PageFault,
        };
        let start = usize::try_from(address).map_err(|_| absent)?;
        self.memory.get_mut(start..start + length).ok_or(absent)
    }
}

impl Bus for Host {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn read(
        &mut self,
        _requester: Requester,
        address: u64,
        data: &mut [u8],
    ) -> Result<(), TransferError> {
        data.copy_from_slice(self.slice(address, data.len())?);
        Ok(())
    }

    fn write(
        &mut self,
        _requester: Requester,
        address: u64,
        data: &[u8],
    ) -> Result<(), TransferError> {
        self.slice(address, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn copy(
        &mut self,
        _requester: Requester,
        source: u64,
        destination: u64,
        length: usize,
    ) -> usize {
        let ranges = [source, destination].map(|start| {
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(length)?;
            (end <= self.memory.len()).then_some(start..end)
        });
        let [Some(from), Some(to)] = ranges else {
            return 0;
        };
        if !self.copies {
            return 0;
        }
        self.memory.copy_within(from, to.start);
        length
    }

    fn send_message(&mut self, _address: u64, _data: u32) -> Result<(), BusError> {
        Ok(())
    }
}

/// A device with one dedicated queue of [`BURST`] entries, enabled.
struct Rig {
    dsa: Dsa,
    host: Host,
    /// Where the next buffers are in the arenas.
    next: usize,
    /// The arenas wrap here.
    arena: usize,
}

impl Rig {
    fn new(arena: usize, copies: bool) -> Self {
        let dsa = Dsa::new(Identity::default()).expect("the default identity is a good one");
        let host = Host {
            memory: (0..=u8::MAX).cycle().take(MEMORY_BYTES).collect(),
            now_ns: 0,
            copies,
        };
        let mut rig = Self {
            dsa,
            host,
            next: 0,
            arena,
        };

        // Memory space and bus mastering on.
        rig.dsa.config_write(0x04, 2, 0x6, &mut rig.host);
        let offsets = rig.dsa.mmio_read(0, 0x60, 8);
        let table = |index: u32| (offsets >> (16 * index) & 0xffff) * 0x100;
        let (grpcfg, wqcfg) = (table(0), table(1));
        // Queue 0 and engine 0 in group 0.
        rig.write(grpcfg, 8, 1);
        rig.write(grpcfg + 0x20, 8, 1);
        // Size; dedicated with priority 1; transfers of up to 2 MiB.
        rig.write(wqcfg, 4, BURST as u64);
        rig.write(wqcfg + 0x8, 4, 1 << 4 | 1);
        rig.write(wqcfg + 0xc, 4, 1 << 5 | 21);
        // Enable Device, Enable WQ 0.
        for command in [1 << 20, 6 << 20] {
            rig.write(0xa0, 4, command);
            rig.work();
            assert_eq!(rig.dsa.mmio_read(0, 0xa8, 4), 0, "command {command:#x}");
        }
        rig
    }

    fn write(&mut self, offset: u64, size: u32, value: u64) {
        self.dsa.mmio_write(0, offset, size, value, &mut self.host);
    }

    /// Lets time pass until the device has nothing left to do.
    fn work(&mut self) {
        while let Some(deadline) = self.dsa.deadline() {
            self.host.now_ns = self.host.now_ns.max(deadline);
            self.dsa.advance(&mut self.host);
        }
    }

    /// The next source and destination of `size` bytes.
    fn buffers(&mut self, size: usize) -> (usize, usize) {
        if self.next + size > self.arena {
            self.next = 0;
        }
        let source = self.next;
        self.next += size;
        (source, source + ARENA)
    }

    /// Moves `size` bytes by each of `count` descriptors, and looks at their
    /// completion records.
    fn move_bytes(&mut self, size: usize, count: usize) {
        for index in 0..count {
            let (source, destination) = self.buffers(size);
            let mut descriptor = [0; 64];
            let fields = [
                // Completion record, valid and requested; Memory Move.
                (4, 0x0300_000c),
                (8, (RECORDS + 32 * index) as u64),
                (16, source as u64),
                (24, destination as u64),
                (32, size as u64),
            ];
            for (offset, value) in fields {
                let length = if offset == 4 { 4 } else { 8 };
                descriptor[offset..offset + length].copy_from_slice(&value.to_le_bytes()[..length]);
            }
            self.host.memory[RECORDS + 32 * index] = 0;
            let posted = Transaction::Posted;
            let answer = self
                .dsa
                .portal_write(2, 0x1000, &descriptor, posted, &mut self.host);
            assert_eq!(answer, Answer::Success);
        }
        self.work();
        for index in 0..count {
            assert_eq!(
                self.host.memory[RECORDS + 32 * index],
                1,
                "descriptor {index}"
            );
        }
    }

    /// What the move is measured against.
    fn copy_bytes(&mut self, size: usize) {
        let (source, destination) = self.buffers(size);
        let (low, high) = self.host.memory.split_at_mut(destination);
        high[..size].copy_from_slice(black_box(&low[source..source + size]));
        black_box(&mut high[..size]);
    }
}

fn measure(criterion: &mut Criterion) {
    let mut rig = Rig::new(ARENA, true);
    let mut group = criterion.benchmark_group("memory move");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("model", size), |bencher| {
            bencher.iter(|| rig.move_bytes(size, 1));
        });
        group.bench_function(BenchmarkId::new("plain copy", size), |bencher| {
            bencher.iter(|| rig.copy_bytes(size));
        });
    }
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function(BenchmarkId::new("descriptors", SMALL), |bencher| {
        bencher.iter(|| rig.move_bytes(SMALL, BURST));
    });
    group.finish();
}

/// The shortest of many runs, which is what disturbs a comparison least.
fn shortest(times: usize, mut run: impl FnMut()) -> Duration {
    let run = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..times).map(run).min().unwrap_or_default()
}

/// How many times as long as a plain copy a move of `size` bytes takes: the
/// median of several alternating measurements.
fn ratio(rig: &mut Rig, size: usize) -> f64 {
    let mut ratios: Vec<f64> = (0..15)
        .map(|_| {
            let copy = shortest(50, || rig.copy_bytes(size));
            let moved = shortest(50, || rig.move_bytes(size, 1));
            moved.as_secs_f64() / copy.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn main() -> ExitCode {
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();

    let mut good = true;
    for size in SIZES {
        for (place, arena) in [("memory", ARENA), ("the cache", size)] {
            let moved = ratio(&mut Rig::new(arena, true), size);
            let staged = ratio(&mut Rig::new(arena, false), size);
            println!(
                "a move of {size} bytes from {place} takes {moved:.2} times a plain copy \
                 (limit {LIMIT}); {staged:.2} times where the bus cannot copy"
            );
            good &= moved <= LIMIT;
        }
    }
    let mut rig = Rig::new(ARENA, true);
    let burst = shortest(200, || rig.move_bytes(SMALL, BURST));
    let rate = BURST as f64 / burst.as_secs_f64();
    println!("{rate:.0} descriptors of {SMALL} bytes per second");
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
