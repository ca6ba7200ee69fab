//! What must be found in an image: nothing less than what had been acknowledged, nothing that never
//! was, nothing half.

use crate::{
    answers::Answers,
    workload::{Asked, Content, Lived, Outcome, text, value_bytes},
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// What is known of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// The lines of an export about each revision: its commit, and what it changed.
    log: BTreeMap<u64, Vec<String>>,
    /// The highest revision that had been told, with the event after which it was; both grow.
    told: Vec<(usize, u64)>,
    /// What was asked about each flag, in order.
    flags: BTreeMap<String, Vec<FlagCommand>>,
    /// By its id: each request, and the commit that did it, if that is known.
    requests: HashMap<String, Request>,
    lives: Vec<Bounds>,
}

#[derive(Clone, Debug)]
struct FlagCommand {
    request_id: String,
    content: Content,
    /// After which event it was acknowledged.
    told: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    life: usize,
    revision: Option<u64>,
}

/// A life, in events and revisions.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    ends: usize,
    /// The last revision before it.
    begins_at: u64,
    /// From this event on, requests of earlier lives may be gone.
    forgot_after: Option<usize>,
}

/// An export, read.
#[derive(Debug, Default)]
pub(crate) struct Export {
    pub(crate) revision: u64,
    oldest: u64,
    log: BTreeMap<u64, Vec<String>>,
    flags: BTreeMap<String, Flag>,
    requests: Vec<String>,
}

#[derive(Debug)]
struct Flag {
    revision: u64,
    version: u32,
    /// Whether its value is the one that belongs to that version.
    whole: bool,
}

impl Export {
    pub(crate) fn read(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).unwrap();
        let mut export = Self::default();
        for line in text.lines() {
            let json: Value = serde_json::from_str(line).unwrap();
            let (kind, record) = json.as_object().unwrap().iter().next().unwrap();
            let number = |name: &str| record[name].as_u64().unwrap();
            match kind.as_str() {
                "export" => {
                    (export.revision, export.oldest) = (number("revision"), number("oldest"));
                }
                "commit" => {
                    export.log.entry(number("revision")).or_default().push(line.to_owned());
                }
                "change" => {
                    let revision = record["change"]["revision"].as_u64().unwrap();
                    export.log.entry(revision).or_default().push(line.to_owned());
                }
                "flag" => {
                    let id = record["id"].as_str().unwrap().to_owned();
                    let description = record["description"].as_str().unwrap();
                    let Some((version, "")) = description.split_once(':') else { continue };
                    let version = version.parse().unwrap();
                    let value = &record["spec"]["Config"]["default"]["text"]["String"];
                    let whole = value.as_str() == Some(&text_of(version));
                    let flag = Flag { revision: number("revision"), version, whole };
                    export.flags.insert(id, flag);
                }
                "request" => {
                    export.requests.push(record["key"]["id"].as_str().unwrap().to_owned());
                }
                _ => {}
            }
        }
        export
    }
}

fn text_of(version: u32) -> String {
    text(version, value_bytes(version))
}

impl Truth {
    /// Adds a life: what was asked in it, what it left on the disk, and where in the record it lies.
    ///
    /// # Panics
    ///
    /// If what it left contradicts what was told in it, or what was there before.
    pub(crate) fn add(
        &mut self,
        lived: &Lived,
        left: Option<&Export>,
        answers: &Answers,
        ends: usize,
        forgot_after: Option<usize>,
    ) {
        let life = self.lives.len();
        let begins_at = self.log.keys().next_back().copied().unwrap_or_default();
        self.lives.push(Bounds { ends, begins_at, forgot_after });
        if let Some(left) = left {
            for (revision, lines) in &left.log {
                let known = self.log.entry(*revision).or_insert_with(|| lines.clone());
                assert_eq!(known, lines, "revision {revision} is another after life {life}");
            }
            let whole = self.log.keys().copied().eq(1..=left.revision);
            assert!(whole, "the log has holes or goes back after life {life}");
        }
        let mut told = Vec::new();
        for asked in &lived.asked {
            self.add_command(asked, life, answers, &mut told);
        }
        for (answer, revision) in &lived.shown {
            told.push((answers.sent[answer], *revision));
        }
        told.sort_unstable();
        for (event, revision) in told {
            if self.told.last().is_none_or(|(_, last)| *last < revision) {
                self.told.push((event, revision));
            }
        }
        let head = self.log.keys().next_back().copied().unwrap_or_default();
        let (_, promised) = self.told.last().copied().unwrap_or_default();
        assert!(head >= promised, "{promised} was told, {head} is there after life {life}");
        self.find_requests();
    }

    fn add_command(
        &mut self,
        asked: &Asked,
        life: usize,
        answers: &Answers,
        told: &mut Vec<(usize, u64)>,
    ) {
        let mut event = None;
        let mut revision = None;
        match &asked.outcome {
            Outcome::Refused => return,
            Outcome::Done { answer, revision: done } => {
                let sent = answers.sent.get(answer);
                event = Some(*sent.expect("what a caller was told is in the record"));
                revision = Some(u64::try_from(*done).unwrap());
                told.extend(event.zip(revision));
            }
            Outcome::DoneInSilence | Outcome::Unknown => {}
        }
        let request_id = asked.request_id.clone();
        self.requests.insert(request_id.clone(), Request { life, revision });
        if let Some((flag, content)) = asked.content.clone() {
            let command = FlagCommand { request_id, content, told: event };
            self.flags.entry(flag).or_default().push(command);
        }
    }

