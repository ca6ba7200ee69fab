//! Documents: flags, pipelines and releases as a person writes them, in proto3 JSON form, as YAML or
//! JSON. And contexts, as a person writes those.
//!
//! A document says its `kind` (`Flag`, `Pipeline` or `Release`); everything else is the message of
//! that name. A file may hold several documents. Whatever is wrong, here or later at the server, is
//! said with the file and the line.
//!
//! What is deliberately absent: limits and rules, which are the server's to say.

#![warn(missing_docs)]
#![warn(clippy::unwrap_used)]

pub mod context;
pub mod json;
mod message;
mod tree;

use json::Named;
use phasegate_api::v1;
use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};
use tree::{Node, Value};

pub use tree::Place;

/// What a file may hold at most. The largest flag has 512 KiB; a hundred of them fit.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One document of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file it came from, as it was named.
    pub file: String,
    /// What it describes.
    pub resource: Resource,
    root: Node,
}

/// What a document describes.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A flag.
    Flag(v1::Flag),
    /// A pipeline.
    Pipeline(v1::Pipeline),
    /// A release, to be triggered.
    Release(Box<v1::Release>),
}

/// Where documents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file, or a directory of them.
    Path(PathBuf),
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            path => Self::Path(path.into()),
        }
    }
}

/// Why documents could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {file}")]
    Read {
        /// What was to be read.
        file: String,
        /// Why it could not be.
        #[source]
        source: io::Error,
    },
    /// A directory without documents.
    #[error("{0} holds no .yaml, .yml or .json file")]
    EmptyDirectory(String),
    /// A file without documents.
    #[error("{0} holds no document")]
    Empty(String),
    /// `FILE:LINE:COLUMN: PATH: MESSAGE`, which editors and terminals make a link of.
    #[error("{file}{}: {}{message}", at(*.place), after(.path))]
    Wrong {
        /// The file, as it was named.
        file: String,
        /// Where in it.
        place: Option<Place>,
        /// The field, if it got so far.
        path: String,
        /// What is wrong there.
        message: String,
    },
}

fn at(place: Option<Place>) -> String {
    place.map_or_else(String::new, |place| format!(":{place}"))
}

fn after(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// Reads all documents of a source.
pub fn read(source: &Source) -> Result<Vec<Document>, Error> {
    let files = match source {
        Source::Stdin => {
            return parse("(stdin)", &bounded("(stdin)", io::stdin().lock())?);
        }
        Source::Path(path) if path.is_dir() => files_of(path)?,
        Source::Path(path) => vec![path.clone()],
    };
    let mut documents = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let file =
            fs::File::open(&path).map_err(|source| Error::Read { file: name.clone(), source })?;
        documents.extend(parse(&name, &bounded(&name, file)?)?);
    }
    Ok(documents)
}

fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let name = directory.display().to_string();
    let failed = |source| Error::Read { file: name.clone(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yaml" | "yml" | "json")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() { Err(Error::EmptyDirectory(name)) } else { Ok(files) }
}

fn bounded(name: &str, from: impl io::Read) -> Result<String, Error> {
    let failed = |source| Error::Read { file: name.to_owned(), source };
    let mut text = String::new();
    let read = from.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > FILE_BYTES_MAX {
        let message = format!("more than {} MiB", FILE_BYTES_MAX >> 20);
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    Ok(text)
}

/// Reads all documents of a text.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, Error> {
    let malformed = |error: tree::Malformed| Error::Wrong {
        file: file.to_owned(),
        place: error.place,
        path: String::new(),
        message: error.message,
    };
    let documents: Vec<Document> = tree::parse(text)
        .map_err(malformed)?
        .into_iter()
        .map(|root| document(file, root))
        .collect::<Result<_, _>>()?;
    if documents.is_empty() { Err(Error::Empty(file.to_owned())) } else { Ok(documents) }
}

/// Reads the one release of a text, whose kind need not be said.
pub fn parse_release(file: &str, text: &str) -> Result<Document, Error> {
    let wrong = |place, path: &str, message: String| Error::Wrong {
        file: file.to_owned(),
        place,
        path: path.to_owned(),
        message,
    };
    let roots = tree::parse(text).map_err(|error| wrong(error.place, "", error.message))?;
    let mut roots = roots.into_iter();
    let Some(mut root) = roots.next() else { return Err(Error::Empty(file.to_owned())) };
    if let Some(second) = roots.next() {
        return Err(wrong(Some(second.place), "", "there is more than one document".to_owned()));
    }
    if let Value::Map(entries) = &mut root.value
        && let Some(n) = entries.iter().position(|(key, _)| key.text == "kind")
    {
        let (_, kind) = entries.remove(n);
        if !matches!(&kind.value, Value::Text(text) if text == "Release") {
            let message = "this is to be a release; leave the kind out".to_owned();
            return Err(wrong(Some(kind.place), "kind", message));
        }
    }
    let resource = Resource::Release(Box::new(message(file, &root)?));
    Ok(Document { file: file.to_owned(), resource, root })
}

const KINDS: &str = "a document says `kind: Flag`, `kind: Pipeline` or `kind: Release`";

fn document(file: &str, mut root: Node) -> Result<Document, Error> {
    let wrong = |place, path: &str, message: &str| Error::Wrong {
        file: file.to_owned(),
        place: Some(place),
        path: path.to_owned(),
        message: message.to_owned(),
    };
    let start = root.place;
    let Value::Map(entries) = &mut root.value else {
        return Err(wrong(start, "", KINDS));
    };
    let Some(n) = entries.iter().position(|(key, _)| key.text == "kind") else {
        return Err(wrong(start, "", KINDS));
    };
    let (_, kind) = entries.remove(n);
    let resource = match &kind.value {
        Value::Text(text) if text == "Flag" => Resource::Flag(message(file, &root)?),
        Value::Text(text) if text == "Pipeline" => Resource::Pipeline(message(file, &root)?),
        Value::Text(text) if text == "Release" => {
            Resource::Release(Box::new(message(file, &root)?))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => return Err(wrong(kind.place, "kind", KINDS)),
    };
    Ok(Document { file: file.to_owned(), resource, root })
}

/// All that can be wrong with a message that its descriptor has read.
const TOO_DEEP: &str = "nests too deep: about 30 objects inside one another can be sent";

fn message<M: Named>(file: &str, root: &Node) -> Result<M, Error> {
    let read = message::read(root, &json::descriptor::<M>()).map_err(|wrong| Error::Wrong {
        file: file.to_owned(),
        place: Some(wrong.place),
        path: wrong.path,
        message: wrong.message,
    })?;
    json::typed(&read).ok_or_else(|| Error::Wrong {
        file: file.to_owned(),
        place: Some(root.deepest().place),
        path: String::new(),
        message: TOO_DEEP.to_owned(),
    })
}

/// A message as a document of a kind, which [`parse`] reads as the same again.
pub fn write<M: Named>(kind: &str, message: &M) -> String {
    let fields = json::value(message);
    // Beside the kind an empty map would have to be left out, not written as one.
    let is_empty = fields.as_object().is_some_and(serde_json::Map::is_empty);
    let fields = if is_empty { String::new() } else { json::yaml(&fields) };
    format!("kind: {kind}\n{fields}")
}

impl Resource {
    /// Writes it as YAML, which [`parse`] reads as the same again.
    pub fn to_yaml(&self) -> String {
        match self {
            Self::Flag(flag) => write("Flag", flag),
            Self::Pipeline(pipeline) => write("Pipeline", pipeline),
            Self::Release(release) => write("Release", &**release),
        }
    }
}

impl Document {
    /// The line where it begins, for messages about all of it.
    pub fn place(&self) -> impl fmt::Display + use<> {
        let (file, place) = (self.file.clone(), self.root.place);
        format!("{file}:{place}")
    }

    /// What the server says of a field of the request, said of the line in the file.
    pub fn locate(&self, field: &str, description: &str) -> String {
        // The first part of the path is the field of the request that the document became.
        // The id stands beside it in the request; in the document it is the end of the name.
        let path = match field {
            "flag_id" | "pipeline_id" | "release_id" => "name",
            field => field.split_once('.').map_or(field, |(_, path)| path),
        };
        let place = self.root.at(path).place;
        format!("{}:{place}: {path}: {description}", self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a text, or how many documents it holds.
    fn check(text: &str) -> Result<usize, String> {
        parse("f.yaml", text).map(|documents| documents.len()).map_err(|error| error.to_string())
    }

    const PIPELINE: &str = "\
kind: Pipeline
name: pipelines/standard
phases:
  - id: dev
    rules:
      - id: dev
        environments: [dev]
    bakeDuration: 2s
  - id: prod
    rules: [{id: prod, rollout_basis_points: 1000}]
    windows:
      timeZone: Europe/Rome
      weekly: [{days: [MON], start: 09:00, end: '24:00'}]
";

    #[test]
    fn a_document_is_the_message_of_its_kind() {
        let [document] = &parse("f.yaml", PIPELINE).unwrap()[..] else { panic!("one") };
        let Resource::Pipeline(pipeline) = &document.resource else { panic!("a pipeline") };
        assert_eq!(pipeline.name, "pipelines/standard");
        assert_eq!(pipeline.phases[0].bake_duration.unwrap().seconds, 2);
        assert_eq!(pipeline.phases[1].rules[0].rollout_basis_points, Some(1000));
        assert_eq!(pipeline.phases[1].windows.as_ref().unwrap().weekly[0].start, "09:00");
    }

    #[test]
    fn json_is_read_too_and_a_file_holds_several_documents() {
        assert_eq!(check(r#"{"kind": "Flag", "name": "flags/f", "featureGate": {}}"#), Ok(1));
        assert_eq!(check("kind: Flag\n---\n# nothing\n---\nkind: Pipeline\n"), Ok(2));
    }

    #[test]
    fn what_is_wrong_is_said_with_file_line_and_path() {
        for (text, expected) in [
            ("", "f.yaml holds no document"),
            ("- 1\n", "f.yaml:1:1: a document says"),
            ("name: flags/f\n", "f.yaml:1:1: a document says"),
            ("kind: Flagg\n", "f.yaml:1:7: kind: a document says"),
            ("kind: Flag\nname: [\n", "f.yaml:2:7: unclosed bracket"),
            ("kind: Flag\nname: a\nname: b\n", "f.yaml:3:1: duplicate mapping key"),
            ("kind: Flag\nnaem: flags/f\n", "f.yaml:2:1: naem: unrecognized field name 'naem'"),
            ("kind: Flag\nname: 3\n", "f.yaml:2:7: name: expected text, found 3 without quotes"),
            (
                "kind: Flag\nfeatureGate:\n  defaultValue: yes\n",
                "f.yaml:3:17: featureGate.defaultValue: expected",
            ),
            (
                "kind: Pipeline\nphases:\n  - id: a\n    bakeDuration: 60\n",
                "f.yaml:4:19: phases[0].bakeDuration: expected text, found 60 without quotes; a \
                 duration looks like \"300s\"",
            ),
            (
                "kind: Pipeline\nphases:\n  - id: a\n    bakeDuration: soon\n",
                "f.yaml:4:19: phases[0].bakeDuration: failed to parse duration; a duration looks like",
            ),
            (
                "kind: Pipeline\nphases:\n  - guards:\n      - onFail: EXPLODE\n",
                "f.yaml:4:17: phases[0].guards[0].onFail: unrecognized enum value 'EXPLODE'; it \
                 may be one of GUARD_ACTION_PAUSE, GUARD_ACTION_FAIL",
            ),
            (
                "kind: Flag\ndynamicConfig:\n  defaultValue: {limit: .nan}\n",
                "f.yaml:3:25: non-finite float",
            ),
            (
                "kind: Flag\nfeatureGate: {}\ndynamicConfig: {}\n",
                "f.yaml:1:1: multiple fields provided for oneof 'spec'",
            ),
        ] {
            let found = check(text).expect_err(text);
            assert!(found.starts_with(expected), "{text:?}\n found: {found}\nwanted: {expected}");
        }
    }

    #[test]
    fn the_kind_of_a_release_that_stands_alone_need_not_be_said() {
        let check = |text: &str| {
            let document = parse_release("f", text).map_err(|error| error.to_string())?;
            let Resource::Release(release) = document.resource else { panic!("a release") };
            Ok::<_, String>(release.description)
        };
        assert_eq!(check("description: d\n"), Ok("d".to_owned()));
        assert_eq!(check("kind: Release\ndescription: d\n"), Ok("d".to_owned()));
        assert_eq!(check("{\"description\": \"d\"}"), Ok("d".to_owned()));
        for (wrong, expected) in [
            ("", "f holds no document"),
            ("kind: Flag\n", "f:1:7: kind: this is to be a release"),
            ("- 1\n", "f:1:1"),
            ("description: d\n---\ndescription: d\n", "f:3:1: there is more than one"),
        ] {
            let found = check(wrong).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn what_nests_too_deep_to_be_sent_is_found_where_it_is_deepest() {
        let nested = |depth: usize| {
            let (open, close) = ("{a: ".repeat(depth), "}".repeat(depth));
            check(&format!("kind: Flag\ndynamicConfig:\n  defaultValue: {open}1{close}\n"))
        };
        assert_eq!(nested(30), Ok(1));
        assert_eq!(nested(40), Err(format!("f.yaml:3:{}: {TOO_DEEP}", 17 + 4 * 40)));
    }

    #[test]
    fn a_message_without_any_field_is_written_as_a_document_that_can_be_read() {
        let resource = Resource::Flag(v1::Flag::default());
        assert_eq!(resource.to_yaml(), "kind: Flag\n");
        assert_eq!(parse("f.yaml", &resource.to_yaml()).unwrap()[0].resource, resource);
    }

    #[test]
    fn what_the_server_refuses_is_found_in_the_file_again() {
        let document = &parse("f.yaml", PIPELINE).unwrap()[0];
        let check = |field: &str| document.locate(field, "no");
        assert_eq!(
            check("pipeline.phases[1].rules[0].rollout_basis_points"),
            "f.yaml:10:46: phases[1].rules[0].rollout_basis_points: no"
        );
        assert_eq!(
            check("pipeline.phases[0].bake_duration").split(": ").next(),
            Some("f.yaml:8:19")
        );
        // What is missing is found where it is missing.
        assert_eq!(
            check("pipeline.phases[1].bake_duration").split(": ").next(),
            Some("f.yaml:9:5")
        );
        assert_eq!(check("pipeline_id"), "f.yaml:2:7: name: no");
        assert_eq!(check("name"), "f.yaml:2:7: name: no");
    }
}
