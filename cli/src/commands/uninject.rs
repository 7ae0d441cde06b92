//! `mesh uninject`: takes the proxy out of every Pod of YAML files.

use super::inject::rewrite;
use crate::arguments::FilesOptions;
use mesh_charts::inject::manifest;

pub fn run(files: FilesOptions) -> anyhow::Result<()> {
    rewrite(&files, manifest::uninject_all)
}
