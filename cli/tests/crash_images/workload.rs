//! What happens on the disk that is crashed later: a server with several callers at once, started,
//! stopped, killed and started again, over days of its own time.

use crate::server::{End, Kill, Scene, Server};
use phasegate_api::{
    rehearsal::{AdvanceRequest, clock_service_client::ClockServiceClient},
    v1::{
        self, flag_service_client::FlagServiceClient,
        pipeline_service_client::PipelineServiceClient,
        release_service_client::ReleaseServiceClient,
    },
};
use prost::Message;
use prost_types::{Duration, Struct, Value, value::Kind};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::fs;
use tonic::{Code, Response, Status, transport::Channel};

/// Callers at a time: enough that batches hold several commits.
const CALLERS: u32 = 8;

/// The time from a start to the next end of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Life {
    /// Killed so early that it hardly gets to serve: in the middle of recovery, mostly.
    Short,
    /// Serves callers; then is asked to stop, or is killed on the way.
    Busy { ends: Ends, first: First },
}

/// How a busy life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Stopped,
    Killed,
}

/// What happens before callers come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Nothing,
    /// Two hours pass, and the log of what was before is removed.
    Compaction,
    /// A day passes, and requests are forgotten too.
    Forgetting,
}

/// The lives of one run: each kind of end meets each kind of start.
pub(crate) const LIVES: [Life; 14] = {
    use {Ends::*, First::*, Life::*};
    [
        Short,
        Short,
        Busy { ends: Stopped, first: Nothing },
        Short,
        Busy { ends: Killed, first: Nothing },
        Busy { ends: Killed, first: Nothing },
        Short,
        Busy { ends: Stopped, first: Compaction },
        Busy { ends: Killed, first: Compaction },
        Short,
        Short,
        Busy { ends: Killed, first: Forgetting },
        Busy { ends: Stopped, first: Nothing },
        Busy { ends: Killed, first: Compaction },
    ]
};

/// What a caller asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request_id: String,
    /// For one about a flag: which, and which of its contents it writes.
    pub(crate) content: Option<(String, Content)>,
    pub(crate) outcome: Outcome,
}

/// What a command about a flag leaves there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// One of this version, see [`text`].
    Version(u32),
    /// No flag.
    Gone(u32),
}

impl Content {
    pub(crate) fn version(self) -> u32 {
        match self {
            Self::Version(version) | Self::Gone(version) => version,
        }
    }
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It was acknowledged by these bytes, at this revision.
    Done { answer: Vec<u8>, revision: i64 },
    /// It was acknowledged by an answer that says nothing.
    DoneInSilence,
    /// It was refused and changed nothing.
    Refused,
    /// No answer came.
    Unknown,
}

/// What a life left.
#[derive(Debug)]
pub(crate) struct Lived {
    pub(crate) life: Life,
    pub(crate) asked: Vec<Asked>,
    pub(crate) end: End,
    /// Answers that showed how far the store goes, with the revision.
    pub(crate) shown: Vec<(Vec<u8>, u64)>,
    /// Length of the record before requests were forgotten.
    pub(crate) forgot_after: Option<u64>,
}

/// Lives one life.
pub(crate) async fn live(scene: &Scene, number: usize, random: &mut ChaCha8Rng) -> Lived {
    let life = LIVES[number];
    let kill = match life {
        Life::Short => Kill::Before(random.random_range(1..70)),
        Life::Busy { ends: Ends::Stopped, .. } => Kill::Never,
        // A busy life has more events than that, so it is always on the way.
        Life::Busy { ends: Ends::Killed, .. } => Kill::Before(random.random_range(100..800)),
    };
    let server = Server::start(scene, kill);
    let (mut asked, mut forgot_after) = (Vec::new(), None);
    // Before anything else happens: what was recovered is shown.
    let shown = show(&server).await.into_iter().collect();
    if let (Life::Busy { first, .. }, Some(channel)) = (life, server.channel()) {
        let hours = match first {
            First::Nothing => 0,
            First::Compaction => 2,
            First::Forgetting => {
                forgot_after = Some(length(scene));
                25
            }
        };
        if hours > 0 {
            advance(channel.clone(), hours * 3600).await;
        }
        create_pipeline(channel.clone()).await;
        for round in 0..2 {
            let callers: Vec<_> = (0..CALLERS)
                .filter_map(|caller| {
                    let random = ChaCha8Rng::seed_from_u64(random.random());
                    let channel = server.channel()?;
                    let id = format!("{number}-{round}-{caller}");
                    let caller = Caller { id, caller, random, asked: Vec::new() };
                    Some(tokio::spawn(caller.act(channel, number as u32 * 2 + round)))
                })
                .collect();
            for caller in callers {
                asked.extend(caller.await.unwrap());
            }
            // Timers fire, several in a batch.
            advance(channel.clone(), 90).await;
        }
    }
    Lived { life, asked, end: server.stop(), shown, forgot_after }
}

