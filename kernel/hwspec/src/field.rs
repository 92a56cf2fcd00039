//! Fields whose values have names, and may be others too.

/// Makes `$type`, a wrapper of `$width`, a field of registers and tables: any value that
/// hardware may show is kept as it is.
macro_rules! field {
    ($type:ident: $width:ty) => {
        impl $type {
            pub(super) const fn into_bits(self) -> $width {
                self.0
            }

            pub(super) const fn from_bits(bits: $width) -> Self {
                Self(bits)
            }
        }
    };
}
pub(super) use field;
