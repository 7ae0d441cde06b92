use super::*;
use crate::world::stores::Stores;
use mesh_policy::{Settings, Tables};

struct Dir {
    dir: tempfile::TempDir,
    state: tempfile::TempDir,
    folder: Folder,
    stores: Stores,
}

impl Dir {
    fn new(files: &[(&str, &str)]) -> Dir {
        let dir = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), state.path()).unwrap();
        let new = Dir { dir, state, folder, stores: Stores::default() };
        for (name, text) in files {
            new.write(name, text);
        }
        new
    }

    /// Another operator takes over.
    fn restart(&mut self) {
        self.folder = Folder::open(self.dir.path(), self.state.path()).unwrap();
        self.stores = Stores::default();
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Names of the Pods and the texts of the findings after a look at the folder; `None` when nothing changed.
    fn look(&mut self) -> Option<(Vec<String>, Vec<String>)> {
        let batch = self.folder.read()?;
        for change in &batch.changes {
            self.stores.apply(change);
        }
        let mut world = self.stores.world();
        world.origins = batch.origins.into();
        world.unreadable = batch.unreadable.into();
        let tables = Tables::build(&world, &Settings::default());
        let pods = tables.pods().iter().map(|pod| pod.name.clone()).collect();
        Some((pods, tables.diagnostics().iter().map(ToString::to_string).collect()))
    }
}

fn pod(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop }}\nspec: {{ containers: [] }}\nstatus: {{ podIP: {ip} }}\n"
    )
}

fn ok(pods: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
    Some((pods.iter().map(|pod| (*pod).to_owned()).collect(), vec![]))
}

#[test]
fn files_come_change_and_go() {
    let mut dir = Dir::new(&[("a.yaml", &pod("a", "10.0.0.1")), ("deep/er/b.yml", &pod("b", "10.0.0.2"))]);
    dir.write("notes.txt", "no manifest");
    dir.write(".hidden.yaml", "not: one");
    assert_eq!(dir.look(), ok(&["a", "b"]));
    assert_eq!(dir.look(), None);
    dir.write("a.yaml", &format!("{}---\n{}", pod("a", "10.0.0.1"), pod("c", "10.0.0.3")));
    assert_eq!(dir.look(), ok(&["a", "b", "c"]));
    fs::remove_file(dir.dir.path().join("deep/er/b.yml")).unwrap();
    assert_eq!(dir.look(), ok(&["a", "c"]));
}

#[test]
fn a_broken_file_keeps_what_it_last_said_and_others_go_on() {
    let mut dir = Dir::new(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("b", "10.0.0.2"))]);
    assert_eq!(dir.look(), ok(&["a", "b"]));
    dir.write("a.yaml", &format!("{}---\nkind: {{", pod("a2", "10.0.0.1")));
    dir.write("b.yaml", &pod("b2", "10.0.0.2"));
    let (pods, findings) = dir.look().unwrap();
    assert_eq!(pods, ["a", "b2"]);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with("a.yaml:") && findings[0].contains("(document 2)"), "{findings:?}");
    dir.write("a.yaml", &pod("a2", "10.0.0.1"));
    assert_eq!(dir.look(), ok(&["a2", "b2"]));
}

#[test]
fn a_restart_while_a_file_is_broken_starts_from_what_it_last_said() {
    let mut dir = Dir::new(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("b", "10.0.0.2"))]);
    dir.look();
    dir.write("a.yaml", "kind: [");
    fs::remove_file(dir.dir.path().join("b.yaml")).unwrap();
    for _ in 0..2 {
        dir.restart();
        let (pods, findings) = dir.look().unwrap();
        assert_eq!(pods, ["a"]);
        assert!(findings.len() == 1 && findings[0].contains("last good version"), "{findings:?}");
    }
    // What was gone in between, or never good, does not come back.
    dir.write("b.yaml", "kind: [");
    dir.restart();
    let (pods, findings) = dir.look().unwrap();
    assert_eq!(pods, ["a"]);
    assert!(findings[1].starts_with("b.yaml:") && findings[1].contains(NOBODY_COMES_IN), "{findings:?}");
    dir.write("a.yaml", &pod("a2", "10.0.0.1"));
    assert_eq!(dir.look().unwrap().0, ["a2"]);
}

