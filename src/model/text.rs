//! Text that others have chosen, and that ends on somebody's terminal: labels,
//! names of processes.

use std::fmt::{self, Write};

/// Whether a character only shows itself, wherever it is written.
///
/// Not so: control characters (Unicode's category Cc: line breaks, and what
/// begins an escape sequence that a terminal obeys, ESC and U+009B), the line
/// and paragraph separators, and the controls of bidirectional text, by which
/// what follows is shown in another order.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text as it may be shown: what is not [plain](is_plain) is shown as Rust
/// writes it in a literal (`\n`, `\u{1b}`).
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if is_plain(c) {
                f.write_char(c)?;
            } else {
                write!(f, "{}", c.escape_default())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        let shown = |text| Plain(text).to_string();
        for plain in ["", "a=b c", "büild", "日本", "👩\u{200d}🔧", "back\\slash"] {
            assert_eq!(shown(plain), plain);
        }
        assert_eq!(shown("a\u{1b}[31mb\nc\t"), r"a\u{1b}[31mb\nc\t");
        assert_eq!(shown("\u{9b}2J\u{7f}"), r"\u{9b}2J\u{7f}");
        assert_eq!(shown("\u{202e}txt\u{2028}"), r"\u{202e}txt\u{2028}");
    }
}
