//! `phasegate serve`: the server.
//!
//! [`Settings`] is the table of all that can be set: see [`settings`](crate::settings) for where. A new
//! setting is one field here.

use crate::{
    failure::Failure,
    output,
    process::{self, CoreFiles},
    settings::{self, Problem, Resolved},
    telemetry::{Log, Telemetry},
    time,
};
use chrono::{DateTime, Utc};
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use phasegate_server::{
    app::{self, App},
    config::{
        Bucketing, ClockSource, Config, DEFAULT_PORT, Data, Edge, EnvironmentId, Exposure, Span,
        Timestamp, Tls,
    },
    driver::{FLAG_SET_BYTES_MAX, FlagSets},
};
use std::{fmt, future::Future, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

/// What the flags said; the rest of the settings is looked for when they are needed.
#[derive(Debug)]
pub(crate) struct Serve(ArgMatches);

impl Args for Serve {
    fn augment_args(command: Command) -> Command {
        settings::declare::<Settings>(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Serve {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

/// All that can be set.
#[derive(Args, Debug)]
pub(crate) struct Settings {
    /// Where to listen; port 0 takes a free one. What is not loopback needs TLS and --authentication
    #[arg(long, default_value_t = default_address(), value_name = "ADDR")]
    listen: SocketAddr,
    /// Where commits go: a directory of its own, made if it is missing
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep everything in memory and forget it at the end: for rehearsals
    #[arg(long)]
    memory: bool,
    /// Which clock timers follow: the system's, or one that `phasegate clock` moves
    #[arg(long, value_enum, default_value_t = ClockKind::System)]
    clock: ClockKind,
    /// What a manual clock says at first
    #[arg(long, value_name = "RFC3339", value_parser = time::parse_instant)]
    clock_start: Option<DateTime<Utc>>,
    /// Hold releases whose timer is found later than this; 0s never holds
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    #[arg(value_parser = time::parse_duration)]
    hold_if_late_by: Duration,
    /// How long events are kept
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    #[arg(value_parser = time::parse_duration)]
    keep_events: Duration,
    /// How contexts are hashed into shares
    #[arg(long, value_enum, default_value_t = BucketingKind::V3)]
    bucketing: BucketingKind,
    /// A name by which browsers may ask for the status page, besides loopback ones: that of a proxy in
    /// front; may come more than once
    #[arg(long = "page-host", value_name = "NAME")]
    page_hosts: Vec<String>,
    /// Connections that one address may have open, loopback apart: more if a proxy brings everybody
    #[arg(long, value_name = "COUNT", default_value_t = Edge::default().connections_per_address_max)]
    connections_per_address: usize,
    /// Let a crash write a core file: it holds credentials
    #[arg(long)]
    allow_core_files: bool,
    /// The file that says who is told of what: sinks, with what they want to hear of; read again when
    /// it changes, and at SIGHUP
    #[arg(long, value_name = "FILE")]
    notifications: Option<PathBuf>,
    /// Who may do what: a file, read again when it changes and at SIGHUP. Without it callers are believed
    /// and may do everything
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    telemetry: Telemetry,
    #[command(flatten)]
    log: Log,
}

/// What stands between the server and a network.
#[derive(Args, Debug)]
struct Network {
    /// The authentication file: who vouches for callers (docs/identity.md); read again when it changes
    #[arg(long, value_name = "FILE")]
    authentication: Option<PathBuf>,
    /// The server's certificate with its chain, in PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM, mode 0600
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Listen where others can reach it without TLS or without authentication: whoever does may read along,
    /// and without an authentication file be whoever they say
    #[arg(long)]
    insecure_allow_plaintext_unauthenticated: bool,
}

/// How applications follow flags.
#[derive(Args, Debug)]
struct Delivery {
    /// An environment that applications may ask for though no flag and no pipeline names it; may come
    /// more than once
    #[arg(long = "environment", value_name = "ID", value_parser = EnvironmentId::parse)]
    environments: Vec<EnvironmentId>,
    /// The environment of applications that select none
    #[arg(long, value_name = "ID")]
    #[arg(value_parser = EnvironmentId::parse)]
    default_environment: Option<EnvironmentId>,
    /// An origin, such as https://app.example.com, whose pages may ask for answers over OFREP; may
    /// come more than once
    #[arg(long = "ofrep-origin", value_name = "ORIGIN")]
    ofrep_origins: Vec<String>,
    /// An origin, such as https://app.example.com, whose pages may call the API over gRPC-Web; may come
    /// more than once
    #[arg(long = "grpc-web-origin", value_name = "ORIGIN")]
    grpc_web_origins: Vec<String>,
    /// Bytes that all flags together may come to as applications are sent them, or `none` if no
    /// application evaluates by itself: clients refuse messages above 4 MiB
    #[arg(long, default_value_t = FlagSetLimit(Some(FLAG_SET_BYTES_MAX)), value_name = "BYTES")]
    flag_set_limit: FlagSetLimit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClockKind {
    /// The system's
    System,
    /// Stands still until `phasegate clock advance`
    Manual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BucketingKind {
    /// The UTF-8 bytes of a text
    V2,
    /// Their CBOR encoding
    V3,
}

/// How large flags may become, or not to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlagSetLimit(Option<usize>);

impl FromStr for FlagSetLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            number => match number.parse() {
                Ok(bytes) => Ok(Self(Some(bytes))),
                Err(_) => Err("write a number of bytes, or none".to_owned()),
            },
        }
    }
}

impl fmt::Display for FlagSetLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => bytes.fmt(f),
            None => f.write_str("none"),
        }
    }
}

fn default_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))
}

