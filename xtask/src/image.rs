//! Packs programs into container images, without a builder or a registry: one layer of files, `FROM scratch`, in the archive form
//! that `docker load` and `ctr images import` read. The same files give the same bytes.

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Nobody in particular: the user whose number Debian and others leave to containers that need no rights.
pub const NOBODY: &str = "65532:65532";

pub struct Image<'a> {
    /// With its tag, as a Pod names it.
    pub names: Vec<String>,
    /// Where a file lies in the image, and here.
    pub files: Vec<(&'a str, PathBuf)>,
    pub entrypoint: &'a str,
    pub user: &'a str,
}

pub struct Packed {
    pub archive: PathBuf,
    /// What a node would download.
    pub gzip_bytes: usize,
}

impl Image<'_> {
    /// Writes `archive`.
    pub fn pack(&self, archive: &Path) -> Result<Packed> {
        let layer = self.layer()?;
        let digest = hex(&Sha256::digest(&layer));
        let config = serde_json::json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": { "Entrypoint": [self.entrypoint], "User": self.user, "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let config = serde_json::to_vec(&config).context("write an image's configuration")?;
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let layer_name = format!("{digest}.tar");
        let manifest = serde_json::json!([
            { "Config": config_name, "RepoTags": self.names, "Layers": [layer_name] },
        ]);
        let manifest = serde_json::to_vec(&manifest).context("write an image's manifest")?;

        let file = fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
        let mut tar = tar::Builder::new(file);
        for (name, bytes) in
            [(config_name.as_str(), &config), (layer_name.as_str(), &layer), ("manifest.json", &manifest)]
        {
            append(&mut tar, name, bytes, 0o644)?;
        }
        tar.finish().with_context(|| format!("write {}", archive.display()))?;
        Ok(Packed { archive: archive.to_owned(), gzip_bytes: gzip(&layer)? })
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(vec![]);
        for (name, from) in &self.files {
            let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
            append(&mut tar, name, &bytes, 0o755)?;
        }
        tar.into_inner().context("write a layer")
    }
}

/// Time and owner are nobody's, so that nothing but the content decides.
fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, bytes).with_context(|| format!("pack {name}"))
}

fn gzip(bytes: &[u8]) -> Result<usize> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).context("compress a layer")?;
    Ok(encoder.finish().context("compress a layer")?.len())
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// By Go's names, which are the images' too.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn image(program: &Path) -> Image<'static> {
        Image {
            names: vec!["x:1".to_owned()],
            files: vec![("x", program.to_owned())],
            entrypoint: "/x",
            user: NOBODY,
        }
    }

    #[test]
    fn the_same_program_gives_the_same_archive_and_it_says_what_is_in_it() {
        let dir = std::env::temp_dir().join(format!("mesh-image-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let program = dir.join("program");
        fs::write(&program, "bytes of a program").unwrap();
        let pack = |name: &str| fs::read(image(&program).pack(&dir.join(name)).unwrap().archive).unwrap();
        let (first, second) = (pack("first.tar"), pack("second.tar"));

        let mut names = vec![];
        let mut manifest = String::new();
        for entry in tar::Archive::new(first.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            if name == "manifest.json" {
                entry.read_to_string(&mut manifest).unwrap();
            }
            names.push(name);
        }
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(first, second);
        assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["x:1"]));
        assert_eq!([&manifest[0]["Config"], &manifest[0]["Layers"][0]], [&names[0], &names[1]]);
    }
}
