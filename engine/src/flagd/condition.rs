//! Rules as JsonLogic that every implementation answers alike.
//!
//! They differ in most of what is not plain: what equals what, what is compared as what, which text
//! a value has, and what is an error. What is used here, and why:
//!
//! - `starts_with` with the empty text holds for texts and for nothing else. flagd defines it, so
//!   everyone has the same one.
//! - `in` with a list tells texts, numbers and booleans apart, except that to some `1` is `true`.
//! - The text of a number begins with a digit or a minus sign, and that of null, a boolean or an
//!   object does not. That of a list may, so lists are told by `merge`, which takes them apart.
//! - Numbers are compared with nothing before they are known to be numbers: with anything else, that
//!   is an error for some.
//! - `cat` of one argument is an error for some if that is null, so it always has two.
//! - `and` and `or` stop early, so what stands behind a guard is not met. In Go they do not, and
//!   nothing else does. There the answer is the same for texts and for what is missing, and to that
//!   end some attributes here have a default; another kind of attribute may be an error.

use super::logic::Logic;
use crate::{
    id::EnvironmentId,
    targeting::{
        BasisPoints, Condition, Literal, Salt, TOTAL, TargetingRule, Test, UNIT_NUMBER_LIMIT,
        VERSION_BYTES_MAX, is_attribute_name,
    },
};
use std::sync::Arc;

/// Something that holds for every context, for none, or for those that the logic tells.
#[derive(Clone, Debug)]
pub(super) enum Truth<'a> {
    Never,
    Always,
    If(Logic<'a>),
}

impl<'a> Truth<'a> {
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut open = Vec::new();
        for part in parts {
            match part {
                Self::Never => return Self::Never,
                Self::Always => {}
                Self::If(logic) => open.push(logic),
            }
        }
        if open.is_empty() { Self::Always } else { Self::If(Logic::all(open)) }
    }

    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut open = Vec::new();
        for part in parts {
            match part {
                Self::Never => {}
                Self::Always => return Self::Always,
                Self::If(logic) => open.push(logic),
            }
        }
        if open.is_empty() { Self::Never } else { Self::If(Logic::any(open)) }
    }
}

/// Whom a rule covers in an environment.
pub(super) fn rule_in<'a>(
    rule: &'a TargetingRule,
    environment: &EnvironmentId,
    salt: Salt<'_>,
) -> Truth<'a> {
    if rule.environments.is_empty() || rule.environments.contains(environment) {
        Truth::all(parts(rule, salt))
    } else {
        Truth::Never
    }
}

/// What a rule asks of a context, its environments left aside.
pub(super) fn parts<'a>(
    rule: &'a TargetingRule,
    salt: Salt<'_>,
) -> impl Iterator<Item = Truth<'a>> {
    // The share comes first if it is nobody, so that nothing else is looked at.
    let nobody = (rule.share == BasisPoints::NONE).then_some(Truth::Never);
    let conditions = rule.conditions.iter().map(condition);
    nobody.into_iter().chain(conditions).chain([share(rule, salt)])
}

fn condition(condition: &Condition) -> Truth<'_> {
    let name = &*condition.attribute;
    if !is_attribute_name(name) {
        // As for an attribute that is missing.
        return match &condition.test {
            Test::NotIn(_) | Test::NotExists => Truth::Always,
            Test::In(_)
            | Test::StartsWith(_)
            | Test::EndsWith(_)
            | Test::Contains(_)
            | Test::Exists
            | Test::Less(_)
            | Test::GreaterOrEqual(_)
            | Test::SemverLess(_)
            | Test::SemverGreaterOrEqual(_) => Truth::Never,
        };
    }
    let compare = |operator, limit| {
        let limit = Logic::Number(limit);
        let comparison = Logic::call(operator, [Logic::Attribute(name), limit]);
        Truth::If(Logic::all([is_number(name), comparison]))
    };
    match &condition.test {
        Test::In(values) => is_one_of(name, values),
        Test::NotIn(values) => match is_one_of(name, values) {
            Truth::Never => Truth::Always,
            Truth::Always => Truth::Never,
            Truth::If(logic) => Truth::If(logic.not()),
        },
        Test::StartsWith(values) => some_text(values, |value| {
            Logic::call("starts_with", [Logic::Attribute(name), Logic::text(value)])
        }),
        Test::EndsWith(values) => some_text(values, |value| {
            Logic::call("ends_with", [Logic::Attribute(name), Logic::text(value)])
        }),
        Test::Contains(values) => contains(name, values),
        Test::Exists => Truth::If(exists(name)),
        Test::NotExists => Truth::If(exists(name).not()),
        Test::Less(limit) => compare("<", limit.value()),
        Test::GreaterOrEqual(limit) => compare(">=", limit.value()),
        Test::SemverLess(limit) => Truth::If(semver(name, "<", limit)),
        Test::SemverGreaterOrEqual(limit) => Truth::If(semver(name, ">=", limit)),
    }
}

