//! The engine in the place of a server: timers that are due first, then the call. Its answers are told
//! in the words of the model, so that the two can be compared.

use crate::{
    model::{Environment, Model, Outcome},
    translate::{
        STAGING, action, at, events, flag_id, group_of, id, kind, principal, reason, release_id,
        span, value,
    },
    words::{self, Call, Kind, Ms, Reason, Step, What},
};
use phasegate_engine::{
    Command, Refusal, State as Engine, apply,
    command::{self, Caller, Fire, Lateness},
    deadline,
    deadline::next_due,
    decide,
    id::{FlagId, ReleaseId, Revision},
    release::Release,
    targeting::{Bucketing, Context, TARGETING_KEY, evaluate},
    value::{Object, Value},
};
use std::sync::Arc;

/// No timers of a step fire so often.
const FIRES_MAX: usize = 500;

/// The engine, and what it has said in the last step.
pub(crate) struct Server {
    pub(crate) state: Engine,
    now: Ms,
    limit: Option<Ms>,
    templates: words::Templates,
    pub(crate) commits: Vec<Vec<words::Event>>,
    pub(crate) outcome: Outcome,
}

impl Server {
    pub(crate) fn new(model: &Model) -> Self {
        Self {
            state: Engine::default(),
            now: model.now,
            limit: model.limit,
            templates: Arc::clone(&model.templates),
            commits: Vec::new(),
            outcome: Outcome::Nothing,
        }
    }

    /// One step of a story.
    pub(crate) fn step(&mut self, step: &Step) {
        self.commits.clear();
        self.outcome = Outcome::Nothing;
        match &step.what {
            What::Call(call) => self.call(call, step.at),
            What::Fire { release, age } => {
                self.now = step.at;
                self.fire_given(*release, *age);
            }
            What::Walk if step.at > self.now => self.walk(step.at),
            What::Walk | What::Wake => {
                self.now = step.at;
                self.fire_all_due();
            }
        }
    }

    /// Decides and applies. False if there was nothing to do.
    fn decide(&mut self, command: &Command) -> Result<bool, Refusal> {
        let before = self.state.clone();
        let decided = decide(&self.state, command, at(self.now));
        assert_eq!(before, self.state, "deciding changes nothing");
        let Some(commit) = decided? else { return Ok(false) };
        apply(&mut self.state, &commit);
        self.commits.push(events(&commit));
        Ok(true)
    }

    fn fire(&mut self, release: &ReleaseId, generation: u64, lateness: Lateness) -> bool {
        let fire = Fire { release: release.clone(), generation, lateness };
        self.decide(&Command::Fire(fire)).expect("a timer is never refused")
    }

    fn fire_due(&mut self, flags: &[FlagId]) {
        for _ in 0..FIRES_MAX {
            let due = flags.iter().filter_map(|flag| next_due(&self.state, flag, at(self.now)));
            let next = due.min_by_key(|(release, timer)| (timer.at, release.proposal.created));
            let Some((release, timer)) = next else { return };
            let late = at(self.now).since(timer.at);
            let is_too_late = self.limit.is_some_and(|limit| late > span(limit));
            let lateness = if is_too_late { Lateness::Hold(late) } else { Lateness::Accepted };
            let (release, generation) = (release.id().clone(), release.progress.timer_generation);
            assert!(self.fire(&release, generation, lateness), "{release} has a timer that is due");
        }
        panic!("the timers never come to rest");
    }

    fn fire_all_due(&mut self) {
        let flags: Vec<FlagId> = self.state.flags().map(|flag| flag.id.clone()).collect();
        self.fire_due(&flags);
    }

    fn fire_given(&mut self, number: usize, age: i64) {
        let release = release_id(number);
        let generation = |state: &Engine| {
            state.release(&release).map(|release| release.progress.timer_generation)
        };
        let Some(current) = generation(&self.state) else { return };
        if age != 0 {
            // No generation is smaller than none; it is the current one then, so take a later one.
            let stale = current.checked_add_signed(-age).unwrap_or(current + 1);
            assert!(!self.fire(&release, stale, Lateness::Accepted), "a stale timer fired");
            return;
        }
        let flag = self.state.release(&release).map(|release| release.proposal.flag.clone());
        self.fire_due(&flag.into_iter().collect::<Vec<_>>());
        if generation(&self.state) == Some(current) {
            self.fire(&release, current, Lateness::Accepted);
        }
    }

