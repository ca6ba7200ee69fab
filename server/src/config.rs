//! Configuration: a plain struct with documented defaults, and the check that refuses what is not
//! safe or makes no sense. Reading it from flags, files or the environment is somebody else's work.

use crate::{access::Rates, delivery, driver, telemetry::otlp, watch};
pub use phasegate_engine::{
    id::{EnvironmentId, SinkId},
    targeting::Bucketing,
    time::{Span, Timestamp},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// The port that the server, its clients and the documents agree on.
pub const DEFAULT_PORT: u16 = 7433;

/// Events are kept at least so long: a client that lost its connection resumes from them.
const EVENTS_KEPT_MIN: Span = Span::from_secs(3600);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one. Anything but loopback needs [`Config::tls`] and
    /// [`Config::authentication`], or the override of [`Config::exposure`]. Default `127.0.0.1:7433`.
    pub listen: SocketAddr,
    /// The server's certificate. Default none: plain text.
    pub tls: Option<Tls>,
    /// The authentication file: who vouches for callers, see `docs/identity.md`. Default none: on
    /// loopback callers are believed.
    pub authentication: Option<PathBuf>,
    /// What is served to a network. Default guarded.
    pub exposure: Exposure,
    /// A TLS handshake that takes longer is given up. Default 10 s.
    pub handshake_max: Duration,
    /// So often it is looked whether the files of TLS and of authentication have changed. Default 5 s.
    pub reload_every: Duration,
    /// Where commits go. Has no default: losing data must be asked for.
    pub data: Data,
    /// Which clock timers follow. Default: the system's.
    pub clock: ClockSource,
    /// How contexts are hashed into buckets. Default: `V3`.
    pub bucketing: Bucketing,
    /// Timers and their holds, retention, and the rest of the writer's.
    pub driver: driver::Config,
    /// Limits and times of watches.
    pub watch: watch::Config,
    /// How applications follow flags.
    pub delivery: delivery::Config,
    /// How the server stops.
    pub drain: Drain,
    /// How much of everything strangers may ask for.
    pub edge: Edge,
    /// Names by which browsers may ask for the pages, besides loopback ones: those of a proxy in
    /// front. Any other name is refused, lest a site elsewhere points its own name here. Default none.
    pub page_hosts: Vec<String>,
    /// The file that says who is told of what. Default none: nobody is told of anything.
    pub notifications: Option<PathBuf>,
    /// The policy: who may do what. Default none: callers are believed and may do everything.
    pub policy: Option<PathBuf>,
    /// How it tells of itself.
    pub telemetry: Telemetry,
}

/// How the server tells of itself. Default: not at all.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Where `/metrics`, `/livez` and `/readyz` are served, without TLS and to everybody who reaches it;
    /// port 0 takes a free one. Anything but loopback needs [`Telemetry::exposure`].
    pub listen: Option<SocketAddr>,
    /// What is served to a network. Default guarded.
    pub exposure: Exposure,
    /// Where spans and metrics are sent. Spans need the layer that [`otlp::Traces`] makes besides.
    pub otlp: Option<otlp::Settings>,
}

/// Where commits go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Into this directory, which is created if it does not exist.
    Dir(PathBuf),
    /// Nowhere: everything is forgotten when the server stops. For rehearsals and tests.
    Memory,
}

/// Where the server's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and what leads to its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM; nobody else may be able to read it.
    pub key: PathBuf,
}

/// What is served to a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exposure {
    /// TLS to callers who are authenticated, or nothing.
    #[default]
    Guarded,
    /// Whatever is configured, `--insecure-allow-plaintext-unauthenticated`: who reaches the address may
    /// read along, and without an authentication file be whoever they say.
    Insecure,
}

/// Which clock timers follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockSource {
    /// The system's.
    System,
    /// One that stands still until it is told to move through
    /// `phasegate.rehearsal.v1.ClockService`, which is served only then.
    Manual {
        /// What it says at first. A store that has later commits moves it ahead to the last one.
        start: Timestamp,
    },
}

