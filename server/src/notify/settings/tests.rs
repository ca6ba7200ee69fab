use super::*;
use crate::notify::testing::approval_due;
use std::os::unix::fs::PermissionsExt as _;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A folder with a secret of each kind.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("secret", SECRET),
        ("token", "Bearer canary"),
        ("url", "https://hooks.example.com/services/canary?canary"),
        ("nokey", "canary"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(dir.path().join("open"), SECRET).unwrap();
    fs::set_permissions(dir.path().join("open"), fs::Permissions::from_mode(0o644)).unwrap();
    dir
}

fn check(text: &str) -> Result<Settings, String> {
    let dir = folder();
    let file = dir.path().join("notifications.yaml");
    fs::write(&file, text).unwrap();
    let folder = format!("{}/", dir.path().display());
    read(&file).map_err(|error| error.to_string().replace(&folder, ""))
}

const WHOLE: &str = "\
allowed_hosts: [hooks.example.com, '*.example.org', mail.example.com]
allowed_ports: [8443]
allowed_networks: [10.1.0.0/16]
sinks:
  - id: ops
    webhook:
      url: https://hooks.example.com:8443/a/b?token=canary
      secrets: [secret, secret]
      headers: {x-team: web}
      authorization_file: token
    subscriptions:
      - events: ['phasegate.release.*']
        labels: {team: web}
        flags: [checkout]
        pipelines: [standard]
  - id: chat
    webhook: {url_file: url, template: slack}
    subscriptions: [{events: ['*']}]
  - id: pager
    webhook:
      url: https://a.example.org/
      secrets: [secret]
      template: generic
      body: {text: '${title}', n: 1}
    subscriptions: [{events: [phasegate.release.held.v1]}]
  - id: people
    email:
      server: mail.example.com
      user: phasegate
      password_file: token
      from: phasegate@example.com
      to: [ann@example.com]
    subscriptions: [{events: [phasegate.release.approval_due.v1]}]
";

#[test]
fn a_file_names_sinks_of_every_kind() {
    let settings = check(WHOLE).unwrap();
    let shown: Vec<_> = settings
        .sinks
        .values()
        .map(|sink| format!("{} {} {}", sink.id, sink.channel.name(), sink.shown))
        .collect();
    let expected = [
        "chat webhook (slack) https://hooks.example.com:443/…",
        "ops webhook https://hooks.example.com:8443/a/b",
        "pager webhook (generic) https://a.example.org:443/",
        "people email smtp://mail.example.com:465",
    ];
    assert_eq!(shown, expected);
    let wanting = settings.wanting(&approval_due("r-1"));
    let wanting: Vec<_> = wanting.iter().map(SinkId::as_str).collect();
    assert_eq!(wanting, ["chat", "ops", "people"]);
    // Nothing secret is in what a log could print.
    let printed = format!("{settings:?}");
    assert!(!printed.contains("MfKQ9r8GKYqr"), "{printed}");
    assert!(!printed.contains("Bearer"), "{printed}");
}

