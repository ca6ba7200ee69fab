//! Targeting rules.

use super::fields::Fields;
use crate::v1;
use phasegate_engine::{
    id::{EnvironmentId, RuleId},
    targeting::{
        BasisPoints, Condition, NOT_AN_ATTRIBUTE_NAME, Number, TARGETING_KEY, TargetingRule, Test,
        is_attribute_name,
    },
};
use std::sync::Arc;
use v1::ConditionOperator as Operator;

/// The most environments of a rule or a pipeline, and the most conditions of a rule.
pub(super) const SMALL_LIST_MAX: usize = 32;
/// The most values of a condition.
const VALUES_MAX: usize = 1000;
/// The most bytes of a value of a condition.
const VALUE_BYTES_MAX: usize = 256;
/// The most characters of an attribute.
const ATTRIBUTE_MAX: usize = 64;

impl Fields {
    /// A rule, at the place where the parser is.
    pub(super) fn rule(&mut self, rule: v1::TargetingRule) -> Option<TargetingRule> {
        let id = self.id("id", &rule.id, RuleId::parse);
        let environments = self.environments("environments", rule.environments);
        let conditions =
            self.list("conditions", rule.conditions, 0..=SMALL_LIST_MAX, Self::condition);
        let share = match rule.rollout_basis_points {
            None => Some(BasisPoints::ALL),
            Some(points) => BasisPoints::new(points).or_else(|| {
                self.at("rollout_basis_points", |fields| fields.refuse("must be 0 to 10000"))
            }),
        };
        let bucket_by = if rule.bucket_by.is_empty() {
            Some(Arc::from(TARGETING_KEY))
        } else {
            self.at("bucket_by", |fields| fields.attribute_here(rule.bucket_by))
        };
        Some(TargetingRule {
            id: id?,
            environments: environments?,
            conditions: conditions?,
            share: share?,
            bucket_by: bucket_by?,
        })
    }

    /// A list of distinct environments.
    pub(super) fn environments(
        &mut self,
        field: &str,
        environments: Vec<String>,
    ) -> Option<Vec<EnvironmentId>> {
        self.distinct(field, "", environments.iter().map(|environment| &**environment));
        self.list(field, environments, 0..=SMALL_LIST_MAX, |fields, id| {
            fields.id_here(&id, EnvironmentId::parse)
        })
    }

    fn condition(&mut self, condition: v1::Condition) -> Option<Condition> {
        let attribute = if condition.attribute.is_empty() {
            self.at("attribute", |fields| fields.refuse("is required"))
        } else {
            self.at("attribute", |fields| fields.attribute_here(condition.attribute))
        };
        let values = self.list("values", condition.values, 0..=VALUES_MAX, |fields, value| {
            if value.len() > VALUE_BYTES_MAX {
                return fields.refuse(format!("must have at most {VALUE_BYTES_MAX} bytes"));
            }
            Some(Arc::<str>::from(value))
        });
        let test = match Operator::try_from(condition.operator) {
            Ok(Operator::Unspecified) | Err(_) => self.unknown("operator", condition.operator),
            Ok(Operator::In) => self.some(values).map(Test::In),
            Ok(Operator::NotIn) => self.some(values).map(Test::NotIn),
            Ok(Operator::StartsWith) => self.some(values).map(Test::StartsWith),
            Ok(Operator::EndsWith) => self.some(values).map(Test::EndsWith),
            Ok(Operator::Contains) => self.some(values).map(Test::Contains),
            Ok(Operator::Exists) => self.none(values).map(|()| Test::Exists),
            Ok(Operator::NotExists) => self.none(values).map(|()| Test::NotExists),
            Ok(Operator::Less) => self.number(values).map(Test::Less),
            Ok(Operator::GreaterOrEqual) => self.number(values).map(Test::GreaterOrEqual),
            Ok(Operator::SemverLess) => self.version(values).map(Test::SemverLess),
            Ok(Operator::SemverGreaterOrEqual) => {
                self.version(values).map(Test::SemverGreaterOrEqual)
            }
        };
        Some(Condition { attribute: attribute?, test: test? })
    }

    /// The name of an attribute, not empty, that is being parsed.
    fn attribute_here(&mut self, name: String) -> Option<Arc<str>> {
        if !is_attribute_name(&name) {
            return self.refuse(NOT_AN_ATTRIBUTE_NAME);
        }
        self.text_here(name, ATTRIBUTE_MAX)
    }

    fn some(&mut self, values: Option<Vec<Arc<str>>>) -> Option<Vec<Arc<str>>> {
        let values = values?;
        if values.is_empty() {
            return self.at("values", |fields| fields.refuse("must have at least 1"));
        }
        Some(values)
    }

    fn none(&mut self, values: Option<Vec<Arc<str>>>) -> Option<()> {
        if !values?.is_empty() {
            return self.at("values", |fields| fields.refuse("must be empty for this operator"));
        }
        Some(())
    }

    fn number(&mut self, values: Option<Vec<Arc<str>>>) -> Option<Number> {
        let number = match values?.as_slice() {
            [only] => Number::parse(only),
            [] | [_, _, ..] => None,
        };
        number.or_else(|| self.at("values", |f| f.refuse("must be one decimal number")))
    }

    fn version(&mut self, values: Option<Vec<Arc<str>>>) -> Option<semver::Version> {
        let version = match values?.as_slice() {
            [only] => semver::Version::parse(only).ok(),
            [] | [_, _, ..] => None,
        };
        version.or_else(|| self.at("values", |f| f.refuse("must be one SemVer 2.0.0 version")))
    }
}

/// A rule as the wire has it.
pub(super) fn rule_to_wire(rule: &TargetingRule) -> v1::TargetingRule {
    let share = rule.share;
    v1::TargetingRule {
        id: rule.id.to_string(),
        environments: rule.environments.iter().map(ToString::to_string).collect(),
        conditions: rule.conditions.iter().map(condition_to_wire).collect(),
        rollout_basis_points: (share != BasisPoints::ALL).then(|| share.get()),
        bucket_by: if &*rule.bucket_by == TARGETING_KEY {
            String::new()
        } else {
            rule.bucket_by.to_string()
        },
    }
}

fn condition_to_wire(condition: &Condition) -> v1::Condition {
    let texts = |values: &[Arc<str>]| values.iter().map(ToString::to_string).collect();
    let (operator, values): (_, Vec<String>) = match &condition.test {
        Test::In(values) => (Operator::In, texts(values)),
        Test::NotIn(values) => (Operator::NotIn, texts(values)),
        Test::StartsWith(values) => (Operator::StartsWith, texts(values)),
        Test::EndsWith(values) => (Operator::EndsWith, texts(values)),
        Test::Contains(values) => (Operator::Contains, texts(values)),
        Test::Exists => (Operator::Exists, Vec::new()),
        Test::NotExists => (Operator::NotExists, Vec::new()),
        Test::Less(number) => (Operator::Less, vec![number.text().to_owned()]),
        Test::GreaterOrEqual(number) => (Operator::GreaterOrEqual, vec![number.text().to_owned()]),
        Test::SemverLess(version) => (Operator::SemverLess, vec![version.to_string()]),
        Test::SemverGreaterOrEqual(version) => {
            (Operator::SemverGreaterOrEqual, vec![version.to_string()])
        }
    };
    v1::Condition { attribute: condition.attribute.to_string(), operator: operator.into(), values }
}