/// How the server stops. Between the two, watches end spread over
/// [`watch::Config::drain_over`], so that clients do not all come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// From NOT_SERVING to the refusal of new watches: load balancers need time to see it. Default
    /// 5 s.
    pub notice: Duration,
    /// What is still open after this time, counted from the start, is dropped. Default 20 s, below
    /// the 30 s that supervisors commonly grant.
    pub limit: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { notice: Duration::from_secs(5), limit: Duration::from_secs(20) }
    }
}

impl Drain {
    /// Without notice. What runs still gets a moment to finish.
    pub const AT_ONCE: Self = Self { notice: Duration::ZERO, limit: Duration::from_secs(5) };
}

/// How much of everything strangers may ask for at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// How many connections are served; more are closed as they come. Default 4096.
    pub connections_max: usize,
    /// How many of them may come from one address (of IPv6, from one network of /64), loopback
    /// apart. Default 64; a proxy in front brings everybody from one address and needs more.
    pub connections_per_address_max: usize,
    /// A connection that has not asked for anything by then is closed. Default 10 s.
    pub first_request_within: Duration,
    /// How many requests of those who are known are read and answered, streams that have begun and
    /// calls of WaitRelease apart, and as many of everybody else; more are refused as they come. Each
    /// holds 1 MiB at most. Default 256.
    pub running_max: usize,
    /// How many of them may be of one principal, where callers are authenticated. Default 64.
    pub running_per_principal_max: usize,
    /// How many calls a principal may make in a second, where callers are authenticated.
    pub rates: Rates,
    /// Origins whose pages may call over gRPC-Web, such as `https://app.example.com`. Default none: it is
    /// not served.
    pub grpc_web_origins: Vec<String>,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_address_max: 64,
            first_request_within: Duration::from_secs(10),
            running_max: 256,
            running_per_principal_max: 64,
            rates: Rates::default(),
            grpc_web_origins: Vec::new(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The address can be reached from elsewhere, and something is missing for that.
    #[error(
        "refusing to listen on {address}, which others can reach: {lacks}; give both --tls-cert with \
         --tls-key and --authentication, or listen on a loopback address, or, where something else \
         protects the address, say --insecure-allow-plaintext-unauthenticated"
    )]
    Exposed {
        /// The address.
        address: IpAddr,
        /// What is missing.
        lacks: Lacks,
    },
    /// The address for metrics can be reached from elsewhere.
    #[error(
        "refusing to show metrics on {0}, which others can reach, and where nobody is asked who they are; \
         listen on a loopback address, or, where something else protects the address, say \
         --metrics-allow-network"
    )]
    MetricsExposed(IpAddr),
    /// Certificates of clients come with TLS or not at all.
    #[error("the authentication file has `certificates`, but without --tls-cert there is no TLS")]
    CertificatesWithoutTls,
    /// Callers are known, and nothing says what they may.
    #[error(
        "callers are authenticated, and nothing says what they may do: give a policy with --policy FILE"
    )]
    NoPolicy,
    /// A value is out of its range.
    #[error("{setting} must be {range}")]
    OutOfRange {
        /// Its name: that of the setting of the program, or of the field if there is none.
        setting: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

/// What is missing for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// Encryption.
    Tls,
    /// Somebody who says who calls.
    Authenticator,
    /// Both.
    Both,
}

impl std::fmt::Display for Lacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls => "there is no TLS",
            Self::Authenticator => "callers are not authenticated",
            Self::Both => "there is no TLS and callers are not authenticated",
        })
    }
}

