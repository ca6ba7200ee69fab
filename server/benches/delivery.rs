//! One change of a flag on its way to a thousand and ten thousand applications that follow an
//! environment of five hundred flags.
//!
//! `cargo bench -p phasegate-server --bench delivery [STREAMS...]`. The server is a process of its own, so
//! that its memory and its processor time are told from those of the applications, which share the
//! machine with it. The baseline, in the same run, is the same bytes over as many bare sockets: what
//! the kernel alone needs. Each figure is the median of some rounds.

use phasegate_api::{
    flagd::sync::{
        SyncFlagsRequest, SyncFlagsResponse, flag_sync_service_client::FlagSyncServiceClient,
    },
    v1::{self, flag_service_client::FlagServiceClient},
};
use phasegate_server::{
    app::App,
    config::{Config, Data},
};
use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

const FLAGS: usize = 500;
const ROUNDS: usize = 5;
/// Streams of one connection, as a proxy would bring them.
const STREAMS_OF_A_CONNECTION: usize = 100;
/// Tells the child that it is the server.
const SERVER: &str = "PHASEGATE_BENCH_SERVER";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    if env::var_os(SERVER).is_some() {
        return runtime.block_on(serve());
    }
    let asked: Vec<usize> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let counts = if asked.is_empty() { vec![1_000, 10_000] } else { asked };
    for streams in counts {
        runtime.block_on(measure(streams));
    }
}

/// The server, on a free port that it prints.
async fn serve() {
    let mut config = Config::new(Data::Memory);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.delivery.environments = vec!["prod".parse().expect("it is an id")];
    let mut app = App::bind(config).await.expect("a free port of loopback can be bound");
    let address = app.local_addr();
    let serving = app.when_serving();
    tokio::spawn(async move {
        serving.await.expect("recovery goes well");
        println!("{address}");
    });
    app.serve(std::future::pending()).await.expect("it serves until it is killed");
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let program = env::current_exe().expect("a program knows itself");
        let mut child = Command::new(program)
            .env(SERVER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started again");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().parse().expect("it says an address");
        Self { child, address }
    }

    /// Resident memory, in bytes.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("proc(5) says so") * 1024
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("the process runs");
        let (_, fields) = stat.rsplit_once(") ").expect("proc(5) says so");
        let ticks: Vec<u64> =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        // 100 ticks a second, on every Linux that this runs on.
        Duration::from_millis(ticks.iter().sum::<u64>() * 10)
    }

    async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let endpoint = endpoint.expect("an address makes an URI");
        // So that the applications do not hold each other up.
        let endpoint =
            endpoint.initial_connection_window_size(64 << 20).initial_stream_window_size(1 << 20);
        endpoint.connect().await.expect("the server listens")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours, and has nothing to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Sets = Streaming<SyncFlagsResponse>;

/// Opens streams, all at once, and waits for the first set of each.
async fn open(server: &Server, streams: usize) -> Vec<Sets> {
    let mut tasks = JoinSet::new();
    for first in (0..streams).step_by(STREAMS_OF_A_CONNECTION) {
        let channel = server.connect().await;
        for _ in first..streams.min(first + STREAMS_OF_A_CONNECTION) {
            let mut client = FlagSyncServiceClient::new(channel.clone());
            tasks.spawn(async move {
                let request =
                    SyncFlagsRequest { selector: "prod".into(), ..SyncFlagsRequest::default() };
                let sets = client.sync_flags(request).await.expect("there are slots");
                let mut sets = sets.into_inner();
                sets.message().await.expect("it opens").expect("it begins with a set");
                sets
            });
        }
    }
    tasks.join_all().await
}

/// Flags with a condition and a share each.
async fn fill(server: &Server) {
    let mut flags = FlagServiceClient::new(server.connect().await);
    for n in 0..FLAGS {
        let condition = v1::Condition {
            attribute: "tier".into(),
            operator: v1::ConditionOperator::In.into(),
            values: vec!["beta".into(), "staff".into()],
        };
        let targeting = v1::TargetingRule {
            id: "some".into(),
            conditions: vec![condition],
            rollout_basis_points: Some(2500),
            ..Default::default()
        };
        let rule = v1::gate_spec::Rule { targeting: Some(targeting), value: true };
        let gate = v1::GateSpec { rules: vec![rule], default_value: false };
        let flag = v1::Flag { spec: Some(v1::flag::Spec::FeatureGate(gate)), ..Default::default() };
        let request = v1::CreateFlagRequest {
            flag_id: format!("flag-{n}"),
            flag: Some(flag),
            ..Default::default()
        };
        flags.create_flag(request).await.expect("it is sound");
    }
}

