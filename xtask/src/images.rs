//! Our own programs as images: on a node of ours (`cargo xtask cluster images`), or as archives in a folder for whatever brings them to
//! a registry (`cargo xtask images`).

use crate::{
    dashboard,
    image::{Image, NOBODY, Packed},
    packages,
    shell::{self, binaries, cargo},
};
use anyhow::{Context, Result};
use std::{fs, path::PathBuf};

/// What a cluster of somebody's wants: the two that the mesh is, and BookInfo.
pub const FOR_CLUSTERS: [&str; 3] = ["mesh-operator", "mesh-proxy", "mesh-demo"];
/// What stories want beside that.
pub const FOR_STORIES: [&str; 4] = ["mesh-operator", "mesh-proxy", "mesh-demo", "mesh-e2e-app"];
/// Where nodes look for an image whose name has no registry.
const DEFAULT_REGISTRY: &str = "docker.io/library/";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder for the archives.
    #[arg(long, default_value = "target/images", value_name = "DIR")]
    pub out: PathBuf,
    /// What their names begin with, as in the chart's value `images.registry`, such as `registry.example.com/mesh/`.
    #[arg(long, default_value = DEFAULT_REGISTRY, value_name = "PREFIX")]
    pub registry: String,
    /// Quick to build, and large and slow to run.
    #[arg(long)]
    pub dev: bool,
}

/// `cargo xtask images`
pub fn run(options: &Options) -> Result<()> {
    packages::install("builds", &packages::BUILD)?;
    dashboard::build(dashboard::Args::default())?;
    fs::create_dir_all(&options.out).with_context(|| format!("create {}", options.out.display()))?;
    let profile = if options.dev { "dev" } else { "release" };
    let mut pushes = String::new();
    for (program, packed) in build(&FOR_CLUSTERS, profile, &options.registry)? {
        let archive = options.out.join(format!("{program}.tar"));
        fs::copy(&packed.archive, &archive).with_context(|| format!("write {}", archive.display()))?;
        let name = name(&options.registry, program);
        eprintln!("{}: {name}, {:.1} MB compressed", archive.display(), packed.gzip_bytes as f64 / 1e6);
        pushes += &format!("  docker load -i {} && docker push {name}\n", archive.display());
    }
    eprintln!("to a registry:\n{pushes}onto a node: ctr --namespace k8s.io images import ARCHIVE");
    Ok(())
}

/// Builds programs that need nothing but a kernel, and packs each into an image of its name. The dashboard must have been built.
pub fn build(
    programs: &[&'static str],
    profile: &str,
    registry: &str,
) -> Result<Vec<(&'static str, Packed)>> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    eprintln!("building static programs for the images ({profile}; some minutes the first time)");
    let flags = format!("target.{triple}.rustflags=['-Ctarget-feature=+crt-static']");
    let mut build = cargo(&["build", "--profile", profile, "--target", &triple, "--config", &flags]);
    for program in programs {
        build.args(["--package", program]);
    }
    shell::run(&mut build)?;

    // target/debug/xtask is where we are.
    let binaries = binaries()?;
    let target = binaries.parent().context("find cargo's target folder")?.join(triple);
    let folder = target.join(if profile == "dev" { "debug" } else { profile });
    let mut images = vec![];
    for program in programs {
        let entrypoint = format!("/{program}");
        let image = Image {
            names: vec![name(registry, program)],
            files: vec![(program, folder.join(program))],
            entrypoint: &entrypoint,
            user: NOBODY,
        };
        images.push((*program, image.pack(&folder.join(format!("{program}.tar")))?));
    }
    Ok(images)
}

fn name(registry: &str, program: &str) -> String {
    format!("{registry}{program}:{}", env!("CARGO_PKG_VERSION"))
}

/// For our own nodes, which have no registry.
pub fn for_stories(release: bool) -> Result<Vec<(&'static str, Packed)>> {
    build(&FOR_STORIES, if release { "release" } else { "dev" }, DEFAULT_REGISTRY)
}
