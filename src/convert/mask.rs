//! Update masks: which fields of a resource a call replaces.

use super::fields::Fields;

/// Which fields an update replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// No mask was sent: the fields that are set.
    WhatIsSet,
    /// These.
    Fields(Vec<String>),
    /// `*`: all that can be.
    All,
}

impl Mask {
    /// The value of a field, if the update replaces it.
    pub(super) fn pick<T: Default + PartialEq>(&self, field: &str, value: T) -> Option<T> {
        let replaced = match self {
            Self::WhatIsSet => value != T::default(),
            Self::Fields(_) => self.names(field),
            Self::All => true,
        };
        replaced.then_some(value)
    }

    /// True if the mask has the name of the field itself.
    pub(super) fn names(&self, field: &str) -> bool {
        match self {
            Self::Fields(fields) => fields.iter().any(|named| named == field),
            Self::WhatIsSet | Self::All => false,
        }
    }
}

impl Fields {
    /// `update_mask`, each path of which must be one of `known`.
    pub(super) fn mask(&mut self, mask: Option<prost_types::FieldMask>, known: &[&str]) -> Mask {
        let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
            return Mask::WhatIsSet;
        };
        if mask.paths == ["*"] {
            return Mask::All;
        }
        for (index, path) in mask.paths.iter().enumerate() {
            if !known.contains(&path.as_str()) {
                self.at(&format!("update_mask.paths[{index}]"), |fields| {
                    fields.complain(format!("must be one of {}, or * alone", known.join(", ")));
                });
            }
        }
        Mask::Fields(mask.paths)
    }
}