fn some_text<'a>(values: &'a [Arc<str>], test: impl Fn(&'a str) -> Logic<'a>) -> Truth<'a> {
    if values.is_empty() {
        return Truth::Never;
    }
    Truth::If(Logic::any(values.iter().map(|value| test(value))))
}

fn contains<'a>(name: &'a str, values: &'a [Arc<str>]) -> Truth<'a> {
    // Every text contains the empty one, but not every implementation finds it in itself.
    if values.iter().any(|value| value.is_empty()) {
        return Truth::If(is_text(name));
    }
    let found =
        |value: &'a Arc<str>| Logic::call("in", [Logic::text(&**value), Logic::Attribute(name)]);
    let found = Truth::any(values.iter().map(found).map(Truth::If));
    Truth::all([Truth::If(is_text(name)), found])
}

/// Equal to a text in its text, or to a number or a boolean that it reads as.
fn is_one_of<'a>(name: &'a str, values: &'a [Arc<str>]) -> Truth<'a> {
    let mut plain = Vec::new();
    let mut bits = Vec::new();
    let mut truths = Vec::new();
    for value in values {
        plain.push(Logic::text(&**value));
        match Literal::read(value) {
            Some(Literal::Number(number)) if number == 0.0 || number == 1.0 => {
                bits.push(Logic::Number(number));
            }
            Some(Literal::Number(number)) => plain.push(Logic::Number(number)),
            Some(Literal::Bool(truth)) => truths.push(Logic::Bool(truth)),
            None => {}
        }
    }
    let listed = |list: Vec<Logic<'a>>| {
        if list.is_empty() {
            return Truth::Never;
        }
        Truth::If(Logic::call("in", [Logic::Attribute(name), Logic::List(list)]))
    };
    Truth::any([
        listed(plain),
        Truth::all([listed(bits), Truth::If(looks_like_a_number(name))]),
        Truth::all([listed(truths), Truth::If(looks_like_a_number(name).not())]),
    ])
}

/// A text, a number or a boolean.
fn exists(name: &str) -> Logic<'_> {
    let truths = Logic::List(vec![Logic::Bool(true), Logic::Bool(false)]);
    Logic::any([
        is_text(name),
        Logic::call("in", [Logic::Attribute(name), truths]),
        Logic::all([looks_like_a_number(name), is_no_list(name)]),
    ])
}

fn is_text(name: &str) -> Logic<'_> {
    Logic::call("starts_with", [Logic::Attribute(name), Logic::text("")])
}

fn is_number(name: &str) -> Logic<'_> {
    Logic::all([looks_like_a_number(name), is_text(name).not(), is_no_list(name)])
}

/// True for numbers, and for some texts and lists, and for nothing else.
fn looks_like_a_number(name: &str) -> Logic<'_> {
    // The second text keeps the first character from being none, which is in every text.
    let text = Logic::call("cat", [Logic::Attribute(name), Logic::text("x")]);
    begins_with_one_of(text, "-0123456789")
}

/// A list is taken apart, and what is taken apart does not have itself as a part.
fn is_no_list(name: &str) -> Logic<'_> {
    let parts = Logic::call("merge", [Logic::Attribute(name)]);
    Logic::call("in", [Logic::Attribute(name), parts])
}

fn begins_with_one_of<'a>(text: Logic<'a>, characters: &'static str) -> Logic<'a> {
    let first = Logic::call("substr", [text, Logic::Number(0.0), Logic::Number(1.0)]);
    Logic::call("in", [first, Logic::text(characters)])
}

