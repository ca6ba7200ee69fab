//! JsonLogic with flagd's operators, in the two forms that its providers have: what the older
//! generation hashes, with versions read as leniently as any of them does, and what the newer
//! generation hashes, with versions read strictly and ordered by build metadata too.

use datalogic_rs::{
    ArenaExt, CustomOperator, DataValue, Engine, bumpalo::Bump, operator::EvalContext,
};
use phasegate_engine::targeting::{Bucketing, hash, share_of};

pub(crate) fn engine(bucketing: Bucketing) -> Engine {
    Engine::builder()
        .add_operator("fractional", Fractional(bucketing))
        .add_operator("sem_ver", SemVer(bucketing))
        .add_operator("starts_with", Compare(|text, part| text.starts_with(part)))
        .add_operator("ends_with", Compare(|text, part| text.ends_with(part)))
        .build()
}

type Answer<'a> = datalogic_rs::Result<&'a DataValue<'a>>;

struct Fractional(Bucketing);

impl CustomOperator for Fractional {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        _: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Answer<'a> {
        let [unit, sides @ ..] = args else { return Ok(arena.null()) };
        let unit = unit.as_str().expect("what is compiled here hashes texts only");
        let sides: Vec<_> = sides
            .iter()
            .map(|side| {
                let side = side.as_array().unwrap();
                (&side[0], side[1].as_f64().unwrap() as u32)
            })
            .collect();
        let total = sides.iter().map(|(_, weight)| weight).sum();
        let bucket = share_of(hash(self.0, unit), total);
        let mut end = 0;
        for (name, weight) in sides {
            end += weight;
            if bucket < end {
                return Ok(name);
            }
        }
        Ok(arena.null())
    }
}

struct Compare(fn(&str, &str) -> bool);

impl CustomOperator for Compare {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        _: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Answer<'a> {
        Ok(match (args[0].as_str(), args[1].as_str()) {
            (Some(text), Some(part)) => arena.bool(self.0(text, part)),
            _ => arena.null(),
        })
    }
}

struct SemVer(Bucketing);

impl CustomOperator for SemVer {
    fn evaluate<'a>(
        &self,
        args: &[&'a DataValue<'a>],
        _: &mut EvalContext<'_, 'a>,
        arena: &'a Bump,
    ) -> Answer<'a> {
        let parse = |value: &DataValue<'_>| match self.0 {
            Bucketing::V2 => lenient(value.as_str()?),
            Bucketing::V3 => semver::Version::parse(value.as_str()?).ok(),
        };
        let (Some(left), Some(right)) = (parse(args[0]), parse(args[2])) else {
            return Ok(arena.null());
        };
        Ok(arena.bool(match args[1].as_str().unwrap() {
            "<" => left < right,
            ">=" => left >= right,
            "~" => left.major == right.major && left.minor == right.minor,
            other => panic!("{other} is not compiled"),
        }))
    }
}

/// Space around, a `v` in front, and fewer than three numbers.
fn lenient(text: &str) -> Option<semver::Version> {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let missing = 2_usize.saturating_sub(numbers.matches('.').count());
    let whole = format!("{numbers}{}{rest}", ".0".repeat(missing));
    let mut version = semver::Version::parse(&whole).ok()?;
    version.build = semver::BuildMetadata::EMPTY;
    Some(version)
}
