//! Mail over SMTP. The message is written here and not by a library: a few headers of ours, whose
//! values are ids or encoded, and a text in Base64. Nothing that a person has written stands in a
//! header, so no header can be added by writing something.

use super::{
    attempt::{Trace, World, plain},
    connect,
    event::Event,
    scheduler::{Fault, FaultKind, Outcome},
    secret::Secret,
    target::{Target, Transport},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor,
    address::Envelope,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};
use phasegate_engine::time::Timestamp;
use std::time::Duration;
use tokio::time::timeout;

/// All of an attempt. Longer than that of a webhook: servers of mail make strangers wait.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// Mail that can be sent.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    /// The server that takes it.
    pub(super) target: Target,
    /// How it is secured.
    pub(super) security: Security,
    /// Who we are to it.
    pub(super) login: Option<Login>,
    /// Whom it is from.
    pub(super) from: Address,
    /// Whom it is to.
    pub(super) to: Vec<Address>,
    /// Authorities besides those of the operating system.
    pub(super) authorities: Vec<Certificate>,
}

/// How a server of mail is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// TLS from the beginning (RFC 8314), as port 465 has it.
    Implicit,
    /// STARTTLS, without which nothing is said (RFC 3207).
    StartTls,
    /// None, to a loopback address.
    None,
}

/// A user of the server of mail.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// Their name.
    pub(super) user: String,
    /// Their password.
    pub(super) password: Secret,
}

impl Mail {
    /// Sends an event once.
    pub(super) async fn send(
        &self,
        event: &Event<'_>,
        now: Timestamp,
        world: &World,
        trace: &mut Trace,
    ) -> Outcome {
        match timeout(ATTEMPT_MAX, self.attempt(event, now, world, trace)).await {
            Ok(Ok(())) => Outcome::Delivered,
            Ok(Err(fault)) => Outcome::Failed(fault),
            Err(_) => {
                let text = format!("the mail server took longer than {} s", ATTEMPT_MAX.as_secs());
                Outcome::Failed(Fault { kind: FaultKind::Unreachable, text })
            }
        }
    }

    async fn attempt(
        &self,
        event: &Event<'_>,
        now: Timestamp,
        world: &World,
        trace: &mut Trace,
    ) -> Result<(), Fault> {
        let addresses = connect::addresses(&self.target, &*world.resolver).await?;
        // The library resolves nothing if it is given an address; the first has to do.
        let address = addresses.first().ok_or(connect::Error::NoAddress)?.ip();
        trace.done(format!("{} is at {address}", self.target.host()));
        let envelope =
            Envelope::new(Some(self.from.clone()), self.to.clone()).map_err(forbidden)?;
        let message = self.message(event, now);
        let tls = match self.security {
            Security::Implicit => Tls::Wrapper(self.tls()?),
            Security::StartTls => Tls::Required(self.tls()?),
            Security::None => Tls::None,
        };
        let mut server =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
                .port(self.target.port())
                .hello_name(ClientId::Domain(self.from.domain().to_owned()))
                .timeout(Some(ATTEMPT_MAX))
                .tls(tls);
        if let Some(Login { user, password }) = &self.login {
            server =
                server.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        let answer = server.build().send_raw(&envelope, &message).await.map_err(failed)?;
        trace.done(format!("sent {} bytes, answered {}", message.len(), answer.code()));
        Ok(())
    }

    fn tls(&self) -> Result<TlsParameters, Fault> {
        debug_assert_eq!(self.target.transport(), Transport::Tls, "plain mail has no TLS");
        let mut parameters = TlsParameters::builder(self.target.host());
        for authority in &self.authorities {
            parameters = parameters.add_root_certificate(authority.clone());
        }
        parameters.build_rustls().map_err(forbidden)
    }

    /// The message (RFC 5322, RFC 2045).
    fn message(&self, event: &Event<'_>, now: Timestamp) -> Vec<u8> {
        let to: Vec<_> = self.to.iter().map(|address| format!("<{address}>")).collect();
        let mut text = format!("{}\r\n\r\n", event.title());
        for (name, fact) in event.facts() {
            text.push_str(&format!("{name}: {}\r\n", lines(&fact)));
        }
        for (key, value) in &event.notification.labels {
            text.push_str(&format!("Label {}: {}\r\n", lines(key), lines(value)));
        }
        text.push_str(&format!("\r\nPhasegate, store {}, event {}\r\n", event.store, event.id()));
        let headers = [
            ("From", format!("<{}>", self.from)),
            ("To", to.join(",\r\n ")),
            ("Subject", subject(&format!("[Phasegate] {}", event.title()))),
            ("Date", now.to_utc().to_rfc2822()),
            ("Message-ID", message_id(event, self.from.domain())),
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("MIME-Version", "1.0".to_owned()),
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Content-Transfer-Encoding", "base64".to_owned()),
        ];
        let mut message = String::new();
        for (name, value) in headers {
            message.push_str(&format!("{name}: {value}\r\n"));
        }
        message.push_str("\r\n");
        message.push_str(&wrapped(&STANDARD.encode(text)));
        message.into_bytes()
    }
}

/// Base64 in lines of 76 characters (RFC 2045, section 6.8).
fn wrapped(base64: &str) -> String {
    let mut lines = String::new();
    let mut rest = base64;
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is one of a character.
        let (line, behind) = rest.split_at(rest.len().min(76));
        lines.push_str(line);
        lines.push_str("\r\n");
        rest = behind;
    }
    lines
}

