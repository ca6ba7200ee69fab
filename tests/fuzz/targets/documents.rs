//! Documents as people write them, YAML or JSON: read, checked, located, written, read again.
//!
//! Nothing panics, or takes more time and memory than the text is worth. What is wrong is said with its
//! line. What is read is written as a document that reads as the same.

use phasegate_api::{
    convert::{self, Rejected},
    v1,
};
use phasegate_document::{self as document, Document, Error, Resource};
use phasegate_engine::id::ReleaseId;
use prost::Message as _;

/// So much may become of a text through anchors and aliases, and so much more of each byte.
const BYTES_MAX: usize = 1 << 20;
const BYTES_PER_BYTE_MAX: usize = 64;

/// The target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let documents = match document::parse("f.yaml", text) {
        Ok(documents) => documents,
        Err(error) => return check_error(text, &error),
    };
    assert!(!documents.is_empty());
    let bytes: usize = documents.iter().map(|document| size(&document.resource)).sum();
    let most = BYTES_MAX + BYTES_PER_BYTE_MAX * text.len();
    assert!(bytes <= most, "{} bytes of text became {bytes}", text.len());
    for document in &documents {
        check_round_trip(document);
        check_places(text, document);
    }
}

fn size(resource: &Resource) -> usize {
    match resource {
        Resource::Flag(flag) => flag.encoded_len(),
        Resource::Pipeline(pipeline) => pipeline.encoded_len(),
        Resource::Release(release) => release.encoded_len(),
    }
}

/// An error names a line that is there.
fn check_error(text: &str, error: &Error) {
    let said = error.to_string();
    match error {
        Error::Empty(_) => {}
        Error::Wrong { place, message, .. } => {
            let place = place.unwrap_or_else(|| panic!("no place: {said}"));
            assert!(said.starts_with(&format!("f.yaml:{place}: ")), "{said}");
            assert!(is_in(text, place.line), "{said}");
            assert!(place.column >= 1, "{said}");
            assert!(!message.is_empty(), "{said}");
        }
        Error::Read { .. } | Error::EmptyDirectory(_) => panic!("nothing was to be opened: {said}"),
    }
}

/// Whether a text has this line; what is missing at its end may be on the line after the last.
fn is_in(text: &str, line: u64) -> bool {
    let breaks = text.matches(['\n', '\r']).count() as u64;
    (1..=breaks + 2).contains(&line)
}

fn check_round_trip(document: &Document) {
    let written = document.resource.to_yaml();
    let read = document::parse("again.yaml", &written);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{written}\n{:?}", document.resource));
    let [read] = &read[..] else { panic!("{} documents:\n{written}", read.len()) };
    assert_eq!(read.resource, document.resource, "{written}");
}

/// What the server says of a document is found in it.
fn check_places(text: &str, document: &Document) {
    let rejected = match document.resource.clone() {
        Resource::Flag(flag) => {
            let flag_id = id(&flag.name);
            let flag = Some(flag);
            convert::create_flag(v1::CreateFlagRequest { flag_id, flag, ..Default::default() })
        }
        Resource::Pipeline(pipeline) => {
            let pipeline_id = id(&pipeline.name);
            let pipeline = Some(pipeline);
            let request = v1::CreatePipelineRequest { pipeline_id, pipeline, ..Default::default() };
            convert::create_pipeline(request)
        }
        Resource::Release(release) => {
            let (release_id, release) = (id(&release.name), Some(*release));
            let request = v1::TriggerReleaseRequest { release_id, release, ..Default::default() };
            convert::trigger_release(request, ReleaseId::parse("fresh").expect("an id"))
        }
    };
    let Err(Rejected::Invalid(violations)) = rejected else { return };
    for convert::Violation { field, description } in violations {
        let said = document.locate(&field, &description);
        let line = said.strip_prefix("f.yaml:").and_then(|rest| rest.split(':').next());
        let line = line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        assert!(is_in(text, line), "{said}");
    }
}

fn id(name: &str) -> String {
    name.split_once('/').map_or(name, |(_, id)| id).to_owned()
}

/// The examples, and texts that are hard to read.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let texts: [(&str, &str); 14] = [
        ("quick-flag", include_str!("../../../examples/quick/flag.yaml")),
        ("quick-pipeline", include_str!("../../../examples/quick/pipeline.yaml")),
        ("quick-release", include_str!("../../../examples/quick/release.yaml")),
        ("week-flag", include_str!("../../../examples/week/flag.yaml")),
        ("week-pipeline", include_str!("../../../examples/week/pipeline.yaml")),
        ("week-release", include_str!("../../../examples/week/release.yaml")),
        (
            "json",
            r#"{"kind": "Flag", "name": "flags/f", "dynamicConfig": {"defaultValue": {"a": [1e308, -0, "\u00e9\ud83d\ude00", null, {}]}}}"#,
        ),
        (
            "texts",
            "kind: Release\nlabels:\n  a: 'it''s'\n  b: \"\\x41\\u2028\\t\\0\"\n  c: |+\n    x\n\n  d: >-\n    x\n    y\n  'null': 'true'\n  ~: '012'\n",
        ),
        (
            "aliases",
            "kind: Flag\ndynamicConfig:\n  defaultValue:\n    a: &a [x, x, x]\n    b: &b [*a, *a, *a]\n    c: &c [*b, *b, *b]\n    d: [*c, *c, *c]\n",
        ),
        (
            "deep",
            "kind: Flag\ndynamicConfig: {defaultValue: {a: [[[[[[[[{b: {c: [[[]]]}}]]]]]]]]}}\n",
        ),
        (
            "numbers",
            "kind: Pipeline\nphases:\n  - rules: [{rolloutBasisPoints: 0x10}, {rolloutBasisPoints: 1e3}, {rolloutBasisPoints: 4294967296}]\n    bakeDuration: 1.000000001s\n",
        ),
        ("merge", "base: &base {name: flags/f}\nkind: Flag\n<<: *base\ndescription: !!str 3\n"),
        (
            "several",
            "%YAML 1.2\n--- # one\nkind: Flag\n...\n---\n---\nkind: Pipeline\n? name\n: pipelines/p\n",
        ),
        (
            "odd",
            "\u{feff}kind: Flag\r\nname: \"flags/\u{85}\u{a0}\u{202e}\u{fffd}\"\rdescription: 'é̂ 👩‍👩‍👧'\n",
        ),
    ];
    let seed = |(name, text): (&str, &str)| (name.to_owned(), text.as_bytes().to_vec());
    texts.into_iter().map(seed).collect()
}
