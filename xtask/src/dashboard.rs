//! `cargo xtask dashboard`: builds the dashboard for wasm and lays it out, ready to be served, in `dashboard/dist/`:
//!
//! ```text
//! dist/index.html            holds `<base href="/">` once; the server replaces the path by its base path. Never cached.
//! dist/BUILD                 hash of the whole; the stream's `hello` carries it, index.html's `mesh-build` does too
//! dist/pkg/NAME-HASH.EXT     immutable, each with its `.br` and `.gz` sibling
//! ```
//!
//! Compressing, hashing and the size budget are here; getting a compiler for wasm is `wasm_target`'s work.

use crate::{shell::workspace_root, wasm_target};
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use wasm_bindgen_cli_support::Bindgen;

/// What a browser downloads before the first page stands, compressed by brotli. 400 KB load in 0.7 s at 5 Mbit/s.
const BUDGET_BYTES: usize = 400_000;

/// Style sheets in the order in which they apply; served as one file.
const STYLES: &[&str] = &["tokens", "base", "shell", "parts", "graph", "panel", "pages", "traces"];

/// Options of `cargo xtask dashboard`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Build quickly and without optimizing: for working on the dashboard itself
    #[arg(long)]
    pub dev: bool,
}

/// Builds `dashboard/dist/`. Does nothing when it is there already and none of its inputs changed.
pub fn build(args: Args) -> Result<()> {
    let root = workspace_root();
    let wasm = compile(root, args.dev)?;
    let inputs = Inputs::read(&root.join("dashboard"), &wasm)?;
    let dist = root.join("dashboard/dist");
    let fingerprint = inputs.fingerprint(args.dev);
    if fs::read_to_string(dist.join(".inputs")).is_ok_and(|seen| seen == fingerprint) {
        eprintln!("dashboard: up to date");
        return Ok(());
    }

    eprintln!("dashboard: packing dashboard/dist");
    // A half-written dist must never be embedded: build it beside, then swap.
    let fresh = root.join("dashboard/dist.new");
    remove_dir(&fresh)?;
    fs::create_dir_all(fresh.join("pkg")).context("creating dashboard/dist.new")?;
    let download_bytes = pack(&inputs, &fresh, args.dev)?;
    fs::write(fresh.join(".inputs"), fingerprint).context("writing dashboard/dist.new/.inputs")?;
    if args.dev {
        eprintln!("dashboard: built without optimizing; the size is not checked");
    } else {
        eprintln!(
            "dashboard: {} KB to download, of at most {} KB",
            download_bytes / 1_000,
            BUDGET_BYTES / 1_000
        );
        within_budget(download_bytes)?;
    }
    remove_dir(&dist)?;
    fs::rename(&fresh, &dist).context("moving dashboard/dist.new to dashboard/dist")
}

/// Asked before anything is put in place: what is too large today would be "up to date" tomorrow.
fn within_budget(download_bytes: usize) -> Result<()> {
    ensure!(
        download_bytes <= BUDGET_BYTES,
        "the dashboard is {download_bytes} bytes compressed, over its budget of {BUDGET_BYTES}: \
         look for a new dependency or formatting code in dashboard/"
    );
    Ok(())
}

/// Everything that `dist` is made of.
struct Inputs {
    wasm: Vec<u8>,
    index: String,
    css: String,
    boot: String,
    theme: String,
    icon: String,
}

