//! The driver measures, keeps what it measured, and writes it down. No figure is asserted.

use std::{fs, process::Command};

/// A document with the marks of its parts.
const EMPTY: &str = "# Figures
<!-- targets: begin -->
<!-- targets: end -->
<!-- growth: begin -->
<!-- growth: end -->
The end.
";

fn bench(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_phasegate-bench"))
        .args(arguments)
        .output()
        .expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn a_figure_is_kept_and_written_into_a_document() {
    let directory = tempfile::tempdir().expect("there is room");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let (results, document) = (path("results.json"), path("performance.md"));
    let measured =
        bench(&["measure", "committer", "--rounds", "2", "--seconds", "1", "--results", &results]);
    let row = measured.lines().find(|line| line.contains("bare sled")).expect("there is a row");
    fs::write(&document, EMPTY).expect("there is room");
    bench(&["table", "--results", &results, "--write", &document]);
    let written = fs::read_to_string(&document).expect("it is there");
    assert!(written.contains(row), "{written}");
    assert!(written.starts_with("# Figures\n") && written.ends_with("The end.\n"), "{written}");
}
