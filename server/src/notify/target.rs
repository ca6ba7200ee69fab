//! Where a sink may lead: hosts, ports and addresses that the file allows, and nothing else.

use super::address::{self, Network};
use std::{fmt, net::IpAddr, str::FromStr};
use url::{Host, Url};

/// A host that may be connected to: an exact one, or all names below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// This one.
    Exact(Host<String>),
    /// Every name below this domain, and not the domain itself.
    Below(String),
}

/// Why a text is no pattern of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a host, such as hooks.example.com, or *.example.com for every name below a domain")]
pub(super) struct InvalidHost;

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (text, is_below) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        if text.contains('*') || text.contains('/') || text.ends_with('.') {
            return Err(InvalidHost);
        }
        match (Host::parse(text).map_err(|_| InvalidHost)?, is_below) {
            // A whole top-level domain is nobody's.
            (Host::Domain(domain), true) if domain.contains('.') => Ok(Self::Below(domain)),
            (_, true) => Err(InvalidHost),
            (host, false) => Ok(Self::Exact(host)),
        }
    }
}

impl HostPattern {
    fn matches(&self, host: &Host<String>) -> bool {
        match (self, host) {
            (Self::Exact(allowed), host) => allowed == host,
            (Self::Below(domain), Host::Domain(name)) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Self::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }
}

/// What the file allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    /// Hosts; none unless they are named.
    pub(super) hosts: Vec<HostPattern>,
    /// Ports besides those that the kind of the sink has by itself.
    pub(super) ports: Vec<u16>,
    /// Blocks of addresses besides the public ones.
    pub(super) networks: Vec<Network>,
}

/// Whether a sink may be talked to without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Never.
    Tls,
    /// On loopback addresses, for development and tests. Those are then allowed, and no other.
    PlainOnLoopback,
}

/// Why a sink may not lead there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It is no address of the web.
    #[error("is not a URL: {0}")]
    NotAUrl(#[from] url::ParseError),
    /// It is neither https nor allowed to be http.
    #[error(
        "must begin with https://; http:// goes with allow_insecure_loopback and a loopback host only"
    )]
    Scheme,
    /// It names somebody.
    #[error("must not name a user or a password; use authorization_file")]
    UserInfo,
    /// It has a fragment, which is never sent.
    #[error("must not have a fragment")]
    Fragment,
    /// The host is not on the list.
    #[error("leads to the host {0}, which allowed_hosts does not name")]
    Host(String),
    /// The port is not on the list.
    #[error("leads to port {0}, which is neither {1} nor in allowed_ports")]
    Port(u16, &'static str),
    /// The name leads to an address that is not public.
    #[error("leads to {0}, which is {1}; allowed_networks does not name it")]
    Address(IpAddr, &'static str),
    /// Without TLS, and the name leads elsewhere than to this machine.
    #[error("leads to {0}, which is not a loopback address")]
    NotLoopback(IpAddr),
}

/// A host and a port that have been checked; the addresses are checked when they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: Host<String>,
    port: u16,
    transport: Transport,
    networks: Vec<Network>,
}

impl Target {
    /// Checks a host and a port. `usual` are the ports that need not be listed.
    pub(super) fn new(
        host: Host<String>,
        port: u16,
        usual: Usual,
        transport: Transport,
        allowed: &Allowed,
    ) -> Result<Self, Refused> {
        // A dot at the end makes a name absolute and nothing else.
        let host = match host {
            Host::Domain(name) => Host::Domain(name.strip_suffix('.').unwrap_or(&name).to_owned()),
            address @ (Host::Ipv4(_) | Host::Ipv6(_)) => address,
        };
        if !allowed.hosts.iter().any(|pattern| pattern.matches(&host)) {
            return Err(Refused::Host(host.to_string()));
        }
        if !usual.ports().contains(&port) && !allowed.ports.contains(&port) {
            return Err(Refused::Port(port, usual.words()));
        }
        let target = Self { host, port, transport, networks: allowed.networks.clone() };
        if let Some(address) = target.literal() {
            target.check(address)?;
        }
        Ok(target)
    }

