//! A folder of YAML as a source of watch events. Every change re-reads the whole folder; a file that cannot be read keeps what it
//! last said, over a restart too, and the others apply.

mod kept;

use super::{
    Batch,
    parse::{self, Object, Read},
    stores::Change,
};
use anyhow::Context;
use kept::Kept;
use kube::runtime::watcher::Event;
use mesh_policy::{Diagnostic, Severity};
use notify::{RecursiveMode, Watcher};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{sync::mpsc, time};

/// Editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(30);
/// Even without a word from the kernel (network file systems are silent) the folder is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// No manifest is this long; a device or a mistake may be.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Of a broken file that was never good.
const NOTHING_APPLIES: &str = "nothing in the file applies until it is mended";
/// Of one that was broken when we started: what it forbids, nobody can tell.
const NOBODY_COMES_IN: &str =
    "nothing in the file applies until it is mended, and its policies let in nobody";

/// A folder and what it last said.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    texts: BTreeMap<String, Result<String, String>>,
    good: BTreeMap<String, Good>,
    kept: Kept,
    /// Files that we found broken, and that nobody before us had read.
    closed: BTreeSet<String>,
    was_read: bool,
}

/// A file's last good version.
#[derive(Debug)]
struct Good {
    text: String,
    objects: Vec<Read>,
}

impl Folder {
    /// Fails where `dir` is no folder that can be read. In `state_dir` good versions survive us.
    pub fn open(dir: &Path, state_dir: &Path) -> anyhow::Result<Folder> {
        fs::read_dir(dir).with_context(|| {
            format!("reading the manifests in {} (choose the folder with --manifests)", dir.display())
        })?;
        Ok(Folder {
            dir: dir.to_owned(),
            texts: BTreeMap::new(),
            good: BTreeMap::new(),
            kept: Kept::open(state_dir, dir),
            closed: BTreeSet::new(),
            was_read: false,
        })
    }

    /// Reads everything. `None` when nothing differs from the last time.
    pub fn read(&mut self) -> Option<Batch> {
        let mut texts = BTreeMap::new();
        if let Err(error) = collect(&self.dir, &self.dir, &mut texts) {
            // The folder itself is gone for a moment (a `git checkout`, say): what was good stays.
            tracing::warn!(dir = %self.dir.display(), %error, "manifests cannot be listed");
            return None;
        }
        if self.was_read && texts == self.texts {
            return None;
        }
        self.texts = texts;
        let batch = self.batch();
        self.was_read = true;
        Some(batch)
    }

    fn batch(&mut self) -> Batch {
        let (mut unreadable, mut closed) = (vec![], vec![]);
        self.good.retain(|path, _| self.texts.contains_key(path));
        self.closed.retain(|path| self.texts.contains_key(path));
        for (path, text) in &self.texts {
            let read = match text {
                Ok(text) => parse::file(path, text).map(|objects| Good { text: text.clone(), objects }),
                Err(error) => Err(vec![whole_file(path, error)]),
            };
            match read {
                Ok(good) => {
                    self.closed.remove(path);
                    self.good.insert(path.clone(), good);
                }
                Err(wrong) => {
                    if !self.good.contains_key(path)
                        && let Some(good) = before_us(&self.kept, path)
                    {
                        self.good.insert(path.clone(), good);
                    }
                    let was_good = self.good.contains_key(path);
                    // A file that comes while we run and is broken adds nothing: the world before it was good.
                    if !was_good && !self.was_read {
                        self.closed.insert(path.clone());
                    }
                    let is_closed = self.closed.contains(path);
                    if let (true, Ok(text)) = (is_closed, text) {
                        closed.extend(parse::closed_policies(path, text));
                    }
                    unreadable.extend(wrong.into_iter().map(|finding| match (was_good, is_closed) {
                        (true, _) => finding,
                        (false, true) => Diagnostic { remedy: NOBODY_COMES_IN.into(), ..finding },
                        (false, false) => Diagnostic { remedy: NOTHING_APPLIES.into(), ..finding },
                    }));
                }
            }
        }
        self.kept.replace(self.good.iter().map(|(path, good)| (path.clone(), good.text.clone())).collect());
        let mut batch = Batch { unreadable, ..Batch::default() };
        let mut objects: Vec<&Read> = vec![];
        for read in self.good.values().flat_map(|good| &good.objects).chain(&closed) {
            if let Some(first) = batch.origins.get(&read.name) {
                batch.unreadable.push(Diagnostic {
                    severity: Severity::Warning,
                    path: read.origin.path.clone(),
                    document: read.origin.document,
                    line: read.origin.line,
                    object: read.name.clone(),
                    message: format!("stands already in {}:{}, which counts", first.path, first.line),
                    remedy: "remove or rename one of the two".into(),
                });
                continue;
            }
            batch.origins.insert(read.name.clone(), read.origin.clone());
            batch.unreadable.extend(read.unknown.iter().cloned());
            objects.push(read);
        }
        batch.changes = relist(&objects);
        batch
    }
}

