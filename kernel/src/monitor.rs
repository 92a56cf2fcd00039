//! What the operator sees and does, on the boot processor beside its guests.
//!
//! [`Monitor`] is the housekeeping of [`schedule`](crate::vm::schedule): each tick looks
//! after devices and guests on their way in or out, moves what guests printed to the
//! console, takes what was typed, and goes on with the answer to the last command. A tick
//! does a bounded amount of work and waits for nothing, neither for the serial port nor
//! for a guest that uses its accelerator: a long table is printed over several ticks.
#![forbid(unsafe_code)]

pub mod command;
pub mod consoles;
pub mod faults;
pub mod line_editor;
pub mod screen;
pub mod tables;
pub mod text;

use core::fmt;

use crate::arch::{clock, power};
use crate::boot_info::BootInfo;
use crate::virt::backend::Backend;
use crate::vm::account::{self, Faults};
use crate::vm::hypervisor::Hypervisor;
use crate::vm::schedule::Housekeeping;
use crate::{console, println, trace, warn};
use command::Command;
use consoles::{Consoles, Printer};
use faults::{Described, FaultLog, News, Seen};
use line_editor::{LineEditor, MAX_LINE, Typed, TypedLine};
use tables::{Answer, Next, Own, World};
use text::Line;

/// How often the monitor looks, in nanoseconds.
const INTERVAL_NS: u64 = 2_000_000;
/// How long a tick goes on making lines, in nanoseconds.
const LINES_NS: u64 = 200_000;
/// Lines of an answer that are made in a tick.
const LINES: usize = 16;
/// Bytes that are taken in a tick: as many as the port keeps.
const KEYS: usize = 16;

const PROMPT: &str = "weir> ";
/// Ctrl-C: no more of this answer.
const INTERRUPT: u8 = 0x03;
/// Ctrl-]: away from a guest's console.
const LEAVE: u8 = 0x1d;

/// The monitor.
#[derive(Debug)]
pub struct Monitor<B: Backend> {
    hypervisor: &'static Hypervisor<B>,
    /// It listens, and stays when all guests have ended.
    is_interactive: bool,
    begun: u64,
    last_tick: u64,
    own: Own,
    consoles: Consoles,
    faults: FaultLog,
    editor: LineEditor,
    /// A line that waits until the answer to the last one has been given.
    typed: Option<TypedLine>,
    /// A byte for a guest that has no room for it.
    held_key: Option<u8>,
    answer: Option<Answer>,
    is_quitting: bool,
}

/// The operator's console.
struct Screen;

impl Printer for Screen {
    fn has_room(&self) -> bool {
        console::has_room()
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        println!("{text}");
    }

    fn raw(&mut self, text: &str) {
        if !text.is_empty() {
            // There is room, which was asked for before.
            console::write_raw(text);
        }
    }
}

impl<B: Backend> Monitor<B> {
    /// The monitor of `hypervisor`, which `begun` at this time.
    pub fn new(hypervisor: &'static Hypervisor<B>, boot: &BootInfo, begun: u64) -> Self {
        let is_interactive = boot.option("interactive") == Some("on");
        console::start_queue();
        if is_interactive {
            println!("weir: 'help' lists what you can type here");
        }
        Self {
            hypervisor,
            is_interactive,
            begun,
            last_tick: begun,
            own: Own::default(),
            consoles: Consoles::new(hypervisor.plan.guests.len()),
            faults: FaultLog::new(),
            editor: LineEditor::default(),
            typed: None,
            held_key: None,
            answer: None,
            is_quitting: false,
        }
    }

    /// Looks after devices.
    fn serve_devices(&mut self) {
        let iommu = self.hypervisor.host.iommu;
        let (at_ns, faults) = (self.own.now_ns, &mut self.faults);
        self.hypervisor.host.housekeep(|report| {
            let guest = report.vm.map_or(0xff, usize::from);
            trace::record(trace::Kind::FAULT, guest, 0, 0);
            faults.note(Seen {
                at_ns,
                report,
                segment: iommu.segment(report.unit),
            });
        });
        while let Some(news) = self.faults.take_news(at_ns) {
            match news {
                News::Fault(seen) => {
                    let guests = &self.hypervisor.plan.guests;
                    let guest = seen.report.vm.and_then(|vm| guests.get(usize::from(vm)));
                    let guest = guest.map(|guest| guest.name.as_str());
                    warn!("iommu", "fault {}", Described { seen: &seen, guest });
                }
                News::More(count) => {
                    warn!("iommu", "more faults, not shown count={count}; see 'iommu'");
                }
            }
        }
    }

