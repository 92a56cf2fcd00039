//! One running lab box: `emulator/labbox` with its serial console as this program's pipe.
//!
//! Every wait has a deadline, every byte that the box prints is in a log, and no box outlives the
//! [`LabBox`] that stands for it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::qmp::{Qmp, QmpError};

/// Where the machine is started from, seen from this crate.
pub const LABBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../emulator/labbox");

/// How long QEMU may take from its start until it answers on its control socket.
const QMP_DEADLINE: Duration = Duration::from_secs(30);

/// A running lab box. Dropping it ends the machine.
#[derive(Debug)]
pub struct LabBox {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    last_line: String,
    log: PathBuf,
    control: PathBuf,
    /// Boxes run one at a time: two at once on a small machine disturb each other's time-outs.
    _turn: MutexGuard<'static, ()>,
}

impl LabBox {
    /// Starts `emulator/labbox OPTIONS --control SOCKET -- QEMU_ARGUMENTS` when no other box of
    /// this process runs. What it prints goes to the file `log`.
    ///
    /// # Errors
    /// [`BoxError::Io`] if it cannot be started or the log cannot be written, and
    /// [`BoxError::Build`] if QEMU cannot be built.
    pub fn start(log: &Path, options: &[&str], qemu_arguments: &[&str]) -> Result<Self, BoxError> {
        build()?;
        let control = control_socket();
        let mut command = Command::new(LABBOX);
        command
            .args(options)
            .arg("--control")
            .arg(&control)
            .arg("--")
            .args(qemu_arguments);
        Self::spawn(command, log, control)
    }

    fn spawn(mut command: Command, log: &Path, control: PathBuf) -> Result<Self, BoxError> {
        static TURN: Mutex<()> = Mutex::new(());
        // A test that failed while its box ran has left nothing broken behind.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let log_file = Arc::new(File::create(log)?);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (sender, lines) = channel();
        let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        copy_lines(
            stdout,
            Stream::Console,
            Arc::clone(&log_file),
            sender.clone(),
        );
        copy_lines(stderr, Stream::Errors, log_file, sender);
        Ok(Self {
            child,
            stdin,
            lines,
            last_line: String::new(),
            log: log.to_owned(),
            control,
            _turn: turn,
        })
    }

    /// The next line of the serial console, without its line ending.
    ///
    /// # Errors
    /// [`BoxError::TimedOut`] if none came before `deadline`, [`BoxError::Ended`] if the console
    /// is closed: the box powered off, or QEMU died.
    pub fn next_line(&mut self, deadline: Instant) -> Result<String, BoxError> {
        let timeout = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(timeout) {
            Ok(line) => {
                self.last_line.clone_from(&line);
                Ok(line)
            }
            Err(RecvTimeoutError::Timeout) => Err(BoxError::TimedOut {
                last_line: self.last_line.clone(),
                log: self.log.clone(),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(BoxError::Ended {
                last_line: self.last_line.clone(),
                log: self.log.clone(),
            }),
        }
    }

    /// Reads lines up to and including the first that contains `text`, and returns them all.
    ///
    /// # Errors
    /// Like [`LabBox::next_line`].
    pub fn lines_until(&mut self, text: &str, deadline: Instant) -> Result<Vec<String>, BoxError> {
        let mut lines = Vec::new();
        loop {
            let line = self.next_line(deadline)?;
            let found = line.contains(text);
            lines.push(line);
            if found {
                return Ok(lines);
            }
        }
    }

    /// Types a line on the serial console.
    ///
    /// # Errors
    /// [`BoxError::Io`] if QEMU is gone.
    pub fn send_line(&mut self, line: &str) -> Result<(), BoxError> {
        self.send(line.as_bytes())?;
        self.send(b"\n")
    }

    /// Types these bytes on the serial console.
    ///
    /// # Errors
    /// As [`LabBox::send_line`].
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        self.stdin.write_all(bytes)?;
        Ok(self.stdin.flush()?)
    }

    /// The control socket, for `labbox control` and `labbox report`.
    pub fn socket(&self) -> &Path {
        &self.control
    }

    /// Connects to the control socket. QEMU serves one connection at a time.
    ///
    /// # Errors
    /// [`BoxError::Qmp`] if QEMU does not answer within half a minute.
    pub fn control(&self) -> Result<Qmp, BoxError> {
        Ok(Qmp::connect(&self.control, Instant::now() + QMP_DEADLINE)?)
    }

    /// Waits until the machine has powered off and returns QEMU's exit status.
    ///
    /// # Errors
    /// [`BoxError::TimedOut`] if it still runs at `deadline`.
    pub fn wait_for_exit(mut self, deadline: Instant) -> Result<ExitStatus, BoxError> {
        // The console is closed when QEMU exits; what it still prints is in the log.
        loop {
            match self.next_line(deadline) {
                Ok(_) => {}
                Err(BoxError::Ended { .. }) => return Ok(self.child.wait()?),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for LabBox {
    fn drop(&mut self) {
        // Both fail if QEMU has ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.control);
    }
}

/// Builds QEMU and the model if that is still to be done, with its progress on standard error.
/// Starting a box would do so too, but then the wait for its first line would have to be long.
fn build() -> Result<(), BoxError> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let build = || {
        Command::new(LABBOX)
            .arg("--build-only")
            .stdout(Stdio::null())
            .status()
    };
    match *BUILT.get_or_init(|| build().is_ok_and(|status| status.success())) {
        true => Ok(()),
        false => Err(BoxError::Build),
    }
}

/// A socket path of its own for each box. Socket paths must be short, so not below `target/`.
fn control_socket() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("weir-{}-{number}.sock", std::process::id()))
}

/// What one of QEMU's pipes carries.
#[derive(Clone, Copy, PartialEq)]
enum Stream {
    /// The serial console of the machine.
    Console,
    /// QEMU's own complaints.
    Errors,
}

/// Copies what `from` says to the log, line by line, and the console's lines to `lines`. The
/// channel stays open until both streams have ended, so that the log is whole by then.
fn copy_lines(
    from: impl io::Read + Send + 'static,
    stream: Stream,
    log: Arc<File>,
    lines: Sender<String>,
) {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            // The log is for people; a test fails by what it waits for, not by a full disk.
            let _ = (&*log).write_all(&bytes);
            let line = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\r', '\n'])
                .to_owned();
            if stream == Stream::Console && lines.send(line).is_err() {
                return;
            }
            bytes.clear();
        }
    });
}

