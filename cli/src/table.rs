//! Text tables and the way figures are written in them. What was not measured is a dash, never a zero.

use std::fmt;

#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: vec![] }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths: Vec<usize> = self.head.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head: Vec<String> = self.head.iter().map(|&cell| cell.to_owned()).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.2}%", share * 100.0))
}

pub fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(dash, |ms| if ms < 10.0 { format!("{ms:.1}ms") } else { format!("{ms:.0}ms") })
}

pub fn rate(per_s: f64) -> String {
    format!("{per_s:.1}")
}

pub fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut table = Table::new(&["NAME", "RPS"]);
        table.row(vec!["productpage-v1".into(), rate(20.04)]);
        table.row(vec!["ratings-v1".into(), dash()]);
        insta::assert_snapshot!(table.to_string(), @r"
        NAME            RPS
        productpage-v1  20.0
        ratings-v1      -
        ");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(percent(Some(0.99951)), "99.95%");
        assert_eq!(percent(None), "-");
        assert_eq!(millis(Some(0.94)), "0.9ms");
        assert_eq!(millis(Some(412.3)), "412ms");
    }
}
