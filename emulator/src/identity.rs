//! Which accelerator this is: the device id and everything that its read-only
//! capability registers announce.
//!
//! [341204 Rev 3.0 §9.2 "MMIO Registers"] gives the fields; the default values
//! are those of a production Sapphire Rapids part.

use std::fmt;
use std::path::{Path, PathBuf};

/// The identity of one device. Build one with [`Identity::parse`] or take the
/// default and change fields; [`Identity::validate`] is applied by
/// [`crate::Dsa::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PCI device id (vendor 8086).
    pub device_id: u16,
    /// Number of work queues, 1 to 64.
    pub queues: u16,
    /// Entries shared by all work queues (WQCAP 15:0).
    pub entries: u16,
    /// Number of groups, 1 to 16.
    pub groups: u8,
    /// Number of engines, 1 to 16.
    pub engines: u8,
    /// Number of IMS slots, a multiple of 256 up to 16,128 (GENCAP 30:25 counts
    /// in units of 256 and has six bits).
    pub ims_slots: u32,
    /// GENCAP.31: groups, queues and GENCFG can be configured by software.
    pub configurable: bool,
    /// CMDCAP offers Request and Release Interrupt Handle.
    pub handle_commands: bool,
    /// GENCAP 14:13: the event log exists (64-byte entries).
    pub event_log: bool,
    /// Interrupt handles that can be alive at once.
    pub handles: u16,
    /// GENCAP 20:16: transfers have up to 2^N bytes.
    pub max_transfer_log2: u8,
    /// GENCAP.9: Drain descriptors may have readback addresses.
    pub drain_readback: bool,
    /// WQCAP.48 and .49: the modes that a queue can have.
    pub modes: QueueModes,
    /// WQCAP.50: a queue can do without ATS.
    pub ats_disable: bool,
    /// What the platform wants of ATS Enable.
    pub platform_ats: PlatformAts,
    /// Where to write the descriptor trace from power-up on.
    pub trace: Option<PathBuf>,
    /// Where to append violations as they happen.
    pub violations: Option<PathBuf>,
}

/// The modes of work queues that a device supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueModes {
    /// Shared and dedicated ones.
    Both,
    /// Only shared ones.
    Shared,
    /// Only dedicated ones.
    Dedicated,
}

/// What the platform has told the device about ATS [§5.1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformAts {
    /// Software may enable it or not.
    Optional,
    /// The device cannot be enabled without.
    Required,
    /// The device cannot be enabled with it.
    Unsupported,
}

/// Sapphire and Emerald Rapids.
pub(crate) const DEVICE_ID_SPR: u16 = 0x0b25;
/// Granite Rapids-D.
pub(crate) const DEVICE_ID_GNR_D: u16 = 0x11fb;
/// Diamond Rapids.
pub(crate) const DEVICE_ID_DMR: u16 = 0x1212;

/// Values from 0x4000 up are handles, so that none is a table index.
const MAX_HANDLES: u16 = 0xc000;

/// The largest number of IMS slots that GENCAP 30:25 can express.
pub const MAX_IMS_SLOTS: u32 = 63 * 256;

impl Default for Identity {
    fn default() -> Self {
        Self::of_device(DEVICE_ID_SPR)
    }
}

/// An identity that no device can have, or an option that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError(String);

impl fmt::Display for IdentityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for IdentityError {}

impl IdentityError {
    pub(crate) fn of_file(option: &str, path: &Path, error: &std::io::Error) -> Self {
        Self(format!(
            "device option {option}: cannot write {}: {error}",
            path.display()
        ))
    }
}

impl Identity {
    /// The identity that parts with this device id have.
    pub fn of_device(device_id: u16) -> Self {
        let second_generation = device_id != DEVICE_ID_SPR;
        Self {
            device_id,
            queues: 8,
            entries: 128,
            groups: 4,
            engines: 4,
            ims_slots: 2048,
            configurable: true,
            handle_commands: second_generation,
            event_log: second_generation,
            handles: MAX_HANDLES,
            max_transfer_log2: 31,
            drain_readback: false,
            modes: QueueModes::Both,
            ats_disable: true,
            platform_ats: PlatformAts::Optional,
            trace: None,
            violations: None,
        }
    }

