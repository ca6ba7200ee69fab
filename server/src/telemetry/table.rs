//! The table of metrics: the one place where a metric has its name.
//!
//! Names, units and labels are those of the semantic conventions of OpenTelemetry where these have any
//! (`rpc.*`, `http.*`, `process.*`, `error.type`, `service.version`), and else begin with `phasegate`.
//! What Prometheus calls them follows from it, see [`prometheus_name`].

use super::cells::{
    By, Calls, Cell, Counter, Gauge, Histogram, Info, Kind, Label, Point, TimeCounter, TimeGauge,
};
use std::fmt::Write as _;

/// A metric as it stands.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its unit in UCUM; things are in braces.
    pub unit: &'static str,
    /// What it says.
    pub help: String,
    /// What its numbers are.
    pub kind: Kind,
    /// Names of its labels, with their values if there is a list of them.
    pub labels: Vec<(&'static str, &'static [&'static str])>,
    /// Its series.
    pub points: Vec<Point>,
}

macro_rules! table {
    ($($(#[doc = $help:literal])+ $field:ident: $cell:ty = $new:expr, $name:literal, $unit:literal;)+) => {
        /// All that is counted. One for each server.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $cell,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: $new,)+ }
            }
        }

        impl Metrics {
            /// All metrics as they stand, in the order of the table.
            pub fn families(&self) -> Vec<Family> {
                vec![$(Family {
                    name: $name,
                    unit: $unit,
                    help: concat!($($help),+).trim().to_owned(),
                    kind: <$cell as Cell>::KIND,
                    labels: self.$field.labels(),
                    points: self.$field.points(),
                },)+]
            }
        }
    };
}

table! {
    /// Commits that are durable.
    commits: Counter = Counter::default(), "phasegate.commits", "{commit}";
    /// Commits in one durable write.
    batch_commits: Histogram = Histogram::of_things(BATCHES), "phasegate.commit.batch.size", "{commit}";
    /// Time from handing a batch to the store until it was durable.
    commit_time: Histogram = Histogram::of_seconds(DISK), "phasegate.commit.duration", "s";
    /// Time that the barrier of a durable write took: writing to the page cache, and fdatasync.
    sync_time: Histogram = Histogram::of_seconds(DISK), "phasegate.store.sync.duration", "s";
    /// What happened to releases, as far as it is durable.
    transitions: By<Counter> = By::new(&TRANSITIONS), "phasegate.release.transitions", "{transition}";
    /// Calls for a change that were refused, and calls that were refused at the gate.
    refusals: By<Counter> = By::new(&REASONS), "phasegate.refusals", "{refusal}";
    /// Refusals that were to be put on record while the writer had its hands full: only counted there.
    refusals_unnoted: Counter = Counter::default(), "phasegate.audit.refusals.unnoted", "{refusal}";
    /// Calls that repeated an earlier one by its request_id.
    replays: Counter = Counter::default(), "phasegate.requests.repeated", "{request}";
    /// Messages that wait for the writer.
    queue: Gauge = Gauge::default(), "phasegate.writer.queue.length", "{message}";
    /// Timers that fired and did something.
    timers_fired: Counter = Counter::default(), "phasegate.timers.fired", "{timer}";
    /// Timers that were disarmed or armed anew between coming due and being looked at.
    timers_stale: Counter = Counter::default(), "phasegate.timers.stale", "{timer}";
    /// Timers found so late that their release was held for a person.
    timers_held: Counter = Counter::default(), "phasegate.timers.held", "{timer}";
    /// Timers that came due while nobody looked, and still wait for their turn.
    timers_overdue: Gauge = Gauge::default(), "phasegate.timers.overdue", "{timer}";
    /// From when a timer was due to its commit.
    timer_lateness: Histogram = Histogram::of_seconds(LATENESS), "phasegate.timer.lateness", "s";
    /// Steps of wall time.
    clock_steps: Counter = Counter::default(), "phasegate.clock.steps", "{step}";
    /// Releases that are not over.
    releases: By<Gauge> = By::new(&STATES), "phasegate.releases", "{release}";
    /// Flags that there are.
    flags: Gauge = Gauge::default(), "phasegate.flags", "{flag}";
    /// The newest durable revision.
    revision: Gauge = Gauge::default(), "phasegate.store.revision", "{commit}";
    /// The oldest revision that the log reaches back to; 0 if nothing was ever removed.
    oldest_revision: Gauge = Gauge::default(), "phasegate.store.revision.oldest", "{commit}";
    /// Changes that retention removed from the log.
    changes_removed: Counter = Counter::default(), "phasegate.log.changes.removed", "{change}";
    /// Bytes that the files of the data directory have; 0 in memory.
    store_size: Gauge = Gauge::default(), "phasegate.store.size", "By";
    /// Bytes that can still be written where the store lives; 0 in memory.
    store_free: Gauge = Gauge::default(), "phasegate.store.free", "By";
    /// 1 if commits are taken, 0 if the disk is too full or the server has no store yet.
    store_writable: Gauge = Gauge::default(), "phasegate.store.writable", "1";
    /// Watches that are open.
    watch_streams: Gauge = Gauge::default(), "phasegate.watch.streams", "{stream}";
    /// Commits that the slowest open watch is behind the newest one.
    watch_lag: Gauge = Gauge::default(), "phasegate.watch.lag", "{commit}";
    /// Watches that the server ended.
    watch_ends: By<Counter> = By::new(&ENDS), "phasegate.watch.ends", "{stream}";
    /// Streams of applications that are open: those that are sent whole sets, and those that hear of changes.
    applications: By<Gauge> = By::new(&PURPOSES), "phasegate.delivery.streams", "{stream}";
    /// Streams of sets that were not yet given the newest one.
    applications_behind: Gauge = Gauge::default(), "phasegate.delivery.streams.behind", "{stream}";
    /// Notifications in the outbox.
    outbox: By<Gauge> = By::new(&LETTERS), "phasegate.outbox.notifications", "{notification}";
    /// Age of the oldest notification that is still to be sent; 0 if none is.
    outbox_age: TimeGauge = TimeGauge::default(), "phasegate.outbox.oldest.age", "s";
    /// Attempts to send a notification.
    attempts: By<Counter> = By::new(&ATTEMPTS), "phasegate.notification.attempts", "{attempt}";
    /// Notifications that were given up.
    given_up: Counter = Counter::default(), "phasegate.notification.given_up", "{notification}";
    /// Connections that are open.
    connections: Gauge = Gauge::default(), "phasegate.connections", "{connection}";
    /// Duration of calls of gRPC, to the end of the answer; of a stream that is its whole life.
    rpc: Calls = Calls::new(
        ["rpc.method", "rpc.response.status_code"], &[("rpc.system.name", "grpc")], REQUESTS
    ), "rpc.server.call.duration", "s";
    /// Duration of requests of HTTP (pages, OFREP) to the headers of the answer.
    http: Calls = Calls::new(
        ["http.request.method", "http.response.status_code"], &[], REQUESTS
    ), "http.server.request.duration", "s";
    /// Times that metrics could not be pushed over OTLP.
    otlp_failures: Counter = Counter::default(), "phasegate.otlp.failures", "{push}";
    /// Always 1; its label says which version runs.
    build: Info = Info(&[("service.version", env!("CARGO_PKG_VERSION"))]), "phasegate.build.info", "1";
    /// Processor time that the process has used.
    cpu: TimeCounter = TimeCounter::default(), "process.cpu.time", "s";
    /// Resident memory of the process.
    memory: Gauge = Gauge::default(), "process.memory.usage", "By";
    /// Files and sockets that the process has open.
    files: Gauge = Gauge::default(), "process.unix.file_descriptor.count", "{file_descriptor}";
    /// Files and sockets that it may have open.
    files_max: Gauge = Gauge::default(), "phasegate.process.file_descriptor.limit", "{file_descriptor}";
    /// Threads of the process.
    threads: Gauge = Gauge::default(), "process.thread.count", "{thread}";
    /// Time since the server began.
    uptime: TimeGauge = TimeGauge::default(), "process.uptime", "s";
}

/// An fdatasync takes from some tens of microseconds to seconds.
const DISK: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Those that the conventions advise for `rpc.server.call.duration` and `http.server.request.duration`,
/// and two below, because most calls are.
const REQUESTS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const LATENESS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0];

