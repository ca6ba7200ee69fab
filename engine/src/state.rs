//! The state: the fold of all commits. Clones share everything.

use crate::{
    flag::Flag,
    id::{FlagId, PipelineId, ReleaseId, Revision},
    pipeline::Pipeline,
    release::{Proposal, Release, ReleaseState},
    time::Timestamp,
};
use imbl::{OrdMap, OrdSet};
use std::{cmp::Reverse, collections::BTreeSet, iter, ops::Bound, sync::Arc};

/// Which releases are looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among<'a> {
    /// All there ever were.
    All,
    /// Those that are not over.
    Unfinished,
    /// All of these flags.
    OfFlags(&'a [FlagId]),
    /// Those of these flags that are not over.
    UnfinishedOf(&'a [FlagId]),
}

/// All flags, pipelines and releases as of one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    revision: Revision,
    time: Timestamp,
    flags: OrdMap<FlagId, Arc<Flag>>,
    pipelines: OrdMap<PipelineId, Arc<Pipeline>>,
    releases: OrdMap<ReleaseId, Arc<Release>>,
    /// How many releases are in which state.
    counts: [usize; ReleaseState::COUNT],
    /// Releases by creation.
    by_creation: OrdMap<Revision, ReleaseId>,
    /// Releases that are not over, by creation.
    unfinished_by_creation: OrdSet<Revision>,
    /// Creations of all releases of a flag.
    of_flag: OrdSet<(FlagId, Revision)>,
    /// Releases of a flag that are not over, by creation.
    unfinished: OrdSet<(FlagId, Revision)>,
    /// Flags that a pipeline is attached to.
    attached: OrdMap<PipelineId, OrdSet<FlagId>>,
    /// Releases along a pipeline that are not over.
    along: OrdMap<PipelineId, OrdSet<ReleaseId>>,
    /// Flags that were given other labels since they were created, by the commit that did it last.
    relabelled: OrdSet<(Revision, FlagId)>,
}

/// A part of the work of [`State::restore_in_halves`].
pub type Half<'a> = &'a mut (dyn FnMut() + Send);

impl Default for State {
    /// The empty state, before the first commit.
    fn default() -> Self {
        Self::at(Revision::ZERO, Timestamp::EPOCH)
    }
}

impl State {
    fn at(revision: Revision, time: Timestamp) -> Self {
        Self {
            revision,
            time,
            flags: OrdMap::new(),
            pipelines: OrdMap::new(),
            releases: OrdMap::new(),
            counts: [0; ReleaseState::COUNT],
            by_creation: OrdMap::new(),
            unfinished_by_creation: OrdSet::new(),
            of_flag: OrdSet::new(),
            unfinished: OrdSet::new(),
            attached: OrdMap::new(),
            along: OrdMap::new(),
            relabelled: OrdSet::new(),
        }
    }

    /// What a store holds, made into a state again.
    pub fn restore(
        revision: Revision,
        time: Timestamp,
        flags: impl IntoIterator<Item = Arc<Flag>>,
        pipelines: impl IntoIterator<Item = Arc<Pipeline>>,
        releases: impl IntoIterator<Item = Arc<Release>>,
    ) -> Self {
        let flags = flags.into_iter().collect();
        let releases = releases.into_iter().collect();
        Self::restore_in_halves(revision, time, flags, pipelines, releases, |one, other| {
            one();
            other();
        })
    }

    /// The same of very much: the two halves of the work know nothing of each other, and whoever has a
    /// second thread may do both at once.
    pub fn restore_in_halves(
        revision: Revision,
        time: Timestamp,
        flags: Vec<Arc<Flag>>,
        pipelines: impl IntoIterator<Item = Arc<Pipeline>>,
        releases: Vec<Arc<Release>>,
        do_both: impl FnOnce(Half<'_>, Half<'_>),
    ) -> Self {
        let mut named = Self::at(revision, time);
        let mut grouped = Self::at(revision, time);
        do_both(
            &mut || {
                every_second_first(&flags).for_each(|flag| named.store_flag(Arc::clone(flag)));
                every_second_first(&releases).for_each(|release| named.restore_name(release));
            },
            &mut || {
                every_second_first(&releases).for_each(|release| grouped.restore_group(release))
            },
        );
        let Self { of_flag, unfinished, along, .. } = grouped;
        let mut state = Self { of_flag, unfinished, along, ..named };
        for pipeline in pipelines {
            state.store_pipeline(pipeline);
        }
        state
    }

    fn restore_name(&mut self, release: &Arc<Release>) {
        let (id, created) = (release.id(), release.proposal.created);
        self.counts[release.state() as usize] += 1;
        self.releases.insert(id.clone(), Arc::clone(release));
        self.by_creation.insert(created, id.clone());
        if !release.is_over() {
            self.unfinished_by_creation.insert(created);
        }
    }

    fn restore_group(&mut self, release: &Release) {
        let proposal = &release.proposal;
        self.of_flag.insert((proposal.flag.clone(), proposal.created));
        if !release.is_over() {
            self.add_to_groups(proposal);
        }
    }