/// A SemVer 2.0.0 version that stands in this relation to another.
///
/// Some implementations of `sem_ver` accept more: a `v` in front, space around, and versions of one
/// or two numbers. The first two end with a digit put in front and a pre-release put behind. The
/// third is told by what a digit before the last character changes: the third number, or a
/// pre-release, if there are three numbers, and one of the first two if there are not. Where some
/// read `1.2-rc` as a version, its missing number can only be found out by one number too many.
fn semver<'a>(name: &'a str, relation: &'static str, limit: &semver::Version) -> Logic<'a> {
    // Some order by build metadata too.
    let limit = semver::Version { build: semver::BuildMetadata::EMPTY, ..limit.clone() };
    let attribute = || Logic::Attribute(name);
    let substr = |text: Logic<'a>, from: f64, length: f64| {
        Logic::call("substr", [text, Logic::Number(from), Logic::Number(length)])
    };
    // The schema of targeting wants a variable or a plain version here. This is a variable that is
    // not there, with a default.
    let computed = |parts: Vec<Logic<'a>>| {
        Logic::call("var", [Logic::text("$flagd.none"), Logic::Call("cat", parts)])
    };
    let sem_ver = |left: Logic<'a>, relation: &'static str, right: Logic<'a>| {
        Logic::call("sem_ver", [left, Logic::text(relation), right])
    };
    let lowest = || Logic::text("0.0.0-0");
    let has = |part: &'static str| Logic::call("in", [Logic::text(part), attribute()]);

    let framed = computed(vec![Logic::text("1"), attribute(), Logic::text("-a")]);
    let last = Logic::call("substr", [attribute(), Logic::Number(-1.0)]);
    let but_last = substr(Logic::attribute_or(name, Logic::text("0")), 0.0, -1.0);
    let longer = computed(vec![but_last, Logic::text("1"), last]);
    let one_more = computed(vec![Logic::text("0."), attribute()]);
    Logic::all([
        is_text(name),
        begins_with_one_of(Logic::call("cat", [attribute(), Logic::text("x")]), "0123456789"),
        Logic::call("===", [substr(attribute(), 0.0, VERSION_BYTES_MAX as f64), attribute()]),
        sem_ver(framed, ">=", lowest()),
        sem_ver(attribute(), relation, Logic::text(limit.to_string())),
        Logic::call(
            "if",
            [
                Logic::any([has("-"), has("+")]),
                sem_ver(one_more, ">=", lowest()).not(),
                sem_ver(longer, "~", attribute()),
            ],
        ),
    ])
}

/// Who is inside the share of a rule.
fn share<'a>(rule: &'a TargetingRule, salt: Salt<'_>) -> Truth<'a> {
    let name = &*rule.bucket_by;
    if rule.share == BasisPoints::ALL {
        return Truth::Always;
    }
    if rule.share == BasisPoints::NONE || !is_attribute_name(name) {
        return Truth::Never;
    }
    let attribute = || Logic::Attribute(name);
    let number = || Logic::attribute_or(name, Logic::Number(0.0));
    let whole =
        Logic::call("===", [Logic::call("%", [number(), Logic::Number(1.0)]), Logic::Number(0.0)]);
    let short = Logic::call(
        "<",
        [Logic::Number(-UNIT_NUMBER_LIMIT), attribute(), Logic::Number(UNIT_NUMBER_LIMIT)],
    );
    let present = Logic::any([
        Logic::all([is_text(name), Logic::call("!==", [attribute(), Logic::text("")])]),
        Logic::all([is_number(name), short, whole]),
    ]);
    // Adding zero gives one text to numbers that some write in two ways, like 3 and 3.0.
    let plain = Logic::call("+", [number(), Logic::Number(0.0)]);
    let unit = Logic::call("if", [is_text(name), attribute(), plain]);
    let hashed = Logic::call("cat", [Logic::text(format!("{salt}:")), unit]);
    let side = |name: &'static str, weight: u32| {
        Logic::List(vec![Logic::text(name), Logic::Number(f64::from(weight))])
    };
    let inside = rule.share.get();
    let drawn =
        Logic::call("fractional", [hashed, side("in", inside), side("out", TOTAL - inside)]);
    Truth::If(Logic::all([present, Logic::call("===", [drawn, Logic::text("in")])]))
}