impl Serve {
    /// The settings, as they hold.
    pub(crate) fn resolve<S: Args>(&self) -> Result<Resolved<S>, Failure> {
        let resolved = settings::resolve(&self.0, &|name| std::env::var_os(name));
        // The table and its parser are of one source.
        resolved.map_err(|error| Failure::Usage(error.to_string()))
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Resolved { settings, mut problems, .. } = self.resolve::<Settings>()?;
        let (config, contradictions) = settings.config();
        if problems.is_empty() {
            problems = contradictions;
        }
        if !problems.is_empty() {
            return Err(Failure::Config(problems));
        }
        let traces = settings.log.start(config.telemetry.otlp.as_ref())?;
        let core_files =
            if settings.allow_core_files { CoreFiles::Allowed } else { CoreFiles::Never };
        process::prepare(core_files);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let app = App::bind(config).await?;
        let stop = async {
            // Without signals there is nobody to ask for an orderly end; the server runs on.
            if app::terminated().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let metrics = match app.metrics_addr() {
            Some(address) => format!("metrics on http://{address}/metrics\n"),
            None => String::new(),
        };
        let announce =
            |address| output::print(&format!("listening on {scheme}://{address}\n{metrics}"));
        let served = serve(app, stop, announce).await;
        if let Some(traces) = traces {
            // It blocks while the last spans are sent, which is a task of this runtime.
            let _ = tokio::task::spawn_blocking(move || traces.stop()).await;
        }
        served
    }
}

impl Settings {
    /// What the server is started with, and all that contradicts itself in it.
    pub(crate) fn config(&self) -> (Config, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut wrong = |text: &str| problems.push(Problem::new(text));
        let data = match (&self.data, self.memory) {
            (Some(dir), false) => Data::Dir(dir.clone()),
            (None, true) => Data::Memory,
            (None, false) => {
                wrong("there is no place for data: set data to a directory, or memory");
                Data::Memory
            }
            (Some(_), true) => {
                wrong("data and memory exclude each other: one of them has to go");
                Data::Memory
            }
        };
        let mut config = Config::new(data);
        config.listen = self.listen;
        config.clock = match (self.clock, self.clock_start) {
            (ClockKind::System, None) => ClockSource::System,
            (ClockKind::System, Some(_)) => {
                wrong("clock-start goes only with clock: manual");
                ClockSource::System
            }
            (ClockKind::Manual, start) => {
                let start = start.unwrap_or_else(time::local_now);
                ClockSource::Manual { start: Timestamp::from_millis(start.timestamp_millis()) }
            }
        };
        config.authentication = self.network.authentication.clone();
        config.tls = match (&self.network.tls_cert, &self.network.tls_key) {
            (Some(certificate), Some(key)) => {
                Some(Tls { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => None,
            (None, Some(_)) | (Some(_), None) => {
                wrong("tls-cert and tls-key go together: one of them is missing");
                None
            }
        };
        if let Err(error) = self.log.filter() {
            wrong(&error);
        }
        if self.network.insecure_allow_plaintext_unauthenticated {
            config.exposure = Exposure::Insecure;
        }
        match self.telemetry.config() {
            Ok(telemetry) => config.telemetry = telemetry,
            Err(problem) => wrong(&problem),
        }
        config.policy = self.policy.clone();
        config.page_hosts = self.page_hosts.clone();
        config.edge.connections_per_address_max = self.connections_per_address;
        config.notifications = self.notifications.clone();
        config.delivery.environments = self.delivery.environments.clone();
        config.delivery.default_environment = self.delivery.default_environment.clone();
        config.delivery.origins = self.delivery.ofrep_origins.clone();
        config.edge.grpc_web_origins = self.delivery.grpc_web_origins.clone();
        config.driver.flag_sets = FlagSets { bytes_max: self.delivery.flag_set_limit.0 };
        config.bucketing = match self.bucketing {
            BucketingKind::V2 => Bucketing::V2,
            BucketingKind::V3 => Bucketing::V3,
        };
        config.driver.timers.hold_if_late_by = span(self.hold_if_late_by);
        config.driver.retention.events = span(self.keep_events);
        (config, problems)
    }
}

fn span(duration: Duration) -> Span {
    Span::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// Runs a server until `stop`, and says where it listens once it serves.
pub(crate) async fn serve(
    mut app: App,
    stop: impl Future<Output = ()>,
    announce: impl FnOnce(SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let address = app.local_addr();
    let serving = app.when_serving();
    let announced = async {
        match serving.await {
            Ok(()) => announce(address),
            // It ended before: the server itself says why.
            Err(_) => Ok(()),
        }
    };
    let (served, announced) = tokio::join!(app.serve(stop), announced);
    served?;
    announced
}
