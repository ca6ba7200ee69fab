//! Which server to talk to, and as whom.
//!
//! Each of address, principal and groups is taken from where it is said the nearest: its own flag,
//! the context that `--context` names, its environment variable, the context that PHASEGATE_CONTEXT
//! names, the current context; else what holds without any. So are the token and the certificates, but
//! those of a context go to the address of that context only: a token is not shown to another server
//! because somebody gave another address.

use crate::{
    complete,
    contexts::{self, Context, Contexts},
    failure::Failure,
};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use phasegate_client::{Client, Connect};
use std::{env, fmt, path::PathBuf};

/// Where a server listens unless it is told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7433";

const ADDRESS_VARIABLE: &str = "PHASEGATE_ADDRESS";
const PRINCIPAL_VARIABLE: &str = "PHASEGATE_PRINCIPAL";
const GROUPS_VARIABLE: &str = "PHASEGATE_GROUPS";
const CA_VARIABLE: &str = "PHASEGATE_CA";
const TOKEN_VARIABLE: &str = "PHASEGATE_TOKEN";
const TOKEN_FILE_VARIABLE: &str = "PHASEGATE_TOKEN_FILE";
const CERT_VARIABLE: &str = "PHASEGATE_CERT";
const KEY_VARIABLE: &str = "PHASEGATE_KEY";
const CONTEXT_VARIABLE: &str = "PHASEGATE_CONTEXT";

/// What is said on the command line. The environment is read by hand, because a context that is named
/// there comes before it and one that is named here behind.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server and caller")]
pub(crate) struct Connection {
    /// Take address, principal and groups from this context [env: PHASEGATE_CONTEXT]
    #[arg(
        long,
        value_name = "NAME",
        global = true,
        add = ArgValueCandidates::new(complete::contexts)
    )]
    pub(crate) context: Option<String>,
    /// Address of the server [env: PHASEGATE_ADDRESS] [default: http://127.0.0.1:7433]
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) address: Option<String>,
    /// Who you are, as the log shall have it [env: PHASEGATE_PRINCIPAL]
    #[arg(long = "as", value_name = "PRINCIPAL", global = true)]
    pub(crate) principal: Option<String>,
    /// The groups you are in, comma-separated; approvals are counted by them [env: PHASEGATE_GROUPS]
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', global = true)]
    pub(crate) groups: Option<Vec<String>>,
    /// The authorities of the server's certificate, in PEM, instead of the system's [env: PHASEGATE_CA]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// A file with your token, read again when it changes; PHASEGATE_TOKEN may hold the token itself
    /// [env: PHASEGATE_TOKEN_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Your certificate, in PEM [env: PHASEGATE_CERT]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) cert: Option<PathBuf>,
    /// The key of your certificate, in PEM [env: PHASEGATE_KEY]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key: Option<PathBuf>,
    /// Send your token over plain http to another machine, too, where others can read it
    #[arg(long, global = true)]
    pub(crate) insecure_plaintext_token: bool,
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    Context(String),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "from {name}"),
            Self::Variable(name) => write!(f, "from {name}"),
            Self::Context(name) => write!(f, "from context {name}"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// The server to talk to, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: (String, Origin),
    pub(crate) principal: Option<(String, Origin)>,
    pub(crate) groups: (Vec<String>, Origin),
    pub(crate) token: Option<(Token, Origin)>,
    pub(crate) ca: Option<(PathBuf, Origin)>,
    /// A certificate and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf, Origin)>,
    plain_token: PlainToken,
}

/// By what one is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Token {
    File(PathBuf),
    Given(String),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Given(_) => f.write_str("Given"),
        }
    }
}

/// Whether a token may be sent where others can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlainToken {
    Refused,
    Allowed,
}

/// For people: the address, and the context if it comes from one.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            (address, Origin::Context(name)) => write!(f, "{name}: {address}"),
            (address, Origin::Flag(_) | Origin::Variable(_) | Origin::Default) => {
                f.write_str(address)
            }
        }
    }
}

/// A place where values may be said.
#[derive(Clone, Debug)]
enum Place {
    Flags,
    Environment,
    Context(String),
}

impl Place {
    fn origin(&self, flag: &'static str, variable: &'static str) -> Origin {
        match self {
            Self::Flags => Origin::Flag(flag),
            Self::Environment => Origin::Variable(variable),
            Self::Context(name) => Origin::Context(name.clone()),
        }
    }
}

