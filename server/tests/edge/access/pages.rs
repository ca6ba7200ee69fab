//! Pages and OFREP behind the gate.

use super::Guarded;
use crate::browser::Browser;

const POLICY: &str = "
- groups: [payments]
  roles: [viewer]
  flags: {labels: {team: payments}}
- principals: ['token:app']
  permissions: [evaluate]
";

async fn guarded() -> Guarded {
    let guarded = Guarded::start(POLICY).await;
    guarded.tokens.person("ann", &["payments"]);
    guarded.tokens.service("app");
    guarded.with_flags().await.with_releases().await
}

fn browser(guarded: &Guarded, token: &str) -> Browser {
    Browser::new(&guarded.server).with(&format!("authorization: Bearer {token}"))
}

#[tokio::test]
async fn a_page_shows_what_its_viewer_sees_and_says_what_they_lack() {
    let guarded = guarded().await;
    let ann = browser(&guarded, "ann");
    let list = ann.get("/releases").await;
    assert_eq!(list.status, 200);
    assert!(list.body.contains("pay-r") && !list.body.contains("web-"), "{}", list.body);
    let flags = ann.get("/flags").await;
    assert!(flags.body.contains("pay-a") && !flags.body.contains("web-a"));
    for hidden in ["/releases/web-r", "/flags/web-a", "/releases/web-r/abort"] {
        assert_eq!(ann.get(hidden).await.status, 404, "{hidden}");
    }
    let release = ann.get("/releases/pay-r").await;
    assert!(release.text().contains("You lack the permission abort."), "{}", release.text());
    let flag = ann.get("/flags/pay-a").await;
    assert!(flag.body.contains("You lack the permission kill_switch."), "{}", flag.body);
    let fields = [("phase_id", "canary"), ("reason", "why")];
    let refused = ann.post("/releases/pay-r/abort", &fields).await;
    assert_eq!(refused.status, 403, "the API refuses it too");
    assert!(refused.text().contains("abort"), "{}", refused.text());
    assert_eq!(ann.post("/flags/pay-a/kill", &fields).await.status, 403);
    let root = browser(&guarded, "root");
    assert_eq!(root.post("/releases/pay-r/abort", &fields).await.status, 303);
    let who = ann.get("/caller").await;
    assert!(who.text().contains("token:ann") && who.text().contains("team=payments"));
    guarded.server.stop().await;
}

#[tokio::test]
async fn without_a_credential_there_is_no_page_and_no_answer() {
    let guarded = guarded().await;
    let nobody = Browser::new(&guarded.server);
    for path in ["/releases", "/releases/pay-r", "/live/releases", "/caller", "/nothing"] {
        let page = nobody.get(path).await;
        assert_eq!(page.status, 401, "{path}");
        assert_eq!(page.header("www-authenticate"), Some("Bearer"));
        assert!(!page.body.contains("pay-"), "{path}");
    }
    // Whom a cookie or a proxy names is not believed here.
    let claims = Browser::of(&guarded.server, "root", "").with("phasegate-principal: token:root");
    assert_eq!(claims.get("/releases").await.status, 401);
    assert_eq!(nobody.send("POST /ofrep/v1/evaluate/flags", "", "{}").await.status, 401);
    assert_eq!(nobody.send("GET /ofrep/v1/events", "", "").await.status, 401);
    let ann = browser(&guarded, "ann");
    assert_eq!(ann.send("POST /ofrep/v1/evaluate/flags", "", "{}").await.status, 403);
    assert_eq!(ann.get("/nothing").await.status, 403, "what has no row is denied");
    let app = browser(&guarded, "app");
    let asked = app.send("POST /ofrep/v1/evaluate/flags", "", "{}").await;
    assert_eq!(asked.status, 400, "it is let in, and has selected no environment");
    assert_eq!(app.get("/releases").await.status, 403);
    guarded.server.stop().await;
}