#[test]
fn another_folders_manifests_are_not_taken_for_this_ones() {
    let mut first = Dir::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    first.look();
    let mut second = Dir::new(&[("a.yaml", "kind: [")]);
    second.folder = Folder::open(second.dir.path(), first.state.path()).unwrap();
    assert_eq!(second.look().unwrap().0, Vec::<String>::new());
    fs::write(first.state.path().join("last-good-manifests.json"), "{").unwrap();
    first.restart();
    assert_eq!(first.look(), ok(&["a"]));
}

#[test]
fn an_object_that_stands_twice_counts_once() {
    let mut dir = Dir::new(&[("a.yaml", &pod("a", "10.0.0.1")), ("b.yaml", &pod("a", "10.0.0.9"))]);
    let (pods, findings) = dir.look().unwrap();
    assert_eq!(pods, ["a"]);
    assert!(findings[0].contains("b.yaml:1") && findings[0].contains("a.yaml:1"), "{findings:?}");
}

#[test]
fn rubbish_is_said_and_an_empty_folder_is_fine() {
    let mut dir = Dir::new(&[]);
    assert_eq!(dir.look(), ok(&[]));
    assert_eq!(dir.look(), None);
    fs::write(dir.dir.path().join("x.yaml"), [0xff, 0xfe]).unwrap();
    assert!(dir.look().unwrap().1[0].contains("x.yaml: is no UTF-8 text"));
    assert!(
        Folder::open(Path::new("/nonexistent"), Path::new("/nonexistent"))
            .unwrap_err()
            .to_string()
            .contains("/nonexistent")
    );
}

/// Nobody knows what it is to say; that it was there before us, everybody knows. One that comes while we run has no such standing:
/// what was good before it stays.
#[test]
fn policies_of_a_file_that_was_broken_before_us_let_in_nobody() {
    let spec = "spec: { selector: {}, rules: [{ from: [{ network: { cidr: 0.0.0.0/0 } }, { network: { cidr: '::/0' } }] }] }";
    let policy = format!(
        "apiVersion: mesh.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{ name: p, namespace: shop }}\n{spec}\n"
    );
    let mut dir = Dir::new(&[("a.yaml", &pod("a", "10.0.0.1"))]);
    let lets_in = |dir: &mut Dir, text: &str| {
        dir.write("policy.yaml", text);
        dir.look().unwrap();
        let tables = Tables::build(&dir.stores.world(), &Settings::default());
        let policy = tables.inbound("shop", "a", 80).unwrap();
        let stranger = mesh_policy::inbound::Client { ip: None, identity: None };
        matches!(policy.decide(stranger, None), mesh_policy::inbound::Decision::Allowed(_))
    };
    let broken = policy.replace("rules:", "rulez:");
    let list = format!("kind: List\napiVersion: v1\nitems:\n- {}", broken.trim_end().replace('\n', "\n  "));
    dir.look();
    for (text, what) in [
        (&broken, "the policy itself is broken"),
        (&format!("{policy}---\nkind: {{"), "the file is broken elsewhere"),
        (&list, "it is a list"),
    ] {
        assert!(lets_in(&mut dir, text), "new, and {what}");
        dir.write("another.yaml", &format!("# {what}"));
        assert!(lets_in(&mut dir, text), "not so new, and {what}");
        dir.restart();
        assert!(!lets_in(&mut dir, text), "there before us, and {what}");
        dir.write("another.yaml", "");
        assert!(!lets_in(&mut dir, text), "still, and {what}");
        fs::remove_file(dir.dir.path().join("policy.yaml")).unwrap();
        dir.look();
    }
    assert!(lets_in(&mut dir, &policy));
    assert!(lets_in(&mut dir, &broken), "what it said before stays");
}
