//! Tables and values for people: no borders, as wide as the terminal at most,
//! colours on a terminal only.

use std::io::IsTerminal;

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table,
    presets,
};
use volfs::model::Timestamp;

/// Whether colours may be used: on a terminal, and NO_COLOR is unset or empty
/// (no-color.org).
pub fn may_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// An empty table with these column heads. Columns whose head starts with `>`
/// are aligned to the right; one whose head starts with `*` gives way when the
/// terminal is narrow.
pub fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.force_no_tty();
    }
    let bold = may_colour();
    table.set_header(heads.iter().map(|head| {
        let cell = Cell::new(head.trim_start_matches(['>', '*']));
        if bold {
            cell.add_attribute(Attribute::Bold)
        } else {
            cell
        }
    }));
    for (index, head) in heads.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if !head.starts_with('*') {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            if head.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

/// A row of one line: what gives way on a narrow terminal is cut, not wrapped.
pub fn one_line(cells: Vec<Cell>) -> Row {
    let mut row = Row::from(cells);
    if std::io::stdout().is_terminal() {
        row.max_height(1);
    }
    row
}

/// A share in per cent, yellow from 80 and red from 95.
pub fn per_cent(used: u64, limit: u64) -> Cell {
    // Rounded up: 100 means that nothing more fits.
    let share = (u128::from(used) * 100).div_ceil(u128::from(limit.max(1)));
    let cell = Cell::new(format!("{share}%"));
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
