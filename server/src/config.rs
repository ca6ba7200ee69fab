//! Configuration: a plain struct with documented defaults, and the check that refuses what is not
//! safe or makes no sense. Reading it from flags, files or the environment is somebody else's work.

use crate::{delivery, driver, watch};
pub use phasegate_engine::{
    id::EnvironmentId,
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
    /// Where to listen. Loopback only; port 0 takes a free one. Default `127.0.0.1:7433`.
    pub listen: SocketAddr,
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
    /// How many connections are served at once; more are closed as they come. Default 4096.
    pub connections_max: usize,
    /// Names by which browsers may ask for the pages, besides loopback ones: those of a proxy in
    /// front. Any other name is refused, lest a site elsewhere points its own name here. Default none.
    pub page_hosts: Vec<String>,
    /// The policy: who may do what. Default none: callers are believed and may do everything.
    pub policy: Option<PathBuf>,
}

/// Where commits go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Into this directory, which is created if it does not exist.
    Dir(PathBuf),
    /// Nowhere: everything is forgotten when the server stops. For rehearsals and tests.
    Memory,
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

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The address can be reached from elsewhere.
    #[error(
        "refusing to listen on {0}: callers are not authenticated yet, so only loopback addresses \
         (127.0.0.1, [::1]) are served; put a proxy that authenticates them in front"
    )]
    NotLoopback(IpAddr),
    /// Callers are known, and nothing says what they may.
    #[error(
        "callers are authenticated, and nothing says what they may do: give a policy with --policy FILE"
    )]
    NoPolicy,
    /// A value is out of its range.
    #[error("{setting} must be {range}")]
    OutOfRange {
        /// Name of the field.
        setting: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

impl Config {
    /// The defaults, for a place to put data.
    pub fn new(data: Data) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            data,
            clock: ClockSource::System,
            bucketing: Bucketing::default(),
            driver: driver::Config::default(),
            watch: watch::Config::default(),
            delivery: delivery::Config::default(),
            drain: Drain::default(),
            connections_max: 4096,
            page_hosts: Vec::new(),
            policy: None,
        }
    }

    /// Refuses what is not safe or makes no sense.
    pub fn validate(&self) -> Result<(), Invalid> {
        let require = |holds: bool, setting, range| {
            if holds { Ok(()) } else { Err(Invalid::OutOfRange { setting, range }) }
        };
        if !self.listen.ip().is_loopback() {
            return Err(Invalid::NotLoopback(self.listen.ip()));
        }
        require(
            self.driver.retention.events >= EVENTS_KEPT_MIN,
            "driver.retention.events",
            "at least 1 hour, so that clients can resume",
        )?;
        require(
            self.driver.retention.requests >= Span::DAY,
            "driver.retention.requests",
            "at least 24 hours, as the API promises",
        )?;
        require(
            self.drain.notice.saturating_add(self.watch.drain_over) <= self.drain.limit,
            "drain.limit",
            "at least drain.notice and watch.drain_over together",
        )?;
        require(self.connections_max > 0, "connections_max", "at least 1")?;
        require(
            self.delivery.origins.iter().all(|origin| is_origin(origin)),
            "delivery.origins",
            "origins as browsers write them, such as https://app.example.com or http://localhost:3000",
        )
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
            Invalid::NotLoopback(ip) => ip.to_string(),
            Invalid::NoPolicy => "policy".to_owned(),
            Invalid::OutOfRange { setting, .. } => setting.to_owned(),
        })
    }

    #[test]
    fn only_loopback_addresses_are_accepted() {
        for good in ["127.0.0.1:0", "127.8.8.8:7433", "[::1]:7433"] {
            assert_eq!(check(|config| config.listen = good.parse().unwrap()), Ok(()), "{good}");
        }
        for (bad, ip) in [
            ("0.0.0.0:7433", "0.0.0.0"),
            ("[::]:7433", "::"),
            ("10.0.0.1:7433", "10.0.0.1"),
            ("[::ffff:10.0.0.1]:7433", "::ffff:10.0.0.1"),
        ] {
            assert_eq!(check(|config| config.listen = bad.parse().unwrap()), Err(ip.into()));
        }
    }

    #[test]
    fn each_setting_is_checked_by_name() {
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|config| config.drain.notice = Duration::ZERO), Ok(()));
        let short = Span::from_millis(EVENTS_KEPT_MIN.as_millis() - 1);
        let events = check(|config| config.driver.retention.events = short);
        assert_eq!(events, Err("driver.retention.events".into()));
        let requests = check(|config| config.driver.retention.requests = EVENTS_KEPT_MIN);
        assert_eq!(requests, Err("driver.retention.requests".into()));
        assert_eq!(check(|c| c.drain.limit = Duration::ZERO), Err("drain.limit".into()));
        assert_eq!(check(|c| c.connections_max = 0), Err("connections_max".into()));
        for bad in ["*", "null", "app.example.com", "https://app.example.com/", "https://A.example"]
        {
            let origins = check(|c| c.delivery.origins = vec![bad.to_owned()]);
            assert_eq!(origins, Err("delivery.origins".into()), "{bad}");
        }
        for good in ["https://app.example.com", "http://localhost:3000", "http://[::1]:1"] {
            assert_eq!(check(|c| c.delivery.origins = vec![good.to_owned()]), Ok(()), "{good}");
        }
    }
}
