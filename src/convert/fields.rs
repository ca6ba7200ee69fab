//! The collector of violations: it knows where in the request the parser is, so that every complaint
//! carries the path of its field.

use phasegate_engine::{
    command::Expected,
    id::{InvalidId, RequestId, Revision},
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A field that breaks a rule of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request, such as `release.feature_gate.rules[3].targeting.id`.
    pub field: String,
    /// What is wrong with it, to be read after the path.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.description)
    }
}

/// Why a request was not even asked of the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// INVALID_FIELD: all violations, in the order of the fields.
    #[error("{}", first_of(.0))]
    Invalid(Vec<Violation>),
    /// REASON_REQUIRED.
    #[error("a reason is required here: say why in `reason`")]
    ReasonRequired,
    /// INVALID_PAGE_TOKEN.
    #[error("page_token is not one of this listing; begin again without it")]
    InvalidPageToken,
}

fn first_of(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is invalid".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// The most characters of a free text.
pub(super) const TEXT_MAX: usize = 1024;
/// The most characters of a `request_id`.
const REQUEST_ID_MAX: usize = 64;
/// Violations that are kept: more help nobody.
const VIOLATIONS_MAX: usize = 200;
/// The most characters of a caller's key in a path.
const SHOWN_KEY_MAX: usize = 64;

/// Violations so far, and the path of where the parser is.
#[derive(Debug, Default)]
pub(super) struct Fields {
    path: String,
    violations: Vec<Violation>,
}

impl Fields {
    /// What was parsed, if nothing was wrong with it.
    pub(super) fn finish<T>(self, parsed: Option<T>) -> Result<T, Rejected> {
        match parsed {
            Some(parsed) if self.violations.is_empty() => Ok(parsed),
            Some(_) | None => Err(Rejected::Invalid(self.violations)),
        }
    }

    /// As [`Self::finish`], for a request whose reason is required.
    pub(super) fn finish_with_reason<T>(
        self,
        reason: Option<&Arc<str>>,
        parsed: Option<T>,
    ) -> Result<T, Rejected> {
        let missing = reason.is_some_and(|reason| reason.trim().is_empty());
        let parsed = self.finish(parsed)?;
        if missing { Err(Rejected::ReasonRequired) } else { Ok(parsed) }
    }

    /// Parses a field.
    pub(super) fn at<R>(&mut self, field: &str, parse: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        if length > 0 && !field.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(field);
        let result = parse(self);
        self.path.truncate(length);
        result
    }

    /// Parses an item of the list that is being parsed.
    pub(super) fn at_index<R>(&mut self, index: usize, parse: impl FnOnce(&mut Self) -> R) -> R {
        self.at(&format!("[{index}]"), parse)
    }

    /// Parses what is under a key of the map that is being parsed. Keys are the caller's, so only
    /// the beginning of a long one is shown.
    pub(super) fn at_key<R>(&mut self, key: &str, parse: impl FnOnce(&mut Self) -> R) -> R {
        let shown: String = key.chars().take(SHOWN_KEY_MAX).collect();
        self.at(&format!("[{shown:?}]"), parse)
    }

    /// Complains about the field that is being parsed.
    pub(super) fn complain(&mut self, description: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let violation = Violation { field: self.path.clone(), description: description.into() };
            self.violations.push(violation);
        }
    }

    /// Complains, and has nothing.
    pub(super) fn refuse<T>(&mut self, description: impl Into<String>) -> Option<T> {
        self.complain(description);
        None
    }

    /// An enum's value that is not one of those to choose from.
    pub(super) fn unknown<T>(&mut self, field: &str, number: i32) -> Option<T> {
        self.at(field, |fields| fields.unknown_here(number))
    }

    /// As [`Self::unknown`], where the parser is.
    pub(super) fn unknown_here<T>(&mut self, number: i32) -> Option<T> {
        match number {
            0 => self.refuse("is required"),
            _ => self.refuse(format!("has no value of the number {number}")),
        }
    }

    /// A field that has to be there.
    pub(super) fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.at(field, |fields| fields.complain("is required"));
        }
        value
    }

    /// An id.
    pub(super) fn id<T>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidId>,
    ) -> Option<T> {
        self.at(field, |fields| fields.id_here(text, parse))
    }

    /// The id that is being parsed.
    pub(super) fn id_here<T>(
        &mut self,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidId>,
    ) -> Option<T> {
        if text.is_empty() {
            return self.refuse("is required");
        }
        parse(text).map_err(|error| self.complain(error.to_string())).ok()
    }

    /// The name of a resource: a collection, a slash, an id.
    pub(super) fn name<T>(
        &mut self,
        field: &str,
        collection: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidId>,
    ) -> Option<T> {
        self.at(field, |fields| fields.name_here(collection, text, parse))
    }

    /// The name that is being parsed.
    pub(super) fn name_here<T>(
        &mut self,
        collection: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidId>,
    ) -> Option<T> {
        if text.is_empty() {
            return self.refuse("is required");
        }
        let id = text.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/'));
        let Some(id) = id else {
            return self.refuse(format!("must be {collection}/ and an id"));
        };
        match parse(id) {
            Ok(id) => Some(id),
            Err(InvalidId { pattern }) => {
                self.refuse(format!("must be {collection}/ and an id that matches {pattern}"))
            }
        }
    }

    /// A free text, at most so many characters.
    pub(super) fn text(&mut self, field: &str, text: String, most: usize) -> Option<Arc<str>> {
        self.at(field, |fields| fields.text_here(text, most))
    }

    /// The free text that is being parsed, at most so many characters.
    pub(super) fn text_here(&mut self, text: String, most: usize) -> Option<Arc<str>> {
        if text.chars().nth(most).is_some() {
            return self.refuse(format!("must have at most {most} characters"));
        }
        Some(text.into())
    }

    /// A list of at least and at most so many items.
    pub(super) fn list<T, U>(
        &mut self,
        field: &str,
        items: Vec<T>,
        size: std::ops::RangeInclusive<usize>,
        mut parse: impl FnMut(&mut Self, T) -> Option<U>,
    ) -> Option<Vec<U>> {
        let (least, most, count) = (*size.start(), *size.end(), items.len());
        self.at(field, |fields| {
            if count < least {
                return fields.refuse(format!("must have at least {least}"));
            }
            if count > most {
                return fields.refuse(format!("must have at most {most}, and has {count}"));
            }
            let mut parsed = Some(Vec::with_capacity(count));
            for (index, item) in items.into_iter().enumerate() {
                let item = fields.at_index(index, |fields| parse(fields, item));
                parsed = both(parsed, item, Vec::push);
            }
            parsed
        })
    }

    /// Complains about every item of a list whose key an earlier one has. `suffix` leads from the
    /// item to its key; an empty key is somebody else's complaint.
    pub(super) fn distinct<'a>(
        &mut self,
        field: &str,
        suffix: &str,
        keys: impl Iterator<Item = &'a str>,
    ) {
        let mut first = BTreeMap::new();
        for (index, key) in keys.enumerate().filter(|(_, key)| !key.is_empty()) {
            if let Some(earlier) = first.get(key) {
                self.at(&format!("{field}[{index}]{suffix}"), |fields| {
                    fields.complain(format!("must be unique, and is that of {field}[{earlier}]"));
                });
            } else {
                first.insert(key, index);
            }
        }
    }

    /// `request_id`: none if empty.
    pub(super) fn request_id(&mut self, text: String) -> Option<Option<RequestId>> {
        let text = self.text("request_id", text, REQUEST_ID_MAX)?;
        Some((!text.is_empty()).then(|| RequestId::new(text)))
    }

    /// `reason`, required or not.
    pub(super) fn reason(&mut self, text: String) -> Option<Arc<str>> {
        self.text("reason", text, TEXT_MAX)
    }
}

