//! Codes with names.

/// Named values of a field that may hold others too.
macro_rules! codes {
    ($type:ident: $width:ty; $($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// What it means, for people; nothing for an undefined code.
            pub const fn text(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some($text),)*
                    _ => None,
                }
            }
        }
        $crate::field::field!($type: $width);

        impl ::core::fmt::Display for $type {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self.text() {
                    Some(text) => write!(f, "{text} ({:#04x})", self.0),
                    None => write!(f, "undefined ({:#04x})", self.0),
                }
            }
        }

        impl ::core::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(super) use codes;
