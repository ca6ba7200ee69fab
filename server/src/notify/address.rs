//! Which addresses may be connected to: everything that is public, and what the file names.
//!
//! A receiver's name is somebody else's to point anywhere. So the addresses are judged, after the name
//! was resolved and before anything is connected to; see [`super::connect`].

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A block of addresses, such as `10.1.0.0/16` or `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a block of addresses, such as 10.1.0.0/16, whose bits behind the length are zero")]
pub(super) struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (base, prefix) = text.split_once('/').ok_or(InvalidNetwork)?;
        let base: IpAddr = base.parse().map_err(|_| InvalidNetwork)?;
        let prefix: u8 = prefix.parse().map_err(|_| InvalidNetwork)?;
        let network = Self { base, prefix };
        let bits = if base.is_ipv4() { 32 } else { 128 };
        if prefix > bits || network.first(base) != bits_of(base) {
            return Err(InvalidNetwork);
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// An address as bits, from the left.
fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0)), prefix }
    }

    /// The bits of an address that the length of the block covers.
    fn first(self, address: IpAddr) -> u128 {
        // A shift by all bits is no shift at all, so a length of zero is said apart.
        let behind = 128 - u32::from(self.prefix);
        bits_of(address).checked_shr(behind).unwrap_or(0).checked_shl(behind).unwrap_or(0)
    }

    /// Whether an address is in it. The two families are never mixed: an IPv4 address that is written
    /// as IPv6 is in a block of IPv6 or in none.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        self.base.is_ipv4() == address.is_ipv4() && self.first(address) == bits_of(self.base)
    }
}

/// Blocks of IPv4 that lead to no public host, by the registry of special purposes (RFC 6890).
const RESERVED_V4: &[(Network, &str)] = &[
    (Network::v4(0, 0, 0, 0, 8), "this host (0.0.0.0/8)"),
    (Network::v4(10, 0, 0, 0, 8), "private (10.0.0.0/8)"),
    (Network::v4(100, 64, 0, 0, 10), "shared by a provider (100.64.0.0/10)"),
    (Network::v4(127, 0, 0, 0, 8), "loopback (127.0.0.0/8)"),
    (Network::v4(169, 254, 0, 0, 16), "link-local, as metadata services are (169.254.0.0/16)"),
    (Network::v4(172, 16, 0, 0, 12), "private (172.16.0.0/12)"),
    (Network::v4(192, 0, 0, 0, 24), "of protocols (192.0.0.0/24)"),
    (Network::v4(192, 0, 2, 0, 24), "of documents (192.0.2.0/24)"),
    (Network::v4(192, 88, 99, 0, 24), "a relay of 6to4 (192.88.99.0/24)"),
    (Network::v4(192, 168, 0, 0, 16), "private (192.168.0.0/16)"),
    (Network::v4(198, 18, 0, 0, 15), "of benchmarks (198.18.0.0/15)"),
    (Network::v4(198, 51, 100, 0, 24), "of documents (198.51.100.0/24)"),
    (Network::v4(203, 0, 113, 0, 24), "of documents (203.0.113.0/24)"),
    (Network::v4(224, 0, 0, 0, 4), "multicast (224.0.0.0/4)"),
    (Network::v4(240, 0, 0, 0, 4), "reserved or broadcast (240.0.0.0/4)"),
];

/// Blocks of IPv6 with a name of their own. Whatever lies outside [`PUBLIC_V6`] is refused anyway.
const RESERVED_V6: &[(Network, &str)] = &[
    (Network { base: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 128 }, "unspecified (::)"),
    (Network { base: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 }, "loopback (::1)"),
    (
        Network { base: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), prefix: 96 },
        "an IPv4 address written as IPv6 (::ffff:0:0/96)",
    ),
    (Network::v6(0x64, 0xff9b, 0, 96), "translated to IPv4 (64:ff9b::/96)"),
    (Network::v6(0x64, 0xff9b, 1, 48), "translated to IPv4 (64:ff9b:1::/48)"),
    (Network::v6(0xfc00, 0, 0, 7), "private (fc00::/7)"),
    (Network::v6(0xfe80, 0, 0, 10), "link-local (fe80::/10)"),
    (Network::v6(0xff00, 0, 0, 8), "multicast (ff00::/8)"),
    // Teredo, ORCHID and others; what is public of it are anycast addresses of no web server.
    (Network::v6(0x2001, 0, 0, 23), "of protocols (2001::/23)"),
    (Network::v6(0x2001, 0xdb8, 0, 32), "of documents (2001:db8::/32)"),
    (Network::v6(0x2002, 0, 0, 16), "6to4 (2002::/16)"),
    (Network::v6(0x3fff, 0, 0, 20), "of documents (3fff::/20)"),
];

/// Where public hosts are (RFC 4291, section 2.4, as IANA has assigned it).
const PUBLIC_V6: Network = Network::v6(0x2000, 0, 0, 3);

/// What an address is, if it is not public.
pub(super) fn reserved(address: IpAddr) -> Option<&'static str> {
    let table = if address.is_ipv4() { RESERVED_V4 } else { RESERVED_V6 };
    let named = table.iter().find(|(network, _)| network.contains(address)).map(|(_, what)| *what);
    match address {
        IpAddr::V6(_) if named.is_none() && !PUBLIC_V6.contains(address) => {
            Some("outside 2000::/3, where public hosts are")
        }
        IpAddr::V4(_) | IpAddr::V6(_) => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str) -> Option<&'static str> {
        reserved(address.parse().unwrap())
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_and_says_why() {
        for (address, why) in [
            ("0.0.0.0", "this host"),
            ("0.1.2.3", "this host"),
            ("10.0.0.1", "private"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("169.254.169.254", "metadata"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "protocols"),
            ("192.168.1.1", "private"),
            ("198.19.255.255", "benchmarks"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "IPv4"),
            ("::ffff:8.8.8.8", "IPv4"),
            ("::127.0.0.1", "outside"),
            ("64:ff9b::7f00:1", "translated"),
            ("64:ff9b:1::a00:1", "translated"),
            ("100::1", "outside"),
            ("2001::1", "protocols"),
            ("2001:db8::1", "documents"),
            ("2002:7f00:1::", "6to4"),
            ("fc00::1", "private"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "outside"),
            ("ff02::1", "multicast"),
        ] {
            let found = check(address).unwrap_or_else(|| panic!("{address} is let through"));
            assert!(found.contains(why), "{address}: {found}");
        }
    }

    #[test]
    fn public_addresses_are_let_through_up_to_the_edges_of_the_blocks() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
            "3ffe::1",
        ] {
            assert_eq!(check(address), None, "{address}");
        }
    }

    #[test]
    fn a_block_is_its_addresses_and_no_others() {
        let network: Network = "10.1.0.0/16".parse().unwrap();
        assert!(network.contains("10.1.255.255".parse().unwrap()));
        assert!(!network.contains("10.2.0.0".parse().unwrap()));
        assert!(!network.contains("::ffff:10.1.0.1".parse().unwrap()));
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains("255.1.1.1".parse().unwrap()));
        assert!(!everything.contains("::1".parse().unwrap()));
        assert_eq!("fd00::/8".parse::<Network>().unwrap().to_string(), "fd00::/8");
        for wrong in ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "a/8"] {
            assert_eq!(wrong.parse::<Network>(), Err(InvalidNetwork), "{wrong}");
        }
    }
}
