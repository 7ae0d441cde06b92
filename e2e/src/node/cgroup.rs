//! The control groups in which the kubelet counts Pods. They are the machine's and not in any namespace of the node, so they carry the
//! node's name and are removed with it.

use super::Node;
use anyhow::{Context, Result};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const ROOT: &str = "/sys/fs/cgroup";

/// The kernel lets a group go a moment after its last process.
const GONE: Duration = Duration::from_secs(10);

/// As the kubelet is told it.
pub fn name(node: &Node) -> String {
    format!("/mesh-{}", node.name())
}

/// Makes the node's group in every hierarchy.
pub fn make(node: &Node) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(&name(node)[1..]);
        fs::create_dir_all(&group).with_context(|| format!("make the control group {}", group.display()))?;
        // A new group of the first version has no processors and no memory until it is given some.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let Ok(own) = fs::read_to_string(group.join(file)) else { continue };
            if own.trim().is_empty() {
                let all = fs::read_to_string(hierarchy.join(file)).unwrap_or_default();
                fs::write(group.join(file), all)
                    .with_context(|| format!("give {} its {file}", group.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes them and all below; the node's processes must have ended.
pub fn remove(node: &Node) -> Result<()> {
    let start = Instant::now();
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(&name(node)[1..]);
        while let Err(error) = remove_tree(&group) {
            let why = || format!("remove the control group {}", group.display());
            if start.elapsed() > GONE {
                return Err(error).with_context(why);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Children first. Files within are the kernel's and go with their folder.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// One folder where the machine has the second version, one for each controller where it has the first.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let entries = fs::read_dir(ROOT).with_context(|| format!("read {ROOT}: are control groups mounted?"))?;
    let mut hierarchies = vec![];
    for entry in entries {
        let path = entry.with_context(|| format!("read {ROOT}"))?.path();
        // Links are second names of the same hierarchy.
        if path.is_dir() && !path.is_symlink() {
            hierarchies.push(path);
        }
    }
    Ok(hierarchies)
}
