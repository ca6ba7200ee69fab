//! What millions of flags and releases have in common, kept in memory once.

use phasegate_engine::{
    flag::{Flag, KillSwitch, Rules, Spec},
    id::{FlagId, PipelineId, Principal},
    release::Proposal,
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Shared {
    // Only ever asked for an id, so its order does not matter.
    flags: HashSet<FlagId>,
    /// Few pipelines have very many flags.
    pipelines: BTreeSet<PipelineId>,
    /// Few people trigger very many releases.
    creators: BTreeSet<Principal>,
    /// The gates without a rule: off, and on.
    plain: [Arc<Spec>; 2],
}

impl Default for Shared {
    fn default() -> Self {
        let plain = |default| Arc::new(Spec::Gate(Rules { rules: Vec::new(), default }));
        Self {
            flags: HashSet::new(),
            pipelines: BTreeSet::new(),
            creators: BTreeSet::new(),
            plain: [false, true].map(plain),
        }
    }
}

impl Shared {
    /// Lets a flag share what it can.
    pub(super) fn flag(&mut self, flag: &mut Flag) {
        share_if_empty(&mut flag.description);
        match &mut flag.kill_switch {
            KillSwitch::Lifted { reason } | KillSwitch::Engaged { reason } => {
                share_if_empty(reason);
            }
        }
        self.spec(&mut flag.spec);
        if let Some(pipeline) = &mut flag.pipeline {
            share(&mut self.pipelines, pipeline);
        }
        self.flags.insert(flag.id.clone());
    }

    /// Lets a release share what it can with others, and with the flags that came before it.
    pub(super) fn proposal(&mut self, proposal: &mut Proposal) {
        if let Some(flag) = self.flags.get(&proposal.flag) {
            proposal.flag = flag.clone();
        }
        share(&mut self.creators, &mut proposal.creator);
        share_if_empty(&mut proposal.description);
        self.spec(&mut proposal.change);
    }

    fn spec(&self, spec: &mut Arc<Spec>) {
        if let Some(same) = self.plain.iter().find(|plain| *plain == spec) {
            *spec = Arc::clone(same);
        }
    }
}

fn share<T: Ord + Clone>(known: &mut BTreeSet<T>, one: &mut T) {
    match known.get(one) {
        Some(same) => *one = same.clone(),
        None => drop(known.insert(one.clone())),
    }
}

/// A text without a letter takes memory too, but for one that all can share.
fn share_if_empty(text: &mut Arc<str>) {
    if text.is_empty() {
        *text = Arc::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phasegate_engine::{id::Revision, time::Timestamp};
    use std::collections::BTreeMap;

    fn flag(id: &str, reason: &str, default: bool) -> Flag {
        Flag {
            id: id.parse().unwrap(),
            description: String::new().into(),
            spec: Arc::new(Spec::Gate(Rules { rules: Vec::new(), default })),
            pipeline: Some("standard".parse().unwrap()),
            labels: BTreeMap::new(),
            kill_switch: KillSwitch::Lifted { reason: reason.into() },
            labels_revision: Revision::ZERO,
            spec_revision: Revision::new(1),
            revision: Revision::new(1),
            update_time: Timestamp::EPOCH,
        }
    }

    #[test]
    fn what_is_equal_is_kept_once_and_nothing_else_becomes_equal() {
        let before = [flag("a", "", true), flag("b", "", true), flag("c", "works again", false)];
        let mut shared = Shared::default();
        let after = before.clone().map(|mut flag| {
            shared.flag(&mut flag);
            flag
        });
        assert_eq!(after, before);
        let [a, b, c] = after;
        assert!(Arc::ptr_eq(&a.spec, &b.spec) && !Arc::ptr_eq(&a.spec, &c.spec));
        assert!(Arc::ptr_eq(&a.description, &c.description));
        assert!(Arc::ptr_eq(a.kill_switch.reason(), b.kill_switch.reason()));
        let text = |flag: &Flag| flag.pipeline.as_ref().unwrap().as_str().as_ptr();
        assert_eq!(text(&a), text(&c));
    }
}