/// A subject that is encoded if it has to be (RFC 2047), in words of 75 characters at most.
fn subject(text: &str) -> String {
    let is_plain = text.bytes().all(|b| (b' '..=b'~').contains(&b)) && !text.contains("=?");
    if is_plain && text.len() <= SUBJECT_BYTES_MAX {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars().take(SUBJECT_BYTES_MAX) {
        // 45 bytes are 60 characters of Base64, and the frame has 12.
        if word.len() + c.len_utf8() > 45 {
            words.push(std::mem::take(&mut word));
        }
        word.push(if c.is_control() { ' ' } else { c });
    }
    words.push(word);
    let encoded = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

/// A line of mail may have 998 characters; a subject of ids stays far below.
const SUBJECT_BYTES_MAX: usize = 500;

/// The same at every attempt, so that a mail that came twice can be told.
fn message_id(event: &Event<'_>, domain: &str) -> String {
    format!("<{}.{}@{domain}>", id(event.id()), id(event.store))
}

/// What stands in angle brackets: ids are letters, digits and hyphens, and anything else would not be
/// one.
fn id(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// A text of others inside ours: its lines are set in, so that they cannot be taken for ours.
fn lines(text: &str) -> String {
    let lines = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect());
    lines.collect::<Vec<String>>().join("\r\n    ")
}

fn forbidden(error: impl std::fmt::Display) -> Fault {
    Fault { kind: FaultKind::Forbidden, text: plain(&error.to_string()) }
}

fn failed(error: lettre::transport::smtp::Error) -> Fault {
    let kind = match (error.is_transient(), error.is_permanent()) {
        (true, _) => FaultKind::Overloaded(None),
        (false, true) => FaultKind::Refused,
        (false, false) => FaultKind::Unreachable,
    };
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    Fault { kind, text: plain(&format!("{error}{}", cause.unwrap_or_default())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::approval_due;
    use url::Host;

    const NOW: Timestamp = Timestamp::from_millis(1_907_668_800_000);

    fn mail() -> Mail {
        let allowed = crate::notify::target::Allowed {
            hosts: vec!["mail.example.com".parse().unwrap()],
            ..Default::default()
        };
        let host = Host::Domain("mail.example.com".to_owned());
        let usual = crate::notify::target::Usual::Mail;
        Mail {
            target: Target::new(host, 465, usual, Transport::Tls, &allowed).unwrap(),
            security: Security::Implicit,
            login: None,
            from: "phasegate@example.com".parse().unwrap(),
            to: vec!["ann@example.com".parse().unwrap(), "bob@example.com".parse().unwrap()],
            authorities: Vec::new(),
        }
    }

    /// Headers and the text of a message, read as a receiver would.
    fn check(message: &[u8]) -> (Vec<String>, String) {
        let message = std::str::from_utf8(message).unwrap();
        assert!(message.is_ascii());
        assert!(
            message.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n']))
        );
        let (headers, body) = message.split_once("\r\n\r\n").unwrap();
        let text = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        let headers = headers.replace("\r\n ", " ");
        (headers.split("\r\n").map(str::to_owned).collect(), String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_mail_says_what_happened_in_a_few_lines() {
        let notification = approval_due("r-1");
        let event = Event { notification: &notification, store: "0c7d", hop: None };
        let (headers, text) = check(&mail().message(&event, NOW));
        let expected = [
            "From: <phasegate@example.com>",
            "To: <ann@example.com>, <bob@example.com>",
            "Subject: [Phasegate] Approval due: releases/r-1 (flag checkout, phase prod)",
            "Date: Fri, 14 Jun 2030 12:00:00 +0000",
            "Message-ID: <n-r-1.0c7d@example.com>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: base64",
        ];
        assert_eq!(headers, expected);
        for line in [
            "Approval due: releases/r-1 (flag checkout, phase prod)",
            "Triggered by: ann",
            "Until: 2030-06-15T12:00:00.000Z",
            "Label team: web",
        ] {
            assert!(text.split("\r\n").any(|found| found == line), "{line}\n{text}");
        }
    }

    /// Whatever people write, the headers are the same, and the text is one text.
    #[test]
    fn nothing_that_a_person_writes_becomes_a_header_or_a_command() {
        let canary =
            "x\r\nBcc: eve@evil.test\r\n.\r\nQUIT\r\n\nSubject: no\r\u{0}\u{85}=?utf-8?B?QQ==?=";
        let plain = approval_due("r-1");
        let mut hostile = plain.clone();
        hostile.reason = canary.into();
        hostile.principal = Some(phasegate_engine::id::Principal::new(canary));
        hostile.creator = Some(phasegate_engine::id::Principal::new(canary));
        hostile.labels.insert(canary.into(), canary.into());
        let event = |notification| Event { notification, store: "0c7d", hop: None };
        let (expected, _) = check(&mail().message(&event(&plain), NOW));
        let message = mail().message(&event(&hostile), NOW);
        let (headers, text) = check(&message);
        assert_eq!(headers, expected);
        // In the text its lines are set in, and in the message there is no line with a dot alone.
        assert!(text.contains("Reason: x\r\n    Bcc: eve@evil.test"), "{text}");
        assert!(!String::from_utf8(message).unwrap().contains("\r\n.\r\n"));
    }

    #[test]
    fn ids_of_any_text_cannot_leave_their_header_either() {
        let mut notification = approval_due("r-1");
        notification.id = "a>\r\nBcc: <eve@evil.test".into();
        let event = Event { notification: &notification, store: "s\r\n", hop: None };
        let (headers, _) = check(&mail().message(&event, NOW));
        assert_eq!(headers.len(), 9);
        assert!(headers.iter().all(|header| !header.starts_with("Bcc")));
    }

    #[test]
    fn a_subject_that_is_not_ascii_is_encoded_in_short_words() {
        assert_eq!(subject("plain"), "plain");
        let encoded = subject(&format!("grün {}\r\nBcc: x", "ß".repeat(100)));
        assert!(
            encoded.split("\r\n ").all(|word| word.len() <= 75 && word.starts_with("=?utf-8?B?"))
        );
        let words = encoded.split("\r\n ").map(|word| &word[10..word.len() - 2]);
        let decoded: String =
            words.map(|word| String::from_utf8(STANDARD.decode(word).unwrap()).unwrap()).collect();
        assert_eq!(decoded, format!("grün {}  Bcc: x", "ß".repeat(100)));
    }
}