impl Config {
    /// The defaults, for a place to put data.
    pub fn new(data: Data) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            tls: None,
            authentication: None,
            exposure: Exposure::default(),
            handshake_max: Duration::from_secs(10),
            reload_every: Duration::from_secs(5),
            data,
            clock: ClockSource::System,
            bucketing: Bucketing::default(),
            driver: driver::Config::default(),
            watch: watch::Config::default(),
            delivery: delivery::Config::default(),
            drain: Drain::default(),
            edge: Edge::default(),
            page_hosts: Vec::new(),
            notifications: None,
            policy: None,
            telemetry: Telemetry::default(),
        }
    }

    /// Refuses what is not safe or makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// All that is not safe or makes no sense.
    pub fn problems(&self) -> Vec<Invalid> {
        let mut problems: Vec<Invalid> = self.guarded().err().into_iter().collect();
        let shown = self.telemetry.listen.map(|address| address.ip());
        if let Some(address) = shown
            && !address.is_loopback()
            && self.telemetry.exposure == Exposure::Guarded
        {
            problems.push(Invalid::MetricsExposed(address));
        }
        let mut require = |holds: bool, setting, range| {
            if !holds {
                problems.push(Invalid::OutOfRange { setting, range });
            }
        };
        require(self.handshake_max > Duration::ZERO, "handshake_max", "more than nothing");
        require(self.reload_every > Duration::ZERO, "reload_every", "more than nothing");
        require(
            self.driver.retention.events >= EVENTS_KEPT_MIN,
            "keep-events",
            "at least 1 hour, so that clients can resume",
        );
        require(
            self.driver.retention.requests >= Span::DAY,
            "driver.retention.requests",
            "at least 24 hours, as the API promises",
        );
        require(
            self.drain.notice.saturating_add(self.watch.drain_over) <= self.drain.limit,
            "drain.limit",
            "at least drain.notice and watch.drain_over together",
        );
        require(self.edge.connections_max > 0, "edge.connections_max", "at least 1");
        let per_address = self.edge.connections_per_address_max;
        require(per_address > 0, "connections-per-address", "at least 1");
        require(self.edge.running_max > 0, "edge.running_max", "at least 1");
        let per_principal = self.edge.running_per_principal_max;
        require(per_principal > 0, "edge.running_per_principal_max", "at least 1");
        let origins = "origins as browsers write them, such as https://app.example.com or \
                       http://localhost:3000";
        let all_are = |texts: &[String]| texts.iter().all(|text| is_origin(text));
        require(all_are(&self.delivery.origins), "ofrep-origin", origins);
        require(all_are(&self.edge.grpc_web_origins), "grpc-web-origin", origins);
        problems
    }
}

impl Config {
    /// Whether what is served is fit for who can reach it. Loopback in a container is loopback.
    fn guarded(&self) -> Result<(), Invalid> {
        let address = self.listen.ip();
        let lacks = match (&self.tls, &self.authentication) {
            (Some(_), Some(_)) => return Ok(()),
            (None, Some(_)) => Lacks::Tls,
            (Some(_), None) => Lacks::Authenticator,
            (None, None) => Lacks::Both,
        };
        if address.is_loopback() || self.exposure == Exposure::Insecure {
            return Ok(());
        }
        Err(Invalid::Exposed { address, lacks })
    }
}