    /// Prints what guests have written. True if there is no more.
    fn print_consoles(&mut self) -> bool {
        let records = self.hypervisor.records.lock();
        let mut is_all = true;
        for number in self.consoles.order() {
            let record = records.get(number);
            let Some((record, plan)) = record.zip(self.hypervisor.plan.guests.get(number)) else {
                continue;
            };
            let output = record.guest().map(|guest| &guest.output);
            is_all &= self.consoles.print(number, &plan.name, output, &mut Screen);
        }
        is_all
    }

    /// Takes what was typed.
    fn read_keys(&mut self) {
        for _ in 0..KEYS {
            if self.typed.is_some() {
                return;
            }
            let Some(key) = self.held_key.take().or_else(console::read) else {
                return;
            };
            match self.consoles.attached() {
                Some(_) if key == LEAVE => {
                    self.consoles.detach();
                    println!("weir: back");
                }
                Some(number) => {
                    if !self.type_to(number, key) {
                        self.held_key = Some(key);
                        return;
                    }
                }
                None => self.edit(key),
            }
        }
    }

    /// Hands a key to a guest. False if it has no room for it just now.
    fn type_to(&self, number: usize, key: u8) -> bool {
        let records = self.hypervisor.records.lock();
        let guest = records.get(number).and_then(|record| record.guest());
        // Without the guest nobody reads it.
        guest.is_none_or(|guest| {
            let is_taken = guest.input.add(key);
            guest.notify_of_input();
            is_taken
        })
    }

    fn edit(&mut self, key: u8) {
        if key == INTERRUPT && self.answer.take().is_some() {
            println!("weir: the rest is left out");
            return;
        }
        let mut text = [0; 4];
        match self.editor.push(key) {
            Typed::Nothing => {}
            Typed::Echo(character) => console::echo(character.encode_utf8(&mut text)),
            Typed::Erase(count) => erase(count),
            Typed::Replace(count) => {
                erase(count);
                console::echo(self.editor.line());
            }
            Typed::Line(line) => {
                console::end_prompt(PROMPT, &line);
                self.typed = Some(line);
            }
            Typed::TooLong(line) => {
                console::end_prompt(PROMPT, &line);
                println!("weir: a line has at most {MAX_LINE} characters; nothing was done");
            }
        }
    }

    /// Does what was typed.
    fn obey(&mut self, line: &str) {
        let command = match command::parse(line) {
            Ok(Some(command)) => command,
            Ok(None) => return,
            Err(error) => {
                println!("weir: {error}");
                return;
            }
        };
        let name = match command {
            Command::Start(name)
            | Command::Stop(name)
            | Command::Reset(name)
            | Command::Console(name)
            | Command::ImsMove(name, _)
            | Command::Why(Some(name)) => Some(name),
            _ => None,
        };
        let number = name.and_then(|name| self.hypervisor.find(name));
        match (command, name, number) {
            (_, Some(name), None) => {
                println!("weir: there is no guest '{name}'; 'vms' lists them");
            }
            (Command::Start(name), _, Some(number)) => self.start(name, number),
            (Command::Stop(name), _, Some(number)) => {
                if !self.hypervisor.stop(number, false) {
                    println!("weir: {name} is not there; 'start {name}' starts it");
                }
            }
            (Command::Reset(name), _, Some(number)) => {
                if self.is_quitting || !self.hypervisor.stop(number, true) {
                    println!("weir: {name} cannot be reset now");
                }
            }
            (Command::Console(name), _, Some(number)) => {
                self.sit_down(name, number);
            }
            (Command::ImsMove(name, vector), _, Some(number)) => {
                self.move_handle(name, number, vector);
            }
            (Command::Quit, ..) => self.quit(),
            (Command::Report, ..) => self.write_report(),
            (question, _, number) => self.answer = Answer::to(question, number),
        }
    }

    /// Goes to the console of a guest.
    fn sit_down(&mut self, name: &str, number: usize) {
        let records = self.hypervisor.records.lock();
        let is_there = records
            .get(number)
            .is_some_and(|record| record.guest().is_some());
        drop(records);
        match is_there {
            true => println!("weir: this is the console of {name}; Ctrl-] comes back"),
            false => println!(
                "weir: {name} is not there, so nobody reads what you type; Ctrl-] comes back"
            ),
        }
        self.consoles.attach(number, &mut Screen);
    }

