//! The status page, without a browser: who is let in, what forms do, what streams carry.

use crate::{
    browser::Browser,
    server::{Server, config, create_pipeline, trigger, within},
};
use phasegate_api::v1;

/// A server with a release `r`, triggered by `ann` and baking.
async fn with_release() -> Server {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    server
}

async fn release(server: &Server) -> v1::Release {
    let request = v1::GetReleaseRequest { name: "releases/r".into() };
    server.releases().await.get_release(request).await.unwrap().into_inner().release.unwrap()
}

/// Opens the dialog of an action and sends it as it is, with more fields.
async fn act(browser: &Browser, action: &str, fields: &[(&str, &str)]) -> crate::browser::Page {
    let dialog = browser.get(&format!("/releases/r/{action}")).await;
    assert_eq!(dialog.status, 200, "{action}");
    let (id, etag) = (dialog.hidden("request_id"), dialog.hidden("etag"));
    let mut all = vec![("request_id", &*id), ("etag", &*etag)];
    let phase = dialog.body.contains("name=\"phase_id\"").then(|| dialog.hidden("phase_id"));
    all.extend(phase.as_deref().map(|phase| ("phase_id", phase)));
    all.extend(fields);
    browser.post(&format!("/releases/r/{action}"), &all).await
}

const PAGES: &[&str] = &[
    "/flags?text=check&page=2",
    "/releases",
    "/releases?state=all&text=x&page=3",
    "/releases/r",
    "/releases/r/abort",
    "/flags",
    "/flags/checkout",
    "/flags/checkout?environment=prod&context=a%3Db",
    "/flags/checkout/kill",
    "/flags/checkout/release",
    "/pipelines",
    "/pipelines/p",
    "/caller",
];

