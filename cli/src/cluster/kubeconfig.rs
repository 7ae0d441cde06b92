//! The kubeconfig that kubectl would read: the file that is named, else those of `KUBECONFIG`, else the one in the user's home.

use anyhow::Context;
use kube::config::Kubeconfig;
use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// `None` where no file is there, or none that has a context.
pub fn read(named: Option<&Path>) -> anyhow::Result<Option<Kubeconfig>> {
    match named {
        Some(file) => Ok(Some(Kubeconfig::read_from(file)?)),
        None => merged(&places(env::var_os("KUBECONFIG").as_deref(), env::home_dir().as_deref())),
    }
}

fn places(variable: Option<&OsStr>, home: Option<&Path>) -> Vec<PathBuf> {
    let listed: Vec<PathBuf> =
        env::split_paths(variable.unwrap_or_default()).filter(|file| !file.as_os_str().is_empty()).collect();
    match home {
        Some(home) if listed.is_empty() => vec![home.join(".kube/config")],
        Some(_) | None => listed,
    }
}

/// The first file to say something wins. One that is not there says nothing; one that cannot be read is an error.
fn merged(files: &[PathBuf]) -> anyhow::Result<Option<Kubeconfig>> {
    let mut all = Kubeconfig::default();
    for file in files {
        if matches!(file.try_exists(), Ok(false)) {
            continue;
        }
        all = all.merge(Kubeconfig::read_from(file)?).with_context(|| file.display().to_string())?;
    }
    Ok(Some(all).filter(|all| !all.contexts.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn the_variable_wins_over_home_unless_it_names_nothing() {
        let places = |variable: Option<&str>| places(variable.map(OsStr::new), Some(Path::new("/users/me")));
        let home = [PathBuf::from("/users/me/.kube/config")];
        assert_eq!(places(None), home);
        assert_eq!(places(Some("")), home);
        assert_eq!(places(Some("/a::b")), [PathBuf::from("/a"), PathBuf::from("b")]);
    }

    #[test]
    fn files_that_are_not_there_are_left_out_and_broken_ones_are_not() {
        let dir = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let one = file("one", "current-context: one\ncontexts: [{ name: one, context: { cluster: c } }]\n");
        let two = file("two", "current-context: two\ncontexts: [{ name: two, context: { cluster: c } }]\n");
        let absent = dir.path().join("absent");
        let all = merged(&[absent.clone(), one, two]).unwrap().unwrap();
        assert_eq!((all.current_context.as_deref(), all.contexts.len()), (Some("one"), 2));
        assert!(merged(&[absent.clone(), file("empty", "")]).unwrap().is_none());
        assert!(merged(&[absent, file("broken", "contexts: 5\n")]).is_err());
    }
}