    fn start(&self, name: &str, number: usize) {
        if self.is_quitting || !self.hypervisor.start(number) {
            println!("weir: {name} is there already; 'reset {name}' starts it anew");
        }
    }

    fn move_handle(&self, name: &str, number: usize, vector: u32) {
        let records = self.hypervisor.records.lock();
        let guest = records.get(number).and_then(|record| record.guest());
        let is_there = guest.map(|guest| guest.place.ask_to_move(vector)).is_some();
        drop(records);
        if is_there {
            println!("weir: {name} is to get another slot for vector {vector}");
        } else {
            println!("weir: {name} is not there; 'start {name}' starts it");
        }
    }

    fn quit(&mut self) {
        println!("weir: all guests are stopped, then the machine is switched off");
        self.is_quitting = true;
        for number in 0..self.hypervisor.plan.guests.len() {
            self.hypervisor.stop(number, false);
        }
    }

    /// Goes on with the answer.
    fn give_answer(&mut self) {
        let Some(mut answer) = self.answer.take() else {
            return;
        };
        let records = self.hypervisor.records.lock();
        let mut world = World {
            hypervisor: self.hypervisor,
            records: &records,
            faults: &self.faults,
            own: self.own,
            is_patient: true,
        };
        let mut line = Line::default();
        let begun = clock::now();
        let mut before = begun;
        for _ in 0..LINES {
            if !console::has_room() {
                break;
            }
            let next = answer.next(&mut world, &mut line);
            match next {
                Next::Line => println!("{}", line.as_str()),
                Next::Skip => {}
                Next::Busy => break,
                Next::End => return,
            }
            let now = clock::now();
            let took = clock::nanoseconds(now.wrapping_sub(before));
            self.own.longest_line_ns = self.own.longest_line_ns.max(took);
            before = now;
            if now.wrapping_sub(begun) > clock::ticks(LINES_NS) {
                break;
            }
        }
        self.answer = Some(answer);
    }

    /// Listens to the operator, and answers.
    fn interact(&mut self) {
        self.read_keys();
        if self.answer.is_none()
            && let Some(line) = self.typed.take()
        {
            self.obey(&line);
        }
        self.give_answer();
        if self.answer.is_none() && self.typed.is_none() && self.consoles.attached().is_none() {
            console::show_prompt(PROMPT, self.editor.line());
        }
    }

    fn write_report(&self) {
        let faults = Faults {
            total: self.faults.total(),
            of_guest: &|number| self.faults.of_guest(number),
        };
        account::write_report(self.hypervisor, &faults);
    }

    /// The last thing that is done.
    fn end(&self) -> ! {
        println!(
            "weir: all guests have ended after {} ms",
            self.own.now_ns / 1_000_000
        );
        self.write_report();
        console::flush();
        power::off();
    }
}

/// Takes back so many characters that were typed.
fn erase(count: usize) {
    for _ in 0..count {
        console::echo("\x08 \x08");
    }
}

impl<B: Backend> Housekeeping for Monitor<B> {
    fn tick(&mut self) {
        let begun = clock::now();
        // A virtual processor that halts often brings us here often.
        let since = begun.wrapping_sub(self.last_tick);
        if since < clock::ticks(INTERVAL_NS) && !self.hypervisor.host.take_news() {
            return;
        }
        self.last_tick = begun;
        self.own.now_ns = clock::nanoseconds(begun.wrapping_sub(self.begun));
        self.serve_devices();
        self.hypervisor.step();
        self.hypervisor.fill();
        let is_all_printed = self.print_consoles();
        if self.is_interactive {
            self.interact();
        }
        console::pump();
        let is_to_end = !self.is_interactive || self.is_quitting;
        if is_to_end && is_all_printed && self.hypervisor.is_over() {
            self.end();
        }
        let took = clock::nanoseconds(clock::now().wrapping_sub(begun));
        self.own.longest_tick_ns = self.own.longest_tick_ns.max(took);
    }

    fn use_idle_time(&mut self) -> bool {
        self.hypervisor.fill()
    }

    fn interval_ns(&self) -> u64 {
        INTERVAL_NS
    }
}
