//! Credentials are planted, shown, and sent, rightly and wrongly; then they are looked for wherever the
//! server writes: in its log at its most talkative, in answers, in the audit, in the data directory, in its
//! metrics, and in what it sends to a collector.
//! (Its memory is not written anywhere: see `a_crash_leaves_no_core_file_unless_it_is_wanted`.)

#![allow(clippy::unwrap_used, reason = "these are tests")]

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasegate");

/// What must not come out, and what it is.
struct Planted {
    folder: tempfile::TempDir,
    canaries: Vec<(&'static str, String)>,
}

impl Planted {
    /// A file that holds a canary and that nobody else can read.
    fn file(&mut self, name: &'static str, text: &str, canary: &str) -> PathBuf {
        assert!(text.contains(canary));
        self.canaries.push((name, canary.to_owned()));
        self.write(name, text)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    /// The canaries that stand in what was written.
    fn found_in<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'static str> + 'a {
        let is_in =
            |canary: &str| bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
        self.canaries.iter().filter(move |(_, canary)| is_in(canary)).map(|(name, _)| *name)
    }
}

struct Server {
    child: Child,
    address: String,
    /// Where it shows its metrics.
    metrics: String,
}

/// Keeps what a collector is sent, and answers nothing.
struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Arc::default());
        let keep: Arc<Mutex<Vec<u8>>> = Arc::clone(&received);
        thread::spawn(move || {
            for tcp in listener.incoming() {
                let (mut tcp, keep) = (tcp.unwrap(), Arc::clone(&keep));
                thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    // It ends when the server breaks it.
                    while let Ok(read @ 1..) = tcp.read(&mut bytes) {
                        keep.lock().unwrap().extend(&bytes[..read]);
                    }
                });
            }
        });
        Self { address, received }
    }
}

