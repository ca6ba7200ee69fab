//! The file of notifications: read as a whole or not at all, each error with its line.

use super::{
    address::Network,
    connect::{Trust, TrustError},
    mail::{Login, Mail, Security},
    secret,
    sign::{InvalidKey, Keys},
    subscription::{Events, NoSuchEvent, Subscription},
    target::{Allowed, HostPattern, Refused, Target, Transport, Usual},
    template::{Generic, InvalidTemplate, Template},
    webhook::{self, Webhook},
};
use crate::driver::Notification;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use lettre::{Address, transport::smtp::client::Certificate};
use phasegate_engine::id::{FlagId, PipelineId, SinkId};
use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use url::{Host, Url};

/// Sinks of a file at most: each may have some attempts under way at a time.
const SINKS_MAX: usize = 64;
/// Recipients of one sink of mail.
const RECIPIENTS_MAX: usize = 50;
/// The file itself.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file says, checked, with the secrets that it names.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// By their ids.
    pub sinks: BTreeMap<SinkId, Arc<Sink>>,
    /// Tells whether anything that was read differs.
    fingerprint: [u8; 32],
}

/// A place that notifications are sent to.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name.
    pub id: SinkId,
    /// How it is sent to.
    pub(super) channel: Channel,
    /// What it wants to hear of: what any of these wants.
    pub(super) subscriptions: Vec<Subscription>,
    /// Where it leads, for people: without a query, and without a path that is a secret.
    pub shown: String,
}

/// How a sink is sent to.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// Over HTTP.
    Webhook(Box<Webhook>),
    /// By mail.
    Mail(Box<Mail>),
}

impl Channel {
    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Webhook(webhook) => match webhook.template {
                Template::CloudEvents => "webhook",
                Template::Slack => "webhook (slack)",
                Template::Generic(_) => "webhook (generic)",
            },
            Self::Mail(_) => "email",
        }
    }
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says something that it may not.
    #[error("{}:{place}: {message}", file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// Where.
        place: Place,
        /// What is wrong with it.
        message: String,
    },
}

/// A line and a column, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u64, u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

