//! Who is meant: rules over an evaluation context, and shares of traffic.
//!
//! The types stand here; [`evaluate`] answers for a context, [`explain`] tells how that came about.

mod bucket;
mod condition;
mod evaluate;
mod explain;

pub use bucket::{Bucketing, Salt, TOTAL, bucket, hash, share_of};
pub use condition::{Literal, NOT_AN_ATTRIBUTE_NAME, is_attribute_name};
pub(crate) use condition::{UNIT_NUMBER_LIMIT, VERSION_BYTES_MAX};
pub use evaluate::{Answer, Context, Exposure, Why, evaluate, exposure};
pub use explain::{Considered, Explanation, Outcome, Source, explain};

use crate::{
    id::{EnvironmentId, RuleId},
    stored,
};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;

/// The attribute that buckets a context unless a rule says otherwise.
pub const TARGETING_KEY: &str = "targetingKey";

/// A share of traffic, in basis points: 10000 is everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BasisPoints(#[serde(deserialize_with = "share")] u16);

impl BasisPoints {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// Everyone.
    pub const ALL: Self = Self(10_000);

    /// From 0 to 10000; anything else is `None`.
    pub fn new(points: u32) -> Option<Self> {
        u16::try_from(points).ok().filter(|p| *p <= Self::ALL.0).map(Self)
    }

    /// The number, 0 to 10000.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let valid = |points: &u16| *points <= BasisPoints::ALL.0;
    stored::checked(deserializer, valid, "a share above everyone")
}

/// A set of contexts: in one of the environments, and all conditions hold, and inside the share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetingRule {
    /// Unique in its list.
    pub id: RuleId,
    /// Empty: every environment.
    pub environments: Vec<EnvironmentId>,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// Share of the contexts that are left.
    pub share: BasisPoints,
    /// The attribute whose hash decides about the share: a text that is not empty, or a whole
    /// number below 10^15 in size. Anything else counts as missing.
    pub bucket_by: Arc<str>,
}

/// One test of one attribute of the context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Top-level key of the context, see [`is_attribute_name`].
    pub attribute: Arc<str>,
    /// What it is held against.
    pub test: Test,
}

/// How an attribute is compared. Arrays, objects and null count as missing, and so does an attribute
/// whose name is none, see [`is_attribute_name`]. A missing attribute passes `NotIn` and `NotExists`
/// and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Test {
    /// Equal to one of these: a string to the same text, a number or a boolean to a value that
    /// reads as it, see [`Literal`].
    In(Vec<Arc<str>>),
    /// The opposite of `In`.
    NotIn(Vec<Arc<str>>),
    /// A text of which one of these is a prefix; anything but a text fails.
    StartsWith(Vec<Arc<str>>),
    /// A text of which one of these is a suffix; anything but a text fails.
    EndsWith(Vec<Arc<str>>),
    /// A text of which one of these is a part; anything but a text fails.
    Contains(Vec<Arc<str>>),
    /// The attribute is there.
    Exists,
    /// The attribute is not there.
    NotExists,
    /// A number below this one; anything but a number fails.
    Less(Number),
    /// A number not below this one.
    GreaterOrEqual(Number),
    /// A text of at most 250 bytes that is a SemVer 2.0.0 version below this one; anything else
    /// fails.
    SemverLess(semver::Version),
    /// The same, and not below this one.
    SemverGreaterOrEqual(semver::Version),
}

/// A finite decimal number, with the text it was written as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Number {
    text: Arc<str>,
    value: f64,
}

/// A [`Number`] as it is stored.
#[derive(Deserialize)]
struct Written {
    text: Arc<str>,
    value: f64,
}

impl TryFrom<Written> for Number {
    type Error = &'static str;

    fn try_from(Written { text, value }: Written) -> Result<Self, Self::Error> {
        let number = Self::parse(&text).filter(|number| number.value == value);
        number.ok_or("a number that is not what its text says")
    }
}

impl Number {
    /// A decimal number with an optional sign, fraction and exponent. `None` for anything else,
    /// and for what is no finite double.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        let value = text.parse::<f64>().ok().filter(|v| plain && v.is_finite())?;
        Some(Self { text: text.into(), value })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As a double.
    pub fn value(&self) -> f64 {
        self.value
    }
}
