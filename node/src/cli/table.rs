//! Tables that fit the terminal.
//!
//! Each column says how it gives way in a narrow terminal. Columns leave in a fixed order, so that the same terminal
//! always shows the same columns. Then texts are cut. Ids are neither cut nor wrapped, because people copy them.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table as Inner, Width, presets};

/// Blanks between two columns.
const GAP: u16 = 2;
/// The end of a text that is cut.
const CUT: &str = "\u{2026}";

/// A column, and how it gives way.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    header: &'a str,
    /// Fewest characters to which a cell is cut. None: cells are never cut.
    least: Option<u16>,
    /// The column with the lowest number leaves first. None: the column stays.
    leaves: Option<u8>,
}

impl<'a> Column<'a> {
    /// An id or another text that stays whole.
    pub const fn id(header: &'a str) -> Self {
        Self { header, least: None, leaves: None }
    }

    /// A text that is cut to `least` characters at worst.
    pub const fn text(header: &'a str, least: u16) -> Self {
        Self { header, least: Some(least), leaves: None }
    }

    /// The column leaves a narrow table, the one with the lowest number first.
    pub const fn leaves(self, order: u8) -> Self {
        Self { leaves: Some(order), ..self }
    }
}

/// A table without borders.
pub struct Table<'a> {
    inner: Inner,
    columns: Vec<Column<'a>>,
    /// Characters of a line. None: lines have any length.
    width: Option<u16>,
}

impl<'a> Table<'a> {
    /// A table of the width of the terminal, or of `COLUMNS` where standard output is no terminal.
    pub fn new<const N: usize>(columns: [Column<'a>; N]) -> Self {
        Self::with_width(columns, width())
    }

    fn with_width<const N: usize>(columns: [Column<'a>; N], width: Option<u16>) -> Self {
        let mut inner = Inner::new();
        inner.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        inner.set_truncation_indicator(CUT).set_header(one_line(columns.iter().map(|column| column.header.to_owned())));
        Self { inner, columns: columns.to_vec(), width }
    }

    pub fn add_row(&mut self, cells: impl IntoIterator<Item = String>) -> &mut Self {
        self.inner.add_row(one_line(cells));
        self
    }

    /// The shown columns with their widths: as many as fit.
    fn layout(&self) -> Vec<(usize, u16)> {
        let content = self.inner.column_max_content_widths();
        let mut shown: Vec<(usize, Column<'_>, u16)> =
            self.columns.iter().zip(content).enumerate().map(|(at, (column, width))| (at, *column, width)).collect();
        let Some(width) = self.width else { return shown.into_iter().map(|(at, _, width)| (at, width)).collect() };
        let least = |column: &Column<'_>, content: u16| column.least.map_or(content, |least| least.min(content));
        let needed = |shown: &[(usize, Column<'_>, u16)]| {
            let gaps = GAP.saturating_mul(u16::try_from(shown.len().saturating_sub(1)).unwrap_or(u16::MAX));
            shown.iter().fold(gaps, |sum, (_, column, content)| sum.saturating_add(least(column, *content)))
        };
        while needed(&shown) > width {
            let first = shown.iter().filter_map(|(at, column, _)| column.leaves.map(|order| (order, *at))).min();
            let Some((_, leaving)) = first else { break };
            shown.retain(|(at, ..)| *at != leaving);
        }
        let mut spare = width.saturating_sub(needed(&shown));
        let grown = shown.into_iter().map(|(at, column, content)| {
            let least = least(&column, content);
            let more = content.saturating_sub(least).min(spare);
            spare = spare.saturating_sub(more);
            (at, least.saturating_add(more))
        });
        grown.collect()
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut table, layout) = (self.inner.clone(), self.layout());
        let last = layout.last().map(|(at, _)| *at);
        for at in 0..self.columns.len() {
            let Some(column) = table.column_mut(at) else { continue };
            match layout.iter().find(|(shown, _)| *shown == at) {
                None => {
                    column.set_constraint(ColumnConstraint::Hidden);
                }
                Some((_, width)) => {
                    let gap = if last == Some(at) { 0 } else { GAP };
                    column.set_padding((0, gap));
                    column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width.saturating_add(gap))));
                }
            }
        }
        // The last column needs no blanks behind its text.
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A row of cells of one line each: a longer text is cut.
fn one_line(cells: impl IntoIterator<Item = String>) -> Row {
    let mut row = Row::from(cells.into_iter().collect::<Vec<_>>());
    row.max_height(1);
    row
}

/// The characters of a line of the terminal, or `COLUMNS` where standard output is no terminal.
fn width() -> Option<u16> {
    if io::stdout().is_terminal() {
        return Inner::new().width();
    }
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<u16>) -> String {
        let columns = [
            Column::id("ID"),
            Column::text("NAME", 4),
            Column::id("METRIC").leaves(2),
            Column::id("WHEN").leaves(1),
            Column::text("DESCRIPTION", 8),
        ];
        let mut table = Table::with_width(columns, width);
        for cells in [
            ["0123456789ab", "tiny", "2.750000", "3m ago", "half the learning rate and twice the steps"],
            ["ba9876543210", "a longer name", "2.500000", "10m ago", "wider"],
        ] {
            table.add_row(cells.map(str::to_owned));
        }
        table.to_string()
    }

    #[test]
    fn gap_follows_every_cut_cell() {
        let gap = " ".repeat(GAP.into());
        let mut cuts = 0;
        for width in 30..=130 {
            let text = shown(Some(width));
            for line in text.lines() {
                for (at, cut) in line.match_indices(CUT) {
                    let rest = &line[at + cut.len()..];
                    assert!(rest.is_empty() || rest.starts_with(&gap), "{width}:\n{text}");
                    cuts += 1;
                }
            }
        }
        assert!(cuts > 0);
    }

    #[test]
    fn columns_leave_in_a_fixed_order_and_ids_stay_whole() {
        for width in [20, 30, 40, 60, 80, 120] {
            let text = shown(Some(width));
            assert!(text.contains("0123456789ab") && text.contains("ba9876543210"), "{width}:\n{text}");
            assert_eq!(text.lines().count(), 3, "{width}:\n{text}");
            assert_eq!(text.contains("METRIC"), width >= 40, "{width}:\n{text}");
            assert_eq!(text.contains("WHEN"), width >= 60, "{width}:\n{text}");
            if width >= 30 {
                let longest = text.lines().map(|line| line.chars().count()).max();
                assert!(longest <= Some(width.into()), "{width}:\n{text}");
            }
        }
        assert!(shown(None).contains("twice the steps"));
        assert!(shown(Some(60)).contains(CUT));
    }
}