impl From<serde_saphyr::Location> for Place {
    fn from(location: serde_saphyr::Location) -> Self {
        Self(location.line(), location.column())
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    allowed_hosts: Vec<Spanned<String>>,
    #[serde(default)]
    allowed_ports: Vec<u16>,
    #[serde(default)]
    allowed_networks: Vec<Spanned<String>>,
    sinks: Vec<SinkEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SinkEntry {
    id: Spanned<String>,
    webhook: Option<WebhookEntry>,
    email: Option<MailEntry>,
    subscriptions: Vec<SubscriptionEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookEntry {
    url: Option<Spanned<String>>,
    /// A file with the URL, if it is a secret.
    url_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    secrets: Vec<Spanned<PathBuf>>,
    template: Option<Spanned<TemplateName>>,
    body: Option<Spanned<serde_json::Value>>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    authorization_file: Option<Spanned<PathBuf>>,
    ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    allow_insecure_loopback: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TemplateName {
    CloudEvents,
    Slack,
    Generic,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailEntry {
    server: Spanned<String>,
    port: Option<u16>,
    tls: Option<TlsName>,
    user: Option<String>,
    password_file: Option<Spanned<PathBuf>>,
    from: Spanned<String>,
    to: Vec<Spanned<String>>,
    ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    allow_insecure_loopback: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TlsName {
    Implicit,
    StartTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionEntry {
    events: Vec<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(default)]
    flags: Vec<Spanned<String>>,
    #[serde(default)]
    pipelines: Vec<Spanned<String>>,
}

/// What is wrong, and where; which file is known elsewhere.
struct Wrong {
    place: Place,
    message: String,
}

/// Something of the file that is wrong says so at its place.
trait At<T> {
    fn at<V>(self, value: &Spanned<V>, what: impl fmt::Display) -> Result<T, Wrong>;
}

impl<T, E: fmt::Display> At<T> for Result<T, E> {
    fn at<V>(self, value: &Spanned<V>, what: impl fmt::Display) -> Result<T, Wrong> {
        self.map_err(|error| wrong(value, format!("{what} {error}")))
    }
}

fn wrong<V>(value: &Spanned<V>, message: impl Into<String>) -> Wrong {
    Wrong { place: value.referenced.into(), message: message.into() }
}

/// Reads a file, and the files that it names. Those are looked for from the folder of the file.
pub fn read(file: &Path) -> Result<Settings, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    if fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    parse(&text, folder).map_err(|Wrong { place, message }| Error::Wrong {
        file: file.to_owned(),
        place,
        message,
    })
}

fn parse(text: &str, folder: &Path) -> Result<Settings, Wrong> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let place = error.location().map_or(Place(1, 1), Place::from);
        let message = error.to_string();
        // The place is said apart.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(before, _)| before);
        Wrong { place, message: message.to_owned() }
    })?;
    let hosts = file.allowed_hosts.iter();
    let hosts = hosts.map(|text| text.value.parse::<HostPattern>().at(text, "allowed_hosts:"));
    let networks = file.allowed_networks.iter();
    let networks = networks.map(|text| text.value.parse::<Network>().at(text, "allowed_networks:"));
    let allowed = Allowed {
        hosts: hosts.collect::<Result<_, _>>()?,
        ports: file.allowed_ports,
        networks: networks.collect::<Result<_, _>>()?,
    };
    let mut reader = Reader { folder, allowed, fingerprint: Sha256::new() };
    reader.fingerprint.update(text);
    let mut sinks = BTreeMap::new();
    for entry in file.sinks {
        let place = entry.id.clone();
        let sink = reader.sink(entry)?;
        if sinks.len() == SINKS_MAX {
            return Err(wrong(&place, format!("there are more than {SINKS_MAX} sinks")));
        }
        if let Some(other) = sinks.insert(sink.id.clone(), Arc::new(sink)) {
            return Err(wrong(&place, format!("there are two sinks with the id {}", other.id)));
        }
    }
    Ok(Settings { sinks, fingerprint: reader.fingerprint.finalize().into() })
}

/// Reads sinks, and remembers what it has read.
struct Reader<'a> {
    folder: &'a Path,
    allowed: Allowed,
    fingerprint: Sha256,
}

impl Reader<'_> {
    fn sink(&mut self, entry: SinkEntry) -> Result<Sink, Wrong> {
        let SinkEntry { id: name, webhook, email, subscriptions } = entry;
        let id = SinkId::parse(&name.value).at(&name, "id")?;
        let (channel, shown) = match (webhook, email) {
            (Some(entry), None) => self.webhook(entry, &name)?,
            (None, Some(entry)) => self.mail(entry)?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(wrong(&name, "a sink has either webhook or email"));
            }
        };
        if subscriptions.is_empty() {
            return Err(wrong(&name, "subscriptions must not be empty: nothing would be sent"));
        }
        let subscriptions = subscriptions
            .into_iter()
            .map(|entry| subscription(entry, &name))
            .collect::<Result<_, _>>()?;
        Ok(Sink { id, channel, subscriptions, shown })
    }

    fn webhook(
        &mut self,
        entry: WebhookEntry,
        name: &Spanned<String>,
    ) -> Result<(Channel, String), Wrong> {
        let (text, place) = match (&entry.url, &entry.url_file) {
            (Some(url), None) => (url.value.clone(), url.referenced),
            (None, Some(file)) => {
                let url = self.secret(file, "url_file")?;
                (url.expose().to_owned(), file.referenced)
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(wrong(name, "a webhook has either url or url_file"));
            }
        };
        let transport = transport(entry.allow_insecure_loopback);
        // An error must not say the URL: it may be a secret.
        let at_url =
            |refused: Refused| Wrong { place: place.into(), message: format!("url {refused}") };
        let url = Url::parse(&text).map_err(|error| at_url(Refused::NotAUrl(error)))?;
        let target = Target::of_url(&url, transport, &self.allowed).map_err(at_url)?;
        let mut keys = Keys::default();
        for file in &entry.secrets {
            let secret = self.secret(file, "secrets:")?;
            keys.add(&secret).map_err(|error: InvalidKey| {
                wrong(file, format!("secrets: {}: {error}", file.value.display()))
            })?;
        }
        let template = template(entry.template.as_ref(), entry.body.as_ref(), name)?;
        // Slack verifies nothing, and its URL is a secret itself.
        if keys.is_empty() && template != Template::Slack {
            return Err(wrong(
                name,
                "a webhook needs secrets: a receiver must be able to verify it",
            ));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &entry.headers {
            let header: HeaderName = name.parse().at(value, format_args!("headers: {name}:"))?;
            if webhook::is_reserved(&header) {
                let instead = match header {
                    header::AUTHORIZATION => "; use authorization_file",
                    _ => "",
                };
                return Err(wrong(value, format!("headers: {name} cannot be set{instead}")));
            }
            let text =
                HeaderValue::from_str(&value.value).at(value, format_args!("headers: {name}:"))?;
            headers.insert(header, text);
        }
        if let Some(file) = &entry.authorization_file {
            let secret = self.secret(file, "authorization_file")?;
            let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| {
                wrong(file, "authorization_file must hold one line of printable ASCII")
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let authorities = self.authorities(entry.ca_file.as_ref())?;
        let trust = Trust::new(authorities.as_deref()).map_err(|error: TrustError| {
            let place = entry.ca_file.as_ref().map_or(name.referenced, |file| file.referenced);
            Wrong { place: place.into(), message: format!("ca_file {error}") }
        })?;
        let path = url.path();
        let shown = match entry.url {
            Some(_) if template != Template::Slack => format!("{}://{target}{path}", url.scheme()),
            Some(_) | None => format!("{}://{target}/…", url.scheme()),
        };
        let path = url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let webhook = Webhook { target, path, keys, template, headers, trust };
        Ok((Channel::Webhook(Box::new(webhook)), shown))
    }

    fn mail(&mut self, entry: MailEntry) -> Result<(Channel, String), Wrong> {
        let host = Host::parse(&entry.server.value).at(&entry.server, "server")?;
        let tls = match (entry.tls, entry.port) {
            (Some(tls), _) => tls,
            (None, Some(587)) => TlsName::StartTls,
            (None, _) => TlsName::Implicit,
        };
        let port = entry.port.unwrap_or(match tls {
            TlsName::Implicit => 465,
            TlsName::StartTls => 587,
        });
        let transport = transport(entry.allow_insecure_loopback);
        let security = match (transport, tls) {
            (Transport::PlainOnLoopback, _) => Security::None,
            (Transport::Tls, TlsName::Implicit) => Security::Implicit,
            (Transport::Tls, TlsName::StartTls) => Security::StartTls,
        };
        let target = Target::new(host, port, Usual::Mail, transport, &self.allowed);
        let target = target.at(&entry.server, "server")?;
        let login = match (&entry.user, &entry.password_file) {
            (Some(user), Some(file)) => {
                Some(Login { user: user.clone(), password: self.secret(file, "password_file")? })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(wrong(&entry.server, "user and password_file go together"));
            }
        };
        let from: Address = entry.from.value.parse().at(&entry.from, "from:")?;
        let to = entry.to.iter().map(|to| to.value.parse::<Address>().at(to, "to:"));
        let to = to.collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() || to.len() > RECIPIENTS_MAX {
            let problem = format!("to must name 1 to {RECIPIENTS_MAX} addresses");
            return Err(wrong(&entry.server, problem));
        }
        let authorities = match (self.authorities(entry.ca_file.as_ref())?, &entry.ca_file) {
            (Some(pem), Some(file)) => vec![Certificate::from_pem(&pem).at(file, "ca_file")?],
            _ => Vec::new(),
        };
        let shown = format!("smtp://{target}");
        let mail = Mail { target, security, login, from, to, authorities };
        Ok((Channel::Mail(Box::new(mail)), shown))
    }

    fn secret(&mut self, file: &Spanned<PathBuf>, what: &str) -> Result<secret::Secret, Wrong> {
        let path = self.folder.join(&file.value);
        let what = format!("{what} {}", file.value.display());
        let secret = secret::read(&path).at(file, what)?;
        self.fingerprint.update(secret.expose());
        Ok(secret)
    }

    fn authorities(&mut self, file: Option<&Spanned<PathBuf>>) -> Result<Option<Vec<u8>>, Wrong> {
        let Some(file) = file else { return Ok(None) };
        let path = self.folder.join(&file.value);
        let pem = secret::read_public(&path)
            .at(file, format_args!("ca_file {}", file.value.display()))?;
        self.fingerprint.update(&pem);
        Ok(Some(pem))
    }
}

fn transport(allow_insecure_loopback: bool) -> Transport {
    if allow_insecure_loopback { Transport::PlainOnLoopback } else { Transport::Tls }
}

fn template(
    template: Option<&Spanned<TemplateName>>,
    body: Option<&Spanned<serde_json::Value>>,
    name: &Spanned<String>,
) -> Result<Template, Wrong> {
    let chosen = template.map_or(TemplateName::CloudEvents, |name| name.value);
    match (chosen, body) {
        (TemplateName::CloudEvents, None) => Ok(Template::CloudEvents),
        (TemplateName::Slack, None) => Ok(Template::Slack),
        (TemplateName::Generic, Some(body)) => {
            let generic = Generic::new(body.value.clone());
            let generic =
                generic.map_err(|error: InvalidTemplate| wrong(body, format!("body: {error}")))?;
            Ok(Template::Generic(generic))
        }
        (TemplateName::Generic, None) => Err(wrong(name, "template generic needs a body")),
        (TemplateName::CloudEvents | TemplateName::Slack, Some(body)) => {
            Err(wrong(body, "body goes only with template generic"))
        }
    }
}

fn subscription(entry: SubscriptionEntry, name: &Spanned<String>) -> Result<Subscription, Wrong> {
    let events = entry.events.iter().map(|text| {
        let events = text.value.parse::<Events>();
        events
            .map_err(|error: NoSuchEvent| wrong(text, format!("events: {:?} {error}", text.value)))
    });
    let events = events.collect::<Result<Vec<_>, _>>()?;
    if events.is_empty() {
        return Err(wrong(name, "events must not be empty; * is all of them"));
    }
    let flags = entry
        .flags
        .iter()
        .map(|id| FlagId::parse(&id.value).at(id, "flags:").map(|id| id.to_string()));
    let pipelines = entry
        .pipelines
        .iter()
        .map(|id| PipelineId::parse(&id.value).at(id, "pipelines:").map(|id| id.to_string()));
    Ok(Subscription {
        events,
        labels: entry.labels,
        flags: flags.collect::<Result<_, _>>()?,
        pipelines: pipelines.collect::<Result<_, _>>()?,
    })
}

impl Settings {
    /// Whether the same was read, secrets included.
    pub fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Who wants to hear of this.
    pub fn wanting(&self, notification: &Notification) -> Vec<SinkId> {
        let wants = |sink: &&Arc<Sink>| sink.subscriptions.iter().any(|s| s.wants(notification));
        self.sinks.values().filter(wants).map(|sink| sink.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