    /// Time goes by: every timer fires at its deadline, and a window without an opening in sight is
    /// looked at once a day.
    fn walk(&mut self, to: Ms) {
        loop {
            self.fire_all_due();
            let now = at(self.now);
            let just_before = at(self.now - 1);
            let is_looked_at = |release: &Release| {
                let timer = |time| deadline(release, time).map(|timer| timer.at);
                timer(now) != timer(just_before) && timer(just_before) == Some(now)
            };
            let mut looked_at: Vec<(FlagId, Revision, ReleaseId)> = self
                .state
                .all_unfinished()
                .filter(|release| is_looked_at(release))
                .map(|r| (r.proposal.flag.clone(), r.proposal.created, r.id().clone()))
                .collect();
            looked_at.sort();
            for (.., release) in looked_at {
                let known = self.state.release(&release).expect("it was there");
                let generation = known.progress.timer_generation;
                self.fire(&release, generation, Lateness::Accepted);
            }
            let timers = self.state.all_unfinished().filter_map(|release| deadline(release, now));
            let next = timers.map(|timer| timer.at).filter(|time| *time > now && *time <= at(to));
            match next.min() {
                Some(next) => self.now = next.as_millis(),
                None => break,
            }
        }
        self.now = to;
    }

    fn call(&mut self, call: &Call, time: Ms) {
        // What the caller saw, before any timer of this step.
        let action = action(&self.state, &self.templates, call);
        self.now = time;
        let release = action.release().and_then(|id| self.state.release(id));
        let flag = action.flag().or_else(|| release.map(|release| &release.proposal.flag)).cloned();
        if let Some(flag) = flag {
            self.fire_due(&[flag]);
        }
        let groups = call.groups.iter().map(|group| group_of(*group)).collect();
        let caller = Caller { principal: principal(call.who), groups };
        let command = Command::Call(command::Call {
            caller,
            request_id: None,
            reason: Arc::from("why not"),
            action,
        });
        self.outcome = match self.decide(&command) {
            Ok(true) => Outcome::Committed,
            Ok(false) => Outcome::Nothing,
            Err(refusal) => Outcome::Refused(self.reason(&refusal)),
        };
    }

    /// Why, in the model's words. What a refusal says about where the release stands must be so.
    fn reason(&self, refusal: &Refusal) -> Reason {
        if let Refusal::Release { standing, .. } = refusal {
            let release = self.state.release(&standing.release).expect("one that stands");
            assert_eq!(standing.state, release.state());
            assert_eq!(standing.held, release.held_state());
            assert_eq!(standing.revision, release.progress.revision);
        }
        reason(refusal)
    }

    /// What a flag answers in an environment.
    pub(crate) fn answer(&self, flag: usize, environment: Environment) -> u8 {
        let flag = self.state.flag(&flag_id(flag)).expect("a flag of the model");
        let name = match environment {
            Environment::Staging => STAGING.to_owned(),
            Environment::Phase(phase) => format!("e{phase}"),
            Environment::Other => "elsewhere".to_owned(),
        };
        let attributes =
            Object::from([(Arc::from(TARGETING_KEY), Value::String(Arc::from("ann")))]);
        let context = Context { environment: &id(&name), attributes: &attributes };
        let active = self.state.active_release(&flag.id);
        let answer = evaluate(flag, active.map(|release| &**release), &context, Bucketing::V3);
        let known = (0..=u8::MAX).find(|number| Value::Object(value(*number)) == answer.value);
        known.expect("a value of the story")
    }

    /// When a release is looked at, and for what.
    pub(crate) fn timer(&self, release: &Release) -> Option<(Kind, Ms)> {
        deadline(release, at(self.now)).map(|timer| (kind(timer.kind), timer.at.as_millis()))
    }
}
