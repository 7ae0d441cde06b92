//! `cargo xtask release`: a folder with all that a release is, to be put where people find it. Nothing of it is published here.
//!
//! ```text
//! mesh-VERSION-linux-ARCH.tar.gz   the command line; run this on a machine of each architecture, into the same folder
//! mesh-VERSION.tgz                 the chart, as `helm package` makes it
//! mesh-{operator,proxy,demo}.tar   images, for `docker load` and `ctr images import`
//! mesh.yaml                        krew's manifest, for every program in the folder
//! SHA256SUMS
//! ```

use crate::{
    images,
    shell::{self, binaries, cargo, workspace_root},
};
use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const KREW: &str = include_str!("../../cli/krew.yaml");

// No group of clap's: `images` has one of the same name.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Where the files of the folder will be found, such as `https://example.com/mesh/v0.1.0`.
    #[arg(long)]
    url: String,
    /// What a person who wants to know more is sent to.
    #[arg(long, value_name = "URL")]
    homepage: String,
    #[command(flatten)]
    images: images::Options,
}

pub fn run(options: Options) -> Result<()> {
    images::run(&options.images)?;
    shell::run(&mut cargo(&["build", "--release", "--package", "mesh"]))?;
    let program = binaries()?.parent().context("find cargo's target folder")?.join("release/mesh");
    let (root, out) = (workspace_root(), &options.images.out);
    let license = fs::read(root.join("LICENSE")).context("read LICENSE")?;
    let program = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let archive = format!("mesh-{VERSION}-linux-{}.tar.gz", architecture());
    write(out, &archive, &tar(&[("mesh".into(), program, 0o755), ("LICENSE".into(), license, 0o644)])?)?;
    write(out, &format!("mesh-{VERSION}.tgz"), &tar(&chart(&root.join("charts/mesh"))?)?)?;
    write(out, "mesh.yaml", krew(out, &options.url, &options.homepage)?.as_bytes())?;
    let sums = sums(out)?;
    write(out, "SHA256SUMS", sums.as_bytes())?;
    eprint!("{}:\n{sums}", out.display());
    Ok(())
}

/// Name, bytes, mode.
type Entry = (String, Vec<u8>, u32);

/// The same files give the same bytes.
fn tar(entries: &[Entry]) -> Result<Vec<u8>> {
    let gzip: GzEncoder<Vec<u8>> = GzBuilder::new().mtime(0).write(vec![], Compression::best());
    let mut tar = tar::Builder::new(gzip);
    for (name, bytes, mode) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        tar.append_data(&mut header, name, bytes.as_slice()).with_context(|| format!("pack {name}"))?;
    }
    tar.into_inner().and_then(GzEncoder::finish).context("pack an archive")
}

/// Below `mesh/`, its name.
fn chart(dir: &Path) -> Result<Vec<Entry>> {
    let mut entries = vec![];
    for folder in ["", "templates"] {
        let mut files: Vec<PathBuf> =
            list(&dir.join(folder))?.into_iter().filter(|path| path.is_file()).collect();
        // Helm reads this one first.
        files.sort_by_key(|path| (!path.ends_with("Chart.yaml"), path.clone()));
        for path in files {
            let name = path.strip_prefix(dir).context("name a file of the chart")?;
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            entries.push((format!("mesh/{}", name.display()), bytes, 0o644));
        }
    }
    Ok(entries)
}

/// For every program in the folder.
fn krew(dir: &Path, url: &str, homepage: &str) -> Result<String> {
    // What stands above is for whoever edits the template.
    let start = KREW.find("apiVersion").context("krew.yaml has no apiVersion")?;
    let (head, platform) = KREW[start..].split_once("platforms:\n").context("krew.yaml has no platforms")?;
    let mut manifest = head.replace("vVERSION", &format!("v{VERSION}")).replace("HOMEPAGE", homepage);
    manifest += "platforms:\n";
    for architecture in ["amd64", "arm64"] {
        let name = format!("mesh-{VERSION}-linux-{architecture}.tar.gz");
        let Ok(archive) = fs::read(dir.join(&name)) else { continue };
        manifest += &platform
            .replace("ARCHITECTURE", architecture)
            .replace("ARCHIVE", &format!("{}/{name}", url.trim_end_matches('/')))
            .replace("SHA256", &digest(&archive));
    }
    Ok(manifest)
}

/// As `sha256sum --check` reads it.
fn sums(dir: &Path) -> Result<String> {
    let mut sums = String::new();
    for path in list(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "SHA256SUMS" && path.is_file() {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            sums += &format!("{}  {name}\n", digest(&bytes));
        }
    }
    Ok(sums)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// By Go's name, as krew and image registries want it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    fs::write(dir.join(name), bytes).with_context(|| format!("write {}", dir.join(name).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn krews_manifest_names_every_program_of_the_folder_and_its_digest() {
        let dir = std::env::temp_dir().join(format!("mesh-release-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for architecture in ["amd64", "arm64"] {
            write(&dir, &format!("mesh-{VERSION}-linux-{architecture}.tar.gz"), architecture.as_bytes())
                .unwrap();
        }
        let manifest = krew(&dir, "https://example.com/files/", "https://example.com").unwrap();
        let sums = sums(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert!(manifest.starts_with("apiVersion: "), "{manifest}");
        assert!(
            manifest.contains(&format!("version: v{VERSION}\n  homepage: https://example.com\n")),
            "{manifest}"
        );
        for line in sums.lines() {
            let (digest, name) = line.split_once("  ").unwrap();
            let platform = format!("uri: https://example.com/files/{name}\n    sha256: {digest}\n");
            assert!(manifest.contains(&platform), "{platform}\n{manifest}");
        }
        for placeholder in ["VERSION", "HOMEPAGE", "ARCHI", "SHA256"] {
            assert!(!manifest.contains(placeholder), "{placeholder}: {manifest}");
        }
    }

    #[test]
    fn the_chart_is_packed_whole_and_always_the_same() {
        let entries = chart(&workspace_root().join("charts/mesh")).unwrap();
        let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names[0], "mesh/Chart.yaml");
        for name in ["mesh/values.yaml", "mesh/values.schema.json", "mesh/templates/_helpers.tpl"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
        assert_eq!(tar(&entries).unwrap(), tar(&entries).unwrap());
    }
}