    /// Revision of the last commit.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Time of the last commit.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// One flag.
    pub fn flag(&self, id: &FlagId) -> Option<&Arc<Flag>> {
        self.flags.get(id)
    }

    /// All flags, by id.
    pub fn flags(&self) -> impl DoubleEndedIterator<Item = &Arc<Flag>> {
        self.flags.values()
    }

    /// The flags after an id, by id; all without one.
    pub fn flags_after(&self, id: Option<&FlagId>) -> impl Iterator<Item = &Arc<Flag>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.flags.range::<_, FlagId>((from, Bound::Unbounded)).map(|(_, flag)| flag)
    }

    /// One pipeline.
    pub fn pipeline(&self, id: &PipelineId) -> Option<&Arc<Pipeline>> {
        self.pipelines.get(id)
    }

    /// All pipelines, by id.
    pub fn pipelines(&self) -> impl DoubleEndedIterator<Item = &Arc<Pipeline>> {
        self.pipelines.values()
    }

    /// The pipelines after an id, by id; all without one.
    pub fn pipelines_after(&self, id: Option<&PipelineId>) -> impl Iterator<Item = &Arc<Pipeline>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.pipelines.range::<_, PipelineId>((from, Bound::Unbounded)).map(|(_, p)| p)
    }

    /// One release.
    pub fn release(&self, id: &ReleaseId) -> Option<&Arc<Release>> {
        self.releases.get(id)
    }

    /// The release that a commit created.
    pub fn release_created(&self, created: Revision) -> Option<&Arc<Release>> {
        self.releases.get(self.by_creation.get(&created)?)
    }

    /// All releases, by id.
    pub fn releases(&self) -> impl DoubleEndedIterator<Item = &Arc<Release>> {
        self.releases.values()
    }

    /// How many releases are in a state.
    pub fn count(&self, state: ReleaseState) -> usize {
        self.counts[state as usize]
    }

    /// Releases by creation, newest first, that were created before a revision; without one from the
    /// newest on. No other release than these is looked at.
    pub fn releases_before<'a>(
        &'a self,
        among: Among<'a>,
        created: Option<Revision>,
    ) -> Box<dyn Iterator<Item = &'a Arc<Release>> + Send + 'a> {
        let range = (Bound::Unbounded, created.map_or(Bound::Unbounded, Bound::Excluded));
        let find = move |id| self.releases.get(id);
        match among {
            Among::All => {
                Box::new(self.by_creation.range(range).rev().filter_map(move |(_, id)| find(id)))
            }
            Among::Unfinished => {
                let newest = self.unfinished_by_creation.range(range).rev();
                Box::new(newest.filter_map(|created| self.release_created(*created)))
            }
            Among::OfFlags(flags) => {
                let of_flag = move |flag| self.creations(flag, created).rev();
                let newest = newest_first(distinct(flags).into_iter().map(of_flag));
                Box::new(newest.filter_map(|created| self.release_created(created)))
            }
            Among::UnfinishedOf(flags) => {
                let mut releases: Vec<_> = distinct(flags)
                    .into_iter()
                    .flat_map(|flag| self.unfinished(flag))
                    .filter(|release| created.is_none_or(|to| release.proposal.created < to))
                    .collect();
                releases.sort_unstable_by_key(|release| Reverse(release.proposal.created));
                Box::new(releases.into_iter())
            }
        }
    }

    /// When the releases of a flag were created, before a revision.
    fn creations(
        &self,
        flag: &FlagId,
        before: Option<Revision>,
    ) -> impl DoubleEndedIterator<Item = Revision> {
        let from = Bound::Included((flag.clone(), Revision::ZERO));
        let to = (flag.clone(), before.unwrap_or(Revision::LAST));
        // No revision is the greatest there can be.
        self.of_flag.range((from, Bound::Excluded(to))).map(|(_, created)| *created)
    }

    /// Releases of a flag that are not over, oldest first.
    pub fn unfinished(&self, flag: &FlagId) -> impl Iterator<Item = &Arc<Release>> {
        let range = (flag.clone(), Revision::ZERO)..=(flag.clone(), Revision::LAST);
        let unfinished = self.unfinished.range(range);
        unfinished.filter_map(|(_, created)| self.release_created(*created))
    }

    /// All releases that are not over, by flag.
    pub fn all_unfinished(&self) -> impl Iterator<Item = &Arc<Release>> {
        self.unfinished.iter().filter_map(|(_, created)| self.release_created(*created))
    }

    /// The release of a flag that is active now.
    pub fn active_release(&self, flag: &FlagId) -> Option<&Arc<Release>> {
        self.unfinished(flag).find(|release| release.is_active())
    }

    /// The first flag that a pipeline is attached to.
    pub fn flag_attached_to(&self, pipeline: &PipelineId) -> Option<&FlagId> {
        self.attached.get(pipeline).and_then(OrdSet::get_min)
    }

    /// The first release along a pipeline that is not over.
    pub fn release_along(&self, pipeline: &PipelineId) -> Option<&ReleaseId> {
        self.along.get(pipeline).and_then(OrdSet::get_min)
    }

    /// The last commit that gave a flag which there still is other labels than it had; zero if none
    /// did.
    pub fn relabelled(&self) -> Revision {
        self.relabelled.get_max().map_or(Revision::ZERO, |(revision, _)| *revision)
    }

    /// The same state with only some of its flags, and only the releases whose flag `keep` wants. The
    /// flag of a release may be gone.
    #[must_use]
    pub fn only(&self, keep: impl Fn(Option<&Flag>) -> bool) -> Self {
        let flags = self.flags().filter(|flag| keep(Some(flag))).cloned();
        let wanted =
            |release: &&Arc<Release>| keep(self.flag(&release.proposal.flag).map(|f| &**f));
        let releases = self.releases().filter(wanted).cloned();
        Self::restore(self.revision, self.time, flags, self.pipelines().cloned(), releases)
    }

    pub(crate) fn advance_to(&mut self, revision: Revision, time: Timestamp) {
        self.revision = revision;
        self.time = time;
    }

    pub(crate) fn store_flag(&mut self, flag: Arc<Flag>) {
        self.detach(&flag.id);
        if let Some(pipeline) = &flag.pipeline {
            self.attached.entry(pipeline.clone()).or_default().insert(flag.id.clone());
        }
        if flag.labels_revision != Revision::ZERO {
            self.relabelled.insert((flag.labels_revision, flag.id.clone()));
        }
        self.flags.insert(flag.id.clone(), flag);
    }

    pub(crate) fn remove_flag(&mut self, id: &FlagId) {
        self.detach(id);
        self.flags.remove(id);
    }

    fn detach(&mut self, id: &FlagId) {
        let Some(flag) = self.flags.get(id).map(Arc::clone) else { return };
        if let Some(pipeline) = &flag.pipeline {
            remove_from_set(&mut self.attached, pipeline, id);
        }
        self.relabelled.remove(&(flag.labels_revision, id.clone()));
    }

    pub(crate) fn store_pipeline(&mut self, pipeline: Arc<Pipeline>) {
        self.pipelines.insert(pipeline.id.clone(), pipeline);
    }

    pub(crate) fn remove_pipeline(&mut self, id: &PipelineId) {
        self.pipelines.remove(id);
    }

    pub(crate) fn store_release(&mut self, release: Arc<Release>) {
        let proposal = Arc::clone(&release.proposal);
        let is_over = release.is_over();
        self.counts[release.state() as usize] += 1;
        let before = self.releases.insert(proposal.id.clone(), release);
        if let Some(before) = &before {
            self.counts[before.state() as usize] -= 1;
        } else {
            self.by_creation.insert(proposal.created, proposal.id.clone());
            self.of_flag.insert((proposal.flag.clone(), proposal.created));
        }
        // Most commits change neither; to store what is there already would copy half a page each time.
        let was_over = before.is_none_or(|before| before.is_over());
        match (was_over, is_over) {
            (true, false) => self.add_unfinished(&proposal),
            (false, true) => self.remove_unfinished(&proposal),
            (true, true) | (false, false) => {}
        }
    }

    fn add_unfinished(&mut self, proposal: &Proposal) {
        self.unfinished_by_creation.insert(proposal.created);
        self.add_to_groups(proposal);
    }

    fn add_to_groups(&mut self, proposal: &Proposal) {
        self.unfinished.insert((proposal.flag.clone(), proposal.created));
        let along = self.along.entry(proposal.pipeline.id.clone()).or_default();
        along.insert(proposal.id.clone());
    }

    fn remove_unfinished(&mut self, proposal: &Proposal) {
        self.unfinished_by_creation.remove(&proposal.created);
        self.unfinished.remove(&(proposal.flag.clone(), proposal.created));
        remove_from_set(&mut self.along, &proposal.pipeline.id, &proposal.id);
    }
}

/// The same in another order. What a tree is given in order leaves it with pages that are half empty; the
/// other half then fills them, so that it takes half of the memory.
fn every_second_first<T>(items: &[T]) -> impl Iterator<Item = &T> {
    items.iter().step_by(2).chain(items.iter().skip(1).step_by(2))
}

/// Each of them once.
fn distinct(flags: &[FlagId]) -> BTreeSet<&FlagId> {
    flags.iter().collect()
}

/// What falls in each of these, falling as a whole. They have nothing in common, and are few.
fn newest_first<I: Iterator<Item = Revision>>(
    lists: impl IntoIterator<Item = I>,
) -> impl Iterator<Item = Revision> {
    let mut lists: Vec<_> = lists.into_iter().map(Iterator::peekable).collect();
    iter::from_fn(move || {
        let heads = lists.iter_mut().enumerate().map(|(place, list)| (list.peek().copied(), place));
        let (_, newest) = heads.max()?;
        lists[newest].next()
    })
}

fn remove_from_set<K: Ord + Clone, V: Ord + Clone>(
    sets: &mut OrdMap<K, OrdSet<V>>,
    key: &K,
    value: &V,
) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}