/// What a file said when an operator before us could read it.
fn before_us(kept: &Kept, path: &str) -> Option<Good> {
    let text = kept.text(path)?;
    let objects = parse::file(path, text).ok()?;
    Some(Good { text: text.to_owned(), objects })
}

/// The objects as the start of a watch: per kind, everything there is.
pub(crate) fn relist(objects: &[&Read]) -> Vec<Change> {
    let mut changes = vec![];
    macro_rules! kind {
        ($variant:ident) => {
            changes.push(Change::$variant(Event::Init));
            for read in objects {
                if let Object::$variant(object) = &read.object {
                    changes.push(Change::$variant(Event::InitApply(object.clone())));
                }
            }
            changes.push(Change::$variant(Event::InitDone));
        };
    }
    kind!(Namespace);
    kind!(ServiceAccount);
    kind!(Service);
    kind!(EndpointSlice);
    kind!(Pod);
    kind!(HttpRoute);
    kind!(GrpcRoute);
    kind!(AuthorizationPolicy);
    changes
}

fn whole_file(path: &str, error: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        path: path.into(),
        document: 0,
        line: 0,
        object: String::new(),
        message: error.into(),
        remedy: "the file's last good version stays in force".into(),
    }
}

/// The texts of all manifests below `dir`, by path relative to `root`.
fn collect(
    root: &Path,
    dir: &Path,
    texts: &mut BTreeMap<String, Result<String, String>>,
) -> std::io::Result<()> {
    let mut entries = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        entries.insert(entry?.path());
    }
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, texts)?;
            continue;
        }
        if !path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            continue;
        }
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        texts.insert(relative, read_text(&path));
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("has {length} bytes, more than {MAX_FILE_BYTES}"));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".into())
}

/// Sends the folder's content, and again whenever it changes, until nobody listens.
pub async fn run(mut folder: Folder, batches: mpsc::Sender<Batch>) {
    // Capacity 1 and `try_send`: one word that something changed is as good as a hundred.
    let (touched, mut touches) = mpsc::channel(1);
    let watcher = watch(&folder.dir, touched);
    if let Err(error) = &watcher {
        tracing::warn!(%error, every = ?LOOK_AGAIN, "the folder of manifests cannot be watched and is looked at instead");
    }
    loop {
        if let Some(batch) = folder.read()
            && batches.send(batch).await.is_err()
        {
            return;
        }
        tokio::select! {
            touch = touches.recv(), if watcher.is_ok() => {
                if touch.is_some() {
                    time::sleep(SETTLE).await;
                    let _ = touches.try_recv();
                }
            }
            () = time::sleep(LOOK_AGAIN) => {}
            () = batches.closed() => return,
        }
    }
}

fn watch(dir: &Path, touched: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = touched.try_send(());
        }
    })?;
    watcher.watch(dir, RecursiveMode::Recursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests;