    /// Checks a URL of the web.
    pub(super) fn of_url(
        url: &Url,
        transport: Transport,
        allowed: &Allowed,
    ) -> Result<Self, Refused> {
        let transport = match (url.scheme(), transport) {
            ("https", _) => Transport::Tls,
            ("http", Transport::PlainOnLoopback) => Transport::PlainOnLoopback,
            _ => return Err(Refused::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(Refused::Fragment);
        }
        let host = url.host().ok_or(url::ParseError::EmptyHost)?.to_owned();
        // Both schemes have a port of their own.
        let port = url.port_or_known_default().unwrap_or(443);
        Self::new(host, port, Usual::Web, transport, allowed)
    }

    /// The host as it is resolved, shown, and looked for in certificates.
    pub(super) fn host(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether there is TLS.
    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// The address, if the host is one and no name.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        }
    }

    /// Whether it may be connected to at this address.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Refused> {
        if self.transport == Transport::PlainOnLoopback {
            // Not one of IPv4 that is written as IPv6.
            return if address.is_loopback() { Ok(()) } else { Err(Refused::NotLoopback(address)) };
        }
        match address::reserved(address) {
            Some(_) if self.networks.iter().any(|network| network.contains(address)) => Ok(()),
            Some(what) => Err(Refused::Address(address, what)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The ports that need not be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usual {
    /// https.
    Web,
    /// Submission of mail (RFC 6409, RFC 8314) and its relay.
    Mail,
}

impl Usual {
    fn ports(self) -> &'static [u16] {
        match self {
            Self::Web => &[443],
            Self::Mail => &[25, 465, 587],
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Web => "443",
            Self::Mail => "25, 465 or 587",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(hosts: &[&str], networks: &[&str]) -> Allowed {
        Allowed {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            ports: vec![8443],
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        }
    }

    fn check(url: &str, transport: Transport, allowed: &Allowed) -> Result<String, String> {
        let url = Url::parse(url).map_err(|error| Refused::NotAUrl(error).to_string())?;
        Target::of_url(&url, transport, allowed)
            .map(|target| target.to_string())
            .map_err(|refused| refused.to_string())
    }

    #[test]
    fn only_hosts_and_ports_on_the_lists_are_led_to() {
        let allowed = allowed(&["hooks.example.com", "*.example.org"], &[]);
        for (url, expected) in [
            ("https://hooks.example.com/a?b", Ok("hooks.example.com:443")),
            ("https://HOOKS.example.com./", Ok("hooks.example.com:443")),
            ("https://hooks.example.com:8443/", Ok("hooks.example.com:8443")),
            ("https://a.b.example.org/", Ok("a.b.example.org:443")),
            ("https://hooks.example.com:22/", Err("port 22")),
            ("https://example.org/", Err("allowed_hosts")),
            ("https://xexample.org/", Err("allowed_hosts")),
            ("https://.example.org/", Err("allowed_hosts")),
            ("https://hooks.example.com.evil.test/", Err("allowed_hosts")),
            ("https://evil.test/hooks.example.com", Err("allowed_hosts")),
            ("https://evil.test#hooks.example.com", Err("fragment")),
            ("https://evil.test?@hooks.example.com", Err("allowed_hosts")),
            ("https://hooks.example.com@evil.test/", Err("user")),
            ("https://ann:secret@hooks.example.com/", Err("user")),
            ("https://evil.test\\@hooks.example.com/", Err("allowed_hosts")),
            ("http://hooks.example.com/", Err("https")),
            ("ftp://hooks.example.com/", Err("https")),
            ("file:///etc/passwd", Err("https")),
            ("gopher://hooks.example.com/", Err("https")),
            ("hooks.example.com", Err("URL")),
            ("https://", Err("URL")),
        ] {
            let found = check(url, Transport::Tls, &allowed);
            match expected {
                Ok(target) => assert_eq!(found.as_deref(), Ok(target), "{url}"),
                Err(part) => {
                    let error = found.expect_err(url);
                    assert!(error.contains(part), "{url}: {error}");
                }
            }
        }
    }

    /// However an address is spelled, it is judged as what it is, also if it is on the list of hosts.
    #[test]
    fn an_address_is_judged_however_it_is_spelled() {
        for (url, address) in [
            ("https://169.254.169.254/", "169.254.169.254"),
            ("https://127.0.0.1/", "127.0.0.1"),
            ("https://127.1/", "127.0.0.1"),
            ("https://2130706433/", "127.0.0.1"),
            ("https://0x7f000001/", "127.0.0.1"),
            ("https://0x7f.0.0.1/", "127.0.0.1"),
            ("https://0177.0.0.1/", "127.0.0.1"),
            ("https://0/", "0.0.0.0"),
            ("https://0.0.0.0/", "0.0.0.0"),
            ("https://100.64.0.1/", "100.64.0.1"),
            ("https://127.0.0.1./", "127.0.0.1"),
            ("https://①②⑦.⓪.⓪.①/", "127.0.0.1"),
            ("https://127%2e0%2e0%2e1/", "127.0.0.1"),
            ("https://[::]/", "[::]"),
            ("https://[::1]/", "[::1]"),
            ("https://[::ffff:127.0.0.1]/", "[::ffff:7f00:1]"),
            ("https://[::ffff:7f00:1]/", "[::ffff:7f00:1]"),
            ("https://[fd00::1]/", "[fd00::1]"),
            ("https://[fe80::1]/", "[fe80::1]"),
            ("https://[64:ff9b::7f00:1]/", "[64:ff9b::7f00:1]"),
            ("https://[2002:7f00:1::]/", "[2002:7f00:1::]"),
        ] {
            let error = check(url, Transport::Tls, &allowed(&[address], &[])).expect_err(url);
            assert!(error.contains("allowed_networks"), "{url}: {error}");
            let error = check(url, Transport::Tls, &allowed(&["x.test"], &[])).expect_err(url);
            assert!(error.contains("allowed_hosts"), "{url}: {error}");
        }
    }

    #[test]
    fn a_block_that_the_file_names_is_allowed_and_no_other() {
        let allowed = allowed(&["10.1.2.3", "10.2.0.1", "[fd00::1]"], &["10.1.0.0/16", "fd00::/8"]);
        assert!(check("https://10.1.2.3/", Transport::Tls, &allowed).is_ok());
        assert!(check("https://[fd00::1]/", Transport::Tls, &allowed).is_ok());
        assert!(check("https://10.2.0.1/", Transport::Tls, &allowed).is_err());
    }

    #[test]
    fn plain_http_goes_to_loopback_and_only_if_it_is_asked_for() {
        let allowed =
            allowed(&["127.0.0.1", "[::1]", "localhost", "10.0.0.1", "1.1.1.1"], &["10.0.0.0/8"]);
        let plain = Transport::PlainOnLoopback;
        assert!(check("http://127.0.0.1:8443/", Transport::Tls, &allowed).is_err());
        assert!(check("http://127.0.0.1:8443/", plain, &allowed).is_ok());
        assert!(check("http://[::1]:8443/", plain, &allowed).is_ok());
        assert!(
            check("http://127.0.0.1:8080/", plain, &allowed).unwrap_err().contains("port 8080")
        );
        for elsewhere in ["http://10.0.0.1:8443/", "http://1.1.1.1:8443/"] {
            assert!(check(elsewhere, plain, &allowed).unwrap_err().contains("loopback"));
        }
        // A name is judged when it is resolved.
        let url = Url::parse("http://localhost:8443/").unwrap();
        let target = Target::of_url(&url, plain, &allowed).unwrap();
        assert_eq!(target.check("127.0.0.1".parse().unwrap()), Ok(()));
        for elsewhere in ["10.0.0.1", "1.1.1.1", "::ffff:127.0.0.1"] {
            assert!(target.check(elsewhere.parse().unwrap()).is_err(), "{elsewhere}");
        }
        // https to a loopback host is https.
        assert!(
            check("https://127.0.0.1/", plain, &allowed).unwrap_err().contains("allowed_networks")
        );
    }

    #[test]
    fn a_pattern_names_a_host_or_all_below_a_domain() {
        for good in
            ["a.example.com", "*.example.com", "10.0.0.1", "[::1]", "localhost", "bücher.example"]
        {
            assert!(good.parse::<HostPattern>().is_ok(), "{good}");
        }
        for bad in
            ["", "*", "*.", "*.com", "a.*.com", "*a.com", "*.10.0.0.1", "a/b", "a.com:1", "a.com."]
        {
            assert_eq!(bad.parse::<HostPattern>(), Err(InvalidHost), "{bad}");
        }
    }
}
