//! JSON values, as dynamic configs answer them and contexts carry them.

use crate::stored;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The keys and values of a JSON object.
pub type Object = BTreeMap<Arc<str>, Value>;

/// A JSON value. Numbers are doubles and finite: that is checked where they enter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(#[serde(deserialize_with = "stored::finite")] f64),
    /// A string.
    String(Arc<str>),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Object),
}