/// Types of events, as the API has them.
static TRANSITIONS: Label = Label {
    name: "phasegate.event.type",
    values: &[
        "TRIGGERED",
        "STARTED",
        "PHASE_ENTERED",
        "APPROVAL_RECORDED",
        "APPROVAL_REJECTED",
        "WINDOW_OPENED",
        "WINDOW_RESCHEDULED",
        "WINDOW_OVERRIDDEN",
        "PHASE_APPLIED",
        "BAKE_ELAPSED",
        "BAKE_ADJUSTED",
        "GUARD_REPORTED",
        "PHASE_SUCCEEDED",
        "PHASE_SKIPPED",
        "PAUSED",
        "UNPAUSED",
        "SUCCEEDED",
        "ABORTED",
        "FAILED",
    ],
};

/// Reasons of refusals, as the API has them.
static REASONS: Label = Label {
    name: "error.type",
    values: &[
        "INVALID_FIELD",
        "REASON_REQUIRED",
        "REQUEST_ID_REUSED",
        "INVALID_PAGE_TOKEN",
        "RESOURCE_NOT_FOUND",
        "RESOURCE_EXISTS",
        "ETAG_MISMATCH",
        "UNAUTHENTICATED",
        "NOT_AN_APPROVER",
        "SELF_APPROVAL",
        "PERMISSION_MISSING",
        "RELEASE_OVER",
        "RELEASE_NOT_STARTED",
        "RELEASE_PAUSED",
        "ALREADY_PAUSED",
        "NOT_PAUSED",
        "PHASE_NOT_CURRENT",
        "PHASE_NOT_AWAITING_APPROVAL",
        "PHASE_NOT_AWAITING_WINDOW",
        "PHASE_NOT_BAKING",
        "ALREADY_REVIEWED",
        "APPROVAL_PENDING",
        "WINDOW_CLOSED",
        "FLAG_LOCKED",
        "PIPELINE_REQUIRED",
        "ACTIVE_RELEASE_EXISTS",
        "BASE_CHANGED",
        "NO_CHANGE",
        "RESOURCE_IN_USE",
        "STORE_REPLACED",
        "REVISION_COMPACTED",
        "REVISION_IN_FUTURE",
        "VIEW_CHANGED",
        "QUEUE_FULL",
        "SLOW_CONSUMER",
        "TOO_MANY_WATCHES",
        "FLAG_SET_TOO_LARGE",
        "RATE_LIMITED",
        "OVERLOADED",
        "STREAM_EXPIRED",
        "SERVER_DRAINING",
        "STORE_READ_ONLY",
        "INTERNAL",
    ],
};

