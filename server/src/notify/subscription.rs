//! What a sink wants to hear of.

use crate::driver::{Notification, NotificationKind};
use std::{collections::BTreeMap, str::FromStr, sync::Arc};

/// Names of events: one, or all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// This one.
    One(NotificationKind),
    /// All whose name begins so.
    Begin(String),
}

/// Why a text names no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "names no event; write a name such as phasegate.release.held.v1, or the beginning of some with a * \
     at the end"
)]
pub(super) struct NoSuchEvent;

impl FromStr for Events {
    type Err = NoSuchEvent;

    fn from_str(text: &str) -> Result<Self, NoSuchEvent> {
        let Some(beginning) = text.strip_suffix('*') else {
            return NotificationKind::parse(text).map(Self::One).ok_or(NoSuchEvent);
        };
        let begins = |kind: &NotificationKind| kind.name().starts_with(beginning);
        if NotificationKind::ALL.iter().any(begins) {
            Ok(Self::Begin(beginning.to_owned()))
        } else {
            Err(NoSuchEvent)
        }
    }
}

impl Events {
    fn name(&self, kind: NotificationKind) -> bool {
        match self {
            Self::One(wanted) => *wanted == kind,
            Self::Begin(beginning) => kind.name().starts_with(beginning),
        }
    }
}

/// A wish: all of it has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// One of these happened.
    pub(super) events: Vec<Events>,
    /// The release has all these labels.
    pub(super) labels: BTreeMap<Arc<str>, Arc<str>>,
    /// It is about one of these flags; none: about any.
    pub(super) flags: Vec<String>,
    /// It is about one of these pipelines; none: about any.
    pub(super) pipelines: Vec<String>,
}

impl Subscription {
    /// Whether it wants to hear of this.
    pub(super) fn wants(&self, notification: &Notification) -> bool {
        let Notification { kind, flag, pipeline, labels, .. } = notification;
        let among = |ids: &[String], id: Option<&str>| {
            ids.is_empty() || id.is_some_and(|id| ids.iter().any(|wanted| wanted == id))
        };
        self.events.iter().any(|events| events.name(*kind))
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && among(&self.flags, flag.as_ref().map(|flag| flag.as_str()))
            && among(&self.pipelines, pipeline.as_ref().map(|pipeline| pipeline.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::approval_due;

    fn check(change: impl FnOnce(&mut Subscription)) -> bool {
        let mut subscription =
            Subscription { events: vec!["phasegate.*".parse().unwrap()], ..Default::default() };
        change(&mut subscription);
        subscription.wants(&approval_due("r-1"))
    }

    #[test]
    fn a_subscription_wants_what_all_of_it_holds_for() {
        let label = |key: &str, value: &str| BTreeMap::from([(key.into(), value.into())]);
        assert!(check(|_| ()));
        assert!(check(|s| s.labels = label("team", "web")));
        assert!(!check(|s| s.labels = label("team", "shop")));
        assert!(!check(|s| s.labels = label("tier", "web")));
        assert!(check(|s| s.flags = vec!["search".into(), "checkout".into()]));
        assert!(!check(|s| s.flags = vec!["search".into()]));
        assert!(check(|s| s.pipelines = vec!["standard".into()]));
        assert!(!check(|s| s.pipelines = vec!["fast".into()]));
        assert!(!check(|s| s.events.clear()));
        let events = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(check(|s| s.events = events(&["phasegate.release.approval_due.v1"])));
        assert!(check(
            |s| s.events = events(&["phasegate.release.held.v1", "phasegate.release.app*"])
        ));
        assert!(!check(|s| s.events = events(&["phasegate.release.held.v1", "phasegate.flag.*"])));
    }

    #[test]
    fn what_names_no_event_is_refused() {
        for good in ["*", "phasegate.*", "phasegate.release.held.v1", "phasegate.flag.k*"] {
            assert!(good.parse::<Events>().is_ok(), "{good}");
        }
        for bad in ["", "held", "phasegate.release.held", "release.*", "phase*gate", "**"] {
            assert_eq!(bad.parse::<Events>(), Err(NoSuchEvent), "{bad}");
        }
    }
}
