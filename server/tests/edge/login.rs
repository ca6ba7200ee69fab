//! Signing in and out of the status page.

use crate::{
    authority::Files,
    browser::{Browser, Page},
    identity::entry,
    issuer::{Fault, Issuer},
    server::{Server, within},
};
use phasegate_api::v1;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A server that knows one token.
async fn with_token() -> (Server, String, Files) {
    let (token, entry) = entry("ann", ", kind: person, groups: [sre]");
    let files = Files::new();
    let server = Server::start_with(files.config(&format!("tokens:\n{entry}"))).await;
    (server, token, files)
}

/// The cookie that a page sets, as it is sent back.
fn cookie(page: &Page) -> String {
    let set = page.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {page:?}"));
    set.split(';').next().unwrap().to_owned()
}

async fn sign_in(server: &Server, token: &str) -> Browser {
    let page = Browser::new(server).post("/login", &[("token", token)]).await;
    assert_eq!(page.status, 303, "{page:?}");
    Browser::new(server).with(&format!("cookie: {}", cookie(&page)))
}

#[tokio::test]
async fn nobody_sees_a_page_before_they_have_signed_in() {
    let (server, token, _files) = with_token().await;
    let anybody = Browser::new(&server);
    let led = anybody.get("/flags?text=a").await;
    assert_eq!(
        (led.status, led.header("location")),
        (303, Some("/login?next=%2Fflags%3Ftext%3Da"))
    );
    assert_eq!(anybody.get("/login").await.status, 200);
    let asset = led_asset(&anybody.get("/login").await.body);
    assert_eq!(anybody.get(&asset).await.status, 200, "{asset}");
    assert_eq!(anybody.post("/flags/checkout/kill", &[]).await.status, 401);
    for forged in ["cookie: phasegate=x", "cookie: phasegate-principal=root"] {
        assert_eq!(Browser::new(&server).with(forged).get("/flags").await.status, 303);
    }
    let wrong = Browser::new(&server).with("authorization: Bearer pgt_x").get("/flags").await;
    assert_eq!(wrong.status, 401);

    let ann = sign_in(&server, &token).await;
    assert_eq!(ann.get("/flags").await.status, 200);
    let who = ann.get("/caller").await.text();
    assert!(who.contains("You are token:ann") && who.contains("sre"), "{who}");
    // A program may look without a session.
    let program = Browser::new(&server).with(&format!("authorization: Bearer {token}"));
    assert_eq!(program.get("/flags").await.status, 200);
    server.stop().await;
}

fn led_asset(body: &str) -> String {
    let (_, rest) = body.split_once("href=\"/assets/").unwrap();
    format!("/assets/{}", rest.split('"').next().unwrap())
}

