//! Tables and values for people: no borders, never wider than the terminal,
//! colours on a terminal only.

use std::fmt;
use std::io::IsTerminal;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width,
    presets,
};
use volfs::model::{Plain, Timestamp, is_plain};

/// Blanks between columns.
const GAP: u16 = 2;

/// A column that gives way is not made narrower than this.
const NARROWEST: u16 = 8;

/// Whether colours may be used: on a terminal, and NO_COLOR is unset or empty
/// (no-color.org).
pub fn may_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// How wide a line may be; `None` when it is not for a terminal.
pub fn width() -> Option<u16> {
    std::io::stdout().is_terminal().then(|| {
        terminal_size::terminal_size_of(std::io::stdout()).map_or(80, |(width, _)| width.0)
    })
}

/// A table that fits the terminal. What does not fit is cut, from the right,
/// in columns that give way; then columns are left out, from the right.
pub struct Listing {
    table: Table,
    columns: Vec<Column>,
    width: Option<u16>,
    wraps: bool,
}

#[derive(Clone, Copy)]
struct Column {
    gives_way: bool,
    optional: bool,
}

impl Listing {
    /// With these column heads, whose first signs say how the column is: `>`
    /// aligned to the right, `*` is cut, `~` is wrapped (and no other is cut),
    /// `?` may be left out.
    pub fn new(heads: &[&str]) -> Self {
        Self::of_width(heads, width())
    }

    fn of_width(heads: &[&str], width: Option<u16>) -> Self {
        let signs = ['>', '*', '~', '?'];
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if !may_colour() {
            table.force_no_tty();
        }
        table.set_truncation_indicator("…");
        let bold = may_colour();
        let header = heads.iter().map(|head| {
            let cell = Cell::new(head.trim_start_matches(signs));
            if bold {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        });
        let mut header = Row::from(header.collect::<Vec<_>>());
        header.max_height(1);
        table.set_header(header);
        let columns = heads.iter().map(|head| {
            let signs = &head[..head.len() - head.trim_start_matches(signs).len()];
            Column {
                gives_way: signs.contains(['*', '~']),
                optional: signs.contains('?'),
            }
        });
        let columns = columns.collect();
        for (index, head) in heads.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, GAP));
                column.set_constraint(ColumnConstraint::ContentWidth);
                let right = head
                    .chars()
                    .take_while(|c| signs.contains(c))
                    .any(|c| c == '>');
                if right {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self {
            table,
            columns,
            width,
            wraps: heads.iter().any(|head| head.starts_with('~')),
        }
    }

    /// Adds a line. What others have chosen is shown and never obeyed by the
    /// terminal.
    pub fn row(&mut self, cells: Vec<Cell>) {
        let wraps = self.wraps;
        let shown = cells.into_iter().map(|cell| {
            let text = cell.content();
            if text.chars().all(|c| is_plain(c) || wraps && c == '\n') {
                cell
            } else {
                Cell::new(Plain(&text))
            }
        });
        let mut row = Row::from(shown.collect::<Vec<_>>());
        if !self.wraps {
            row.max_height(1);
        }
        self.table.add_row(row);
    }

    fn fitted(&self) -> Table {
        let mut table = self.table.clone();
        let Some(width) = self.width else {
            return table;
        };
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(width);
        let fits = self.fit(width);
        let last = fits.iter().rposition(|fit| !matches!(fit, Fit::LeftOut));
        for (index, fit) in fits.into_iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                // With colours, blanks at the end of a line cannot be trimmed away.
                let gap = if Some(index) == last { 0 } else { GAP };
                column.set_padding((0, gap));
                column.set_constraint(match fit {
                    Fit::Whole => ColumnConstraint::ContentWidth,
                    Fit::Cut(width) => ColumnConstraint::Absolute(Width::Fixed(width + gap)),
                    Fit::LeftOut => ColumnConstraint::Hidden,
                });
            }
        }
        table
    }

    fn fit(&self, width: u16) -> Vec<Fit> {
        let wishes = self.table.column_max_content_widths();
        let mut shown: Vec<usize> = (0..wishes.len()).collect();
        loop {
            let gaps = GAP * u16::try_from(shown.len().saturating_sub(1)).unwrap_or(0);
            let add = |sum: u16, wish: u16| sum.saturating_add(wish);
            let wished = shown.iter().map(|&i| wishes[i]).fold(gaps, add);
            let mut over = wished.saturating_sub(width);
            let mut fits = vec![Fit::LeftOut; wishes.len()];
            for &index in shown.iter().rev() {
                let spare = wishes[index].saturating_sub(NARROWEST).min(over);
                fits[index] = if self.columns[index].gives_way && spare > 0 {
                    over -= spare;
                    Fit::Cut(wishes[index] - spare)
                } else {
                    Fit::Whole
                };
            }
            if over == 0 {
                return fits;
            }
            match shown.iter().rposition(|&i| self.columns[i].optional) {
                Some(last) => shown.remove(last),
                None => return narrowed(fits, &wishes, width.saturating_sub(gaps)),
            };
        }
    }
}

