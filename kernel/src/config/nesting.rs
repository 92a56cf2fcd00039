//! How deep the values of a TOML file are in each other.
//!
//! The parser calls itself for each level, up to 80, which is more than the boot
//! processor's stack of 64 KiB is for. What `weir.toml` needs is four.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// How many brackets may be open, dots of the line included.
pub(super) const MAX_NESTING: usize = 6;

/// The offset at which the text becomes deeper than [`MAX_NESTING`].
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let (mut brackets, mut dots) = (0_usize, 0_usize);
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => brackets += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                brackets = brackets.saturating_sub(1);
            }
            TokenKind::Dot => dots += 1,
            TokenKind::Newline => dots = 0,
            _ => {}
        }
        if brackets + dots > MAX_NESTING {
            return Some(token.span().start());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        assert_eq!(too_deep("a = \"[[[[[[[[[[\" # [[[[[[[[[[[\n"), None);
        assert_eq!(too_deep("[[guest.queue]]\n".repeat(99).as_str()), None);
        assert_eq!(too_deep("a = [[[[[[1]]]]]]"), None);
        assert_eq!(too_deep("a = [[[[[[[1]]]]]]]"), Some(10));
        assert_eq!(too_deep("a.b.c.d.e.f.g = 1"), None);
        assert_eq!(too_deep("a.b.c.d.e.f.g.h = 1"), Some(13));
    }
}