    /// Finds the commits of commands that were not answered, and holds the others against the log.
    fn find_requests(&mut self) {
        for (revision, lines) in &self.log {
            for line in lines {
                let json: Value = serde_json::from_str(line).unwrap();
                let Some(events) = json["change"]["change"]["events"].as_array() else { continue };
                for id in events.iter().filter_map(|event| event["request_id"].as_str()) {
                    let request = self.requests.get_mut(id).expect("somebody asked for it");
                    let known = *request.revision.get_or_insert(*revision);
                    assert_eq!(known, *revision, "{id} was told to be of another revision");
                }
            }
        }
    }

    /// The highest revision that had been told when so many events had happened.
    pub(crate) fn told_at(&self, events: usize) -> u64 {
        let after = self.told.partition_point(|(event, _)| *event < events);
        after.checked_sub(1).map_or(0, |last| self.told[last].1)
    }

    /// Whether an export is what may be there after a crash when so many events had happened, and a
    /// recovery had shown a revision after that; why not, if it is not.
    pub(crate) fn judge(&self, export: &Export, events: usize, shown: u64) -> Result<(), String> {
        let told = self.told_at(events).max(shown);
        if export.revision < told {
            return Err(format!("{told} was told, the store ends at {}", export.revision));
        }
        self.judge_log(export, events)?;
        self.judge_flags(export, events)?;
        self.judge_requests(export, events)
    }

    fn life_of(&self, events: usize) -> usize {
        let life = self.lives.partition_point(|life| life.ends < events);
        life.min(self.lives.len() - 1)
    }

    fn judge_log(&self, export: &Export, events: usize) -> Result<(), String> {
        let begins_at = self.lives[self.life_of(events)].begins_at;
        if export.oldest > begins_at + 1 {
            return Err(format!("the log begins at {}, in its own life", export.oldest));
        }
        let there = export.log.iter();
        let expected = self.log.range(export.oldest..export.revision + 1);
        let wrong = there.clone().zip(expected.clone()).find(|(is, should)| is != should);
        if let Some(((revision, _), _)) = wrong {
            return Err(format!("revision {revision} is not what was done"));
        }
        match (there.count(), expected.count()) {
            (is, should) if is == should => Ok(()),
            (is, should) => Err(format!("{is} commits in the log, and not {should}")),
        }
    }

    fn judge_flags(&self, export: &Export, events: usize) -> Result<(), String> {
        for (id, commands) in &self.flags {
            let least = commands
                .iter()
                .filter(|command| command.told.is_some_and(|told| told < events))
                .map(|command| command.content.version())
                .max();
            match export.flags.get(id) {
                Some(flag) => {
                    let found = Content::Version(flag.version);
                    let command = commands.iter().find(|command| command.content == found);
                    if command.is_none() {
                        return Err(format!(
                            "flag {id} has a version that nobody wrote: {found:?}"
                        ));
                    }
                    if least.is_some_and(|least| flag.version < least) {
                        return Err(format!("flag {id} is back at {found:?}, {least:?} was told"));
                    }
                    if !flag.whole {
                        return Err(format!("flag {id} is half of {found:?}"));
                    }
                    if flag.revision > export.revision {
                        return Err(format!("flag {id} is of revision {}", flag.revision));
                    }
                }
                None => {
                    let gone = commands.iter().any(|command| {
                        matches!(command.content, Content::Gone(version) if Some(version) > least)
                    });
                    if least.is_some() && !gone {
                        return Err(format!("flag {id} is missing"));
                    }
                }
            }
        }
        Ok(())
    }

    /// A request is there if and only if what it asked for is, until it is old.
    fn judge_requests(&self, export: &Export, events: usize) -> Result<(), String> {
        let forgotten_before = self
            .lives
            .iter()
            .enumerate()
            .filter(|(_, life)| life.forgot_after.is_some_and(|after| after <= events))
            .map(|(number, _)| number)
            .max()
            .unwrap_or_default();
        let there: HashMap<&str, ()> = export.requests.iter().map(|id| (id.as_str(), ())).collect();
        for id in there.keys() {
            // What the test asks apart from its callers has ids of the server's own.
            let Some(request) = self.requests.get(*id) else { continue };
            if request.revision.is_some_and(|revision| revision > export.revision) {
                return Err(format!("request {id} is there and its commit is not"));
            }
        }
        for (id, request) in &self.requests {
            let done = request.revision.is_some_and(|revision| revision <= export.revision);
            if done && request.life >= forgotten_before && !there.contains_key(id.as_str()) {
                return Err(format!("request {id} is not there and its commit is"));
            }
        }
        for (id, commands) in &self.flags {
            let version = export.flags.get(id).map(|flag| Content::Version(flag.version));
            let Some(command) = commands.iter().find(|it| Some(it.content) == version) else {
                continue;
            };
            let request = self.requests[&command.request_id];
            if request.life >= forgotten_before && !there.contains_key(command.request_id.as_str())
            {
                return Err(format!("flag {id} is {version:?}, and its request is not there"));
            }
        }
        Ok(())
    }
}
