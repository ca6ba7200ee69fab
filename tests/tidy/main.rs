//! Rules about the repository. They are tests, so that CI knows nothing that a developer cannot run.

#[path = "../breakages/edits.rs"]
#[allow(dead_code, reason = "what breakages are called is for those who apply them")]
mod edits;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ stands in the root").to_owned()
}

/// Files that git tracks or would track, by their ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let list = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git is there");
    assert!(list.status.success(), "git ls-files: {}", String::from_utf8_lossy(&list.stderr));
    let names = String::from_utf8(list.stdout).expect("paths are text");
    let files: Vec<_> = names
        .lines()
        .filter(|name| name.ends_with(ending))
        .map(|name| root().join(name))
        .filter(|path| path.exists())
        .collect();
    assert!(!files.is_empty(), "no file ends with {ending}");
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn architecture_names_the_dependencies_that_the_manifests_have() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let (_, block) = text.split_once("```text dependencies\n").expect("the block is there");
    let (block, _) = block.split_once("```").expect("the block ends");
    let written: BTreeMap<String, BTreeSet<String>> = block
        .lines()
        .map(|line| {
            let (from, to) = line.split_once("->").expect("every line has an arrow");
            (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect())
        })
        .collect();
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers");
    let members: BTreeSet<String> =
        metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let found: BTreeMap<String, BTreeSet<String>> = metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|dependency| {
                dependency.kind == cargo_metadata::DependencyKind::Normal
                    && members.contains(&dependency.name)
            });
            let names = normal.map(|dependency| dependency.name.clone()).collect();
            (package.name.to_string(), names)
        })
        .collect();
    assert_eq!(written, found, "ARCHITECTURE.md (left) and the manifests (right) differ");
}

#[test]
fn the_engine_depends_on_nothing_that_does_io() {
    let allowed =
        ["chrono", "chrono-tz", "imbl", "semver", "serde", "serde_json", "thin-vec", "thiserror"];
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("engine/Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers");
    let engine = metadata.packages.iter().find(|package| package.name == "phasegate-engine");
    let normal = engine.expect("the engine is a member").dependencies.iter();
    let names: BTreeSet<&str> = normal
        .filter(|dependency| dependency.kind == cargo_metadata::DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(allowed));
}

#[test]
fn no_test_waits_for_real_time() {
    let sleep = ["sleep", "("].concat();
    for path in files(".rs") {
        let relative = path.strip_prefix(root()).expect("it is below the root").to_owned();
        let is_test = relative.components().any(|part| part.as_os_str() == "tests");
        if is_test {
            assert!(!read(&path).contains(&sleep), "{} sleeps", relative.display());
        }
    }
    for path in files(".mjs") {
        for timer in ["setTimeout", "setInterval", "waitForTimeout"] {
            assert!(!read(&path).contains(timer), "{} sleeps", path.display());
        }
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [["todo", "!("], ["unimplemented", "!("], ["FIX", "ME"], ["XX", "X"]];
    let marks: Vec<String> = marks.iter().map(|parts| parts.concat()).collect();
    for path in files(".rs") {
        let text = read(&path);
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} has {mark}", path.display());
        }
    }
}

#[test]
fn time_is_read_in_the_clock_and_nowhere_else() {
    let readers = [["SystemTime", "::now"], ["Utc", "::now"], ["Local", "::now"]];
    let readers: Vec<String> = readers.iter().map(|parts| parts.concat()).collect();
    for path in files(".rs") {
        let relative = path.strip_prefix(root()).expect("it is below the root");
        if relative.starts_with("server/src") && !relative.ends_with("clock.rs") {
            let text = read(&path);
            for reader in &readers {
                assert!(!text.contains(reader.as_str()), "{} reads the time", relative.display());
            }
        }
    }
}

