//! A server whose clock is moved by hand, and what stands on it.

use crate::{
    process::Server,
    terminal::{Size, Terminal},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_phasegate");

/// The usual size of a terminal.
pub(crate) const USUAL: Size = Size(24, 80);
/// The clock of a stage at first: a Friday.
const START: &str = "2030-06-14T18:00:00Z";

/// A pipeline with all that a phase can wait for.
const DOCUMENTS: &str = "\
kind: Pipeline
name: pipelines/standard
exemptEnvironments: [dev]
phases:
  - id: canary
    rules: [{id: one, environments: [prod-eu], rolloutBasisPoints: 100}]
    bakeDuration: 1800s
    guards: [{id: error-rate, onFail: GUARD_ACTION_PAUSE}]
  - id: prod-eu
    rules: [{id: eu, environments: [prod-eu]}]
    bakeDuration: 3600s
    approval:
      minApprovals: 2
      quotas: [{group: sre, minApprovals: 1}]
  - id: everyone
    rules: [{id: all}]
    bakeDuration: 600s
    windows:
      timeZone: Europe/Rome
      weekly: [{days: [MON, TUE, WED, THU], start: '09:00', end: '16:00'}]
---
kind: Flag
name: flags/checkout-v2
pipeline: pipelines/standard
featureGate: {}
";
const RELEASE: &str = "\
kind: Release
flag: flags/checkout-v2
description: Turn the new checkout on
featureGate: {defaultValue: true}
";

pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
}

impl Stage {
    /// A server without anything.
    pub(crate) fn empty() -> Self {
        Self::on(&["--memory"])
    }

    fn on(store: &[&str]) -> Self {
        let clock = ["--clock", "manual", "--clock-start", START];
        let server = Server::start([store, &clock].concat());
        Self { server, folder: tempfile::tempdir().unwrap() }
    }

    /// A server with a release that bakes in its first phase.
    pub(crate) fn baking() -> Self {
        let stage = Self::empty();
        stage.trigger();
        stage
    }

    /// The same, on a disk.
    pub(crate) fn durable() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        let stage = Self { folder, ..Self::on(&["--data", &data]) };
        stage.trigger();
        stage
    }

    pub(crate) fn trigger(&self) {
        let documents = self.file("documents.yaml", DOCUMENTS);
        self.done(&["apply", "-f", &documents]);
        let release = self.file("release.yaml", RELEASE);
        self.done(&["release", "trigger", "-f", &release, "--id", "checkout-7", "--as", "ann"]);
    }

    /// Writes a file, and returns where it is.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .current_dir(root())
            .env_clear()
            .env("TZ", "UTC")
            .env("PHASEGATE_ADDRESS", &self.server.address)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, not on a terminal.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the program, which does it.
    pub(crate) fn done(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// Starts the program on a terminal.
    pub(crate) fn terminal(&self, size: Size, arguments: &[&str]) -> Terminal {
        self.terminal_with(size, arguments, &[])
    }

    pub(crate) fn terminal_with(
        &self,
        size: Size,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Terminal {
        let address = [("PHASEGATE_ADDRESS", self.server.address.as_str())];
        Terminal::start(size, arguments, &[&address, environment].concat())
    }
}

/// A screen looks as the golden file of this name does. `UPDATE_EXPECT=1` writes it anew.
pub(crate) fn looks(golden: &str, screen: &str) {
    expect_test::expect_file![format!("screens/{golden}.txt")].assert_eq(screen);
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// An exit code, and what was written to stdout and to stderr.
pub(crate) fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}