#[tokio::test]
async fn every_page_is_html_that_loads_nothing_from_elsewhere_and_says_so() {
    let server = with_release().await;
    let browser = Browser::new(&server);
    for path in PAGES {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        for inline in ["<style", "onclick", " style=", "javascript:", "http://", "https://"] {
            assert!(!page.body.contains(inline), "{path} has {inline}");
        }
        assert!(page.body.contains("<script src=\"/assets/live.js?"), "{path}");
        assert_eq!(page.body.matches("<script").count(), 1, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_browsers_heed() {
    let server = with_release().await;
    let browser = Browser::new(&server);
    let others = ["/no-such-page", "/assets/style.css", "/assets/none", "/releases/none", "/"];
    for path in PAGES.iter().chain(&others) {
        let page = browser.get(path).await;
        let csp = page.header("content-security-policy").unwrap_or_default();
        assert!(csp.contains("default-src 'self'"), "{path}: {csp}");
        assert!(csp.contains("frame-ancestors 'none'"), "{path}: {csp}");
        assert!(!csp.contains("unsafe"), "{path}: {csp}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(page.header("referrer-policy"), Some("same-origin"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_change_from_another_site_is_refused_and_changes_nothing() {
    let server = with_release().await;
    let browser = Browser::of(&server, "ann", "");
    let before = release(&server).await;
    for from in [
        "",
        "origin: http://evil.example\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\norigin: http://localhost\r\n",
    ] {
        for path in
            ["/releases/r/pause", "/flags/checkout/kill", "/flags/checkout/release", "/caller"]
        {
            let page = browser.post_from(path, from, &[("reason", "x")]).await;
            assert_eq!(page.status, 403, "{path} {from}");
        }
    }
    assert_eq!(release(&server).await, before);
    // Looking at an action does nothing either.
    for action in ["pause", "abort", "full-rollout"] {
        assert_eq!(browser.get(&format!("/releases/r/{action}?reason=x")).await.status, 200);
    }
    assert_eq!(release(&server).await, before);
    server.stop().await;
}

#[tokio::test]
async fn only_names_of_ours_are_answered_to() {
    let mut config = config();
    config.page_hosts = vec!["gate.example".into()];
    let server = Server::start_with(config).await;
    for (host, status) in [
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("gate.example", 200),
        ("rebound.example", 403),
        ("localhost.example", 403),
    ] {
        let browser = Browser::new(&server).with(&format!("host: {host}"));
        assert_eq!(browser.get("/releases").await.status, status, "{host}");
    }
    server.stop().await;
}

#[tokio::test]
async fn actions_are_done_by_forms_in_the_name_of_the_viewer() {
    let server = with_release().await;
    let browser = Browser::of(&server, "bob%40example", "");
    let state = async || release(&server).await.state();

    let page = act(&browser, "pause", &[("reason", "a look")]).await;
    assert_eq!((page.status, page.header("location")), (303, Some("/releases/r")));
    let paused = release(&server).await;
    assert_eq!(paused.state(), v1::ReleaseState::Paused);
    let pause = paused.pause.unwrap();
    assert_eq!(pause.actor.unwrap().principal, "bob@example");
    assert_eq!(pause.reason, "a look");
    assert!(!pause.request_id.is_empty());

    assert_eq!(act(&browser, "unpause", &[]).await.status, 303);
    assert_eq!(state().await, v1::ReleaseState::Baking);
    let two_minutes =
        [("hours", ""), ("minutes", "2"), ("seconds", "0"), ("reason", "enough seen")];
    assert_eq!(act(&browser, "adjust-bake", &two_minutes).await.status, 303);
    let ends = release(&server).await.phases[0].bake_end_time.unwrap().seconds;
    assert_eq!(ends, crate::server::START.as_millis() / 1000 + 120);
    assert_eq!(act(&browser, "abort", &[("reason", "wrong")]).await.status, 303);
    assert_eq!(state().await, v1::ReleaseState::Aborted);
    server.stop().await;
}

#[tokio::test]
async fn a_script_gets_the_inside_of_a_dialog_and_an_empty_answer_when_it_is_done() {
    let server = with_release().await;
    let browser = Browser::new(&server).with("x-phasegate-fragment: 1");
    let dialog = browser.get("/releases/r/pause").await;
    assert!(dialog.body.starts_with("<form"), "{}", dialog.body);
    let done = browser.post("/releases/r/pause", &[("request_id", "once")]).await;
    assert_eq!((done.status, &*done.body), (204, ""));
    // The same click twice is done once, and refused for nobody.
    let again = browser.post("/releases/r/pause", &[("request_id", "once")]).await;
    assert_eq!(again.status, 204);
    let other = browser.post("/releases/r/pause", &[("request_id", "other")]).await;
    assert_eq!(other.status, 409);
    assert!(other.text().contains("the release is paused already"), "{}", other.text());
    server.stop().await;
}

#[tokio::test]
async fn a_late_click_acts_on_the_phase_that_was_shown_or_not_at_all() {
    let server = Server::start().await;
    let mut pipeline = create_pipeline();
    let phases = &mut pipeline.pipeline.as_mut().unwrap().phases;
    phases.push(v1::Phase { id: "second".into(), ..phases[0].clone() });
    server.pipelines().await.create_pipeline(pipeline).await.unwrap();
    let flag = crate::server::create_flag("checkout");
    server.flags().await.create_flag(flag).await.unwrap();
    server.releases().await.trigger_release(trigger("r")).await.unwrap();

    let browser = Browser::of(&server, "bob", "");
    let first = [("phase_id", "canary"), ("reason", "quick")];
    assert_eq!(browser.post("/releases/r/skip", &first).await.status, 303);
    assert_eq!(release(&server).await.current_phase_id, "second");
    let late = browser.post("/releases/r/skip", &first).await;
    assert_eq!(late.status, 409);
    assert!(late.text().contains("phase canary is not the current one"), "{}", late.text());
    assert_eq!(release(&server).await.current_phase_id, "second");

    let etag = browser.get("/releases/r/full-rollout").await.hidden("etag");
    server.pause("r").await;
    let stale = [("etag", &*etag), ("reason", "go")];
    let late = browser.post("/releases/r/full-rollout", &stale).await;
    assert_eq!(late.status, 409);
    assert!(late.text().contains("changed in the meantime"), "{}", late.text());
    server.stop().await;
}

#[tokio::test]
async fn a_dialog_says_what_will_happen_and_the_menu_why_not() {
    let server = with_release().await;
    let browser = Browser::of(&server, "bob", "");
    let text = browser.get("/releases/r").await.text();
    assert!(text.contains("Phase 1 of 1, canary, baking, 1 h left"), "{text}");
    assert!(text.contains("ApprovePhase canary does not await approval"), "{text}");
    assert!(text.contains("UnpauseThe release is not paused"), "{text}");
    let abort = browser.get("/releases/r/abort").await.text();
    let says = "checkout goes back to what it answered before, in one step, in every environment. \
                This is final";
    assert!(abort.contains(says), "{abort}");
    let skip = browser.get("/releases/r/skip").await.text();
    assert!(skip.contains("That ends the release: all phases are done"), "{skip}");
    let rollout = browser.get("/releases/r/full-rollout").await.text();
    assert!(rollout.contains("everyone, in every environment, now"), "{rollout}");
    server.abort("r").await;
    let over = browser.get("/releases/r/abort").await.text();
    assert!(over.contains("Not possible now. The release is over"), "{over}");
    server.stop().await;
}

#[tokio::test]
async fn what_people_wrote_is_shown_as_text() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let canary = "<img src=x onerror=alert(1)>\"'&";
    let mut request = trigger("r");
    let release = request.release.as_mut().unwrap();
    release.description = canary.into();
    release.labels.insert("label".into(), canary.into());
    server.releases().await.trigger_release(request).await.unwrap();
    let pause = v1::PauseReleaseRequest {
        name: "releases/r".into(),
        reason: canary.into(),
        ..Default::default()
    };
    server.releases().await.pause_release(pause).await.unwrap();
    let browser = Browser::new(&server);
    let encoded: String = form_urlencoded::byte_serialize(canary.as_bytes()).collect();
    for path in [
        "/releases".to_owned(),
        "/releases/r".to_owned(),
        "/flags/checkout".to_owned(),
        format!("/releases?text={encoded}&state=all"),
        format!("/flags/checkout?environment={encoded}&context={encoded}"),
    ] {
        let page = browser.get(&path).await;
        assert!(!page.body.contains("<img src=x"), "{path}");
        assert!(page.body.contains("&lt;img src=x onerror=alert(1)&gt;"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_followed_region_by_region() {
    let server = with_release().await;
    let browser = Browser::of(&server, "bob", "");
    let mut events = browser.follow("/releases/r").await;
    let all = ["head", "standing", "exposure", "phases", "outlook", "change", "log"];
    assert_eq!(events.regions().await, all);

    // What does not differ is not sent again.
    server.pause("r").await;
    let changed = events.regions().await;
    assert!(changed.contains(&"standing".to_owned()), "{changed:?}");
    assert!(changed.contains(&"log".to_owned()), "{changed:?}");
    assert!(!changed.contains(&"change".to_owned()), "{changed:?}");
    assert!(!changed.contains(&"exposure".to_owned()), "{changed:?}");

    // The clock of a rehearsal moves without a commit, and is told.
    let duration = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let advance = phasegate_api::rehearsal::AdvanceRequest { duration };
    server.clock().await.advance(advance).await.unwrap();
    let told = events.next("clock").await.unwrap();
    assert_eq!(told["now"], crate::server::START.as_millis() + 60_000);

    server.abort("r").await;
    assert!(events.regions().await.contains(&"exposure".to_owned()));
    let ended = server.ask_to_stop();
    while events.next("clock").await.is_some() {}
    within(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_change_elsewhere_is_not_sent_to_the_page_of_one_release() {
    let server = with_release().await;
    let browser = Browser::new(&server);
    let mut one = browser.follow("/releases/r").await;
    let mut list = browser.follow("/flags").await;
    one.regions().await;
    list.regions().await;
    server.flags().await.create_flag(crate::server::create_flag("other")).await.unwrap();
    assert_eq!(list.regions().await, ["flags"]);
    server.pause("r").await;
    // The next that comes is the pause.
    assert!(one.regions().await.contains(&"standing".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_release_is_triggered_with_its_plan_first() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let browser = Browser::of(&server, "ann", "");
    let form = browser.get("/flags/checkout/release").await;
    assert!(form.body.contains("featureGate:\n  defaultValue: false"), "{}", form.body);
    let (id, base) = (form.hidden("request_id"), form.hidden("base_spec_revision"));
    let send = async |step: &str, answers: &str| {
        let fields = [
            ("step", step),
            ("request_id", &*id),
            ("base_spec_revision", &*base),
            ("answers", answers),
            ("description", "a try"),
            ("pipeline", "p"),
        ];
        browser.post("/flags/checkout/release", &fields).await
    };

    let typo = send("plan", "featureGate:\n  defaultValeu: true\n").await;
    assert_eq!(typo.status, 400);
    assert!(typo.text().contains("new answers:2:3: featureGate.defaultValeu"), "{}", typo.text());
    let limit = send("plan", "featureGate:\n  rules:\n  - value: true\n").await;
    assert_eq!(limit.status, 400);
    assert!(limit.text().contains("new answers:3:5: feature_gate.rules[0]"), "{}", limit.text());
    let same = send("plan", "featureGate: {defaultValue: false}").await;
    assert_eq!(same.status, 409, "{}", same.text());
    assert!(same.text().contains("equals what flags/checkout answers already"), "{}", same.text());

    let answers = "featureGate: {defaultValue: true}";
    let plan = send("plan", answers).await;
    assert_eq!(plan.status, 200, "{}", plan.text());
    assert!(plan.text().contains("- everyone → off\n+ everyone → on"), "{}", plan.text());
    assert!(plan.text().contains("canary goes live, bakes for 1 h"), "{}", plan.text());
    let none = v1::ListReleasesRequest::default();
    let listed = server.releases().await.list_releases(none.clone()).await.unwrap().into_inner();
    assert!(listed.releases.is_empty(), "a plan commits nothing");

    let done = send("trigger", answers).await;
    assert_eq!(done.status, 303, "{}", done.text());
    let again = send("trigger", answers).await;
    assert_eq!(again.header("location"), done.header("location"), "done once");
    let listed = server.releases().await.list_releases(none).await.unwrap().into_inner();
    let [release] = &listed.releases[..] else { panic!("{listed:?}") };
    assert_eq!(release.creator.as_ref().unwrap().principal, "ann");
    assert_eq!(release.description, "a try");
    server.stop().await;
}

#[tokio::test]
async fn a_plan_warns_of_environments_that_nothing_else_names() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let browser = Browser::of(&server, "ann", "");
    let send = async |answers: &str| {
        let fields = [("step", "plan"), ("answers", answers), ("pipeline", "p")];
        let page = browser.post("/flags/checkout/release", &fields).await;
        assert_eq!(page.status, 200, "{}", page.text());
        page.text()
    };
    let rule = "{targeting: {id: one, environments: [prdo]}, value: true}";
    let plan = send(&format!("featureGate: {{rules: [{rule}]}}")).await;
    let warning = "Warning: flags/checkout names the environment prdo, and nothing else does";
    assert!(plan.contains(warning), "{plan}");
    let plan = send("featureGate: {defaultValue: true}").await;
    assert!(!plan.contains("Warning"), "{plan}");
    server.stop().await;
}

#[tokio::test]
async fn an_answer_is_explained_rule_by_rule() {
    let server = Server::start().await;
    let condition = v1::Condition {
        attribute: "tier".into(),
        operator: v1::ConditionOperator::In.into(),
        values: vec!["beta".into()],
    };
    let beta =
        v1::TargetingRule { id: "beta".into(), conditions: vec![condition], ..Default::default() };
    let dev = v1::TargetingRule {
        id: "developers".into(),
        environments: vec!["dev".into()],
        ..Default::default()
    };
    let half = v1::TargetingRule {
        id: "half".into(),
        rollout_basis_points: Some(5_000),
        ..Default::default()
    };
    let rule = |targeting| v1::gate_spec::Rule { targeting: Some(targeting), value: true };
    let gate =
        v1::GateSpec { rules: vec![rule(beta), rule(dev), rule(half)], default_value: false };
    let mut create = crate::server::create_flag("checkout");
    create.flag.as_mut().unwrap().spec = Some(v1::flag::Spec::FeatureGate(gate));
    server.flags().await.create_flag(create).await.unwrap();

    let browser = Browser::new(&server);
    let ask = async |context: &str| {
        let path = format!("/flags/checkout?environment=prod&context={context}");
        browser.get(&path).await
    };
    let page = ask("targetingKey%3Duser-1").await;
    assert!(page.body.contains("<ol class=\"asked\" aria-labelledby=\"asked\">"), "{}", page.body);
    let text = page.text();
    for expected in [
        "beta, of what the flag settles on: condition 1 does not hold, tier is beta",
        "developers, of what the flag settles on: is for dev only",
        "half, of what the flag settles on: ",
        " of 10000, ",
        "The bucket of targetingKey is the hash of flags/checkout:targetingKey, generation v3.",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    let text = ask("tier%3Dbeta").await.text();
    assert!(text.contains("beta, of what the flag settles on: matched"), "{text}");
    assert!(!text.contains("is for dev only"), "what comes after the match is not asked: {text}");
    let text = ask("").await.text();
    let lacks = "half, of what the flag settles on: has a share by targetingKey, which the context";
    assert!(text.contains(lacks), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn the_kill_switch_is_turned_with_a_reason() {
    let server = with_release().await;
    let browser = Browser::of(&server, "ann", "");
    let killed = browser.post("/flags/checkout/kill", &[("reason", "it burns")]).await;
    assert_eq!((killed.status, killed.header("location")), (303, Some("/flags/checkout")));
    let page = browser.get("/flags/checkout?environment=prod").await.text();
    assert!(page.contains("“it burns”"), "{page}");
    assert!(page.contains("Because the flag is killed"), "{page}");
    assert!(!page.contains("Rules that were asked"), "{page}");
    assert_eq!(browser.post("/flags/checkout/revive", &[]).await.status, 303);
    let page = browser.get("/flags/checkout?environment=prod").await.text();
    assert!(page.contains("checkout answers on."), "{page}");
    assert!(page.contains("by its phase canary"), "{page}");
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_names_themself_in_a_form() {
    let server = Server::start().await;
    let browser = Browser::new(&server);
    let named =
        browser.post("/caller", &[("principal", "bob@example"), ("groups", "sre, web")]).await;
    assert_eq!(named.status, 303);
    let cookie = named.header("set-cookie").unwrap();
    assert!(cookie.starts_with("phasegate-principal=bob%40example"), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let wrong = browser.post("/caller", &[("principal", "jürgen")]).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("The name must be printable ASCII"), "{}", wrong.text());
    // What a proxy says counts more.
    let by_proxy = Browser::of(&server, "bob", "").with("phasegate-principal: ann");
    assert!(by_proxy.get("/releases").await.text().contains("Acting as ann"));
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_what_is_not_there_is_not_found() {
    let server = Server::start().await;
    let browser = Browser::new(&server);
    for path in [
        "/releases/none",
        "/releases/NONE",
        "/releases/none/abort",
        "/releases/none/explode",
        "/flags/none",
        "/flags/none/release",
        "/pipelines/none",
        "/live/none",
        "/nothing",
    ] {
        let status = browser.get(path).await.status;
        assert!(matches!(status, 404 | 400), "{path}: {status}");
    }
    let gone = browser.follow("/releases/none").await.next("gone").await.unwrap();
    assert_eq!(gone["text"], "releases/none does not exist");
    let large = "x".repeat(3 << 20);
    let large = browser.post("/flags/checkout/release", &[("answers", &large)]).await;
    assert_eq!(large.status, 413);
    server.stop().await;
}

#[tokio::test]
async fn until_recovery_is_over_pages_say_so() {
    let (server, go_on) = Server::start_held().await;
    let browser = Browser::new(&server);
    let page = browser.get("/releases").await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("the server is starting"), "{}", page.text());
    go_on.send(()).unwrap();
    server.serves().await;
    assert_eq!(browser.get("/releases").await.status, 200);
    server.stop().await;
}
