//! A disk that follows a record, and what may be left on it when the power goes.
//!
//! A file has bytes that are durable and changes that are not; so has a directory, whose changes are
//! of names. What a crash leaves depends on the [`Model`]:
//!
//! * **Kill.** The process dies and the machine runs on: everything is there. Only a write that was
//!   under way may be cut off, at the end of a page.
//! * **Volatile.** The power goes. Each write that was not covered by a later fsync or fdatasync of its
//!   file is kept, dropped or torn, whatever happens to the others; torn means that any of its sectors
//!   of 512 bytes may be missing. A file may also have the length without the bytes, which are zeros
//!   then. `sync_file_range` is worth nothing: the drive has a cache. Names are durable after an fsync
//!   of their directory, and not by one of the file.
//! * **Protected.** The same, but `sync_file_range` makes a range durable, with the length that it
//!   needs: the drive keeps what it was given.
//!
//! A sync covers what had returned before it began, and only from the moment when it has returned.
//! Changes of names that are not durable survive in one of two ways, half of the times each: up to
//! some point and none after it, as in a journal; or each for itself, as far as it still makes sense
//! (a file that does not exist is not renamed). What a file system does beyond that is not relied on:
//! that files and names are written in any order among each other, that old unsynced changes have
//! been written back for long, that an fsync of a file brings its name along.
//!
//! Assumed: a sector is written whole or not at all, bytes that are durable stay as they are, a
//! rename is whole or not at all, and what was read after a crash was on the disk.

use crate::record::Event;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Model {
    Kill,
    Protected,
    Volatile,
}

impl Model {
    pub(crate) const ALL: [Self; 3] = [Self::Kill, Self::Protected, Self::Volatile];
}

/// What is in a directory: files with their bytes, directories without.
pub(crate) type Image = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The disk as of some event of a record.
#[derive(Clone)]
pub(crate) struct Disk<'a> {
    model: Model,
    nodes: Vec<Node<'a>>,
    by_inode: HashMap<u64, usize>,
    /// By number: the syncs that were begun.
    syncs: HashMap<u64, Sync>,
    /// How many events there were.
    now: usize,
    last: Option<Event<'a>>,
}