    /// Reads a list `name=value;name=value`. A `device-id` sets the defaults of
    /// everything else, wherever it stands in the list.
    ///
    /// # Errors
    /// [`IdentityError`], one line that names the option, what was wrong with
    /// its value and what may stand there.
    pub fn parse(options: &str) -> Result<Self, IdentityError> {
        let pairs: Vec<(&str, &str)> = options
            .split(';')
            .map(str::trim)
            .filter(|option| !option.is_empty())
            .map(|option| {
                option.split_once('=').ok_or_else(|| {
                    IdentityError(format!(
                        "device option '{option}' is not of the form name=value"
                    ))
                })
            })
            .collect::<Result<_, _>>()?;

        let mut identity = Self::default();
        for (_, value) in pairs.iter().filter(|(name, _)| *name == "device-id") {
            identity = Self::of_device(number("device-id", value)?);
        }
        for (name, value) in pairs {
            match name {
                "device-id" => {}
                "queues" => identity.queues = number(name, value)?,
                "entries" => identity.entries = number(name, value)?,
                "groups" => identity.groups = number(name, value)?,
                "engines" => identity.engines = number(name, value)?,
                "ims" => identity.ims_slots = number(name, value)?,
                "configurable" => identity.configurable = switch(name, value)?,
                "handle-commands" => identity.handle_commands = switch(name, value)?,
                "event-log" => identity.event_log = switch(name, value)?,
                "handles" => identity.handles = number(name, value)?,
                "max-transfer" => identity.max_transfer_log2 = number(name, value)?,
                "drain-readback" => identity.drain_readback = switch(name, value)?,
                "ats-disable" => identity.ats_disable = switch(name, value)?,
                "modes" => {
                    identity.modes = choice(
                        name,
                        value,
                        [
                            ("both", QueueModes::Both),
                            ("shared", QueueModes::Shared),
                            ("dedicated", QueueModes::Dedicated),
                        ],
                    )?;
                }
                "platform-ats" => {
                    identity.platform_ats = choice(
                        name,
                        value,
                        [
                            ("optional", PlatformAts::Optional),
                            ("required", PlatformAts::Required),
                            ("unsupported", PlatformAts::Unsupported),
                        ],
                    )?;
                }
                "trace" => identity.trace = Some(value.into()),
                "violations" => identity.violations = Some(value.into()),
                _ => {
                    return Err(IdentityError(format!(
                        "unknown device option '{name}'; there are device-id, queues, entries, \
                         groups, engines, ims, configurable, handle-commands, handles, event-log, \
                         max-transfer, drain-readback, modes, ats-disable, platform-ats, trace \
                         and violations"
                    )));
                }
            }
        }
        identity.validate()?;
        Ok(identity)
    }

    /// Refuses an identity that the registers cannot express.
    ///
    /// # Errors
    /// [`IdentityError`], one line that names the field and its limits.
    pub fn validate(&self) -> Result<(), IdentityError> {
        let check = |good: bool, message: &str| {
            if good {
                Ok(())
            } else {
                Err(IdentityError(message.to_owned()))
            }
        };
        check(
            [DEVICE_ID_SPR, DEVICE_ID_GNR_D, DEVICE_ID_DMR].contains(&self.device_id),
            "device-id must be 0x0b25, 0x11fb or 0x1212",
        )?;
        check((1..=64).contains(&self.queues), "queues must be 1 to 64")?;
        check(
            self.entries >= self.queues && self.entries <= 1024,
            "entries must be at least one for each queue and at most 1024",
        )?;
        check((1..=16).contains(&self.groups), "groups must be 1 to 16")?;
        check((1..=16).contains(&self.engines), "engines must be 1 to 16")?;
        check(
            (1..=MAX_HANDLES).contains(&self.handles),
            "handles must be 1 to 49152",
        )?;
        check(
            (12..=31).contains(&self.max_transfer_log2),
            "max-transfer is a power of two, 12 to 31",
        )?;
        check(
            self.ims_slots.is_multiple_of(256) && self.ims_slots <= MAX_IMS_SLOTS,
            "ims must be a multiple of 256 up to 16128, the most that the 6-bit GENCAP field holds",
        )
    }