/// Adds an item to a collection, if neither is wrong.
pub(super) fn both<C, T>(
    collection: Option<C>,
    item: Option<T>,
    add: impl FnOnce(&mut C, T),
) -> Option<C> {
    let (mut collection, item) = (collection?, item?);
    add(&mut collection, item);
    Some(collection)
}

/// An optional part: absent, or parsed, or (outer none) wrong.
pub(super) fn all_or_nothing<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        None => Some(None),
        Some(Some(parsed)) => Some(Some(parsed)),
        Some(None) => None,
    }
}

/// An etag is opaque to callers; to us it is the revision of the resource.
pub fn etag(revision: Revision) -> String {
    format!("r{revision}")
}

/// What an etag expects. One that this server never made is stale, not invalid.
pub(super) fn expected(etag: &str) -> Expected {
    if etag.is_empty() {
        return Expected::Anything;
    }
    let digits = etag.strip_prefix('r').filter(|digits| {
        digits.bytes().all(|b| b.is_ascii_digit()) && (*digits == "0" || !digits.starts_with('0'))
    });
    let revision = digits.and_then(|digits| digits.parse().ok());
    revision.map_or(Expected::Unknown, |number| Expected::Revision(Revision::new(number)))
}

/// A revision on the wire.
pub fn revision_to_wire(revision: Revision) -> i64 {
    // Revisions are below 2^53 by their definition.
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}
