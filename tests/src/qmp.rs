//! The QEMU Machine Protocol, as far as the tests need it: one command at a time, over a Unix
//! socket. [QEMU Machine Protocol Specification, "Protocol Specification"]

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take to answer one command.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the first DSA of a box lies in QEMU's object tree.
pub const DSA0: &str = "/machine/peripheral/dsa0";

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to `socket`, which QEMU may not have opened yet, and leaves negotiation mode.
    ///
    /// # Errors
    /// [`QmpError`] if nobody serves the socket before `deadline` or it does not speak QMP.
    pub fn connect(socket: &Path, deadline: Instant) -> Result<Self, QmpError> {
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
        };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Unexpected(greeting));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes `command` and returns what it returned.
    ///
    /// # Errors
    /// [`QmpError::Refused`] if QEMU reports an error, another [`QmpError`] if it does not answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut reply = self.read()?;
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = reply.get("error") {
                let reason = error
                    .get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                return Err(QmpError::Refused(format!("{command}: {reason}")));
            }
            // Events may come at any time; nobody here waits for one.
            if reply.get("event").is_none() {
                return Err(QmpError::Unexpected(reply));
            }
        }
    }

    /// The property `property` of the object at `path`.
    ///
    /// # Errors
    /// Like [`Qmp::execute`].
    pub fn get(&mut self, path: &str, property: &str) -> Result<Value, QmpError> {
        self.execute("qom-get", json!({ "path": path, "property": property }))
    }

    /// Sets the property `property` of the object at `path`.
    ///
    /// # Errors
    /// Like [`Qmp::execute`].
    pub fn set(&mut self, path: &str, property: &str, value: &Value) -> Result<(), QmpError> {
        let arguments = json!({ "path": path, "property": property, "value": value });
        self.execute("qom-set", arguments).map(|_| ())
    }

    /// What the DSA at `path` reports of itself: its counters, and the violations it has seen.
    ///
    /// # Errors
    /// Like [`Qmp::execute`], and [`QmpError::Unexpected`] if it reports anything but JSON.
    pub fn dsa_report(&mut self, path: &str) -> Result<Value, QmpError> {
        let report = self.get(path, "report")?;
        let text = report.as_str().unwrap_or_default();
        serde_json::from_str(text).map_err(|_| QmpError::Unexpected(report))
    }

    /// The 8 bytes of memory, or of a device's registers, at a guest-physical address; `None` if
    /// nothing is there.
    ///
    /// # Errors
    /// Like [`Qmp::execute`], and [`QmpError::Unexpected`] if QEMU prints anything else.
    pub fn read_physical(&mut self, address: u64) -> Result<Option<u64>, QmpError> {
        // Only the monitor for people can do this; it prints "ADDRESS: 0xVALUE".
        let line = json!({ "command-line": format!("xp /1gx {address:#x}") });
        let printed = self.execute("human-monitor-command", line)?;
        let text = printed.as_str().unwrap_or_default().trim();
        if text.ends_with("Cannot access memory") {
            return Ok(None);
        }
        let value = text
            .rsplit_once("0x")
            .map(|(_, digits)| u64::from_str_radix(digits, 16));
        match value {
            Some(Ok(value)) => Ok(Some(value)),
            _ => Err(QmpError::Unexpected(printed)),
        }
    }

    fn read(&mut self) -> Result<Value, QmpError> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        serde_json::from_str(&line).map_err(|_| QmpError::Unexpected(line.into()))
    }
}

/// Why QEMU gave no answer.
#[derive(Debug)]
pub enum QmpError {
    /// The socket failed, or QEMU did not answer in time.
    Io(io::Error),
    /// QEMU refused the command, for this reason.
    Refused(String),
    /// QEMU said this, which makes no sense here.
    Unexpected(Value),
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "no answer: {error}"),
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Unexpected(value) => write!(f, "an answer that makes no sense: {value}"),
        }
    }
}

impl std::error::Error for QmpError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    /// A stand-in for QEMU that answers each line with the next of `answers`.
    fn serve(name: &str, answers: &'static [&'static str]) -> PathBuf {
        let socket = std::env::temp_dir().join(format!("weir-{}-{name}.sock", std::process::id()));
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(b"{\"QMP\": {}}\n").unwrap();
            for answer in answers {
                requests.next().unwrap().unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        socket
    }

    fn connect(socket: &Path) -> Qmp {
        let qmp = Qmp::connect(socket, Instant::now() + Duration::from_secs(10)).unwrap();
        std::fs::remove_file(socket).unwrap();
        qmp
    }

    #[test]
    fn events_before_the_answer_are_passed_over() {
        let socket = serve(
            "events",
            &[
                "{\"return\": {}}\n",
                "{\"event\": \"RTC_CHANGE\"}\n{\"return\": \"{\\\"a\\\": 1}\"}\n",
            ],
        );
        assert_eq!(
            connect(&socket).dsa_report(DSA0).unwrap(),
            json!({ "a": 1 })
        );
    }

    #[test]
    fn a_refusal_gives_its_reason_and_the_connection_goes_on() {
        let socket = serve(
            "refusal",
            &[
                "{\"return\": {}}\n",
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such object\"}}\n",
                "{\"return\": \"00000000fed90020: 0x0000000012345400\\r\\n\"}\n",
                "{\"return\": \"00000000fed90020: Cannot access memory\\r\\n\"}\n",
            ],
        );
        let mut qmp = connect(&socket);
        let refusal = qmp.get(DSA0, "report").unwrap_err();
        assert_eq!(refusal.to_string(), "qom-get: no such object");
        assert_eq!(qmp.read_physical(0xfed9_0020).unwrap(), Some(0x1234_5400));
        assert_eq!(qmp.read_physical(0xfed9_0020).unwrap(), None);
    }

    #[test]
    fn a_connection_that_ends_is_an_error() {
        let socket = serve("ends", &["{\"return\": {}}\n"]);
        assert!(matches!(
            connect(&socket).get(DSA0, "report"),
            Err(QmpError::Io(_))
        ));
    }
}
