//! When timers fire, and what each of them does: the table of timers, and the order in which a server
//! feeds them. Those that are due come before a call, oldest deadline first.

use crate::{
    calls::Seen,
    model::{Fired, Model, Said},
    words::{Cause, End, Kind, Ms, PhaseState, Step, Verb, What},
};

impl Model {
    /// One step of a story.
    pub(crate) fn step(&mut self, step: &Step) {
        self.said = Said::default();
        match &step.what {
            What::Call(call) => {
                let seen: Seen = self.seen(call);
                self.now = step.at;
                let (named, of_release) = match &call.verb {
                    Verb::Trigger(trigger) => (Some(trigger.flag), None),
                    Verb::Flag { flag, .. } => (Some(*flag), None),
                    Verb::Steer { release, .. } => (None, self.releases.get(release)),
                    Verb::Pipeline { .. } => (None, None),
                };
                let flag = named.or_else(|| of_release.map(|release| release.flag));
                self.fire_due(&flag.into_iter().collect::<Vec<_>>());
                self.said.cell = self.cell(call);
                self.said.outcome = self.call(call, seen);
            }
            What::Fire { release, age } => {
                self.now = step.at;
                if self.releases.contains_key(release) {
                    self.fire_given(*release, *age);
                }
            }
            What::Walk if step.at > self.now => self.walk(step.at),
            What::Walk | What::Wake => {
                self.now = step.at;
                let flags: Vec<usize> = self.flags.keys().copied().collect();
                self.fire_due(&flags);
            }
        }
    }

    /// The timer of a release comes due and is judged. Whether it is, its caller has seen to.
    fn fire(&mut self, id: usize) {
        let release = self.release(id).clone();
        let (kind, at) = release.timer(self.now).expect("a release with a timer");
        let late = self.now - at;
        let is_too_late = self.limit.is_some_and(|limit| late > limit);
        let grows_exposure = matches!(kind, Kind::Start | Kind::Window | Kind::Bake);
        let fired = match (is_too_late && grows_exposure, late > 0) {
            (true, _) => Fired::Held,
            (false, true) => Fired::Late,
            (false, false) => Fired::OnTime,
        };
        self.said.fired.push((release.row(), Some(kind), fired));
        if fired == Fired::Held {
            // It makes no room for another release: the flag is not settled.
            return self.commit(None, None, None, |model| model.hold(id, Cause::Overdue(late)));
        }
        self.commit(None, None, Some(release.flag), |model| model.come_due(id, kind, Some(at)));
    }

    fn come_due(&mut self, id: usize, kind: Kind, at: Option<Ms>) {
        self.timer = at.map(|at| (id, at));
        let phase = self.release(id).standing.phase;
        match (kind, phase) {
            // Settling the flag starts it.
            (Kind::Start, _) | (_, None) => {}
            (Kind::Expiry, Some(_)) => self.end(id, End::ApprovalExpired, PhaseState::Failed),
            (Kind::Bake, Some(phase)) => self.bake_end(id, phase),
            (Kind::Guard, Some(phase)) => self.time_out(id, phase),
            (Kind::Window, Some(phase)) if self.release(id).is_open(phase, self.now) => {
                self.log(id, "WINDOW_OPENED", Some(phase));
                self.apply(id, phase);
            }
            (Kind::Window, Some(phase)) => {
                // That nothing could be done is not what the timer did.
                self.timer = None;
                self.log(id, "WINDOW_RESCHEDULED", Some(phase));
                self.standing(id).until = self.next_open(id, phase);
            }
        }
    }

    fn next_open(&self, id: usize, phase: usize) -> Option<Ms> {
        let window = self.release(id).phase(phase).window.as_ref();
        window.expect("it waits for it").next_open(self.now)
    }

    /// The timer of these flags that is due and does something: oldest deadline, then oldest release.
    fn next_due(&self, flags: &[usize]) -> Option<usize> {
        let ids = flags
            .iter()
            .flat_map(|flag| self.unfinished(*flag).into_iter().map(move |id| (*flag, id)));
        let due = ids.filter_map(|(flag, id)| {
            let (kind, at) = self.release(id).timer(self.now)?;
            let is_in_vain = kind == Kind::Start && self.active(flag).is_some();
            (at <= self.now && !is_in_vain).then_some((at, self.release(id).created, id))
        });
        due.min().map(|(.., id)| id)
    }

    fn fire_due(&mut self, flags: &[usize]) {
        while let Some(id) = self.next_due(flags) {
            self.fire(id);
        }
    }

    /// A timer as a queue of timers hands it over, perhaps a stale one.
    fn fire_given(&mut self, id: usize, age: i64) {
        let timer = |model: &Self| model.release(id).timer(model.now);
        if age != 0 {
            return self.said.fired.push((self.release(id).row(), None, Fired::Dropped));
        }
        let armed = timer(self);
        self.fire_due(&[self.release(id).flag]);
        let Some((kind, at)) = armed.filter(|_| timer(self) == armed) else { return };
        if self.release(id).is_out_of_sight() {
            return self.look(id);
        }
        let fired = if at > self.now { Fired::Early } else { Fired::Nothing };
        self.said.fired.push((self.release(id).row(), Some(kind), fired));
    }

    /// A look at a window without an opening in sight.
    fn look(&mut self, id: usize) {
        let release = self.release(id);
        let phase = release.standing.phase.expect("it waits for a window");
        let sees_something = self.next_open(id, phase).is_some();
        let fired = if sees_something { Fired::OnTime } else { Fired::Nothing };
        let (row, flag) = (release.row(), release.flag);
        self.said.fired.push((row, Some(Kind::Window), fired));
        if sees_something {
            self.commit(None, None, Some(flag), |model| model.come_due(id, Kind::Window, None));
        }
    }

    /// The clock goes on to `to`, and stops wherever a timer is due.
    fn walk(&mut self, to: Ms) {
        let flags: Vec<usize> = self.flags.keys().copied().collect();
        loop {
            self.fire_due(&flags);
            let now = self.now;
            let all = || flags.iter().flat_map(|flag| self.unfinished(*flag));
            let is_looked_at = |id: &usize| {
                let release = self.release(*id);
                release.is_out_of_sight() && release.timer(now - 1).is_some_and(|(_, at)| at == now)
            };
            let looked_at: Vec<usize> = all().filter(is_looked_at).collect();
            for id in looked_at {
                self.look(id);
            }
            let all = flags.iter().flat_map(|flag| self.unfinished(*flag));
            let next = all.filter_map(|id| self.release(id).timer(now)).map(|(_, at)| at);
            match next.filter(|at| *at > now && *at <= to).min() {
                Some(at) => self.now = at,
                None => break,
            }
        }
        self.now = to;
    }
}