static STATES: Label = Label {
    name: "phasegate.release.state",
    values: &["pending", "awaiting_approval", "awaiting_window", "baking", "held"],
};

static ENDS: Label = Label {
    name: "phasegate.watch.end",
    values: &["expired", "deadline_exceeded", "draining", "slow_consumer", "compacted"],
};

static PURPOSES: Label = Label { name: "phasegate.delivery.purpose", values: &["sets", "changes"] };

static LETTERS: Label =
    Label { name: "phasegate.notification.state", values: &["pending", "dead"] };

static ATTEMPTS: Label =
    Label { name: "phasegate.notification.outcome", values: &["delivered", "failed"] };

/// What Prometheus calls a metric: dots are underscores, the unit is at the end unless it is a thing or
/// none, and what only grows ends with `_total`. These are the rules of OpenTelemetry's document
/// "Prometheus and OpenMetrics Compatibility".
pub fn prometheus_name(family: &Family) -> String {
    let mut name = prometheus_label(family.name);
    let unit = match family.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    name.push_str(unit);
    if family.kind == Kind::Counter {
        name.push_str("_total");
    }
    name
}

/// What Prometheus calls a label.
pub fn prometheus_label(name: &str) -> String {
    name.replace('.', "_")
}

/// The table of metrics as it stands in `docs/observability.md`.
pub fn document() -> String {
    let mut text = String::from(
        "| OpenTelemetry | Prometheus | kind | unit | labels | what it says |\n|---|---|---|---|---|---|\n",
    );
    for family in Metrics::default().families() {
        let label = |(name, values): &(&str, &[&str])| match values.len() {
            0 => format!("`{name}`"),
            1..=5 => format!("`{name}`: {}", values.join(", ")),
            _ => format!("`{name}`: {} values", values.len()),
        };
        let labels: Vec<_> = family.labels.iter().map(label).collect();
        let (name, kind, unit) = (family.name, family.kind.name(), family.unit);
        let prometheus = prometheus_name(&family);
        let row = format!(
            "| `{name}` | `{prometheus}` | {kind} | `{unit}` | {} | {} |",
            labels.join("; "),
            family.help
        );
        writeln!(text, "{row}").expect("writing to a String does not fail");
    }
    text
}
