//! What is sent, as a body: the CloudEvent itself, a message for Slack and what is compatible with it,
//! or a JSON text of the file with placeholders.
//!
//! Every body is made as a JSON value and written by the JSON writer, so nothing that a person has
//! written can end a string of it. Placeholders stand inside strings, name a text and do nothing else:
//! there is no expression, no condition and no loop.

use super::{attempt::is_bidi, event::Event};
use serde_json::{Value, json};

/// What a webhook is sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Template {
    /// CloudEvents 1.0 in structured form.
    #[default]
    CloudEvents,
    /// A message with a text and blocks.
    Slack,
    /// JSON of the file's own.
    Generic(Generic),
}

impl Template {
    /// The body for an event.
    pub(super) fn body(&self, event: &Event<'_>) -> Vec<u8> {
        let value = match self {
            Self::CloudEvents => event.cloud_event(),
            Self::Slack => slack(event),
            Self::Generic(generic) => generic.fill(event),
        };
        value.to_string().into_bytes()
    }

    /// What the body is.
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            Self::Slack | Self::Generic(_) => "application/json; charset=utf-8",
        }
    }
}

/// JSON whose strings may have placeholders such as `${release}`, all of which are known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Generic(Value);

/// Why a template is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidTemplate {
    /// It names a text that there is not.
    #[error("there is no placeholder ${{{0}}}; there are {names} and label.KEY", names = NAMES.join(", "))]
    Unknown(String),
    /// A placeholder has no end.
    #[error("a placeholder has no }}; write $$ for a dollar")]
    Open,
    /// A key of an object has one.
    #[error("a placeholder cannot stand in the key {0:?}")]
    InKey(String),
    /// A dollar stands alone.
    #[error("write $$ for a dollar, and ${{NAME}} for a placeholder")]
    Dollar,
}

/// Names of placeholders, beside `label.KEY`.
pub(super) const NAMES: [&str; 16] = [
    "id",
    "type",
    "time",
    "store",
    "title",
    "subject",
    "revision",
    "release",
    "flag",
    "pipeline",
    "phase",
    "guard",
    "principal",
    "creator",
    "reason",
    "until",
];

impl Generic {
    /// Checks a template.
    pub(super) fn new(template: Value) -> Result<Self, InvalidTemplate> {
        check(&template)?;
        Ok(Self(template))
    }

    fn fill(&self, event: &Event<'_>) -> Value {
        fill(&self.0, event)
    }
}

fn check(value: &Value) -> Result<(), InvalidTemplate> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => {
            for part in parts(text) {
                if let Part::Name(name) = part?
                    && !NAMES.contains(&name)
                    && name.strip_prefix("label.").is_none_or(str::is_empty)
                {
                    return Err(InvalidTemplate::Unknown(name.to_owned()));
                }
            }
            Ok(())
        }
        Value::Array(values) => values.iter().try_for_each(check),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            if key.contains("${") {
                return Err(InvalidTemplate::InKey(key.clone()));
            }
            check(value)
        }),
    }
}

fn fill(value: &Value, event: &Event<'_>) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => {
            let mut filled = String::new();
            // What is wrong was found when the template was read.
            for part in parts(text).flatten() {
                match part {
                    Part::Text(text) => filled.push_str(text),
                    Part::Name(name) => filled.push_str(&named(event, name)),
                }
            }
            Value::String(filled)
        }
        Value::Array(values) => values.iter().map(|value| fill(value, event)).collect(),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(key, value)| (key.clone(), fill(value, event)));
            Value::Object(filled.collect())
        }
    }
}

/// A piece of a string of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// Takes a string apart. After an error there is nothing more.
fn parts(text: &str) -> impl Iterator<Item = Result<Part<'_>, InvalidTemplate>> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take().filter(|text| !text.is_empty())?;
        if let Some(behind) = text.strip_prefix("$$") {
            rest = Some(behind);
            return Some(Ok(Part::Text("$")));
        }
        if let Some(behind) = text.strip_prefix("${") {
            let Some((name, behind)) = behind.split_once('}') else {
                return Some(Err(InvalidTemplate::Open));
            };
            rest = Some(behind);
            return Some(Ok(Part::Name(name)));
        }
        if text.starts_with('$') {
            return Some(Err(InvalidTemplate::Dollar));
        }
        let end = text.find('$').unwrap_or(text.len());
        rest = Some(&text[end..]);
        Some(Ok(Part::Text(&text[..end])))
    })
}

/// What a placeholder stands for; nothing, if the event has no such text.
fn named(event: &Event<'_>, name: &str) -> String {
    let notification = event.notification;
    if let Some(key) = name.strip_prefix("label.") {
        return notification.labels.get(key).map(ToString::to_string).unwrap_or_default();
    }
    match name {
        "type" => notification.kind.name().to_owned(),
        "id" => event.id().to_owned(),
        "time" => notification.time.to_string(),
        "store" => event.store.to_owned(),
        "title" => event.title(),
        "subject" => event.subject().unwrap_or_default(),
        "revision" => notification.revision.to_string(),
        field => match event.data().get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(_) | None => String::new(),
        },
    }
}

/// Longest text of a person that a message for Slack shows, as it is sent: a block takes 3,000
/// characters, and there are three such texts in it, two of which have 256 bytes at most.
const SLACK_TEXT_CHARS_MAX: usize = 1000;