#[test]
fn the_server_s_rooms_depend_downwards_only() {
    // For each room, what its files must not name.
    let forbidden: &[(&str, &[&str])] = &[
        (
            "store",
            &["crate::driver", "crate::watch", "crate::grpc", "crate::app", "tonic::", "v1::"],
        ),
        (
            "driver",
            &[
                "crate::web",
                "crate::delivery",
                "crate::grpc",
                "crate::access",
                "crate::app",
                "tonic::",
                "phasegate_api",
            ],
        ),
        (
            "watch",
            &[
                "crate::web",
                "crate::delivery",
                "crate::grpc",
                "crate::app",
                "tonic::",
                "phasegate_api",
            ],
        ),
        (
            "telemetry",
            &[
                "crate::app",
                "crate::web",
                "crate::delivery",
                "crate::grpc",
                "crate::access",
                "crate::notify",
                "crate::driver",
                "crate::watch",
                "crate::store",
                "crate::clock",
                "phasegate_api",
            ],
        ),
        (
            "notify",
            &[
                "crate::web",
                "crate::delivery",
                "crate::grpc",
                "crate::app",
                "crate::store",
                "tonic::",
                "phasegate_api",
            ],
        ),
        (
            "access",
            &[
                "crate::app",
                "crate::web",
                "crate::delivery",
                "crate::grpc",
                "crate::store",
                "sled",
                "tonic::",
                "v1::",
            ],
        ),
        ("grpc", &["crate::app", "crate::web", "crate::delivery", "sled"]),
        ("delivery", &["crate::app", "crate::web", "crate::store", "sled"]),
        ("web", &["crate::app", "crate::store", "sled"]),
    ];
    for path in files(".rs") {
        let relative = path.strip_prefix(root()).expect("it is below the root").to_owned();
        for (room, names) in forbidden {
            if !relative.starts_with(format!("server/src/{room}")) {
                continue;
            }
            let text = read(&path);
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for name in *names {
                    assert!(!line.contains(name), "{}: {line}", relative.display());
                }
            }
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in files(".md") {
        let folder = path.parent().expect("a file stands in a folder");
        let whole = read(&path);
        // What stands between fences is no link: every second part.
        let text: String = whole.split("\n```").step_by(2).collect();
        for (_, rest) in text.match_indices("](").map(|(at, mark)| text.split_at(at + mark.len())) {
            let Some((target, _)) = rest.split_once(')') else { continue };
            let target = target.split('#').next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
            if !elsewhere {
                assert!(
                    folder.join(target).exists(),
                    "{} links to {target}, which is not there",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_promise_has_the_tests_that_it_names() {
    let text = read(&root().join("docs/guarantees.md"));
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let sources = files(".rs").into_iter().chain(files(".mjs"));
    let sources: Vec<String> = sources.map(|path| read(&path)).collect();
    let mut named = 0;
    for row in rows {
        let Some(tests) = row.trim_end_matches('|').rsplit('|').next() else { continue };
        if tests.trim() == "tests" {
            continue;
        }
        assert!(tests.contains('`'), "no test in: {row}");
        for test in tests.split(',').map(|name| name.trim().trim_matches('`')) {
            // A test in a browser is named by a sentence; one without a comma can be named here.
            let definitions =
                [format!("fn {test}("), format!("fn {test}<"), format!("test('{test}'")];
            let is_there = |source: &String| definitions.iter().any(|d| source.contains(d));
            // What needs other toolchains is a program.
            let is_program = test.starts_with("tests/") && root().join(test).is_file();
            assert!(
                is_program || sources.iter().any(is_there),
                "docs/guarantees.md names {test}, which is not there"
            );
            named += 1;
        }
    }
    assert!(named > 20, "the table was not found");
}

#[test]
fn every_promise_of_the_simulation_is_written_down() {
    let written = read(&root().join("docs/guarantees.md"));
    let mut named = 0;
    for path in files(".rs") {
        if !path.parent().is_some_and(|folder| folder.ends_with("simulation/promises")) {
            continue;
        }
        let text = read(&path);
        for (start, end) in [("hold!(", ","), ("promise: \"", "\"")] {
            for rest in text.split(start).skip(1) {
                let Some((promise, _)) = rest.split_once(end) else { continue };
                let promise = promise.trim();
                let is_name = promise.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                if is_name && !promise.is_empty() {
                    let mark = format!("`{promise}`");
                    assert!(written.contains(&mark), "docs/guarantees.md has no {promise}");
                    named += 1;
                }
            }
        }
    }
    assert!(named > 30, "the promises were not found");
}

#[test]
fn every_crate_forbids_unsafe_code_through_the_workspace() {
    // It takes the place of functions of libc, which no safe code can. No crate depends on it to run.
    let recorder = root().join("tests/recorder/Cargo.toml");
    for path in files("Cargo.toml").into_iter().filter(|path| *path != recorder) {
        let text = read(&path);
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} does not take the lints of the workspace",
            path.display()
        );
    }
    assert!(read(&root().join("Cargo.toml")).contains("unsafe_code = \"forbid\""));
    assert!(read(&recorder).contains("undocumented_unsafe_blocks = \"deny\""));
}

#[test]
fn every_breakage_still_fits_the_sources() {
    let breakages = edits::list().expect("the list can be read");
    assert!(breakages.len() >= 12, "{} breakages", breakages.len());
    let mut texts = BTreeMap::new();
    for edit in breakages.iter().flat_map(|breakage| &breakage.edits) {
        let path = root().join(&edit.file);
        let text = texts.entry(edit.file.clone()).or_insert_with(|| {
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        *text = edit.apply(text).unwrap_or_else(|problem| panic!("{problem}"));
    }
}

#[test]
fn every_breakage_names_promises_that_there_are() {
    let folder = root().join("tests/simulation/promises");
    let files = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is read"));
    let text: String =
        files.map(|file| fs::read_to_string(file.path()).expect("it is text")).collect();
    for breakage in edits::list().expect("the list can be read") {
        assert!(!breakage.promises.is_empty() && !breakage.edits.is_empty(), "{}", breakage.name);
        for promise in &breakage.promises {
            let check = format!("fn {promise}");
            assert!(text.contains(&check), "{} names {promise}", breakage.name);
        }
    }
}