    /// VERSION: 1.0, 2.0 or 3.0 [§9.2.1].
    pub fn version(&self) -> u32 {
        match self.device_id {
            DEVICE_ID_SPR => 0x100,
            DEVICE_ID_GNR_D => 0x200,
            _ => 0x300,
        }
    }

    fn is_second_generation(&self) -> bool {
        self.version() >= 0x200
    }

    /// GENCAP [§9.2 "General Capabilities Register"].
    pub fn gencap(&self) -> u64 {
        // Block on fault, overlapping copy, cache control, destination
        // readback; batches up to 2^10 descriptors.
        const COMMON: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 10 << 21;
        // Bit 38 stands in what Sapphire Rapids reports; Rev 3.0 defines it no more.
        const SPR_ONLY: u64 = 1 << 38;
        // 16-byte fill, CRC64, completion record fault info, batch of one.
        const SECOND_GENERATION: u64 = 1 << 10 | 1 << 11 | 1 << 12 | 1 << 52;

        COMMON
            | if self.is_second_generation() {
                SECOND_GENERATION
            } else {
                SPR_ONLY
            }
            | u64::from(self.handle_commands) << 4
            | u64::from(self.drain_readback) << 9
            | u64::from(self.event_log) << 13
            | u64::from(self.max_transfer_log2) << 16
            | u64::from(self.ims_slots / 256) << 25
            | u64::from(self.configurable) << 31
            | u64::from(self.event_log && self.version() >= 0x300) << 32
    }

    /// WQCAP [§9.2 "Work Queue Capabilities Register"].
    pub fn wqcap(&self) -> u64 {
        // Priority, occupancy, occupancy interrupt.
        const COMMON: u64 = 1 << 51 | 1 << 52 | 1 << 53;
        // 64-byte WQCFG, operation configuration, PRS disable.
        const SECOND_GENERATION: u64 = 1 << 24 | 1 << 54 | 1 << 55;
        COMMON
            | u64::from(self.entries)
            | u64::from(self.queues) << 16
            | u64::from(self.modes != QueueModes::Dedicated) << 48
            | u64::from(self.modes != QueueModes::Shared) << 49
            | u64::from(self.ats_disable) << 50
            | if self.is_second_generation() {
                SECOND_GENERATION
            } else {
                0
            }
    }

    /// Bytes of WQCFG for one queue: 2^(WQCAP 27:24 + 5).
    pub fn wqcfg_bytes(&self) -> u64 {
        if self.is_second_generation() { 64 } else { 32 }
    }

    /// GRPCAP [§9.2 "Group Capabilities Register"]: read buffer control and
    /// global limit are there, bandwidth limits are not.
    pub fn grpcap(&self) -> u64 {
        u64::from(self.groups) | u64::from(self.read_buffers()) << 8 | 1 << 16 | 1 << 17
    }

    /// Read buffers of the device, GRPCAP 15:8.
    pub fn read_buffers(&self) -> u8 {
        96
    }

    /// ENGCAP [§9.2 "Engine Capabilities Register"].
    pub fn engcap(&self) -> u64 {
        u64::from(self.engines) | 1 << 8 | u64::from(BATCHES_PER_ENGINE) << 16
    }

    /// OPCAP, 256 bits [§9.2 "Operation Capabilities Register"].
    pub fn opcap(&self) -> [u64; 4] {
        // Operations 0x00-0x09, 0x10-0x15 and 0x20.
        const FIRST_GENERATION: u64 = 0x1_003f_03ff;
        // Translation fetch (0x0a) and DIX generate (0x17).
        const SECOND_GENERATION: u64 = 1 << 0x0a | 1 << 0x17;
        let second = if self.is_second_generation() {
            SECOND_GENERATION
        } else {
            0
        };
        [FIRST_GENERATION | second, 0, 0, 0]
    }