/// A scheme, a host and perhaps a port, as RFC 6454 (section 6.2) has it; never `*` or `null`.
fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    authority.is_some_and(|authority| {
        let written = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
        !authority.is_empty() && authority.chars().all(written)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Config)) -> Result<(), String> {
        let mut config = Config::new(Data::Memory);
        change(&mut config);
        config.validate().map_err(|invalid| match invalid {
            Invalid::Exposed { address, lacks } => format!("{address}: {lacks:?}"),
            Invalid::MetricsExposed(address) => format!("metrics on {address}"),
            Invalid::CertificatesWithoutTls => "certificates".to_owned(),
            Invalid::NoPolicy => "policy".to_owned(),
            Invalid::OutOfRange { setting, .. } => setting.to_owned(),
        })
    }

    #[test]
    fn a_network_is_served_with_tls_and_an_authenticator_or_not_at_all() {
        let tls = || Some(Tls { certificate: "cert.pem".into(), key: "key.pem".into() });
        let file = || Some(PathBuf::from("authentication.yaml"));
        let loopback = ["127.0.0.1:0", "127.8.8.8:7433", "[::1]:7433"];
        let elsewhere = ["0.0.0.0:7433", "[::]:7433", "10.0.0.1:7433", "[::ffff:127.0.0.1]:7433"];
        for (tls, file, lacks) in [
            (None, None, Some(Lacks::Both)),
            (tls(), None, Some(Lacks::Authenticator)),
            (None, file(), Some(Lacks::Tls)),
            (tls(), file(), None),
        ] {
            for (addresses, is_loopback) in [(&loopback[..], true), (&elsewhere[..], false)] {
                for address in addresses {
                    let listen: SocketAddr = address.parse().unwrap();
                    let start = |exposure| {
                        check(|config| {
                            config.listen = listen;
                            (config.tls, config.authentication) = (tls.clone(), file.clone());
                            config.exposure = exposure;
                        })
                    };
                    let wanted = match lacks {
                        Some(lacks) if !is_loopback => Err(format!("{}: {lacks:?}", listen.ip())),
                        Some(_) | None => Ok(()),
                    };
                    assert_eq!(start(Exposure::Guarded), wanted, "{address}");
                    assert_eq!(start(Exposure::Insecure), Ok(()), "{address}");
                }
            }
        }
    }

    #[test]
    fn metrics_are_shown_to_a_network_only_if_that_is_asked_for() {
        let show = |address: &str, exposure| {
            let listen = Some(address.parse().unwrap());
            check(|config| config.telemetry = Telemetry { listen, exposure, otlp: None })
        };
        for address in ["127.0.0.1:0", "[::1]:9464"] {
            assert_eq!(show(address, Exposure::Guarded), Ok(()), "{address}");
        }
        for (address, ip) in
            [("0.0.0.0:9464", "0.0.0.0"), ("[::]:9464", "::"), ("10.0.0.1:1", "10.0.0.1")]
        {
            let refused = Err(format!("metrics on {ip}"));
            assert_eq!(show(address, Exposure::Guarded), refused, "{address}");
            assert_eq!(show(address, Exposure::Insecure), Ok(()), "{address}");
        }
    }

    #[test]
    fn each_setting_is_checked_by_name() {
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|config| config.drain.notice = Duration::ZERO), Ok(()));
        let short = Span::from_millis(EVENTS_KEPT_MIN.as_millis() - 1);
        let events = check(|config| config.driver.retention.events = short);
        assert_eq!(events, Err("keep-events".into()));
        let requests = check(|config| config.driver.retention.requests = EVENTS_KEPT_MIN);
        assert_eq!(requests, Err("driver.retention.requests".into()));
        assert_eq!(check(|c| c.drain.limit = Duration::ZERO), Err("drain.limit".into()));
        for (change, name) in [
            (|c| c.edge.connections_max = 0, "edge.connections_max"),
            (|c| c.edge.connections_per_address_max = 0, "connections-per-address"),
            (|c| c.edge.running_max = 0, "edge.running_max"),
            (|c| c.edge.running_per_principal_max = 0, "edge.running_per_principal_max"),
        ] as [(fn(&mut Config), &str); 4]
        {
            assert_eq!(check(change), Err(name.into()));
        }
        for bad in ["*", "null", "app.example.com", "https://app.example.com/", "https://A.example"]
        {
            let origins = check(|c| c.delivery.origins = vec![bad.to_owned()]);
            assert_eq!(origins, Err("ofrep-origin".into()), "{bad}");
            let origins = check(|c| c.edge.grpc_web_origins = vec![bad.to_owned()]);
            assert_eq!(origins, Err("grpc-web-origin".into()), "{bad}");
        }
        for good in ["https://app.example.com", "http://localhost:3000", "http://[::1]:1"] {
            assert_eq!(check(|c| c.delivery.origins = vec![good.to_owned()]), Ok(()), "{good}");
        }
    }
}