/// A message: a line as fallback, a heading and the facts. Texts are plain ones, so nothing in them is
/// formatted, and nobody is called by them.
fn slack(event: &Event<'_>) -> Value {
    let title = slack_text(&event.title());
    let lines: Vec<_> =
        event.facts().iter().map(|(name, fact)| format!("{name}: {}", slack_text(fact))).collect();
    json!({
        "text": title,
        "mrkdwn": false,
        "parse": "none",
        "link_names": 0,
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": [
            { "type": "section", "text": { "type": "plain_text", "text": title, "emoji": false } },
            {
                "type": "section",
                "text": { "type": "plain_text", "text": lines.join("\n"), "emoji": false },
            },
        ],
    })
}

/// A text as Slack wants it: `&`, `<` and `>` written as entities, so that `<!channel>` and links are
/// text. What is compatible with Slack may heed `@channel` in plain text, so an invisible space is put
/// behind every `@` that begins a word.
pub(super) fn slack_text(text: &str) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    let mut before = ' ';
    for c in text.chars() {
        let mut buffer = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '@' if !before.is_alphanumeric() => "@\u{200b}",
            c if c.is_control() || is_bidi(c) => " ",
            c => &*c.encode_utf8(&mut buffer),
        };
        length += piece.chars().count();
        if length > SLACK_TEXT_CHARS_MAX {
            escaped.push('…');
            break;
        }
        escaped.push_str(piece);
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::approval_due;

    const CANARY: &str = "\"},{\"x\":\"<!channel> @here & \\ \r\n${id} *b* \u{202e}";

    #[test]
    fn a_cloud_event_says_what_happened_and_where() {
        let mut notification = approval_due("r-1");
        notification.reason = CANARY.into();
        let event = Event { notification: &notification, store: "0c7d", hop: None };
        let body: Value = serde_json::from_slice(&Template::CloudEvents.body(&event)).unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": "n-r-1",
            "source": "/phasegate/0c7d",
            "type": "phasegate.release.approval_due.v1",
            "subject": "releases/r-1",
            "time": "2030-06-14T12:00:00.000Z",
            "datacontenttype": "application/json",
            "data": {
                "title": "Approval due: releases/r-1 (flag checkout, phase prod)",
                "release": "releases/r-1",
                "flag": "flags/checkout",
                "pipeline": "pipelines/standard",
                "phase": "prod",
                "creator": "ann",
                "reason": CANARY,
                "until": "2030-06-15T12:00:00.000Z",
                "revision": 7,
                "labels": { "team": "web" },
            },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_template_of_the_file_is_filled_and_stays_the_json_that_it_was() {
        let mut notification = approval_due("r-1");
        notification.reason = CANARY.into();
        let event = Event { notification: &notification, store: "0c7d", hop: None };
        let template = json!({
            "msg": "${title}: ${reason}", "n": [1, true, null, "$$5 ${label.team}${label.none}"],
            "who": { "by": "${creator}${principal}" }, "t": "${type} ${revision}",
        });
        let generic = Template::Generic(Generic::new(template).unwrap());
        let body: Value = serde_json::from_slice(&generic.body(&event)).unwrap();
        let expected = json!({
            "msg": format!("Approval due: releases/r-1 (flag checkout, phase prod): {CANARY}"),
            "n": [1, true, null, "$5 web"],
            "who": { "by": "ann" },
            "t": "phasegate.release.approval_due.v1 7",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn every_placeholder_stands_for_something_and_others_are_refused() {
        let mut notification = approval_due("r-1");
        notification.reason = "why".into();
        notification.principal = Some(phasegate_engine::id::Principal::new("bob"));
        notification.guard = Some(phasegate_engine::id::GuardId::parse("errors").unwrap());
        let event = Event { notification: &notification, store: "0c7d", hop: None };
        for name in NAMES {
            let generic = Generic::new(json!(format!("${{{name}}}"))).unwrap();
            assert_ne!(generic.fill(&event), json!(""), "{name}");
        }
        for (wrong, expected) in [
            (json!("${releas}"), InvalidTemplate::Unknown("releas".into())),
            (json!(["${label.}"]), InvalidTemplate::Unknown("label.".into())),
            (json!("${id"), InvalidTemplate::Open),
            (json!({ "a": { "b": "5$" } }), InvalidTemplate::Dollar),
            (json!({ "${id}": 1 }), InvalidTemplate::InKey("${id}".into())),
        ] {
            assert_eq!(Generic::new(wrong), Err(expected));
        }
    }

    #[test]
    fn a_message_for_slack_calls_nobody_and_formats_nothing() {
        let mut notification = approval_due("r-1");
        notification.reason = format!("{CANARY}{}", "&".repeat(5000)).into();
        notification.creator = Some(phasegate_engine::id::Principal::new("ann@example.com <@U1>"));
        let event = Event { notification: &notification, store: "0c7d", hop: None };
        let body = Template::Slack.body(&event);
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(message["text"], "Approval due: releases/r-1 (flag checkout, phase prod)");
        let text = message["blocks"][1]["text"]["text"].as_str().unwrap();
        assert_eq!(message["blocks"][1]["text"]["type"], "plain_text");
        assert!(text.contains("&lt;!channel&gt; @\u{200b}here &amp; \\   ${id} *b*  "), "{text}");
        assert!(text.contains("Triggered by: ann@example.com &lt;@\u{200b}U1&gt;"), "{text}");
        assert!(text.chars().count() < 3000, "{}", text.chars().count());
        for (needle, what) in
            [('<', "tags"), ('>', "tags"), ('\r', "controls"), ('\u{202e}', "bidi")]
        {
            assert!(!text.contains(needle), "{what}");
        }
    }
}
