//! Paths as messages have them.

use std::path::Path;

/// A path in quotes; of one that fills more than a few lines, both ends.
pub(crate) fn shown(path: &Path) -> String {
    const MOST: usize = 400;
    let text = format!("{path:?}");
    if text.len() <= MOST {
        return text;
    }
    let boundary = |from: usize| (from..).find(|&at| text.is_char_boundary(at));
    // OK to default: the end is one.
    let start = boundary(MOST / 2).unwrap_or(text.len());
    let end = boundary(text.len() - MOST / 2).unwrap_or(text.len());
    format!("{}…{}", &text[..start], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_are_cut_in_the_middle() {
        assert_eq!(shown(Path::new("a\nb")), r#""a\nb""#);
        let long = "ü/".repeat(1000);
        let text = shown(Path::new(&long));
        assert!(text.len() < 420 && text.contains('…'), "{text}");
        assert!(text.starts_with('"') && text.ends_with('"'));
    }
}
