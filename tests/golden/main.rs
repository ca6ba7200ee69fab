//! The wire, number by number: a golden file of every message, enum and service of the contract.
//!
//! A change of it is a change for every client in the field, so it shows up in the review of a file
//! of its own. `UPDATE=1` rewrites the file.

use phasegate_api::DESCRIPTORS;
use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor,
};
use std::{env, fmt::Write as _, fs, path::Path};

#[test]
fn every_wire_number_and_type_is_the_one_on_record() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/wire.txt");
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let now = describe(&pool);
    if env::var("UPDATE").is_ok_and(|update| update == "1") {
        fs::write(&path, &now).unwrap();
    }
    let on_record = fs::read_to_string(&path).unwrap();
    let differences = differences(&on_record, &now);
    assert!(
        differences.is_empty(),
        "the wire is not what {} says; if that is meant, run again with UPDATE=1:\n{differences}",
        path.display()
    );
}

/// The lines of either text that the other does not have in the same block.
fn differences(on_record: &str, now: &str) -> String {
    let (old, new) = (qualified(on_record), qualified(now));
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}\n"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}

/// Each line with the heading of its block, so that lines of different blocks differ.
fn qualified(text: &str) -> Vec<String> {
    let mut heading = "";
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(entry) => lines.push(format!("{heading}: {entry}")),
            None => {
                heading = line;
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

#[test]
fn a_renumbered_field_is_told_apart_from_the_same_line_elsewhere() {
    let old = "message A\n  1 string x\nmessage B\n  1 string x\n";
    let new = "message A\n  1 string x\nmessage B\n  2 string x\n";
    assert_eq!(differences(old, old), "");
    assert_eq!(differences(old, new), "- message B: 1 string x\n+ message B: 2 string x\n");
}

/// Everything that is ours, by full name; fields, values by number, methods by name. Google's own
/// types are on their record.
fn describe(pool: &DescriptorPool) -> String {
    let ours = |name: &str| !name.starts_with("google.");
    let messages = pool.all_messages().filter(|message| !message.is_map_entry());
    let messages = messages.map(|message| (message.full_name().to_owned(), of_message(&message)));
    let enums = pool.all_enums().map(|of| (of.full_name().to_owned(), of_enum(&of)));
    let services = pool.services().map(|of| (of.full_name().to_owned(), of_service(&of)));
    let mut blocks: Vec<_> = messages.chain(enums).chain(services).collect();
    blocks.retain(|(name, _)| ours(name));
    blocks.sort();
    blocks.into_iter().map(|(_, block)| block).collect::<Vec<_>>().join("\n")
}

fn of_message(message: &MessageDescriptor) -> String {
    let mut block = format!("message {}\n", message.full_name());
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    for field in fields {
        line(&mut block, field.number(), &of_field(&field));
    }
    block
}

fn of_field(field: &FieldDescriptor) -> String {
    let kind = kind(field);
    let oneof = field.containing_oneof();
    let presence = match oneof.as_ref() {
        // An optional scalar is a oneof of its own, made up by the compiler.
        Some(oneof) if oneof.is_synthetic() => "optional ".to_owned(),
        Some(oneof) => format!("oneof {} ", oneof.name()),
        None if field.is_list() => "repeated ".to_owned(),
        None => String::new(),
    };
    // The name in JSON follows from the name unless somebody set another one.
    format!("{presence}{kind} {} ({})", field.name(), field.json_name())
}

fn kind(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let key = kind(&entry.map_entry_key_field());
            let value = kind(&entry.map_entry_value_field());
            format!("map<{key}, {value}>")
        }
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        Kind::Double => "double".to_owned(),
        Kind::Float => "float".to_owned(),
        Kind::Int32 => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Uint32 => "uint32".to_owned(),
        Kind::Uint64 => "uint64".to_owned(),
        Kind::Sint32 => "sint32".to_owned(),
        Kind::Sint64 => "sint64".to_owned(),
        Kind::Fixed32 => "fixed32".to_owned(),
        Kind::Fixed64 => "fixed64".to_owned(),
        Kind::Sfixed32 => "sfixed32".to_owned(),
        Kind::Sfixed64 => "sfixed64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::String => "string".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
    }
}

fn of_enum(of: &EnumDescriptor) -> String {
    let mut block = format!("enum {}\n", of.full_name());
    let mut values: Vec<_> = of.values().collect();
    values.sort_by_key(prost_reflect::EnumValueDescriptor::number);
    for value in values {
        line(&mut block, value.number(), value.name());
    }
    block
}

fn of_service(service: &ServiceDescriptor) -> String {
    let mut block = format!("service {}\n", service.full_name());
    let mut methods: Vec<_> = service.methods().collect();
    methods.sort_by(|a, b| a.name().cmp(b.name()));
    for method in methods {
        line(&mut block, "rpc", &of_method(&method));
    }
    block
}

fn of_method(method: &MethodDescriptor) -> String {
    let stream = |streams: bool| if streams { "stream " } else { "" };
    format!(
        "{}({}{}) returns ({}{})",
        method.name(),
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name(),
    )
}

fn line(block: &mut String, number: impl std::fmt::Display, entry: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(block, "  {number} {entry}");
}