#[tokio::test]
async fn a_token_that_is_not_valid_opens_no_session() {
    let (server, _, _files) = with_token().await;
    for bad in ["", "pgt_x", "a.b.c", "ü", "x y"] {
        let page = Browser::new(&server).post("/login", &[("token", bad)]).await;
        assert_eq!((page.status, page.header("set-cookie")), (401, None), "{bad}");
        assert!(page.text().contains("The token is not valid."), "{bad}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_done_on_a_page_is_done_by_who_has_signed_in() {
    let (server, token, _files) = with_token().await;
    let ann = sign_in(&server, &token).await;
    let request = v1::CreateFlagRequest { ..crate::server::create_flag("checkout") };
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    server.flags().await.create_flag(request).await.unwrap();
    let dialog = ann.get("/flags/checkout/kill").await;
    let id = dialog.hidden("request_id");
    let killed = ann.post("/flags/checkout/kill", &[("request_id", &id), ("reason", "bad")]).await;
    assert_eq!(killed.status, 303, "{}", killed.text());
    assert!(ann.get("/flags/checkout").await.text().contains("Lift kill switch"));
    server.stop().await;
}

#[tokio::test]
async fn after_signing_out_the_session_is_gone_and_its_streams_end() {
    let (server, token, _files) = with_token().await;
    // So that the end of a stream is the end of its connection.
    let ann = sign_in(&server, &token).await.with("connection: close");
    let mut stream = ann.follow("/flags").await;
    assert!(!stream.regions().await.is_empty());
    let out = ann.post("/logout", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, Some("/login")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(stream.next("regions").await.is_none(), "the stream has ended");
    assert_eq!(ann.get("/flags").await.status, 303);
    let mut again = ann.follow("/flags").await;
    assert!(again.next("login").await.is_some(), "the page is told to sign in");
    server.stop().await;
}

#[tokio::test]
async fn a_session_ends_when_its_token_is_taken_away() {
    let (server, token, files) = with_token().await;
    let ann = sign_in(&server, &token).await;
    assert_eq!(ann.get("/flags").await.status, 200);
    let (_, other) = entry("other", "");
    files.write("authentication.yaml", &format!("tokens:\n{other}"));
    within(async { while ann.get("/flags").await.status == 200 {} }).await;
    assert_eq!(ann.get("/flags").await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn no_other_site_acts_with_the_session_or_makes_one() {
    let (server, token, _files) = with_token().await;
    let ann = sign_in(&server, &token).await;
    let text = "content-type: text/plain\r\n";
    let foreign = "origin: https://evil.example\r\n";
    let cross = "sec-fetch-site: cross-site\r\n";
    for path in ["/logout", "/login", "/flags/checkout/kill", "/releases/r/abort"] {
        for headers in [
            cross.to_owned(),
            foreign.to_owned(),
            String::new(),
            format!("{text}{foreign}"),
            format!("{text}{cross}"),
            format!("content-type: multipart/form-data; boundary=x\r\n{cross}"),
        ] {
            let page =
                ann.post_from(path, &headers, &[("token", &token), ("request_id", "x")]).await;
            assert_eq!((page.status, page.header("set-cookie")), (403, None), "{path} {headers}");
        }
    }
    assert_eq!(ann.get("/flags").await.status, 200, "nobody was signed out");
    // A link on another site: the browser keeps the cookie back, and sends it with the next step.
    let link = Browser::new(&server).with("sec-fetch-site: cross-site").get("/flags").await;
    assert_eq!(link.status, 200);
    assert!(link.body.contains("http-equiv=\"refresh\" content=\"0;url=/flags\""), "{}", link.body);
    server.stop().await;
}

/// A server whose people sign in at an issuer, once it has heard of the issuer.
async fn with_issuer(fault: Fault) -> (Server, Issuer, Files) {
    let issuer = Issuer::start(fault).await;
    let files = Files::new();
    let server = Server::start_with(files.config(&issuer.entry("http://localhost:7433"))).await;
    (server, issuer, files)
}

/// Begins: where the browser is sent, and what it holds.
async fn begin(server: &Server) -> (String, String) {
    let browser = Browser::new(server);
    let start = async {
        loop {
            let page = browser.get("/login/start?issuer=corp&next=%2Fpipelines").await;
            if page.status == 303 {
                return page;
            }
            assert!(page.text().contains("cannot be reached"), "{}", page.text());
        }
    };
    let page = within(start).await;
    let held = page.header("set-cookie").unwrap();
    assert!(held.starts_with("phasegate-login=") && held.contains("SameSite=Lax"), "{held}");
    assert!(held.contains("HttpOnly"), "{held}");
    (page.header("location").unwrap().to_owned(), cookie(&page))
}

/// Asks the issuer as a browser would, and says where it leads back to.
async fn visit(location: &str) -> String {
    let (host, path) = location.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut tcp = TcpStream::connect(host).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.unwrap();
    let back = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
    back.strip_prefix("http://localhost:7433").unwrap().to_owned()
}

#[tokio::test]
async fn people_sign_in_at_an_issuer_and_a_login_is_good_for_one_browser_and_one_try() {
    let (server, issuer, _files) = with_issuer(Fault::None).await;
    assert!(Browser::new(&server).get("/login").await.text().contains("Sign in with corp"));
    let (location, held) = begin(&server).await;
    assert!(location.starts_with(&format!("{}/authorize?", issuer.address)), "{location}");
    for part in
        ["code_challenge=", "code_challenge_method=S256", "state=", "nonce=", "client_id=page"]
    {
        assert!(location.contains(part), "{location}");
    }
    let back = visit(&location).await;
    let stranger = Browser::new(&server).get(&back).await;
    assert_eq!(stranger.status, 403, "another browser has begun no login");
    let browser = Browser::new(&server).with(&format!("cookie: {held}"));
    let page = browser.get(&back).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.body.contains("content=\"0;url=/pipelines\""), "{}", page.body);
    let session = page.cookies().into_iter().find(|set| set.starts_with("phasegate=")).unwrap();
    assert!(session.contains("SameSite=Strict") && session.contains("HttpOnly"), "{session}");
    let signed_in = session.split(';').next().unwrap();
    let ann = Browser::new(&server).with(&format!("cookie: {signed_in}"));
    let who = ann.get("/caller").await.text();
    assert!(who.contains("corp:u-1") && who.contains("ann@example.com"), "{who}");
    let again = browser.get(&back).await;
    assert_eq!(
        (again.status, again.cookies().len()),
        (403, 1),
        "only the login's cookie is taken away"
    );

    // The same issuer vouches for programs.
    let program = Browser::new(&server).with(&format!("authorization: {}", issuer.bearer()));
    assert!(program.get("/caller").await.text().contains("corp:u-1"));
    server.stop().await;
}

#[tokio::test]
async fn a_forged_state_or_a_code_of_another_login_signs_nobody_in() {
    let (server, _issuer, _files) = with_issuer(Fault::None).await;
    let (location, held) = begin(&server).await;
    let back = visit(&location).await;
    let (path, _) = back.split_once("state=").unwrap();
    for forged in [format!("{path}state=forged"), path.trim_end_matches('&').to_owned()] {
        let (_, held) = begin(&server).await;
        let page = Browser::new(&server).with(&format!("cookie: {held}")).get(&forged).await;
        assert_eq!(page.status, 403, "{forged}");
    }
    // A code that was given for another login has another verifier.
    let (second, second_held) = begin(&server).await;
    let state = second.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let mixed = format!("{path}state={state}");
    let page = Browser::new(&server).with(&format!("cookie: {second_held}")).get(&mixed).await;
    assert_eq!(page.status, 403, "PKCE");
    let denied = format!("/login/callback?error=access_denied&state={state}");
    let page = Browser::new(&server).with(&format!("cookie: {held}")).get(&denied).await;
    assert_eq!(page.status, 403);
    server.stop().await;
}

#[tokio::test]
async fn an_issuer_without_pkce_or_with_another_s_token_signs_nobody_in() {
    let (server, _issuer, _files) = with_issuer(Fault::NoPkce).await;
    let browser = Browser::new(&server);
    let refused = async {
        loop {
            let page = browser.get("/login/start?issuer=corp").await;
            assert_eq!(page.status, 403);
            if page.text().contains("PKCE") {
                return;
            }
        }
    };
    within(refused).await;
    server.stop().await;
    for fault in [Fault::Nonce, Fault::Audience] {
        let (server, _issuer, _files) = with_issuer(fault).await;
        let (location, held) = begin(&server).await;
        let back = visit(&location).await;
        let page = Browser::new(&server).with(&format!("cookie: {held}")).get(&back).await;
        assert_eq!(page.status, 403, "{fault:?}");
        assert!(!page.cookies().iter().any(|set| set.starts_with("phasegate=")), "{fault:?}");
        server.stop().await;
    }
}
