//! Reading fields and lists of structures out of bytes.

use hwspec::acpi::Field;

/// A little-endian number.
pub(super) trait Number: Sized {
    /// The number at the start of `bytes`, if all of it is there.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Number for $number {
            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
            }
        }
    )*};
}

number!(u8, u16, u32, u64);

/// A table, or a structure in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Structure<'t>(pub(super) &'t [u8]);

impl<'t> Structure<'t> {
    /// The field's value, if the structure is long enough to have it.
    pub(super) fn get<T: Number>(self, field: Field<T>) -> Option<T> {
        self.0.get(field.offset()..).and_then(T::read)
    }

    /// What begins `offset` bytes into the structure.
    pub(super) fn from(self, offset: usize) -> Option<Self> {
        self.0.get(offset..).map(Self)
    }

    /// The structures in the list that this one begins with, each of which says
    /// by itself how long it is. `length` reads that.
    ///
    /// Ends with an error, its offset, at the first that is shorter than its
    /// own header of `minimum` bytes or longer than what is left.
    pub(super) fn list(
        self,
        minimum: usize,
        length: impl Fn(Self) -> Option<usize>,
    ) -> impl Iterator<Item = Result<Self, usize>> {
        let mut offset = 0;
        let mut failed = false;
        core::iter::from_fn(move || {
            let rest = self
                .0
                .get(offset..)
                .filter(|rest| !rest.is_empty() && !failed)?;
            let own = length(Self(rest)).filter(|&own| own >= minimum.max(1));
            let Some(structure) = own.and_then(|own| rest.get(..own)) else {
                failed = true;
                return Some(Err(offset));
            };
            offset += structure.len();
            Some(Ok(Self(structure)))
        })
    }
}