/// One change, and how long after its call each stream has the set with it; none for those that do
/// not read.
async fn change(server: &Server, sets: &mut Vec<Sets>, engaged: bool) -> Vec<Duration> {
    let mut flags = FlagServiceClient::new(server.connect().await);
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut stream in sets.drain(..) {
        tasks.spawn(async move {
            stream.message().await.expect("it goes on").expect("there is another set");
            (stream, began.elapsed())
        });
    }
    let request = v1::SetKillSwitchRequest {
        name: "flags/flag-0".into(),
        engaged: Some(engaged),
        ..Default::default()
    };
    flags.set_kill_switch(request).await.expect("the flag is there");
    let mut times = Vec::new();
    for (stream, time) in tasks.join_all().await {
        sets.push(stream);
        times.push(time);
    }
    times.sort();
    times
}

/// The same bytes over as many bare connections as there are connections above.
async fn bare(streams: usize, bytes: usize) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
    let address = listener.local_addr().expect("it has one");
    let connections = streams.div_ceil(STREAMS_OF_A_CONNECTION);
    let each = bytes * streams / connections;
    let mut pairs = Vec::new();
    for _ in 0..connections {
        let connecting = TcpStream::connect(address);
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        pairs.push((ours.expect("it connects"), theirs.expect("it is accepted").0));
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut reader, mut writer) in pairs {
        tasks.spawn(async move {
            let block = vec![7_u8; 64 << 10];
            let mut left = each;
            while left > 0 {
                let some = left.min(block.len());
                writer.write_all(&block[..some]).await.expect("it is read");
                left -= some;
            }
        });
        tasks.spawn(async move {
            let mut block = vec![0_u8; 64 << 10];
            let mut left = each;
            while left > 0 {
                left -= reader.read(&mut block).await.expect("it is written").min(left);
            }
        });
    }
    tasks.join_all().await;
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

async fn measure(streams: usize) {
    let server = Server::start();
    fill(&server).await;
    let bytes = {
        let mut client =
            FlagSyncServiceClient::new(server.connect().await).max_decoding_message_size(8 << 20);
        let request = SyncFlagsRequest { selector: "prod".into(), ..Default::default() };
        let mut sets = client.sync_flags(request).await.expect("it opens").into_inner();
        let set = sets.message().await.expect("it opens").expect("it begins with a set");
        set.flag_configuration.len()
    };
    println!("\n{streams} streams, {FLAGS} flags, {bytes} bytes a set");
    let empty = server.resident();
    let began = Instant::now();
    let mut sets = open(&server, streams).await;
    println!("  all opened at once and have their first set: {}", ms(began.elapsed()));
    let open_bytes = server.resident().saturating_sub(empty);
    println!(
        "  resident memory of the server: {} KiB, and {:.1} KiB a stream",
        empty >> 10,
        open_bytes as f64 / 1024.0 / streams as f64
    );

    let (mut firsts, mut halves, mut lasts, mut cpus, mut bares) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let cpu = server.cpu();
        let times = change(&server, &mut sets, round % 2 == 0).await;
        cpus.push(server.cpu() - cpu);
        firsts.push(times[0]);
        halves.push(times[times.len() / 2]);
        lasts.push(times[times.len() - 1]);
        bares.push(bare(streams, bytes).await);
    }
    let (last, floor) = (median(lasts), median(bares));
    println!(
        "  a change reaches the first after {}, half after {}, all after {}; bare sockets: {}; ratio {:.1}",
        ms(median(firsts)),
        ms(median(halves)),
        ms(last),
        ms(floor),
        last.as_secs_f64() / floor.as_secs_f64()
    );
    println!(
        "  processor time of the server for it: {}, {:.0} us a stream",
        ms(median(cpus.clone())),
        median(cpus).as_secs_f64() * 1e6 / streams as f64
    );
    let after = server.resident().saturating_sub(empty);
    println!(
        "  resident memory after {ROUNDS} changes: {:.1} KiB a stream",
        after as f64 / 1024.0 / streams as f64
    );

    // More that never read again, on connections of their own: on a shared one they would stop the
    // others of it, by the window of the connection.
    let stuck = open(&server, streams / 10).await;
    let mut lasts = Vec::new();
    for round in 0..ROUNDS * 2 {
        let times = change(&server, &mut sets, round % 2 == 1).await;
        lasts.push(times[times.len() - 1]);
    }
    let after = server.resident().saturating_sub(empty);
    println!(
        "  beside a tenth as many that do not read: all others have it after {}; resident memory after {} changes: {:.1} KiB a stream",
        ms(median(lasts)),
        ROUNDS * 2,
        after as f64 / 1024.0 / streams as f64
    );
    drop((sets, stuck));
    let began = Instant::now();
    let sets = open(&server, streams).await;
    println!("  all dropped and opened again at once: {}", ms(began.elapsed()));
    drop(sets);
}