#[derive(Clone)]
enum Node<'a> {
    File(File<'a>),
    Directory(Directory<'a>),
}

/// With each change stands the event that made it.
#[derive(Clone, Default)]
struct File<'a> {
    durable: Vec<u8>,
    cached: Vec<u8>,
    changes: Vec<(usize, Change<'a>)>,
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Write { at: u64, data: &'a [u8] },
    Resize { length: u64 },
}

type Names<'a> = BTreeMap<&'a [u8], usize>;

#[derive(Clone, Default)]
struct Directory<'a> {
    durable: Names<'a>,
    cached: Names<'a>,
    changes: Vec<(usize, NameChange<'a>)>,
}

#[derive(Clone, Copy)]
enum NameChange<'a> {
    Add { name: &'a [u8], node: usize },
    Remove { name: &'a [u8], node: usize },
    Rename { from: &'a [u8], to: &'a [u8], node: usize },
}

#[derive(Clone, Copy)]
struct Sync {
    node: usize,
    began: usize,
    range: Option<(u64, u64)>,
}

/// How likely it is that something unsynced survives, in one image.
#[derive(Clone, Copy)]
struct Luck {
    kept: f64,
    dropped: f64,
}

const ROOT: usize = 0;

impl<'a> Disk<'a> {
    /// A disk that holds an empty directory.
    pub(crate) fn empty(model: Model) -> Self {
        Self {
            model,
            nodes: vec![Node::Directory(Directory::default())],
            by_inode: HashMap::new(),
            syncs: HashMap::new(),
            now: 0,
            last: None,
        }
    }

    /// A disk that holds what is in an image.
    pub(crate) fn holding(model: Model, image: &'a Image) -> Self {
        let mut disk = Self::empty(model);
        // A directory comes before what is in it.
        for (path, bytes) in image {
            let (parent, name) = disk.place(path);
            let node = match bytes {
                Some(bytes) => Node::File(File {
                    durable: bytes.clone(),
                    cached: bytes.clone(),
                    changes: Vec::new(),
                }),
                None => Node::Directory(Directory::default()),
            };
            disk.nodes.push(node);
            let node = disk.nodes.len() - 1;
            let directory = disk.directory(parent);
            directory.durable.insert(name, node);
            directory.cached.insert(name, node);
        }
        disk
    }

    /// Follows the record by one event.
    pub(crate) fn follow(&mut self, event: Event<'a>) {
        let now = self.now;
        self.now += 1;
        if self.model == Model::Kill
            && let Some(Event::Wrote { inode, .. } | Event::Resized { inode, .. }) = self.last
            && let Node::File(file) = &mut self.nodes[self.by_inode[&inode]]
        {
            // Durable is, in this model, everything but the last write.
            for (_, change) in file.changes.drain(..) {
                change.apply(&mut file.durable);
            }
        }
        self.last = Some(event);
        match event {
            Event::Opened { path, inode } => {
                let node = self.find(path);
                self.by_inode.insert(inode, node);
            }
            Event::Created { path, inode } => {
                self.add(path, inode, Node::File(File::default()));
            }
            Event::MadeDirectory { path, inode } => {
                self.add(path, inode, Node::Directory(Directory::default()));
            }
            Event::Renamed { from, to } => {
                let (parent, from) = self.place(from);
                let (other, to) = self.place(to);
                assert_eq!(parent, other, "a rename from one directory to another");
                let node = self.directory(parent).cached[from];
                self.change_name(parent, NameChange::Rename { from, to, node });
            }
            Event::Removed { path } => {
                let (parent, name) = self.place(path);
                let node = self.directory(parent).cached[name];
                self.change_name(parent, NameChange::Remove { name, node });
            }
            Event::Wrote { inode, at, data } => {
                self.change(inode, now, Change::Write { at, data });
            }
            Event::Resized { inode, length } => self.change(inode, now, Change::Resize { length }),
            Event::SyncBegan { sync, inode } => {
                let node = self.by_inode[&inode];
                self.syncs.insert(sync, Sync { node, began: now, range: None });
            }
            Event::RangeSyncBegan { sync, inode, from, to } => {
                let node = self.by_inode[&inode];
                self.syncs.insert(sync, Sync { node, began: now, range: Some((from, to)) });
            }
            Event::SyncEnded { sync } => {
                let sync = self.syncs.remove(&sync).expect("a sync ends after it began");
                self.settle(sync);
            }
            Event::Sent { .. } => {}
        }
    }

    /// The process ended: its syncs end no more.
    pub(crate) fn process_ended(&mut self) {
        self.syncs.clear();
    }

    /// What the processes see: everything that was done.
    pub(crate) fn cached(&self) -> Image {
        self.image(|_, node| match node {
            Node::File(file) => Survivor::Bytes(file.cached.clone()),
            Node::Directory(directory) => Survivor::Names(directory.cached.clone()),
        })
    }

    /// What is there after a crash now.
    pub(crate) fn crashed(&self, random: &mut ChaCha8Rng) -> Image {
        if self.model == Model::Kill {
            return self.killed(random);
        }
        // Mixed fates, mostly kept, mostly dropped: each finds other things.
        let luck = [
            Luck { kept: 0.34, dropped: 0.33 },
            Luck { kept: 0.9, dropped: 0.05 },
            Luck { kept: 0.05, dropped: 0.9 },
        ];
        let luck = luck[random.random_range(0..luck.len())];
        self.image(|_, node| match node {
            Node::File(file) => Survivor::Bytes(file.crashed(luck, random)),
            Node::Directory(directory) => Survivor::Names(directory.crashed(luck, random)),
        })
    }

    /// Everything is there; a write that was under way may have stopped after a page.
    fn killed(&self, random: &mut ChaCha8Rng) -> Image {
        let mut cut = None;
        if let Some(Event::Wrote { inode, at, data }) = self.last
            && random.random_bool(0.5)
            && let node = self.by_inode[&inode]
            && let Node::File(file) = &self.nodes[node]
        {
            let pages = (at % PAGE + data.len() as u64).div_ceil(PAGE);
            let whole = random.random_range(0..pages);
            let kept = (whole * PAGE).saturating_sub(at % PAGE) as usize;
            // Everything before this write is in here, see `follow`.
            let mut bytes = file.durable.clone();
            put(&mut bytes, at, &data[..kept]);
            cut = Some((node, bytes));
        }
        self.image(|node, content| match (&cut, content) {
            (Some((this, bytes)), Node::File(_)) if *this == node => Survivor::Bytes(bytes.clone()),
            (_, Node::File(file)) => Survivor::Bytes(file.cached.clone()),
            (_, Node::Directory(directory)) => Survivor::Names(directory.cached.clone()),
        })
    }

    fn image(&self, mut survivor: impl FnMut(usize, &Node<'a>) -> Survivor<'a>) -> Image {
        let mut image = Image::new();
        let mut ahead = vec![(Vec::new(), ROOT)];
        while let Some((path, node)) = ahead.pop() {
            let bytes = match survivor(node, &self.nodes[node]) {
                Survivor::Bytes(bytes) => Some(bytes),
                Survivor::Names(names) => {
                    for (name, node) in names {
                        let path = if path.is_empty() {
                            name.to_vec()
                        } else {
                            [path.as_slice(), b"/", name].concat()
                        };
                        ahead.push((path, node));
                    }
                    None
                }
            };
            if !path.is_empty() {
                image.insert(path, bytes);
            }
        }
        image
    }

    fn add(&mut self, path: &'a [u8], inode: u64, node: Node<'a>) {
        let (parent, name) = self.place(path);
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        self.by_inode.insert(inode, node);
        self.change_name(parent, NameChange::Add { name, node });
    }

    fn change_name(&mut self, parent: usize, change: NameChange<'a>) {
        let now = self.now - 1;
        let directory = self.directory(parent);
        change.apply(&mut directory.cached);
        directory.changes.push((now, change));
    }

    fn change(&mut self, inode: u64, now: usize, change: Change<'a>) {
        let Node::File(file) = &mut self.nodes[self.by_inode[&inode]] else {
            panic!("a directory is written");
        };
        change.apply(&mut file.cached);
        file.changes.push((now, change));
    }

    /// Makes durable what a sync that has returned covers.
    fn settle(&mut self, sync: Sync) {
        if self.model == Model::Kill {
            return;
        }
        match (&mut self.nodes[sync.node], sync.range) {
            (Node::File(file), None) => {
                let covered = file.changes.partition_point(|(at, _)| *at < sync.began);
                for (_, change) in file.changes.drain(..covered) {
                    change.apply(&mut file.durable);
                }
            }
            (Node::File(file), Some(range)) => {
                if self.model == Model::Protected {
                    file.settle_range(sync.began, range);
                }
            }
            (Node::Directory(directory), _) => {
                let covered = directory.changes.partition_point(|(at, _)| *at < sync.began);
                for (_, change) in directory.changes.drain(..covered) {
                    change.apply(&mut directory.durable);
                }
            }
        }
    }

    fn directory(&mut self, node: usize) -> &mut Directory<'a> {
        match &mut self.nodes[node] {
            Node::Directory(directory) => directory,
            Node::File(_) => panic!("a file holds names"),
        }
    }

    fn find(&mut self, path: &'a [u8]) -> usize {
        if path.is_empty() {
            return ROOT;
        }
        let (parent, name) = self.place(path);
        *self.directory(parent).cached.get(name).unwrap_or_else(|| {
            panic!("{} was opened and does not exist", String::from_utf8_lossy(path))
        })
    }

    /// The directory that a path stands in, and its name there.
    fn place(&mut self, path: &'a [u8]) -> (usize, &'a [u8]) {
        match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (self.find(&path[..slash]), &path[slash + 1..]),
            None => (ROOT, path),
        }
    }
}

enum Survivor<'a> {
    Bytes(Vec<u8>),
    Names(Names<'a>),
}

impl Change<'_> {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match *self {
            Self::Write { at, data } => put(bytes, at, data),
            Self::Resize { length } => bytes.resize(length as usize, 0),
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let (from, to) = (at as usize, at as usize + data.len());
    if bytes.len() < to {
        bytes.resize(to, 0);
    }
    bytes[from..to].copy_from_slice(data);
}

impl<'a> File<'a> {
    fn crashed(&self, luck: Luck, random: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for (_, change) in &self.changes {
            let fate: f64 = random.random();
            if fate < luck.kept {
                change.apply(&mut bytes);
            } else if fate >= luck.kept + luck.dropped
                && let Change::Write { at, data } = *change
            {
                tear(&mut bytes, at, data, random);
            }
        }
        if random.random_bool(0.25) && bytes.len() < self.cached.len() {
            bytes.resize(self.cached.len(), 0);
        }
        bytes
    }

    /// What lies in the range becomes durable; what does not goes on waiting.
    fn settle_range(&mut self, began: usize, (from, to): (u64, u64)) {
        let mut waiting = Vec::with_capacity(self.changes.len());
        for (made, change) in self.changes.drain(..) {
            let Change::Write { at, data } = change else {
                waiting.push((made, change));
                continue;
            };
            let end = at + data.len() as u64;
            if made >= began || end <= from || to <= at {
                waiting.push((made, change));
                continue;
            }
            let inside = (from.max(at) - at) as usize..(to.min(end) - at) as usize;
            put(&mut self.durable, at + inside.start as u64, &data[inside.clone()]);
            if inside.start > 0 {
                waiting.push((made, Change::Write { at, data: &data[..inside.start] }));
            }
            if inside.end < data.len() {
                let rest = Change::Write { at: at + inside.end as u64, data: &data[inside.end..] };
                waiting.push((made, rest));
            }
        }
        self.changes = waiting;
    }
}

/// Writes some sectors of a write: the first ones, or any.
fn tear(bytes: &mut Vec<u8>, at: u64, data: &[u8], random: &mut ChaCha8Rng) {
    let sectors = (at % SECTOR + data.len() as u64).div_ceil(SECTOR);
    let first = random.random_bool(0.5).then(|| random.random_range(0..=sectors));
    let mut from = 0;
    for sector in 0..sectors {
        let to = ((sector + 1) * SECTOR - at % SECTOR).min(data.len() as u64);
        let kept = first.map_or_else(|| random.random_bool(0.5), |first| sector < first);
        if kept {
            put(bytes, at + from, &data[from as usize..to as usize]);
        }
        from = to;
    }
}

impl<'a> Directory<'a> {
    fn crashed(&self, luck: Luck, random: &mut ChaCha8Rng) -> Names<'a> {
        let mut names = self.durable.clone();
        if random.random_bool(0.5) {
            let survive = random.random_range(0..=self.changes.len());
            for (_, change) in &self.changes[..survive] {
                change.apply(&mut names);
            }
        } else {
            for (_, change) in &self.changes {
                if random.random_bool(1.0 - luck.dropped) && change.makes_sense(&names) {
                    change.apply(&mut names);
                }
            }
        }
        names
    }
}

impl<'a> NameChange<'a> {
    fn apply(&self, names: &mut Names<'a>) {
        match *self {
            Self::Add { name, node } => {
                names.insert(name, node);
            }
            Self::Remove { name, .. } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to, node);
            }
        }
    }

    fn makes_sense(&self, names: &Names<'a>) -> bool {
        match self {
            Self::Add { name, .. } => !names.contains_key(name),
            Self::Remove { name, node } => names.get(name) == Some(node),
            Self::Rename { from, node, .. } => names.get(from) == Some(node),
        }
    }
}

/// Writes an image into an empty directory. Directories are closed to others, as ours are.
pub(crate) fn write_image(image: &Image, to: &Path) {
    for (path, bytes) in image {
        let path = to.join(OsStr::from_bytes(path));
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
            }
        }
    }
}

/// Reads a directory.
pub(crate) fn read_image(from: &Path) -> Image {
    let mut image = Image::new();
    let mut ahead = vec![from.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(from).unwrap().as_os_str().as_bytes().to_vec();
            if path.is_dir() {
                image.insert(below, None);
                ahead.push(path);
            } else {
                image.insert(below, Some(fs::read(path).unwrap()));
            }
        }
    }
    image
}