impl Server {
    fn start(arguments: &[&str], collector: &Collector, log: File) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--listen=127.0.0.1:0", "--log=trace"])
            .args(["--metrics-listen=127.0.0.1:0"])
            .arg(format!("--otlp-endpoint=http://{}", collector.address))
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "100")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut after = |begin: &str| {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix(begin).unwrap().to_owned()
        };
        let address = after("listening on http://");
        let metrics = after("metrics on http://");
        let metrics = metrics.strip_suffix("/metrics").unwrap().to_owned();
        Self { child, address: format!("http://{address}"), metrics }
    }

    /// Runs the program with a token, and returns all that it says.
    fn run(&self, token: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .env("PHASEGATE_ADDRESS", &self.address)
            .env("PHASEGATE_TOKEN", token)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        [output.stdout, output.stderr].concat()
    }

    /// Sends a request as a browser would, and returns the answer.
    fn ask(&self, request: &str, headers: &str, body: &str) -> Vec<u8> {
        ask(self.address.strip_prefix("http://").unwrap(), request, headers, body)
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Sends a request to an address, and returns the answer.
fn ask(address: &str, request: &str, headers: &str, body: &str) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\n\
             content-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    );
    tcp.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).unwrap();
    answer
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_credential_comes_out_anywhere() {
    let mut planted = Planted { folder: tempfile::tempdir().unwrap(), canaries: Vec::new() };
    let made = Command::new(PROGRAM).args(["token", "new", "ann"]).output().unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let entry = String::from_utf8(made.stderr).unwrap();
    planted.canaries.push(("the token", token.clone()));
    let authentication = planted.write("authentication.yaml", &entry);
    let policy = "bindings: [{everyone: true, roles: [admin], permissions: [act_as]}]\n";
    let policy = planted.write("policy.yaml", policy);
    let key = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=";
    planted.file("hook.secret", &format!("whsec_{key}\n"), key);
    let secret = "canary-of-the-url-5d1c";
    planted.file("hook.url", &format!("http://127.0.0.1:9/in?key={secret}\n"), secret);
    let secret = "canary-of-the-header-77aa";
    planted.file("hook.authorization", &format!("Bearer {secret}\n"), secret);
    let secret = "canary-of-the-mail-09bc";
    planted.file("mail.password", &format!("{secret}\n"), secret);
    let notifications = planted.write(
        "notifications.yaml",
        "allowed_hosts: ['127.0.0.1']\nallowed_ports: [9]\nsinks:\n\
         - id: hook\n  webhook: {url_file: hook.url, secrets: [hook.secret], \
         authorization_file: hook.authorization, allow_insecure_loopback: true}\n  \
         subscriptions: [{events: ['*']}]\n\
         - id: mail\n  email: {server: 127.0.0.1, port: 9, user: us, password_file: mail.password, \
         from: gate@example.com, to: [ops@example.com], allow_insecure_loopback: true}\n  \
         subscriptions: [{events: ['*']}]\n",
    );
    let data = planted.folder.path().join("data");
    let log = planted.folder.path().join("log");
    let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let arguments = [
        ["--data".to_owned(), path(&data)],
        ["--authentication".to_owned(), path(&authentication)],
        ["--policy".to_owned(), path(&policy)],
        ["--notifications".to_owned(), path(&notifications)],
    ];
    let arguments: Vec<&str> = arguments.iter().flatten().map(String::as_str).collect();
    let collector = Collector::start();
    let server = Server::start(&arguments, &collector, File::create(&log).unwrap());

    let mut said = Vec::new();
    for command in [
        &["apply", "-f", "examples/quick/pipeline.yaml", "-f", "examples/quick/flag.yaml"][..],
        &["release", "trigger", "-f", "examples/quick/release.yaml"],
        &["whoami"],
        &["list", "releases", "--as", "somebody"],
        &["notify", "test", "hook"],
        &["notify", "test", "mail"],
        &["notify", "list"],
        &["notify", "dead", "hook"],
        &["audit", "list"],
        &["release", "pause", "nobody", "--reason", "none"],
    ] {
        said.extend(server.run(&token, command));
    }
    assert!(String::from_utf8_lossy(&said).contains("token:ann"), "it was let in: {said:?}");
    for wrong in ["pgt_canary-wrong-31fe", "eyJhbGciOiJub25lIn0.canary-jwt-8e21.", "canary-31337"] {
        planted.canaries.push(("a wrong token", wrong.to_owned()));
        said.extend(server.run(wrong, &["list", "flags"]));
    }
    let cookie = "canary-cookie-1b9d";
    planted.canaries.push(("a cookie", cookie.to_owned()));
    said.extend(server.ask("GET /releases", &format!("cookie: phasegate={cookie}\r\n"), ""));
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    said.extend(server.ask("POST /login", form, "token=canary-typed-66d0&next=%2Freleases"));
    planted.canaries.push(("a token typed wrongly", "canary-typed-66d0".to_owned()));
    said.extend(server.ask("POST /login", form, &format!("token={token}")));
    let basic = "authorization: Basic Y2FuYXJ5LWJhc2lj\r\n";
    planted.canaries.push(("a password", "Y2FuYXJ5LWJhc2lj".to_owned()));
    said.extend(server.ask("POST /ofrep/v1/evaluate/flags", basic, "{}"));
    let shown = ask(&server.metrics, "GET /metrics", "", "");
    assert!(String::from_utf8_lossy(&shown).contains("phasegate_refusals_total"), "{shown:?}");
    server.stop();
    let sent = collector.received.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&sent).contains("phasegate.v1.FlagService"), "spans were sent");

    let log = fs::read(&log).unwrap();
    assert!(log.len() > 10_000, "it says much: {} bytes", log.len());
    let mut places = vec![
        ("what was answered".to_owned(), said),
        ("the log".to_owned(), log),
        ("the metrics".to_owned(), shown),
        ("what was sent to the collector".to_owned(), sent),
    ];
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    assert!(places.len() > 6, "the store is on disk");
    for (place, bytes) in &places {
        let found: Vec<_> = planted.found_in(bytes).collect();
        assert!(found.is_empty(), "{place} has {found:?}");
    }
}
