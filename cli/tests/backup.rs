//! Backup and restore, with the real program: while others write, cut off, damaged, and back again.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod process;

use phasegate_client::{Client, v1};
use process::Server;
use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};
use tokio::sync::mpsc;

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasegate");

fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    let mut command = Command::new(PROGRAM);
    command.env_remove("PHASEGATE_DATA").stdin(Stdio::null());
    command.args(arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn good(output: Output) -> String {
    assert_eq!(code(&output), 0, "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn backup(server: &str, to: &Path) -> Output {
    run([OsStr::new("backup"), to.as_os_str(), "--address".as_ref(), server.as_ref()])
}

fn import(data: &Path, from: &Path) -> Output {
    let [store, import, data_, from_] = ["store", "import", "--data", "--from"].map(OsStr::new);
    run([store, import, data_, data.as_os_str(), from_, from.as_os_str()])
}

fn on(data: &Path) -> Server {
    let clock = ["--clock=manual", "--clock-start=2030-06-17T06:00:00Z"].map(OsStr::new);
    Server::start([OsStr::new("--data"), data.as_os_str()].into_iter().chain(clock))
}

/// What the server answers about everything it has, in JSON.
fn answers(server: &Server) -> String {
    let lists: [&[&str]; 5] = [
        &["list", "flags"],
        &["list", "pipelines"],
        &["release", "list"],
        &["release", "get", "first"],
        &["clock", "get"],
    ];
    let answer = |arguments: &&[&str]| {
        let output = ["-o", "json", "--address", &server.address];
        good(run(arguments.iter().copied().chain(output)))
    };
    lists.iter().map(answer).collect()
}

fn flag(id: &str) -> v1::CreateFlagRequest {
    let gate = v1::GateSpec::default();
    let flag = v1::Flag { spec: Some(v1::flag::Spec::FeatureGate(gate)), ..Default::default() };
    v1::CreateFlagRequest { flag_id: id.into(), flag: Some(flag), ..Default::default() }
}

/// A pipeline of one phase that bakes for an hour, a flag, and its release under way.
async fn with_release(client: &Client) {
    let phase = v1::Phase {
        id: "all".into(),
        rules: vec![v1::TargetingRule { id: "all".into(), ..Default::default() }],
        bake_duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let create = v1::CreatePipelineRequest {
        pipeline_id: "hour".into(),
        pipeline: Some(v1::Pipeline { phases: vec![phase], ..Default::default() }),
        ..Default::default()
    };
    client.create_pipeline(create).await.unwrap();
    client.create_flag(flag("first")).await.unwrap();
    let gate = v1::GateSpec { default_value: true, ..Default::default() };
    let release = v1::Release {
        flag: "flags/first".into(),
        pipeline: "pipelines/hour".into(),
        change: Some(v1::release::Change::FeatureGate(gate)),
        ..Default::default()
    };
    let (release_id, release) = ("first".to_owned(), Some(release));
    let trigger = v1::TriggerReleaseRequest { release_id, release, ..Default::default() };
    client.trigger_release(trigger).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_answers_as_the_old_one_and_its_timers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let old = on(&directory.path().join("old"));
    let client = Client::connect(&*old.address).await.unwrap();
    with_release(&client).await;
    let before = answers(&old);
    let file = directory.path().join("backup");
    let shown = good(backup(&old.address, &file));
    assert!(shown.contains("1 flags, 1 pipelines, 1 releases"), "{shown}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    drop(old);

    assert!(
        good(run([OsStr::new("store"), "check".as_ref(), file.as_os_str()])).starts_with("good")
    );
    let data = directory.path().join("new");
    good(import(&data, &file));
    let new = on(&data);
    assert_eq!(answers(&new), before);
    good(run(["clock", "advance", "1h", "--address", &new.address]));
    let client = Client::connect(&*new.address).await.unwrap();
    let release = client.get_release("releases/first").await.unwrap();
    assert_eq!(release.state(), v1::ReleaseState::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_all_that_was_acknowledged_before_it() {
    const CALLERS: usize = 4;
    const BACKUPS: usize = 3;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start([OsStr::new("--data"), directory.path().join("old").as_os_str()]);
    let client = Client::connect(&*server.address).await.unwrap();
    with_release(&client).await;
    let (acknowledge, mut acknowledged) = mpsc::unbounded_channel();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (client, acknowledge) = (client.clone(), acknowledge.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    let id = format!("f-{caller}-{n}");
                    client.create_flag(flag(&id)).await.unwrap();
                    if acknowledge.send(format!("flags/{id}")).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let mut before = Vec::new();
    for n in 0..BACKUPS {
        for _ in 0..100 {
            before.push(acknowledged.recv().await.unwrap());
        }
        let (address, file) = (server.address.clone(), directory.path().join(format!("b-{n}")));
        let to = file.clone();
        good(tokio::task::spawn_blocking(move || backup(&address, &to)).await.unwrap());
        let data = directory.path().join(format!("d-{n}"));
        good(import(&data, &file));
        let restored = Server::start([OsStr::new("--data"), data.as_os_str()]);
        let client = Client::connect(&*restored.address).await.unwrap();
        for name in &before {
            client.get_flag(name.clone()).await.unwrap();
        }
    }
    drop(acknowledged);
    for caller in callers {
        caller.await.unwrap();
    }
}

/// Lets so many bytes of the answer pass, then cuts both ways.
fn cutting_proxy(server: &str, bytes: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = server.strip_prefix("http://").unwrap().to_owned();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = TcpStream::connect(server).unwrap();
        let (mut asks, mut forwards) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let asking = thread::spawn(move || std::io::copy(&mut asks, &mut forwards));
        let mut answer = (&server).take(bytes);
        // It ends when either side has gone, or the bytes are through.
        let _ = std::io::copy(&mut answer, &mut (&client));
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = server.shutdown(std::net::Shutdown::Both);
        let _ = asking.join();
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_cut_off_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let server = on(&directory.path().join("data"));
    let client = Client::connect(&*server.address).await.unwrap();
    with_release(&client).await;
    for n in 0..200 {
        client.create_flag(flag(&format!("f-{n}"))).await.unwrap();
    }
    let place = directory.path().join("backups");
    fs::create_dir(&place).unwrap();
    let whole = place.join("whole");
    good(backup(&server.address, &whole));
    let size = fs::metadata(&whole).unwrap().len();
    for part in [1, 2, 3] {
        let proxy = cutting_proxy(&server.address, size * part / 4);
        let output = tokio::task::block_in_place(|| backup(&proxy, &place.join("cut")));
        assert_ne!(code(&output), 0, "{part}");
        let left: Vec<_> = fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["whole"], "{part}");
        let proxy = cutting_proxy(&server.address, size * part / 4);
        let piped = run(["backup", "-", "--address", &proxy]);
        assert_ne!(code(&piped), 0);
        assert!((piped.stdout.len() as u64) < size);
    }
    // What is there is never written over.
    let again = backup(&server.address, &whole);
    assert_eq!(code(&again), 64, "{}", said(&again));
    assert_eq!(fs::metadata(&whole).unwrap().len(), size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_backup_is_refused_and_leaves_no_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let server = on(&directory.path().join("data"));
    with_release(&Client::connect(&*server.address).await.unwrap()).await;
    let whole = directory.path().join("whole");
    good(backup(&server.address, &whole));
    let bytes = fs::read(&whole).unwrap();
    let (file, data) = (directory.path().join("damaged"), directory.path().join("new"));
    let digit = bytes.iter().rposition(u8::is_ascii_digit).unwrap();
    for at in [10, bytes.len() / 3, bytes.len() / 2, digit] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::File::create(&file).unwrap().write_all(&damaged).unwrap();
        let check = run([OsStr::new("store"), "check".as_ref(), file.as_os_str()]);
        assert_eq!(code(&check), 65, "{at}: {}", said(&check));
        let refused = import(&data, &file);
        assert_eq!(code(&refused), 65, "{at}: {}", said(&refused));
        assert_eq!(fs::read_dir(&data).map_or(0, Iterator::count), 0);
    }
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(code(&import(&data, &file)), 65);
    good(import(&data, &whole));
}
