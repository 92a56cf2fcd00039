//! Registers: where they are, what their bits mean, and what may be done to them.
//!
//! A register is a constant of one of four types, `Ro`, `Wo`, `Rw` or `Rw1c`,
//! which name its layout and state what a driver may do. `hwio::Registers`
//! carries the accesses out; what a type does not allow does not compile.

use core::fmt;
use core::marker::PhantomData;

/// The widths of an access.
pub trait Bits: Copy + fmt::Debug + sealed::Sealed + 'static {
    /// How many bytes one access moves.
    const BYTES: usize;
    /// The value, extended with zeros.
    fn to_u64(self) -> u64;
    /// The low bits of `value`; those above are lost.
    fn from_low_bits(value: u64) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! bits {
    ($($width:ty),*) => {$(
        impl sealed::Sealed for $width {}

        impl Bits for $width {
            const BYTES: usize = size_of::<Self>();

            fn to_u64(self) -> u64 {
                self.into()
            }

            #[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
            fn from_low_bits(value: u64) -> Self {
                value as Self
            }
        }

        impl Layout for $width {
            type Bits = Self;

            fn from_raw(raw: Self) -> Self {
                raw
            }

            fn into_raw(self) -> Self {
                self
            }
        }
    )*};
}

/// What the bits of a register mean.
pub trait Layout: Copy {
    /// The register's width.
    type Bits: Bits;
    /// Gives meaning to what was read.
    fn from_raw(raw: Self::Bits) -> Self;
    /// What is to be written.
    fn into_raw(self) -> Self::Bits;
}

bits!(u8, u16, u32);

impl sealed::Sealed for u64 {}

impl Bits for u64 {
    const BYTES: usize = 8;

    fn to_u64(self) -> u64 {
        self
    }

    fn from_low_bits(value: u64) -> Self {
        value
    }
}

impl Layout for u64 {
    type Bits = Self;

    fn from_raw(raw: Self) -> Self {
        raw
    }

    fn into_raw(self) -> Self {
        self
    }
}

/// Makes layouts of bit fields.
macro_rules! layouts {
    ($($width:ty: $($layout:ty),+;)+) => {$($(
        impl $crate::register::Layout for $layout {
            type Bits = $width;

            fn from_raw(raw: $width) -> Self {
                Self::from_bits(raw)
            }

            fn into_raw(self) -> $width {
                self.into_bits()
            }
        }
    )+)+};
}
pub(crate) use layouts;

/// A register, as `hwio` sees it.
pub trait Register: Copy {
    /// Its layout.
    type Value: Layout;
    /// Bytes from the start of the window.
    fn offset(self) -> usize;
}

/// A register that can be read.
pub trait Readable: Register {}

/// A register in which every bit written takes effect as written.
pub trait Writable: Register {}

/// A register whose status bits are cleared by writing ones to them.
pub trait Acknowledge: Readable {}

macro_rules! access_kind {
    ($(#[$doc:meta])* $kind:ident: $($ability:ident),*) => {
        $(#[$doc])*
        pub struct $kind<T> {
            offset: usize,
            layout: PhantomData<fn(T) -> T>,
        }

        impl<T> $kind<T> {
            /// The register `offset` bytes into its window.
            pub const fn at(offset: usize) -> Self {
                Self { offset, layout: PhantomData }
            }

            /// Bytes from the start of the window.
            pub const fn offset(self) -> usize {
                self.offset
            }
        }

        impl<T> Clone for $kind<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $kind<T> {}

        impl<T> fmt::Debug for $kind<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($kind), "({:#x})"), self.offset)
            }
        }

        impl<T: Layout> Register for $kind<T> {
            type Value = T;

            fn offset(self) -> usize {
                self.offset
            }
        }

        $(impl<T: Layout> $ability for $kind<T> {})*
    };
}

access_kind! {
    /// Read only: the hardware says something.
    Ro: Readable
}
access_kind! {
    /// Write only: reading gives no meaning, and so cannot be asked for.
    Wo: Writable
}
access_kind! {
    /// Reads as it was written, save for bits that are the hardware's.
    Rw: Readable, Writable
}
access_kind! {
    /// Has status bits that are cleared by writing ones to them. There is no way
    /// to modify one: that would clear what came in between.
    Rw1c: Readable, Acknowledge
}
