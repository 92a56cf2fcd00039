//! FADT, and the one thing that is needed of DSDT: how to switch the machine off, and a
//! clock of known speed.

use hwspec::acpi::{fadt, generic_address, header};

use super::reader::Structure;
use super::{AcpiError, FirmwareMemory, Signature, Tables};

/// The table's name.
pub const SIGNATURE: [u8; 4] = *b"FACP";

/// A register of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// How to switch the machine off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOff {
    /// By the PM1 control registers.
    Pm1 {
        /// Port of PM1a control.
        a: u16,
        /// Port of PM1b control, if there is one.
        b: Option<u16>,
        /// What their fields SLP_TYP take for state S5.
        sleep_type: (u8, u8),
        /// Port and byte that switch ACPI mode on, if it is not on for good.
        enable: Option<(u16, u8)>,
    },
    /// By the sleep control register of hardware-reduced machines.
    SleepControl {
        /// The register.
        register: Register,
        /// What its field SLP_TYP takes for state S5.
        sleep_type: u8,
    },
}

/// What the platform's fixed hardware offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedHardware {
    /// Port of the power management timer.
    pub pm_timer: Option<u16>,
    /// How to switch off.
    pub power_off: Option<PowerOff>,
}

impl FixedHardware {
    /// Reads FADT and, for the way to state S5, DSDT and SSDTs.
    ///
    /// # Errors
    /// If FADT or DSDT are missing or cannot be read. What they do not offer is
    /// not an error.
    pub fn parse<M: FirmwareMemory>(tables: &Tables<'_, M>) -> Result<Self, AcpiError> {
        let table = Structure(tables.require(SIGNATURE)?);
        let malformed = |offset| AcpiError::Malformed(Signature(SIGNATURE), offset);
        let flags = table.get(fadt::FLAGS);
        let flags = flags.ok_or(malformed(fadt::FLAGS.offset()))?;

        let dsdt = table.get(fadt::X_DSDT).filter(|&address| address != 0);
        let dsdt = dsdt.or(table.get(fadt::DSDT).map(u64::from));
        let dsdt = dsdt.ok_or(malformed(fadt::DSDT.offset()))?;
        let dsdt = tables.at(dsdt, *b"DSDT")?;
        let ssdts = tables.all(*b"SSDT").filter_map(Result::ok);
        let sleep_type = core::iter::once(dsdt).chain(ssdts).find_map(s5_sleep_type);

        Ok(Self {
            pm_timer: port(table, fadt::X_PM_TMR_BLK, fadt::PM_TMR_BLK),
            power_off: sleep_type.and_then(|sleep_type| power_off(table, flags, sleep_type)),
        })
    }
}

fn power_off(table: Structure<'_>, flags: u32, sleep_type: (u8, u8)) -> Option<PowerOff> {
    if flags & fadt::FLAG_HW_REDUCED_ACPI != 0 {
        return Some(PowerOff::SleepControl {
            register: register(table, fadt::SLEEP_CONTROL_REG)?,
            sleep_type: sleep_type.0,
        });
    }
    let command = table.get(fadt::SMI_CMD).filter(|&port| port != 0);
    let command = command.and_then(|port| u16::try_from(port).ok());
    Some(PowerOff::Pm1 {
        a: port(table, fadt::X_PM1A_CNT_BLK, fadt::PM1A_CNT_BLK)?,
        b: port(table, fadt::X_PM1B_CNT_BLK, fadt::PM1B_CNT_BLK),
        sleep_type,
        enable: command.zip(table.get(fadt::ACPI_ENABLE)),
    })
}

/// The register that a generic address at `offset` names, if it names one.
fn register(table: Structure<'_>, offset: usize) -> Option<Register> {
    let address = table.from(offset)?;
    let (space, address) = (
        address.get(generic_address::SPACE)?,
        address.get(generic_address::ADDRESS)?,
    );
    match (space, address) {
        (_, 0) => None,
        (generic_address::SYSTEM_IO, port) => u16::try_from(port).ok().map(Register::Port),
        (generic_address::SYSTEM_MEMORY, address) => Some(Register::Memory(address)),
        _ => None,
    }
}

/// The port in the generic address at `extended`, or else in the field `plain`.
fn port(table: Structure<'_>, extended: usize, plain: hwspec::acpi::Field<u32>) -> Option<u16> {
    match register(table, extended) {
        Some(Register::Port(port)) => Some(port),
        _ => {
            let port = table.get(plain).filter(|&port| port != 0)?;
            u16::try_from(port).ok()
        }
    }
}

/// What SLP_TYPa and SLP_TYPb take for state S5, from a table of AML.
///
/// Found by its bytes, without interpreting the rest: `Name (_S5, Package ...)`
/// is NameOp 0x08, the name, PackageOp 0x12, a package length, the number of
/// elements, and then integers. [ACPI 6.5, 7.4.2 "\_Sx (System States)" and 20.2
/// "AML Grammar Definition"]
fn s5_sleep_type(table: &[u8]) -> Option<(u8, u8)> {
    const NAME: &[u8] = b"_S5_\x12";
    let aml = table.get(header::SIZE..)?;
    aml.windows(NAME.len())
        .enumerate()
        .filter(|&(at, window)| window == NAME && is_named(aml, at))
        .find_map(|(at, _)| {
            let package = aml.get(at + NAME.len()..)?;
            // The two high bits of the first byte of a package length say how
            // many more bytes it has. [20.2.4 "Package Length Encoding"]
            let more = usize::from(package.first()? >> 6);
            let (&count, elements) = package.get(1 + more..)?.split_first()?;
            let (a, rest) = integer(elements)?;
            let b = if count > 1 { integer(rest)?.0 } else { a };
            Some((a, b))
        })
}

/// Whether the name at `at` is being defined: NameOp, perhaps with a root
/// prefix.
fn is_named(aml: &[u8], at: usize) -> bool {
    const NAME_OP: u8 = 0x08;
    let before = |distance: usize| at.checked_sub(distance).and_then(|at| aml.get(at));
    before(1) == Some(&NAME_OP) || (before(1) == Some(&b'\\') && before(2) == Some(&NAME_OP))
}

/// A small integer of AML, and what follows it.
fn integer(aml: &[u8]) -> Option<(u8, &[u8])> {
    match aml {
        // ZeroOp, OneOp
        [value @ (0 | 1), rest @ ..] => Some((*value, rest)),
        // BytePrefix
        [0x0a, value, rest @ ..] => Some((*value, rest)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "fadt_tests.rs"]
mod tests;
