//! Own SVG charts: geometry that knows nothing of the browser, and the views over it.

pub mod geometry;
pub mod history;
pub mod series;
pub mod spark;