#[test]
fn a_file_is_the_same_until_anything_in_it_or_behind_it_differs() {
    let dir = folder();
    let file = dir.path().join("notifications.yaml");
    fs::write(&file, WHOLE).unwrap();
    let before = read(&file).unwrap();
    assert!(before.is_same(&read(&file).unwrap()));
    fs::write(dir.path().join("secret"), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
        .unwrap();
    assert!(!before.is_same(&read(&file).unwrap()));
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_without_secrets() {
    let mut different = Vec::new();
    let sink = |webhook: &str| {
        format!(
            "allowed_hosts: [hooks.example.com, 169.254.169.254]\nsinks:\n  - id: ops\n    webhook:\n{webhook}\
             \x20   subscriptions: [{{events: ['*']}}]\n"
        )
    };
    let url = "      url: https://hooks.example.com/\n";
    let secret = "      secrets: [secret]\n";
    for (text, expected) in [
        ("sinks: [\n".to_owned(), "1: unclosed bracket"),
        ("sink: []\n".into(), "1: unknown field"),
        ("allowed_hosts: ['*']\nsinks: []\n".into(), "1: allowed_hosts: write a host"),
        (
            "allowed_networks: [10.0.0.1/8]\nsinks: []\n".into(),
            "1: allowed_networks: write a block",
        ),
        (sink(url), "3: a webhook needs secrets"),
        (
            sink(&format!("{url}      secrets: [open]\n")),
            "6: secrets: open can be read by others (mode 644)",
        ),
        (sink(&format!("{url}      secrets: [none]\n")), "6: secrets: none cannot be read"),
        (
            sink(&format!("{url}      secrets: [nokey]\n")),
            "6: secrets: nokey: must begin with whsec_",
        ),
        (
            sink(&format!("      url: http://hooks.example.com/\n{secret}")),
            "5: url must begin with https",
        ),
        (
            sink(&format!("      url: https://evil.test/canary\n{secret}")),
            "5: url leads to the host evil.test",
        ),
        (
            sink(&format!("      url: https://u:canary@hooks.example.com/\n{secret}")),
            "5: url must not name a user",
        ),
        (
            sink(&format!("      url: https://169.254.169.254/\n{secret}")),
            "5: url leads to 169.254.169.254",
        ),
        (sink(&format!("      url_file: nokey\n{secret}")), "5: url is not a URL"),
        (sink(secret), "3: a webhook has either url or url_file"),
        (
            sink(&format!("{url}{secret}      headers: {{Authorization: canary}}\n")),
            "7: headers: Authorization cannot be set; use authorization_file",
        ),
        (
            sink(&format!("{url}{secret}      headers: {{webhook-id: a}}\n")),
            "7: headers: webhook-id cannot be set",
        ),
        (
            sink(&format!("{url}{secret}      headers: {{x-a: \"a\\r\\nb: c\"}}\n")),
            "7: headers: x-a: failed to parse header value",
        ),
        (
            sink(&format!("{url}{secret}      template: generic\n")),
            "3: template generic needs a body",
        ),
        (
            sink(&format!(
                "{url}{secret}      template: generic\n      body: {{a: '${{nope}}'}}\n"
            )),
            "8: body: there is no placeholder ${nope}",
        ),
        (sink(&format!("{url}{secret}      body: {{}}\n")), "7: body goes only with"),
        (sink(&format!("{url}{secret}      ca_file: nokey\n")), "7: ca_file holds no certificate"),
        (sink(&format!("{url}{secret}      followRedirects: true\n")), "7: unknown field"),
        (WHOLE.replace("id: chat", "id: ops"), "16: there are two sinks with the id ops"),
        (WHOLE.replace("id: chat", "id: Chat"), "16: id must match"),
        (WHOLE.replace("phasegate.release.held.v1", "held"), "25: events: \"held\" names no event"),
        (WHOLE.replace("flags: [checkout]", "flags: [check out]"), "14: flags: must match"),
        (
            WHOLE.replace("to: [ann@example.com]", "to: [\"ann@example.com\\r\\nBcc: x\"]"),
            "32: to:",
        ),
        (
            WHOLE.replace("server: mail", "server: post"),
            "28: server leads to the host post.example.com",
        ),
        (WHOLE.replace("      user: phasegate\n", ""), "28: user and password_file go together"),
        (
            WHOLE.replace("subscriptions: [{events: ['*']}]", "subscriptions: []"),
            "16: subscriptions must not be empty",
        ),
    ] {
        let error = check(&text).expect_err(&text);
        let (line, message) = expected.split_once(": ").unwrap();
        let is_there = error.starts_with(&format!("notifications.yaml:{line}:"));
        if !is_there || !error.contains(message) {
            different.push(format!("{text}\n found: {error}\nwanted: {expected}"));
        }
        assert!(!error.contains("canary") && !error.contains("MfKQ9r8GKYqr"), "{error}");
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}