/// Why a box could not be used, or did not do what was waited for.
#[derive(Debug)]
pub enum BoxError {
    /// Starting the box, or talking with it, failed.
    Io(io::Error),
    /// `emulator/labbox` could not build QEMU; it has said why.
    Build,
    /// The box printed nothing more before the deadline.
    TimedOut {
        /// What it had printed last.
        last_line: String,
        /// Everything it had printed.
        log: PathBuf,
    },
    /// The box powered off, or QEMU died.
    Ended {
        /// What it had printed last.
        last_line: String,
        /// Everything it had printed.
        log: PathBuf,
    },
    /// A question to QEMU failed.
    Qmp(QmpError),
}

impl From<io::Error> for BoxError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<io::ErrorKind> for BoxError {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

impl From<QmpError> for BoxError {
    fn from(error: QmpError) -> Self {
        Self::Qmp(error)
    }
}

impl fmt::Display for BoxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the box cannot be reached: {error}"),
            Self::Build => write!(f, "the box cannot be built, see what {LABBOX} printed"),
            Self::TimedOut { last_line, log } => {
                write!(
                    f,
                    "the box is stuck after '{last_line}', see {}",
                    log.display()
                )
            }
            Self::Ended { last_line, log } => {
                write!(
                    f,
                    "the box ended after '{last_line}', see {}",
                    log.display()
                )
            }
            Self::Qmp(error) => write!(f, "QEMU: {error}"),
        }
    }
}

impl std::error::Error for BoxError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for a box: a shell script with the console of one.
    fn start(name: &str, script: &str) -> LabBox {
        let log = std::env::temp_dir().join(format!("weir-{}-{name}.log", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        LabBox::spawn(command, &log, control_socket()).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn lines_are_read_up_to_the_one_that_is_waited_for() {
        let mut shell = start(
            "lines",
            "printf 'one\\r\\ntwo\\nthree\\n'; read line; echo \"<$line>\"",
        );
        assert_eq!(shell.lines_until("two", soon()).unwrap(), ["one", "two"]);
        shell.send_line("four").unwrap();
        assert_eq!(shell.lines_until("<", soon()).unwrap(), ["three", "<four>"]);
        assert!(shell.wait_for_exit(soon()).unwrap().success());
    }

    #[test]
    fn a_silent_box_is_reported_with_its_last_line() {
        let mut shell = start("silent", "echo booting; exec sleep 60");
        let deadline = Instant::now() + Duration::from_millis(300);
        let error = shell.lines_until("ready", deadline).unwrap_err();
        assert!(matches!(&error, BoxError::TimedOut { last_line, .. } if last_line == "booting"));
    }

    #[test]
    fn a_box_that_dies_is_reported_at_once_and_its_log_holds_its_errors() {
        let mut shell = start("dies", "echo booting; echo 'no such device' >&2; exit 1");
        let error = shell.lines_until("ready", soon()).unwrap_err();
        let BoxError::Ended { last_line, log } = error else {
            panic!("{error}")
        };
        assert_eq!(last_line, "booting");
        assert!(!shell.wait_for_exit(soon()).unwrap().success());
        let logged = std::fs::read_to_string(log).unwrap();
        assert!(
            logged.contains("booting") && logged.contains("no such device"),
            "{logged}"
        );
    }

    #[test]
    fn a_dropped_box_is_gone() {
        let mut shell = start("dropped", "echo $$; exec sleep 60");
        let pid = shell.next_line(soon()).unwrap();
        assert!(Path::new("/proc").join(&pid).exists());
        drop(shell);
        assert!(!Path::new("/proc").join(&pid).exists());
    }
}
