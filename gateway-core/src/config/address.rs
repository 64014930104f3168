//! Addresses: where to accept, where to send, where to administer, and networks to trust.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;

use super::scalar::{Invalid, Scalar, scalar};

/// An IP address and a port to accept on; port 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddress(pub SocketAddr);

/// An IP address and a port to send to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointAddress(pub SocketAddr);

/// Where the admin interface answers: `127.0.0.1:9901` or `unix:/run/gateway/admin.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AdminAddress {
    /// Over TCP; calls that change something need a token.
    Tcp(SocketAddr),
    /// Over a Unix socket; calls that change something need the gateway's own user, or root.
    Unix(PathBuf),
}

/// A network such as `10.0.0.0/8`; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(pub IpNet);

impl From<ListenAddress> for SocketAddr {
    fn from(address: ListenAddress) -> Self {
        address.0
    }
}

impl From<EndpointAddress> for SocketAddr {
    fn from(address: EndpointAddress) -> Self {
        address.0
    }
}

impl From<Network> for IpNet {
    fn from(network: Network) -> Self {
        network.0
    }
}

impl Scalar for ListenAddress {
    const FORMAT: &'static str = "gateway-listen-address";
    const EXPECTS: &'static str = "an address such as `0.0.0.0:8080`";
    const PATTERN: &'static str = r":\d+$";
}

impl FromStr for ListenAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let wrong = format!("expected {}, got `{text}`", Self::EXPECTS);
        if let Some(port) = text.strip_prefix(':') {
            return Err(Invalid::new(format!(
                "{wrong}; for every interface write `0.0.0.0:{port}` or `[::]:{port}`"
            )));
        }
        Err(Invalid::new(wrong + missing_part(text)))
    }
}

impl Scalar for EndpointAddress {
    const FORMAT: &'static str = "gateway-endpoint-address";
    const EXPECTS: &'static str = "an address such as `10.0.0.1:8080`";
    const PATTERN: &'static str = r":\d+$";
}

impl FromStr for EndpointAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = format!("expected {}, got `{text}`", Self::EXPECTS);
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(Invalid::new(wrong + "; port 0 is no port")),
            Ok(address) => Ok(Self(address)),
            Err(_) if text.contains("://") => {
                Err(Invalid::new(wrong + "; leave the scheme and the path out"))
            }
            Err(_) if is_host_name(text) => Err(Invalid::new(format!(
                "a name stands for several endpoints; write `discover: {{dns: {text}}}`, not an endpoint `{text}`"
            ))),
            Err(_) => Err(Invalid::new(wrong + missing_part(text))),
        }
    }
}

/// Whether a text that is no address looks like `name` or `name:port`.
fn is_host_name(text: &str) -> bool {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    host.contains(|c: char| c.is_ascii_alphabetic())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn missing_part(text: &str) -> &'static str {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => "; the port is missing",
        Ok(IpAddr::V6(_)) => {
            "; the port is missing, and IPv6 stands in brackets, as in `[::1]:8080`"
        }
        Err(_) => "",
    }
}

impl Scalar for AdminAddress {
    const FORMAT: &'static str = "gateway-admin-address";
    const EXPECTS: &'static str = "`127.0.0.1:9901` or `unix:/run/gateway/admin.sock`";
    const PATTERN: &'static str = r"^(unix:.+|.+:\d+)$";
    const RELOCATE: Option<fn(&str, &Path) -> String> =
        Some(|text, base| match text.strip_prefix("unix:") {
            Some(path) => format!("unix:{}", super::file_path::against(path, base)),
            None => text.to_owned(),
        });
}

impl FromStr for AdminAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.strip_prefix("unix:") {
            Some("") => Err(Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS))),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                Invalid::new(format!(
                    "expected {}, got `{text}`{}",
                    Self::EXPECTS,
                    missing_part(text)
                ))
            }),
        }
    }
}

impl Scalar for Network {
    const FORMAT: &'static str = "gateway-network";
    const EXPECTS: &'static str = "a network such as `10.0.0.0/8` or an address";
    const PATTERN: &'static str = r"^[0-9A-Fa-f.:]+(/\d+)?$";
}

impl FromStr for Network {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        let network: IpNet = text
            .parse()
            .map_err(|_| Invalid::new(format!("expected {}, got `{text}`", Self::EXPECTS)))?;
        if network.addr() != network.network() {
            return Err(Invalid::new(format!(
                "`{text}` has bits set outside its prefix; write `{}`, or `{}` for the one address",
                network.trunc(),
                network.addr()
            )));
        }
        Ok(Self(network))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

scalar!(ListenAddress);
scalar!(EndpointAddress);
scalar!(AdminAddress);
scalar!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: FromStr<Err = Invalid>>(text: &str) -> String {
        match text.parse::<T>() {
            Ok(_) => format!("{text} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses_need_an_ip_and_a_port() {
        assert!("[::1]:8080".parse::<ListenAddress>().is_ok());
        assert!("0.0.0.0:0".parse::<ListenAddress>().is_ok());
        assert_eq!(
            message::<ListenAddress>("127.0.0.1"),
            "expected an address such as `0.0.0.0:8080`, got `127.0.0.1`; the port is missing"
        );
        assert_eq!(
            message::<ListenAddress>(":8080"),
            "expected an address such as `0.0.0.0:8080`, got `:8080`; for every interface write `0.0.0.0:8080` or `[::]:8080`"
        );
    }

    #[test]
    fn endpoint_named_by_host_says_what_to_write() {
        assert_eq!(
            message::<EndpointAddress>("users.internal:8080"),
            "a name stands for several endpoints; write `discover: {dns: users.internal:8080}`, not an endpoint `users.internal:8080`"
        );
        assert_eq!(
            message::<EndpointAddress>("http://10.0.0.1:80/"),
            "expected an address such as `10.0.0.1:8080`, got `http://10.0.0.1:80/`; leave the scheme and the path out"
        );
        assert_eq!(
            message::<EndpointAddress>("10.0.0.1:0"),
            "expected an address such as `10.0.0.1:8080`, got `10.0.0.1:0`; port 0 is no port"
        );
    }

    #[test]
    fn admin_address_is_tcp_or_a_socket() {
        assert_eq!("unix:/run/a".parse(), Ok(AdminAddress::Unix("/run/a".into())));
        assert_eq!("[::1]:1".parse(), Ok(AdminAddress::Tcp("[::1]:1".parse().unwrap())));
        assert_eq!(
            message::<AdminAddress>("localhost"),
            "expected `127.0.0.1:9901` or `unix:/run/gateway/admin.sock`, got `localhost`"
        );
    }

    #[test]
    fn bare_address_is_a_network_of_one() {
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        assert_eq!("fd00::/8".parse::<Network>().unwrap().to_string(), "fd00::/8");
    }

    #[test]
    fn network_with_bits_outside_its_prefix_is_refused() {
        assert_eq!(
            message::<Network>("10.1.2.3/8"),
            "`10.1.2.3/8` has bits set outside its prefix; write `10.0.0.0/8`, or `10.1.2.3` for the one address"
        );
    }
}
