//! Where the other programs are: beside this one.

use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Binaries {
    pub operator: PathBuf,
    pub proxy: PathBuf,
    pub demo: PathBuf,
}

impl Binaries {
    pub fn find() -> anyhow::Result<Binaries> {
        let this = std::env::current_exe().context("find this program's own file")?;
        let folder = this.parent().context("find this program's own folder")?;
        Ok(Binaries {
            operator: program(folder, "mesh-operator")?,
            proxy: program(folder, "mesh-proxy")?,
            demo: program(folder, "mesh-demo")?,
        })
    }
}

fn program(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} does not exist: build it with `cargo build -p {name}`, or run `cargo xtask demo`, which builds everything",
        path.display()
    );
    Ok(path)
}
