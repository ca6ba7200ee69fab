//! The end of a soak: everything is read back, and compared.

use super::{
    checks::{self, Audited, Change, Done, Event, Findings, is_final, number},
    pipelines::Waits,
    record,
    server::{Program, phasegate},
    watchers::{Saw, Subject},
};
use phasegate_client::{Client, v1};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::OsStr,
    path::Path,
    process::Output,
};

/// Of how many releases the log is also read alone.
const READ_ALONE: usize = 50;

/// What the server has.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) log: Vec<Event>,
    pub(crate) releases: Vec<v1::Release>,
    pub(crate) audit: Vec<Audited>,
}

/// What a program printed, if it ended well.
fn succeeded(what: &str, output: &Output, findings: &mut Findings) -> String {
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, error) = (printed(&output.stdout), printed(&output.stderr));
    if !output.status.success() {
        findings.add(format!("{what} ended with {}: {out} {error}", output.status));
    }
    out
}

/// A store that no server has open contradicts itself nowhere.
pub(crate) fn verify_store(data: &Path, findings: &mut Findings) {
    let output =
        phasegate([OsStr::new("store"), "verify".as_ref(), "--data".as_ref(), data.as_ref()]);
    println!("store verify: {}", succeeded("store verify", &output, findings));
}

impl Record {
    pub(crate) async fn read(
        client: &Client,
        program: &Program,
        export: &Path,
        findings: &mut Findings,
    ) -> Self {
        let log = record::log(client, "releases/-").await.expect("the log can be listed");
        let all = v1::ReleaseFilter::default();
        let (releases, _) = record::releases(client, all).await.expect("releases can be listed");
        let address = format!("http://{}", program.address());
        let ask = |what: &[&OsStr]| {
            let command = [OsStr::new("audit")].into_iter().chain(what.iter().copied());
            phasegate(command.chain(["--address".as_ref(), OsStr::new(&address)]))
        };
        let head = succeeded("audit head", &ask(&["head".as_ref()]), findings);
        succeeded("audit export", &ask(&["export".as_ref(), export.as_ref()]), findings);
        let verify: [&OsStr; 5] = [
            "audit".as_ref(),
            "verify".as_ref(),
            export.as_ref(),
            "--head".as_ref(),
            head.as_ref(),
        ];
        println!("audit verify: {}", succeeded("audit verify", &phasegate(verify), findings));
        let audit = record::audit(export).expect("the export can be read");
        Self { log, releases, audit }
    }

    /// Compares it with what callers were told and what watches saw.
    pub(crate) fn check(&self, done: &[Done], saw: &[Saw], findings: &mut Findings) {
        checks::order(&self.log, findings);
        let audit: Vec<Audited> = self.of_requests();
        checks::acknowledged(done, &self.log, &audit, findings);
        let flags: HashMap<u32, Box<str>> = self
            .releases
            .iter()
            .filter_map(|release| Some((number(&release.name)?, release.flag.clone().into())))
            .collect();
        checks::one_active(&self.log, &flags, findings);
        let standings = checks::lives(&self.log, &Waits::of_all(), findings);
        // Everything was ended before the log was read.
        checks::overdue(&standings, i64::MAX, findings);
        self.check_releases(&standings, findings);
        self.check_watches(saw, &flags, findings);
    }

    /// Entries about calls that had a request id of ours; pipelines were made without.
    fn of_requests(&self) -> Vec<Audited> {
        let is_ours = |entry: &&Audited| !entry.resource.starts_with("pipelines/");
        self.audit.iter().filter(is_ours).cloned().collect()
    }

    /// Each release is as its last event says, and there is none without events.
    fn check_releases(&self, standings: &BTreeMap<u32, checks::Standing>, findings: &mut Findings) {
        if self.releases.len() != standings.len() {
            let (listed, logged) = (self.releases.len(), standings.len());
            findings.add(format!("{listed} releases are listed, and {logged} are in the log"));
        }
        for release in &self.releases {
            let standing = number(&release.name).and_then(|number| standings.get(&number));
            let agrees = standing.is_some_and(|standing| {
                standing.state == release.state()
                    && standing.revision == release.revision
                    && is_final(standing.state)
                    && release.end_time.is_some()
            });
            if !agrees {
                findings.add(format!("{standing:?} by its log, and listed as {release:?}"));
            }
        }
    }

    fn check_watches(&self, saw: &[Saw], flags: &HashMap<u32, Box<str>>, findings: &mut Findings) {
        let changes = checks::changes(&self.log);
        let mut of_release: HashMap<u32, Vec<Change>> = HashMap::new();
        for change in &changes {
            of_release.entry(change.release).or_default().push(*change);
        }
        for Saw { subject, after, changes: seen, .. } in saw {
            let after = |change: &Change| change.revision > *after;
            let name = format!("{subject:?}");
            match subject {
                Subject::All => {
                    let expected = changes.iter().copied().filter(after);
                    checks::watched(&name, seen, expected, findings);
                }
                Subject::Flags(some) => {
                    let some: HashSet<&str> = some.iter().map(String::as_str).collect();
                    let concerns = |change: &Change| {
                        flags.get(&change.release).is_some_and(|flag| some.contains(&**flag))
                    };
                    let expected = changes.iter().copied().filter(after).filter(concerns);
                    checks::watched(&name, seen, expected, findings);
                }
                Subject::Release(release) => {
                    let of_it = of_release.get(release).into_iter().flatten();
                    checks::watched(&name, seen, of_it.copied().filter(after), findings);
                }
            }
        }
    }

    /// The log of one release, read alone, is its part of the log of all.
    pub(crate) async fn check_alone(&self, client: &Client, findings: &mut Findings) {
        let each = (self.releases.len() / READ_ALONE).max(1);
        for release in self.releases.iter().step_by(each) {
            let alone = record::log(client, &release.name).await.expect("its log can be listed");
            let number = number(&release.name);
            let of_it = self.log.iter().filter(|event| Some(event.release) == number);
            if !of_it.eq(alone.iter()) {
                findings.add(format!("{}: its own log differs from that of all", release.name));
            }
        }
    }
}
