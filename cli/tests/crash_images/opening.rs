//! Opens images with the program, in processes of its own, and says what came of them.

use crate::{
    disk::{Image, Model, write_image},
    server::{Server, export},
    truth::{Export, Truth},
};
use std::{
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
};
use tempfile::TempDir;

/// More than a person looks at.
const FAILURES_SHOWN: usize = 40;

/// An image that is to be opened.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) model: Model,
    /// How many events of the record had happened.
    pub(crate) events: usize,
    /// A revision that was shown after them, by a server that recovered from a crash there.
    pub(crate) shown: u64,
    pub(crate) image: Image,
    /// Why it is known already not to open.
    pub(crate) refused: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It opens, and something is not there, or is not as it was.
    Lost(String),
    /// It does not open.
    Failed(String),
}

/// Where images are written and opened. In memory where that is possible: no power fails while they
/// are open, so nothing depends on what a sync does there.
pub(crate) fn workshop() -> TempDir {
    let made = tempfile::tempdir_in(Path::new("/dev/shm"));
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Whether an image holds a store that was finished, so that something may have been acknowledged.
pub(crate) fn is_ready(image: &Image) -> bool {
    let marker = image.get(b"data/PHASEGATE".as_slice()).and_then(Option::as_ref);
    marker.is_some_and(|text| text.ends_with(b"stage: ready\n"))
}

impl Case {
    /// What a crash left after so many events.
    pub(crate) fn of_crash(model: Model, events: usize, image: Image) -> Self {
        Self { model, events, shown: 0, image, refused: None }
    }

    /// Opens it as a fresh process would, and looks at what is there.
    fn open(&self, truth: &Truth) -> Verdict {
        if let Some(why) = &self.refused {
            return Verdict::Failed(why.clone());
        }
        let directory = workshop();
        write_image(&self.image, directory.path());
        let data = directory.path().join("data");
        if !is_ready(&self.image) {
            // Serving makes a store of it, where looking would not. If anything had been
            // acknowledged, it will be missing.
            let server = Server::start_alone(&data);
            let served = server.address.is_some();
            let end = server.stop();
            if !served || end.panicked() || !end.status.success() {
                return Verdict::Failed(format!("it cannot be served: {end:?}"));
            }
        }
        let (text, end) = export(&data);
        if end.panicked() || !end.status.success() {
            return Verdict::Failed(end.errors);
        }
        match truth.judge(&Export::read(&text), self.events, self.shown) {
            Ok(()) => Verdict::Good,
            Err(why) => Verdict::Lost(why),
        }
    }

    /// Keeps the image for a person, if somebody wants that.
    fn keep(&self) {
        let Some(keep) = env::var_os("KEEP") else { return };
        let name = format!("{:?}-{}", self.model, self.events);
        let directory = PathBuf::from(keep).join(name);
        // Another one may have failed at the same point: one is enough.
        if fs::create_dir_all(&directory).is_ok() && !directory.join("data").exists() {
            write_image(&self.image, &directory);
        }
    }
}

/// How many images came to what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    good: usize,
    lost: usize,
    failed: usize,
}

/// What came of many images.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    models: BTreeMap<Model, Tally>,
    failures: Vec<String>,
}

impl fmt::Display for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (model, Tally { good, lost, failed }) in &self.models {
            let model = format!("{model:?}");
            writeln!(f, "{model:9} {good:5} good {lost:5} lost {failed:5} error")?;
        }
        let mut shown = self.failures.iter().take(FAILURES_SHOWN);
        shown.try_for_each(|failure| writeln!(f, "{}", failure.trim_end()))
    }
}

impl Tallies {
    fn count(&mut self, case: &Case, verdict: Verdict) {
        let tally = self.models.entry(case.model).or_default();
        let why = match verdict {
            Verdict::Good => {
                tally.good += 1;
                return;
            }
            Verdict::Lost(why) => {
                tally.lost += 1;
                why
            }
            Verdict::Failed(why) => {
                tally.failed += 1;
                why
            }
        };
        self.failures.push(format!("{:?} after event {}: {why}", case.model, case.events));
    }

    /// # Panics
    ///
    /// If an image was not good.
    pub(crate) fn assert_good(&self, seed: u64) {
        assert!(self.failures.is_empty(), "{} images failed, SEED={seed}", self.failures.len());
    }
}

/// Opens images, on as many threads as there are processors. Whoever builds them waits while all are
/// busy, so there are never many at a time.
pub(crate) fn open_all(truth: &Truth, build: impl FnOnce(&mpsc::SyncSender<Case>)) -> Tallies {
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let (send, receive) = mpsc::sync_channel::<Case>(workers);
    // Only the workers hold it: if all of them fail, the builder hears of it.
    let (receive, tallies) = (Arc::new(Mutex::new(receive)), Mutex::new(Tallies::default()));
    thread::scope(|scope| {
        for receive in vec![receive; workers] {
            let tallies = &tallies;
            scope.spawn(move || {
                loop {
                    let next = receive.lock().unwrap().recv();
                    // The builder is done.
                    let Ok(case) = next else { break };
                    let verdict = case.open(truth);
                    if verdict != Verdict::Good {
                        case.keep();
                    }
                    tallies.lock().unwrap().count(&case, verdict);
                }
            });
        }
        build(&send);
        drop(send);
    });
    tallies.into_inner().unwrap()
}
