//! Whatever arrives is answered: no request makes a parser panic, and every complaint leads to a
//! field that exists.
//!
//! The requests are made from the descriptors, so a new RPC is tested from its first day, and a
//! tape of random choices decides what is in them.

use crate::{
    DESCRIPTORS,
    convert::{self, Rejected},
    v1,
};
use phasegate_engine::id::ReleaseId;
use proptest::{collection, prelude::*};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use std::fmt::Debug;

/// Choices to be made; zeros once it has run out, which stand for the plainest one.
struct Tape<'a>(std::slice::Iter<'a, u16>);

impl Tape<'_> {
    fn choose(&mut self, count: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or_default()) % count
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.choose(choices.len())].clone()
    }
}

fn any_text(tape: &mut Tape<'_>) -> String {
    const TEXTS: &[&str] = &[
        "",
        "a",
        "b",
        "A",
        "-",
        "*",
        "é",
        "\0",
        " ",
        "a,b",
        "flags/a",
        "pipelines/a",
        "releases/a",
        "releases/-",
        "flags/",
        "prod",
        "MON",
        "SUN",
        "00:00",
        "24:00",
        "99:99",
        "Europe/Rome",
        "UTC",
        "1.5",
        "1e400",
        "NaN",
        "a.b",
        "a\\b",
        "$a",
        "__proto__",
        "1.2.3",
        "r1",
        "description",
        "feature_gate",
        "phases",
        "\u{10ffff}",
    ];
    match tape.choose(10) {
        0 => "x".repeat(tape.one_of(&[63, 64, 65, 128, 129, 256, 257, 1024, 1025])),
        1 => "é".repeat(tape.one_of(&[32, 64, 128, 1024, 1025])),
        _ => tape.one_of(TEXTS).to_owned(),
    }
}

fn any_value(kind: &Kind, tape: &mut Tape<'_>, depth: usize) -> Value {
    match kind {
        Kind::Message(message) => Value::Message(any_message(message, tape, depth + 1)),
        Kind::Enum(_) => {
            Value::EnumNumber(tape.one_of(&[0, 1, 2, 3, 4, 99, -1, i32::MAX, i32::MIN]))
        }
        Kind::Double => Value::F64(tape.one_of(&[
            0.0,
            -0.0,
            1.5,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN_POSITIVE,
        ])),
        Kind::Int32 => Value::I32(tape.one_of(&[
            0,
            1,
            -1,
            999_999_999,
            1_000_000_000,
            -999_999_999,
            i32::MAX,
            i32::MIN,
        ])),
        Kind::Int64 => Value::I64(tape.one_of(&[
            0,
            1,
            -1,
            60,
            7_776_000,
            7_776_001,
            253_402_300_799,
            253_402_300_800,
            i64::MAX,
            i64::MIN,
        ])),
        Kind::Uint32 => Value::U32(tape.one_of(&[0, 1, 20, 21, 10_000, 10_001, u32::MAX])),
        Kind::Bool => Value::Bool(tape.choose(2) == 1),
        Kind::String => Value::String(any_text(tape)),
        Kind::Float
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bytes => {
            panic!("no request has a field of the type {kind:?} yet; make up a value for it here")
        }
    }
}

fn any_field(field: &FieldDescriptor, tape: &mut Tape<'_>, depth: usize) -> Value {
    let kind = field.kind();
    if field.is_map() {
        let Kind::Message(entry) = kind else { panic!("a map has entries") };
        let value = entry.map_entry_value_field().kind();
        let entries = 0..tape.one_of(&[1, 2, 3, 65]);
        let entry = |_| (MapKey::String(any_text(tape)), any_value(&value, tape, depth));
        Value::Map(entries.map(entry).collect())
    } else if field.is_list() {
        let items = 0..tape.one_of(&[1, 1, 2, 2, 3, 33, 101]);
        Value::List(items.map(|_| any_value(&kind, tape, depth)).collect())
    } else {
        any_value(&kind, tape, depth)
    }
}

fn any_message(
    descriptor: &MessageDescriptor,
    tape: &mut Tape<'_>,
    depth: usize,
) -> DynamicMessage {
    // Deeper than any limit, and than the recursion of the decoder.
    const DEPTH_MAX: usize = 60;
    let mut message = DynamicMessage::new(descriptor.clone());
    if depth < DEPTH_MAX {
        for field in descriptor.fields() {
            if tape.choose(4) > 0 {
                let value = any_field(&field, tape, depth);
                message.set_field(&field, value);
            }
        }
    }
    message
}

/// Has a parser read a message: `Some` with why it was refused, if it was; none if it does not even
/// decode.
fn parse<R: Message + Default, T: Debug>(
    bytes: &[u8],
    parse: fn(R) -> Result<T, Rejected>,
) -> Option<Result<(), Rejected>> {
    let request = R::decode(bytes).ok()?;
    Some(parse(request).map(drop))
}