impl Connection {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(self.reach().await?.0)
    }

    /// A client, and where it leads.
    pub(crate) async fn reach(&self) -> Result<(Client, Target), Failure> {
        let target = self.target()?;
        let client = target.connect().await.map_err(|mut error| {
            if error.is_unreachable() && target.address.1 != Origin::Default {
                error.message.push_str(&format!(" (address {})", target.address.1));
            }
            error
        })?;
        Ok((client, target))
    }

    /// What is meant, by the command line, the environment, and the file of contexts.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let said = Said {
            context: variable(CONTEXT_VARIABLE),
            values: Context {
                address: variable(ADDRESS_VARIABLE),
                principal: variable(PRINCIPAL_VARIABLE),
                groups: variable(GROUPS_VARIABLE)
                    .map(|groups| groups.split(',').map(str::to_owned).collect())
                    .unwrap_or_default(),
                ca: variable(CA_VARIABLE).map(PathBuf::from),
                token_file: variable(TOKEN_FILE_VARIABLE).map(PathBuf::from),
                cert: variable(CERT_VARIABLE).map(PathBuf::from),
                key: variable(KEY_VARIABLE).map(PathBuf::from),
            },
            token: variable(TOKEN_VARIABLE),
        };
        let known = match contexts::path() {
            Ok(path) => Contexts::read(&path)?,
            // Nowhere to look is nothing to find.
            Err(_) => Contexts::default(),
        };
        self.resolve(&said, &known)
    }

    fn resolve(&self, said: &Said, known: &Contexts) -> Result<Target, Failure> {
        let flags = Context {
            address: self.address.clone(),
            principal: self.principal.clone(),
            groups: self.groups.clone().unwrap_or_default(),
            ca: self.ca.clone(),
            token_file: self.token_file.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
        };
        let mut places = vec![(Place::Flags, flags), (Place::Environment, said.values.clone())];
        // One that is named takes the place of the others.
        let named = self.context.as_ref().or(said.context.as_ref()).or(known.current.as_ref());
        if let Some(name) = named {
            let context = known.contexts.get(name).ok_or_else(|| known.unknown(name))?;
            // Named by a flag it comes before the environment, else behind it.
            let at = if self.context.is_some() { 1 } else { 2 };
            places.insert(at, (Place::Context(name.clone()), context.clone()));
        }
        let address = places.iter().find_map(|(place, values)| {
            Some((values.address.clone()?, place.origin("--address", ADDRESS_VARIABLE)))
        });
        let principal = places.iter().find_map(|(place, values)| {
            Some((values.principal.clone()?, place.origin("--as", PRINCIPAL_VARIABLE)))
        });
        let groups = places.iter().find(|(_, values)| !values.groups.is_empty());
        let groups = groups.map(|(place, values)| {
            (values.groups.clone(), place.origin("--groups", GROUPS_VARIABLE))
        });
        let address = address.unwrap_or_else(|| (DEFAULT_ADDRESS.to_owned(), Origin::Default));
        // What a context has is for the server of that context.
        let is_for = |place: &Place| match place {
            Place::Flags | Place::Environment => true,
            Place::Context(name) => address.1 == Origin::Context(name.clone()),
        };
        let trusted = || places.iter().filter(|(place, _)| is_for(place));
        let token = trusted().find_map(|(place, values)| {
            let given = match place {
                Place::Environment => said.token.clone().map(Token::Given),
                Place::Flags | Place::Context(_) => None,
            };
            let variable = if given.is_some() { TOKEN_VARIABLE } else { TOKEN_FILE_VARIABLE };
            let token = given.or_else(|| values.token_file.clone().map(Token::File))?;
            Some((token, place.origin("--token-file", variable)))
        });
        let ca = trusted().find_map(|(place, values)| {
            Some((values.ca.clone()?, place.origin("--ca", CA_VARIABLE)))
        });
        let pair = trusted().find(|(_, values)| values.cert.is_some() || values.key.is_some());
        let certificate = match pair {
            None => None,
            Some((place, Context { cert: Some(cert), key: Some(key), .. })) => {
                Some((cert.clone(), key.clone(), place.origin("--cert", CERT_VARIABLE)))
            }
            Some((place, _)) => {
                let origin = place.origin("--cert or --key", CERT_VARIABLE);
                let text =
                    format!("a certificate needs its key, and a key its certificate ({origin})");
                return Err(Failure::Usage(text));
            }
        };
        Ok(Target {
            address,
            principal,
            groups: groups.unwrap_or_else(|| (Vec::new(), Origin::Default)),
            token,
            ca,
            certificate,
            plain_token: match self.insecure_plaintext_token {
                true => PlainToken::Allowed,
                false => PlainToken::Refused,
            },
        })
    }
}