impl Inputs {
    fn read(dashboard: &Path, wasm: &Path) -> Result<Inputs> {
        let text = |name: &str| {
            let path = dashboard.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut css = String::new();
        for name in STYLES {
            css += &text(&format!("css/{name}.css"))?;
        }
        Ok(Inputs {
            wasm: fs::read(wasm).with_context(|| format!("reading {}", wasm.display()))?,
            index: text("index.html")?,
            css,
            boot: text("js/boot.js")?,
            theme: text("js/theme.js")?,
            icon: text("icon.svg")?,
        })
    }

    fn fingerprint(&self, dev: bool) -> String {
        let texts = [&self.index, &self.css, &self.boot, &self.theme, &self.icon];
        let mut hash = Sha256::new();
        hash.update(&self.wasm);
        for text in texts {
            hash.update(text.as_bytes());
        }
        // A change of this file may change what comes out.
        hash.update(include_bytes!("dashboard.rs"));
        hash.update([u8::from(dev)]);
        hex(&hash.finalize())
    }
}

fn compile(root: &Path, dev: bool) -> Result<PathBuf> {
    let toolchain = wasm_target::find(root)?;
    let (profile, folder) = if dev { ("dev", "debug") } else { ("wasm", "wasm") };
    eprintln!("dashboard: compiling for wasm (some minutes the first time)");
    let status = toolchain
        .cargo()
        .args(["build", "--package", "mesh-dashboard", "--profile", profile, "--target", wasm_target::TRIPLE])
        .current_dir(root)
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the dashboard does not compile, see above");
    Ok(target_dir(root)?.join(wasm_target::TRIPLE).join(folder).join("mesh-dashboard.wasm"))
}

/// Where cargo builds, whichever of its settings decides that.
fn target_dir(root: &Path) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let output = Command::new(wasm_target::host_cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    Ok(metadata.target_directory)
}

/// Writes all files of `dist`; returns the compressed bytes that a first visit downloads.
fn pack(inputs: &Inputs, dist: &Path, dev: bool) -> Result<usize> {
    let mut output = Bindgen::new()
        .input_bytes("mesh", inputs.wasm.clone())
        .web(true)
        .context("wasm-bindgen")?
        .typescript(false)
        .omit_default_module_path(true)
        .remove_name_section(!dev)
        .remove_producers_section(true)
        .keep_debug(dev)
        .generate_output()
        .context("wasm-bindgen (its crate's version must equal wasm-bindgen-cli-support's)")?;
    ensure!(
        output.local_modules().is_empty(),
        "a crate brings a JavaScript module, which nothing here lays out"
    );

    let mut pkg = Package { folder: dist.join("pkg"), download_bytes: 0, names: String::new(), quick: dev };
    let css = pkg.add("mesh", "css", inputs.css.as_bytes())?;
    let icon = pkg.add("icon", "svg", inputs.icon.as_bytes())?;
    let theme = pkg.add("theme", "js", inputs.theme.as_bytes())?;
    let mut glue_text = output.js().to_owned();
    for (krate, scripts) in output.snippets() {
        for (index, script) in scripts.iter().enumerate() {
            let name = pkg.add("snippet", "js", script.as_bytes())?;
            glue_text =
                glue_text.replace(&format!("./snippets/{krate}/inline{index}.js"), &format!("./{name}"));
        }
    }
    let glue = pkg.add("mesh", "js", glue_text.as_bytes())?;
    let wasm = pkg.add("mesh", "wasm", &output.wasm_mut().emit_wasm())?;
    let boot_text = fill(&inputs.boot, &[("GLUE", &glue), ("WASM", &wasm)])?;
    let boot = pkg.add("boot", "js", boot_text.as_bytes())?;

    let build = short_hash(pkg.names.as_bytes());
    let index = fill(
        &inputs.index,
        &[
            ("CSS", &css),
            ("ICON", &icon),
            ("THEME", &theme),
            ("BOOT", &boot),
            ("GLUE", &glue),
            ("WASM", &wasm),
            ("BUILD", &build),
        ],
    )?;
    ensure!(
        index.matches(r#"<base href="/">"#).count() == 1,
        r#"dashboard/index.html must hold <base href="/"> exactly once: the server replaces it"#
    );
    fs::write(dist.join("index.html"), &index).context("writing index.html")?;
    fs::write(dist.join("BUILD"), &build).context("writing BUILD")?;
    Ok(pkg.download_bytes + brotli(index.as_bytes(), dev)?.len())
}

/// The folder of hashed files.
struct Package {
    folder: PathBuf,
    download_bytes: usize,
    /// All names so far, which stand for all contents so far.
    names: String,
    quick: bool,
}

impl Package {
    /// Writes `stem-HASH.extension` and its compressed siblings; returns the name.
    fn add(&mut self, stem: &str, extension: &str, bytes: &[u8]) -> Result<String> {
        let name = format!("{stem}-{}.{extension}", short_hash(bytes));
        let brotli = brotli(bytes, self.quick)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = self.folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
        };
        write(&name, bytes)?;
        write(&format!("{name}.br"), &brotli)?;
        write(&format!("{name}.gz"), &gzip(bytes, self.quick)?)?;
        self.download_bytes += brotli.len();
        self.names += &name;
        Ok(name)
    }
}

/// Replaces every `{{KEY}}`; a key that the template does not know or a placeholder left over is a mistake.
fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = template.to_owned();
    for (key, value) in values {
        let placeholder = format!("{{{{{key}}}}}");
        ensure!(text.contains(&placeholder), "the dashboard's template lacks {placeholder}");
        text = text.replace(&placeholder, value);
    }
    ensure!(!text.contains("{{"), "the dashboard's template has a placeholder that nothing fills");
    Ok(text)
}

fn brotli(bytes: &[u8], quick: bool) -> Result<Vec<u8>> {
    let quality = if quick { 1 } else { 11 };
    let mut out = Vec::new();
    let mut writer = brotli::CompressorWriter::new(&mut out, 1 << 16, quality, 22);
    writer.write_all(bytes).context("brotli")?;
    drop(writer);
    Ok(out)
}

fn gzip(bytes: &[u8], quick: bool) -> Result<Vec<u8>> {
    let level = if quick { flate2::Compression::fast() } else { flate2::Compression::best() };
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
    writer.write_all(bytes).context("gzip")?;
    writer.finish().context("gzip")
}

fn short_hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_completely_or_refused() {
        assert_eq!(fill("a {{X}} b {{X}}", &[("X", "1")]).unwrap(), "a 1 b 1");
        assert!(fill("a", &[("X", "1")]).is_err());
        assert!(fill("{{X}} {{Y}}", &[("X", "1")]).is_err());
    }

    #[test]
    fn compressed_siblings_hold_the_same_bytes() {
        let text = "mesh ".repeat(1_000);
        let mut out = Vec::new();
        brotli::BrotliDecompress(&mut brotli(text.as_bytes(), false).unwrap().as_slice(), &mut out).unwrap();
        assert_eq!(out, text.as_bytes());
    }
}
