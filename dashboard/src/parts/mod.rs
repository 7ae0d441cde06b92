//! Small views that several pages use.

pub mod empty;
pub mod figures;
pub mod glyph;
pub mod rows;
pub mod workload_table;