/// What the environment says.
#[derive(Default)]
struct Said {
    context: Option<String>,
    values: Context,
    /// A token itself: never on the command line, where everybody on the machine can read it.
    token: Option<String>,
}

impl Target {
    pub(crate) fn connect(&self) -> Connect {
        let groups = self.groups.0.iter().map(|group| group.trim());
        let mut connect = Client::connect(&self.address.0).groups(groups.filter(|g| !g.is_empty()));
        match &self.token {
            Some((Token::File(path), _)) => connect = connect.token_file(path),
            Some((Token::Given(token), _)) => connect = connect.token(token),
            None => {}
        }
        if let Some((path, _)) = &self.ca {
            connect = connect.ca_file(path);
        }
        if let Some((certificate, key, _)) = &self.certificate {
            connect = connect.certificate_files(certificate, key);
        }
        if self.plain_token == PlainToken::Allowed {
            connect = connect.insecure_plaintext_token();
        }
        match &self.principal {
            Some((principal, _)) => connect.principal(principal),
            None => connect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_the_nearest_holds() {
        let context =
            |name: &str| Context { address: Some(format!("http://{name}")), ..Default::default() };
        let known = Contexts {
            current: Some("current".to_owned()),
            contexts: ["by-flag", "by-variable", "current"]
                .map(|name| (name.to_owned(), context(name)))
                .into(),
        };
        let check = |address: bool, by_flag: bool, variable: bool, by_variable: bool| {
            let connection = Connection {
                context: by_flag.then(|| "by-flag".to_owned()),
                address: address.then(|| "http://flag".to_owned()),
                ..Default::default()
            };
            let said = Said {
                context: by_variable.then(|| "by-variable".to_owned()),
                values: if variable { context("variable") } else { Context::default() },
                token: None,
            };
            connection.resolve(&said, &known).unwrap().address.0
        };
        assert_eq!(check(true, true, true, true), "http://flag");
        assert_eq!(check(false, true, true, true), "http://by-flag");
        assert_eq!(check(false, false, true, true), "http://variable");
        assert_eq!(check(false, false, false, true), "http://by-variable");
        assert_eq!(check(false, false, false, false), "http://current");
        let none = Connection::default().resolve(&Said::default(), &Contexts::default()).unwrap();
        assert_eq!(none.address, (DEFAULT_ADDRESS.to_owned(), Origin::Default));
        let unknown = Connection { context: Some("x".to_owned()), ..Default::default() };
        assert!(unknown.resolve(&Said::default(), &known).is_err());
    }

    #[test]
    fn a_token_of_a_context_goes_to_the_server_of_that_context_only() {
        let prod = Context {
            address: Some("https://prod".to_owned()),
            token_file: Some("prod.token".into()),
            ca: Some("ca.pem".into()),
            ..Default::default()
        };
        let known = Contexts {
            current: Some("prod".to_owned()),
            contexts: [("prod".to_owned(), prod)].into(),
        };
        let said =
            |token: Option<&str>| Said { token: token.map(str::to_owned), ..Said::default() };
        let check = |connection: Connection, token: Option<&str>| {
            connection.resolve(&said(token), &known).unwrap().token.map(|(token, _)| token)
        };
        let file = |name: &str| Some(Token::File(name.into()));
        let elsewhere =
            || Connection { address: Some("https://other".to_owned()), ..Default::default() };
        assert_eq!(check(Connection::default(), None), file("prod.token"));
        assert_eq!(check(elsewhere(), None), None);
        assert_eq!(elsewhere().resolve(&said(None), &known).unwrap().ca, None);
        let given = Connection { token_file: Some("mine".into()), ..elsewhere() };
        assert_eq!(check(given, None), file("mine"));
        assert_eq!(check(elsewhere(), Some("x")), Some(Token::Given("x".to_owned())));
        let half = Connection { cert: Some("cert.pem".into()), ..Default::default() };
        assert!(half.resolve(&said(None), &known).is_err());
    }
}