    /// CMDCAP [§9.2 "Command Capabilities Register"]; 0 where GENCAP.4 is 0.
    pub fn cmdcap(&self) -> u32 {
        if self.handle_commands { 0x7ffe } else { 0 }
    }

    /// MSI-X vectors: vector 0 for the device and one for each queue.
    pub fn msix_vectors(&self) -> u16 {
        self.queues + 1
    }
}

/// Batch descriptors that one engine keeps in progress, ENGCAP 23:16.
pub(crate) const BATCHES_PER_ENGINE: u8 = 4;

fn number<T: TryFrom<u32>>(name: &str, value: &str) -> Result<T, IdentityError> {
    let parsed = match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => value.parse(),
    };
    parsed
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            IdentityError(format!(
                "device option {name}: '{value}' is not a number in its range"
            ))
        })
}

fn choice<T: Copy, const N: usize>(
    name: &str,
    value: &str,
    choices: [(&str, T); N],
) -> Result<T, IdentityError> {
    choices
        .iter()
        .find(|(word, _)| *word == value)
        .map(|(_, chosen)| *chosen)
        .ok_or_else(|| {
            IdentityError(format!(
                "device option {name}: '{value}' is not one of {}",
                choices.map(|(word, _)| word).join(", ")
            ))
        })
}

fn switch(name: &str, value: &str) -> Result<bool, IdentityError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(IdentityError(format!(
            "device option {name}: '{value}' is neither on nor off"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    /// The value that `gen_cap` shows on a production Sapphire Rapids.
    #[test]
    fn default_identity_is_sapphire_rapids() {
        let identity = Identity::default();
        assert_eq!(identity.gencap(), 0x40_915f_0107);
        assert_eq!(identity.wqcap(), 0x003f_0000_0008_0080);
        assert_eq!(identity.opcap(), [0x1_003f_03ff, 0, 0, 0]);
        assert_eq!(identity.cmdcap(), 0);
    }

    /// Each capability that an option takes away or adds, and no other.
    #[test]
    fn options_change_the_capabilities_that_they_are_about() {
        for (options, gencap, wqcap) in [
            ("drain-readback=on", 1 << 9, 0),
            ("max-transfer=30", 1 << 16, 0),
            ("configurable=off", 1 << 31, 0),
            ("modes=shared", 0, 1 << 49),
            ("modes=dedicated", 0, 1 << 48),
            ("ats-disable=off", 0, 1 << 50),
            ("platform-ats=required;handles=1", 0, 0),
        ] {
            let identity = Identity::parse(options).unwrap();
            assert_eq!(identity.gencap(), 0x40_915f_0107 ^ gencap, "{options}");
            assert_eq!(identity.wqcap(), 0x003f_0000_0008_0080 ^ wqcap, "{options}");
        }
    }

    #[test]
    fn options_are_read_and_mistakes_are_named() {
        let identity = Identity::parse("queues=4; ims=512;device-id=0x11fb").unwrap();
        assert_eq!((identity.queues, identity.ims_slots), (4, 512));
        assert!(identity.handle_commands && identity.event_log);

        for (options, words) in [
            ("queue=4", "unknown device option 'queue'"),
            ("queues", "'queues' is not of the form name=value"),
            ("queues=0", "queues must be 1 to 64"),
            ("queues=many", "'many' is not a number"),
            ("ims=16384", "up to 16128"),
            ("event-log=yes", "neither on nor off"),
            ("device-id=0x0cfe", "device-id must be"),
            ("entries=4", "at least one for each queue"),
            ("groups=17", "groups must be 1 to 16"),
            ("engines=0", "engines must be 1 to 16"),
            ("handles=0", "handles must be 1 to 49152"),
            ("max-transfer=32", "max-transfer is a power of two"),
            ("modes=all", "'all' is not one of both, shared, dedicated"),
            (
                "platform-ats=on",
                "not one of optional, required, unsupported",
            ),
        ] {
            let error = Identity::parse(options).unwrap_err().to_string();
            assert!(error.contains(words), "{options}: {error}");
        }
    }
}
