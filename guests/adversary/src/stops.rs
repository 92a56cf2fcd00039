//! Commands that stop a queue while it has work.

use alloc::format;
use core::time::Duration;

use guest_rt::clock;
use guest_rt::dsa::{Instruction, Queue, Submission, Work};
use hwspec::dsa::CommandCode;

use crate::stage::{ROOM, Stage, UNTOUCHED, Verdict};

/// Batches that are submitted at once, and their members.
const BATCHES: usize = 4;
const MEMBERS: usize = 64;
const COMMANDS: [CommandCode; 4] = [
    CommandCode::DRAIN_WQ,
    CommandCode::ABORT_WQ,
    CommandCode::DISABLE_WQ,
    CommandCode::RESET_WQ,
];
/// How long what comes too late may take to come.
const PATIENCE: Duration = Duration::from_millis(5);

/// Each of them, for each queue with batches in it. Contained if the device writes nothing
/// more once the command is done: whoever has the memory, or the queue, next relies on it.
pub(crate) fn queues(stage: &mut Stage) -> Verdict {
    let (mut done, mut stopped, mut late, mut refused) = (0, 0, 0, 0);
    for index in 0..stage.device.queues().len() {
        for command in COMMANDS {
            let Some(&queue) = stage.device.queues().get(index) else {
                continue;
            };
            submit(stage, &queue);
            let operand = 1_u32.checked_shl(u32::try_from(index).unwrap_or(u32::MAX));
            if stage.device.execute(command, operand.unwrap_or(0)).is_err() {
                refused += 1;
            }
            stage.list.fill(0, MEMBERS * 64, 0);
            stage.prepare_target();
            let written = |stage: &Stage| -> [bool; BATCHES] {
                core::array::from_fn(|batch| stage.records.is_written(batch))
            };
            let before = written(stage);
            done += before.iter().filter(|&&is_written| is_written).count();
            clock::spin_until(PATIENCE, || false);
            let is_untouched = stage.target.is_all(0, ROOM, UNTOUCHED);
            if before != written(stage) || !is_untouched {
                late += 1;
            }
            stopped += 1;
            if stage.recover().is_err() {
                refused += 1;
            }
        }
    }
    Verdict {
        is_contained: late == 0 && refused == 0,
        saw: format!(
            "{stopped} stops, {done} batches done before, {refused} refused; {late} times it went on"
        ),
    }
}

/// Batches of moves to the target.
fn submit(stage: &mut Stage, queue: &Queue) {
    let room = u32::try_from(ROOM).unwrap_or(0);
    for member in 0..MEMBERS {
        let words = stage.copy(room).words();
        stage.list.write_words(member * 64, &words);
    }
    let count = u32::try_from(MEMBERS).unwrap_or(0);
    let pasid = match queue.instruction {
        Instruction::Movdir64b => 0,
        _ => queue.pasid.unwrap_or(0),
    };
    for batch in 0..BATCHES {
        stage.records.clear(batch);
        let work = Work::batch(stage.list.address(0), count);
        let work = work.record(stage.records.address(batch)).pasid(pasid);
        match queue.portal.submit(&work, queue.instruction) {
            Submission::Accepted => stage.count_submitted(1 + MEMBERS as u64),
            Submission::Retry => stage.count_retried(1),
        }
    }
}
