//! Embeds the dashboard that `cargo xtask dashboard` left in dashboard/dist, or a page that says how to build it.
//! Never builds it itself: that would need another toolchain, and the lock on the target folder.

#[path = "../build/small.rs"]
mod small;

use std::{
    env,
    error::Error,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

const STUB: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><base href="/"><title>Mesh</title>
<h1>Mesh</h1><p>This operator was built without its dashboard. Run <code>cargo xtask dashboard</code>, then build it again.</p>
<p>The API is there: <a href="api/v1/overview">overview</a>, <a href="api/v1/graph">graph</a>, <a href="api/v1/checks">checks</a>.</p></html>
"#;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=MESH_REQUIRE_DASHBOARD");
    println!("cargo::rerun-if-changed=../build/small.rs");
    small::link();
    let dashboard = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../dashboard");
    let dist = dashboard.join("dist");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let (build, files) = if dist.join("index.html").is_file() {
        println!("cargo::rerun-if-changed={}", dist.display());
        let mut files = Vec::new();
        list(&dist.canonicalize()?, "", &mut files)?;
        files.sort();
        (fs::read_to_string(dist.join("BUILD")).unwrap_or_default().trim().to_owned(), files)
    } else {
        // A path that does not exist would rerun this at every build; its parent tells when it appears.
        println!("cargo::rerun-if-changed={}", dashboard.display());
        if env::var("MESH_REQUIRE_DASHBOARD").is_ok_and(|value| value == "1") {
            return Err(
                "MESH_REQUIRE_DASHBOARD=1, but dashboard/dist has no index.html: run cargo xtask dashboard"
                    .into(),
            );
        }
        println!(
            "cargo::warning=dashboard/dist is missing, embedding a stub page (cargo xtask dashboard builds it)"
        );
        fs::write(out.join("stub.html"), STUB)?;
        ("none".to_owned(), vec![("index.html".to_owned(), out.join("stub.html"))])
    };

    let mut code = format!("pub const BUILD: &str = {build:?};\npub const FILES: &[File] = &[\n");
    for (name, path) in &files {
        let sibling = |ending: &str| {
            let path = path.with_file_name(format!("{}.{ending}", path.file_name()?.to_str()?));
            path.is_file().then(|| format!("include_bytes!({path:?})"))
        };
        let option = |code: Option<String>| code.map_or("None".to_owned(), |code| format!("Some({code})"));
        writeln!(
            code,
            "    File {{ path: {name:?}, plain: include_bytes!({path:?}), br: {}, gz: {} }},",
            option(sibling("br")),
            option(sibling("gz"))
        )?;
    }
    code += "];\n";
    fs::write(out.join("dashboard.rs"), code)?;
    Ok(())
}

/// Files below `folder` with their relative names, without hidden ones and without the compressed siblings.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        if name.starts_with('.') || name == "BUILD" || name.ends_with(".br") || name.ends_with(".gz") {
            continue;
        }
        let relative = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{relative}/"), files)?;
        } else {
            files.push((relative, entry.path()));
        }
    }
    Ok(())
}