fn length(scene: &Scene) -> u64 {
    fs::metadata(&scene.record).unwrap().len()
}

/// Reads something, so that the server shows how far its store goes: an answer, and a revision.
pub(crate) async fn show(server: &Server) -> Option<(Vec<u8>, u64)> {
    let mut releases = ReleaseServiceClient::new(server.channel()?);
    let request = v1::ListReleasesRequest { page_size: 1, ..Default::default() };
    let answer = releases.list_releases(request).await.ok()?.into_inner();
    let revision = u64::try_from(answer.revision).ok()?;
    Some((answer.encode_to_vec(), revision))
}

/// The server may be gone, here and below: then nothing happens.
async fn advance(channel: Channel, seconds: i64) {
    let duration = Some(Duration { seconds, nanos: 0 });
    let _ = ClockServiceClient::new(channel).advance(AdvanceRequest { duration }).await;
}

async fn create_pipeline(channel: Channel) {
    let phase = |id: &str| v1::Phase {
        id: id.into(),
        rules: vec![v1::TargetingRule { id: id.into(), ..Default::default() }],
        bake_duration: Some(Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let pipeline = v1::Pipeline { phases: vec![phase("some"), phase("all")], ..Default::default() };
    let request = v1::CreatePipelineRequest {
        pipeline_id: "minutes".into(),
        pipeline: Some(pipeline),
        ..Default::default()
    };
    // It exists in every life but the first.
    let _ = PipelineServiceClient::new(channel).create_pipeline(request).await;
}

/// One caller: it does one thing after the other, until it has done enough or the server is gone.
struct Caller {
    id: String,
    caller: u32,
    random: ChaCha8Rng,
    asked: Vec<Asked>,
}

/// The server does not answer any more.
struct Gone;

impl Caller {
    async fn act(mut self, channel: Channel, round: u32) -> Vec<Asked> {
        // Half of the callers write flags, half turn releases.
        let gone = if self.caller.is_multiple_of(2) {
            self.write_flags(channel, round).await
        } else {
            self.turn_releases(channel).await
        };
        // Whether it was done or cut short, what was asked is what counts.
        let (Ok(()) | Err(Gone)) = gone;
        self.asked
    }

    fn request_id(&self) -> String {
        format!("{}-{}", self.id, self.asked.len())
    }

    /// Notes what became of a command; an error if the server is gone.
    fn note<T: Message>(
        &mut self,
        content: Option<(String, Content)>,
        result: Result<Response<T>, Status>,
        revision: impl FnOnce(&T) -> Option<i64>,
    ) -> Result<Code, Gone> {
        let request_id = self.request_id();
        let (outcome, code) = match result {
            Ok(response) => {
                let response = response.into_inner();
                let outcome = match revision(&response) {
                    Some(revision) => Outcome::Done { answer: response.encode_to_vec(), revision },
                    None => Outcome::DoneInSilence,
                };
                (outcome, Code::Ok)
            }
            // These are the server's word; anything else may be the end of a connection.
            Err(status) if [Code::NotFound, Code::AlreadyExists].contains(&status.code()) => {
                (Outcome::Refused, status.code())
            }
            Err(_) => (Outcome::Unknown, Code::Unavailable),
        };
        let gone = matches!(outcome, Outcome::Unknown);
        self.asked.push(Asked { request_id, content, outcome });
        if gone { Err(Gone) } else { Ok(code) }
    }

    /// Writes one flag again and again, from nothing to hundreds of KiB, and removes it sometimes.
    async fn write_flags(&mut self, channel: Channel, round: u32) -> Result<(), Gone> {
        let mut flags = FlagServiceClient::new(channel).max_decoding_message_size(16 << 20);
        let id = format!("config-{}", self.caller);
        let name = format!("flags/{id}");
        for step in 0..self.random.random_range(5..25) {
            // Versions grow over lives and rounds, which have fewer steps than that.
            let version = round * 1000 + step * 10;
            if self.random.random_bool(0.05) {
                let request_id = self.request_id();
                let request =
                    v1::DeleteFlagRequest { name: name.clone(), request_id, ..Default::default() };
                let result = flags.delete_flag(request).await;
                self.note(Some((id.clone(), Content::Gone(version))), result, |_| None)?;
            }
            let version = version + 1;
            let flag = flag(&name, version);
            let update_mask = Some(prost_types::FieldMask {
                paths: vec!["description".into(), "dynamic_config".into()],
            });
            let request_id = self.request_id();
            let request = v1::UpdateFlagRequest {
                request_id,
                flag: Some(flag),
                update_mask,
                ..Default::default()
            };
            let result = flags.update_flag(request).await;
            let revision = |done: &v1::UpdateFlagResponse| Some(done.flag.as_ref()?.revision);
            let content = Some((id.clone(), Content::Version(version)));
            if self.note(content, result, revision)? == Code::Ok {
                continue;
            }
            let version = version + 1;
            let mut flag = self::flag(&name, version);
            flag.name.clear();
            let request_id = self.request_id();
            let request = v1::CreateFlagRequest {
                request_id,
                flag_id: id.clone(),
                flag: Some(flag),
                ..Default::default()
            };
            let result = flags.create_flag(request).await;
            let revision = |done: &v1::CreateFlagResponse| Some(done.flag.as_ref()?.revision);
            let content = Some((id.clone(), Content::Version(version)));
            self.note(content, result, revision)?;
        }
        Ok(())
    }

    /// A flag of its own and releases of it, paused and unpaused; some are left to their timers.
    async fn turn_releases(&mut self, channel: Channel) -> Result<(), Gone> {
        let mut flags = FlagServiceClient::new(channel.clone());
        let mut releases = ReleaseServiceClient::new(channel).max_decoding_message_size(16 << 20);
        let gate = |default_value| v1::GateSpec { rules: vec![], default_value };
        let flag =
            v1::Flag { spec: Some(v1::flag::Spec::FeatureGate(gate(false))), ..Default::default() };
        let flag_id = format!("gate-{}", self.id);
        let request_id = self.request_id();
        let request = v1::CreateFlagRequest {
            request_id,
            flag_id: flag_id.clone(),
            flag: Some(flag),
            ..Default::default()
        };
        let result = flags.create_flag(request).await;
        self.note(None, result, |done| Some(done.flag.as_ref()?.revision))?;
        let last = self.random.random_range(0..3);
        for number in 0..=last {
            let release_id = format!("{}-{number}", self.id);
            let name = format!("releases/{release_id}");
            let release = v1::Release {
                flag: format!("flags/{flag_id}"),
                pipeline: "pipelines/minutes".into(),
                description: "w".repeat(self.random.random_range(0..1000)),
                change: Some(v1::release::Change::FeatureGate(gate(true))),
                ..Default::default()
            };
            let request = v1::TriggerReleaseRequest {
                request_id: self.request_id(),
                release_id,
                release: Some(release),
                ..Default::default()
            };
            let result = releases.trigger_release(request).await;
            self.note(None, result, |done| Some(done.release.as_ref()?.revision))?;
            for _ in 0..self.random.random_range(1..6) {
                let (name, request_id) = (name.clone(), self.request_id());
                let pause = v1::PauseReleaseRequest {
                    name: name.clone(),
                    request_id,
                    ..Default::default()
                };
                let result = releases.pause_release(pause).await;
                self.note(None, result, |done| Some(done.release.as_ref()?.revision))?;
                let request_id = self.request_id();
                let unpause = v1::UnpauseReleaseRequest { name, request_id, ..Default::default() };
                let result = releases.unpause_release(unpause).await;
                self.note(None, result, |done| Some(done.release.as_ref()?.revision))?;
            }
            if number < last {
                let (request_id, reason) = (self.request_id(), "make room".into());
                let abort = v1::AbortReleaseRequest { name, request_id, reason };
                let result = releases.abort_release(abort).await;
                self.note(None, result, |done| Some(done.release.as_ref()?.revision))?;
            }
        }
        Ok(())
    }
}

/// A flag whose description and value both say which version it is. Some versions fit into a sector,
/// some need many parts.
fn flag(name: &str, version: u32) -> v1::Flag {
    let value = text(version, value_bytes(version));
    let fields = [("text".to_owned(), Value { kind: Some(Kind::StringValue(value)) })];
    let config =
        v1::ConfigSpec { rules: vec![], default_value: Some(Struct { fields: fields.into() }) };
    v1::Flag {
        name: name.to_owned(),
        description: text(version, 0),
        spec: Some(v1::flag::Spec::DynamicConfig(config)),
        ..Default::default()
    }
}

/// How long the value of a version is.
pub(crate) fn value_bytes(version: u32) -> usize {
    const BYTES: [usize; 8] = [0, 100, 1_000, 3_000, 5_000, 9_000, 20_000, 60_000];
    BYTES[version as usize / 10 % BYTES.len()]
}

/// The number of a version, and then so many bytes that follow from it.
pub(crate) fn text(version: u32, bytes: usize) -> String {
    let mut text = format!("{version}:");
    let letters = (b'a'..=b'z').map(char::from).cycle().skip(version as usize % 26);
    text.extend(letters.take(bytes));
    text
}