/// What cannot be left out is shown on too narrow a terminal too: the widest
/// columns give way, whatever they are.
fn narrowed(mut fits: Vec<Fit>, wishes: &[u16], width: u16) -> Vec<Fit> {
    let wide = |fits: &[Fit], index: usize| match fits[index] {
        Fit::Whole => wishes[index],
        Fit::Cut(width) => width,
        Fit::LeftOut => 0,
    };
    loop {
        let all: u32 = (0..fits.len()).map(|i| u32::from(wide(&fits, i))).sum();
        let widest = (0..fits.len()).max_by_key(|&index| wide(&fits, index));
        let Some(widest) = widest.filter(|&index| wide(&fits, index) > 1) else {
            return fits;
        };
        let over = all.saturating_sub(u32::from(width));
        if over == 0 {
            return fits;
        }
        fits[widest] = Fit::Cut(wide(&fits, widest) - 1);
    }
}

#[derive(Clone, Copy)]
enum Fit {
    Whole,
    Cut(u16),
    LeftOut,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fitted().trim_fmt())
    }
}

/// A value as it is, for programs; on a terminal, as it may be shown there.
pub fn value(text: String) -> String {
    if std::io::stdout().is_terminal() {
        Plain(&text).to_string()
    } else {
        text
    }
}

/// A number of inodes, in words.
pub fn inodes(number: u64) -> String {
    match number {
        1 => "1 inode".to_owned(),
        _ => format!("{number} inodes"),
    }
}

/// As many lines of the text as the terminal has.
pub fn first_lines(text: &str) -> String {
    let most = terminal_size::terminal_size_of(std::io::stdout())
        .map_or(usize::MAX, |(_, height)| {
            usize::from(height.0.saturating_sub(1))
        });
    text.lines().take(most).collect::<Vec<_>>().join("\n")
}

/// A share in per cent, or how many times that is from ten on; yellow from 80 %
/// and red from 95.
pub fn per_cent(used: u64, limit: u64) -> Cell {
    // Rounded up: 100 means that nothing more fits.
    let share = (u128::from(used) * 100).div_ceil(u128::from(limit.max(1)));
    let cell = Cell::new(match share {
        // A limit that was set below what is held.
        1000.. => format!("{}x", u128::from(used) / u128::from(limit.max(1))),
        _ => format!("{share}%"),
    });
    match share {
        _ if !may_colour() => cell,
        95.. => cell.fg(Color::Red),
        80.. => cell.fg(Color::Yellow),
        _ => cell,
    }
}

/// A point in time, RFC 3339 to the second.
pub fn time(time: Timestamp) -> String {
    let text = time.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn listing(width: Option<u16>) -> Vec<String> {
        let mut listing =
            Listing::of_width(&["*NAME", "?KIND", ">USED", "?CREATED", "*?LABELS"], width);
        listing.row(vec![
            Cell::new("a-volume-with-a-long-name"),
            Cell::new("directory"),
            Cell::new("1.5 GiB"),
            Cell::new("2026-01-01T00:00:00Z"),
            Cell::new("team=büild stage=test"),
        ]);
        listing.row(
            ["b", "disk", "0 B", "2026-01-01T00:00:00Z", ""]
                .map(Cell::new)
                .into(),
        );
        listing.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn shares_are_for_people() {
        let shown = |used, limit| per_cent(used, limit).content();
        assert_eq!((shown(1, 3), shown(50, 50)), ("34%".into(), "100%".into()));
        assert_eq!(shown(999, 100), "999%");
        // A limit that was set below what is held.
        assert_eq!(shown(8_430_048, 4096), "2058x");
        assert_eq!(shown(u64::MAX, 1), "18446744073709551615x");
    }

    #[test]
    fn it_fits_every_terminal() {
        for width in 7_u16..=100 {
            for line in listing(Some(width)) {
                assert!(line.width() <= usize::from(width), "{width}: {line:?}");
            }
            assert_eq!(listing(Some(width)).len(), 3);
        }
    }

    #[test]
    fn names_of_wide_characters_fit_too() {
        for width in 18_u16..=60 {
            let mut listing = Listing::of_width(&["*NAME", ">USED"], Some(width));
            for name in [
                "New Folder",
                "日本語の名前がとても長い",
                "👩\u{200d}🔧 e\u{301}",
                "b",
            ] {
                listing.row([name, "1.5 GiB"].map(Cell::new).into());
            }
            let text = listing.to_string();
            let ends: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
            assert!(ends[0] <= usize::from(width), "{width}:\n{text}");
            // One below the other.
            assert!(ends.iter().all(|&end| end == ends[0]), "{width}:\n{text}");
            assert_eq!(ends.len(), 5);
        }
    }

    #[test]
    fn a_cell_is_shown_and_not_obeyed() {
        let mut listing = Listing::of_width(&["NAME", "*LABELS"], None);
        listing.row(["v", "k=\u{1b}[2J\u{9b}m\n"].map(Cell::new).into());
        assert!(listing.to_string().ends_with(r"k=\u{1b}[2J\u{9b}m\n"));
    }

    #[test]
    fn what_gives_way_first() {
        assert_eq!(listing(None), listing(Some(200)));
        let heads = |width| {
            let heads = listing(Some(width)).swap_remove(0);
            heads.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(listing(Some(88))[1].ends_with("team=büild…"));
        assert_eq!(heads(68), "NAME KIND USED CREATED LABELS");
        assert!(
            listing(Some(68))[1].starts_with("a-") && listing(Some(68))[1].contains("…  directory")
        );
        assert_eq!(heads(59), "NAME KIND USED CREATED");
        assert_eq!(heads(40), "NAME KIND USED");
        assert_eq!(heads(20), "NAME USED");
    }
}