/// The parser of each RPC; names alone are read by the RPCs that only get something.
fn parse_as(rpc: &str, bytes: &[u8]) -> Option<Result<(), Rejected>> {
    match rpc {
        "CreateFlag" => parse(bytes, convert::create_flag),
        "UpdateFlag" => parse(bytes, convert::update_flag),
        "DeleteFlag" => parse(bytes, convert::delete_flag),
        "SetKillSwitch" => parse(bytes, convert::set_kill_switch),
        "EvaluateFlag" => parse(bytes, convert::evaluate_flag),
        "ListFlags" => parse(bytes, convert::list_flags),
        "GetFlag" => parse(bytes, |get: v1::GetFlagRequest| convert::flag_name("name", &get.name)),
        "CreatePipeline" => parse(bytes, convert::create_pipeline),
        "UpdatePipeline" => parse(bytes, convert::update_pipeline),
        "DeletePipeline" => parse(bytes, convert::delete_pipeline),
        "ListPipelines" => parse(bytes, convert::list_pipelines),
        "GetPipeline" => {
            parse(bytes, |get: v1::GetPipelineRequest| convert::pipeline_name("name", &get.name))
        }
        "TriggerRelease" => parse(bytes, |request| {
            convert::trigger_release(request, ReleaseId::parse("fresh").unwrap())
        }),
        "ApprovePhase" => parse(bytes, convert::approve_phase),
        "RejectPhase" => parse(bytes, convert::reject_phase),
        "PauseRelease" => parse(bytes, convert::pause_release),
        "UnpauseRelease" => parse(bytes, convert::unpause_release),
        "SkipPhase" => parse(bytes, convert::skip_phase),
        "OverrideWindow" => parse(bytes, convert::override_window),
        "AdjustBake" => parse(bytes, convert::adjust_bake),
        "AbortRelease" => parse(bytes, convert::abort_release),
        "FullRollout" => parse(bytes, convert::full_rollout),
        "ReportGuardSignal" => parse(bytes, convert::report_guard_signal),
        "WaitRelease" => parse(bytes, convert::wait_release),
        "WatchRelease" => parse(bytes, convert::watch_release),
        "WatchReleases" => parse(bytes, convert::watch_releases),
        "ListReleases" => parse(bytes, convert::list_releases),
        "ListReleaseEvents" => parse(bytes, convert::list_release_events),
        "GetRelease" => {
            parse(bytes, |get: v1::GetReleaseRequest| convert::release_name("name", &get.name))
        }
        "ListAuditEntries" => parse(bytes, convert::list_audit_entries),
        "WatchAuditEntries" => parse(bytes, convert::watch_audit_entries),
        "ListDeadLetters" => parse(bytes, convert::list_dead_letters),
        "ReplayDeadLetters" => parse(bytes, convert::replay_dead_letters),
        "SendTestNotification" => parse(bytes, convert::send_test_notification),
        // There is nothing in them.
        "GetAuditHead" => parse(bytes, |_: v1::GetAuditHeadRequest| Ok(())),
        "ExportStore" => parse(bytes, |_: v1::ExportStoreRequest| Ok(())),
        "GetIdentity" => parse(bytes, |_: v1::GetIdentityRequest| Ok(())),
        "ListSinks" => parse(bytes, |_: v1::ListSinksRequest| Ok(())),
        other => panic!("the RPC {other} is new: name its parser here"),
    }
}

/// Asserts that a path leads to a field of the message, through indexes and keys in brackets.
fn assert_leads_somewhere(path: &str, request: &MessageDescriptor) {
    let (mut rest, mut at) = (path, Some(request.clone()));
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let message = at.unwrap_or_else(|| panic!("{path} goes on behind a scalar"));
        let name = &rest[..end];
        let field = message.get_field_by_name(name);
        let field =
            field.unwrap_or_else(|| panic!("{path}: {} has no {name}", message.full_name()));
        let kind = field.kind();
        at = kind.as_message().cloned();
        rest = &rest[end..];
        if at.as_ref().is_some_and(|next| next.full_name() == "google.protobuf.Struct")
            || field.is_map()
        {
            // From here on the path leads through the caller's own keys.
            assert!(rest.is_empty() || rest.starts_with("[\""), "{path}");
            return;
        }
        if let Some(index) = rest.strip_prefix('[') {
            assert!(field.is_list(), "{path}: {name} is no list");
            let (index, behind) = index.split_once(']').unwrap();
            assert!(index.parse::<usize>().is_ok(), "{path}");
            rest = behind;
        }
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None => {
                assert_eq!(rest, "", "{path}");
                return;
            }
        }
    }
}

proptest! {
    #[test]
    fn every_request_is_taken_or_refused_with_fields_that_exist(
        tape in collection::vec(any::<u16>(), 0..600),
    ) {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let services = pool.services().filter(|service| service.package_name() == "phasegate.v1");
        for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let message = any_message(&method.input(), &mut Tape(tape.iter()), 0);
            let Some(Err(rejected)) = parse_as(method.name(), &message.encode_to_vec()) else {
                continue;
            };
            if let Rejected::Invalid(violations) = rejected {
                prop_assert!(!violations.is_empty(), "{}: refused for nothing", method.name());
                for violation in violations {
                    prop_assert!(!violation.description.is_empty());
                    assert_leads_somewhere(&violation.field, &method.input());
                }
            }
        }
    }

    #[test]
    fn bytes_that_happen_to_decode_are_taken_or_refused_too(
        bytes in collection::vec(any::<u8>(), 0..200),
    ) {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let services = pool.services().filter(|service| service.package_name() == "phasegate.v1");
        for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let _ = parse_as(method.name(), &bytes);
        }
    }
}
