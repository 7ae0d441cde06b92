//! `cargo xtask tidy`: the rules that no compiler holds. Who may depend on whom is `tidy::picture`'s, what a file may hold
//! `tidy::files`', and that the book hangs together `tidy::book`'s.

mod book;
mod files;
mod picture;

use anyhow::{Result, bail};

pub fn run() -> Result<()> {
    eprintln!("+ tidy");
    let mut complaints = files::complaints()?;
    complaints.extend(book::complaints()?);
    complaints.extend(picture::complaints()?);
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    bail!("tidy: {} complaints, see above", complaints.len())
}
