//! `phasegate demo`: the main job in a minute. A server on a store of its own, the sample flag and
//! pipeline of `examples/quick`, and a release that bakes, stops for an approval, and finishes.

use super::{
    apply,
    serve::serve,
    watch::{View, message},
};
use crate::{
    document::{self, Document, Resource},
    failure::Failure,
    name::id,
    output::print,
};
use clap::Args;
use phasegate_api::v1::{self, ReleaseState};
use phasegate_client::Client;
use phasegate_server::{
    app::{self, App},
    config::{Config, Data},
};
use prost_types::{Struct, Value, value::Kind};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::sync::oneshot;

/// The documents that the demo applies, in order.
const SAMPLES: [(&str, &str); 2] = [
    ("examples/quick/pipeline.yaml", include_str!("../../../examples/quick/pipeline.yaml")),
    ("examples/quick/flag.yaml", include_str!("../../../examples/quick/flag.yaml")),
];
/// The release that it triggers.
const RELEASE: (&str, &str) =
    ("examples/quick/release.yaml", include_str!("../../../examples/quick/release.yaml"));
/// How many users of production are asked about at each step.
const USERS: u32 = 100;
/// How long the approver of the demo thinks: long enough to read what it waits for.
const THINKS: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Keep the store in this directory; without it, it goes with the demo
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Wait for Enter before the approval is given
    #[arg(long)]
    interactive: bool,
    /// End when the release has, and do not keep the server running
    #[arg(long)]
    exit: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // Lives as long as the demo, and takes the directory with it.
        let temporary = match &self.data {
            Some(_) => None,
            None => Some(tempfile::tempdir()?),
        };
        let dir = self.data.clone().or_else(|| temporary.as_ref().map(|t| t.path().join("data")));
        let mut config = Config::new(dir.map_or(Data::Memory, Data::Dir));
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        // Nobody else watches this server, so nobody needs notice of its end.
        config.drain = phasegate_server::config::Drain::AT_ONCE;
        config.watch.drain_over = Duration::ZERO;
        let app = App::bind(config).await?;
        let (tell, served) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let announce = |address| {
            // The receiver waits below; if it is gone the demo is over anyway.
            let _ = tell.send(address);
            Ok(())
        };
        let shutdown = async {
            let signal = async {
                if app::terminated().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = signal => {}
                // Sent when the show is over; dropped when it failed.
                _ = stopped => {}
            }
        };
        let show = async {
            // Without an address the server failed, and says so itself.
            let Ok(address) = served.await else { return Ok(()) };
            let shown = self.show(address).await;
            if self.exit || shown.is_err() {
                let _ = stop.send(());
            } else {
                std::future::pending::<()>().await;
            }
            shown
        };
        let server = serve(app, shutdown, announce);
        tokio::pin!(show);
        tokio::pin!(server);
        tokio::select! {
            served = &mut server => served,
            shown = &mut show => {
                let served = server.await;
                shown.and(served)
            }
        }
    }

    async fn show(&self, address: SocketAddr) -> Result<(), Failure> {
        let url = format!("http://{address}");
        let ann = Client::connect(&url).principal("ann").await?;
        let bob = Client::connect(&url).principal("bob").await?;
        print(&format!(
            "A server listens on {url}, on a durable store of its own. Open that in a browser to see \
             what follows.\n\n"
        ))?;
        for (name, outcome) in apply::apply(&ann, &samples()?).await? {
            print(&format!("  {name}: {}\n", outcome.in_words()))?;
        }
        print("\nBefore the release:\n")?;
        answers(&ann).await?;

        let release = ann.trigger_release(trigger()?).await?;
        print(&format!("\nann triggers {} along {}:\n\n", release.name, release.pipeline))?;
        self.follow(&ann, &bob, &release.name).await?;
        match self.exit {
            true => Ok(()),
            false => print(&where_next(&url, &release.name)),
        }
    }

    /// Shows the release until it is over, and approves what waits for it.
    async fn follow(&self, ann: &Client, bob: &Client, name: &str) -> Result<(), Failure> {
        let mut watch = ann.watch_release(name);
        let mut view = View::default();
        let mut applied = 0;
        while let Some(update) = watch.next().await {
            let Some(message) = message(update?) else { continue };
            print(&view.show(&message))?;
            let Some(release) = message.release else { continue };
            let now_applied = release.phases.iter().filter(|phase| phase.applied).count();
            if now_applied != applied {
                applied = now_applied;
                answers(ann).await?;
            }
            if release.state() == ReleaseState::AwaitingApproval {
                self.approve(bob, &release).await?;
            }
        }
        print("\nAfter the release:\n")?;
        answers(ann).await
    }

    async fn approve(&self, bob: &Client, release: &v1::Release) -> Result<(), Failure> {
        let (name, phase_id) = (release.name.clone(), release.current_phase_id.clone());
        print(&format!(
            "\n  It stops here: phase {phase_id} needs an approval, and not from ann, who triggered \
             it.\n  A person would type:\n\n    phasegate release approve {} {phase_id} --as bob\n\n",
            id(&name)
        ))?;
        if self.interactive {
            print("  Press Enter, and bob does.\n")?;
            // A thread of its own: reading from a terminal cannot be cut short.
            let read = || std::io::stdin().read_line(&mut String::new());
            let read = tokio::task::spawn_blocking(read).await;
            read.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))?;
        } else {
            tokio::time::sleep(THINKS).await;
        }
        let reason = "looks good".to_owned();
        let request = v1::ApprovePhaseRequest { name, phase_id, reason, ..Default::default() };
        bob.approve_phase(request).await?;
        Ok(())
    }
}

fn samples() -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for (file, text) in SAMPLES {
        documents.extend(document::parse(file, text)?);
    }
    Ok(documents)
}

fn trigger() -> Result<v1::TriggerReleaseRequest, Failure> {
    let mut request = v1::TriggerReleaseRequest::default();
    for document in document::parse(RELEASE.0, RELEASE.1)? {
        if let Resource::Release(release) = document.resource {
            request.release = Some(*release);
        }
    }
    Ok(request)
}

/// What the flag answers now, for a few who ask.
async fn answers(client: &Client) -> Result<(), Failure> {
    let in_dev = is_on(client, "dev", &[]).await?;
    let beta = is_on(client, "prod", &[("tier", "beta")]).await?;
    let mut users = 0;
    for user in 0..USERS {
        let key = format!("user-{user}");
        users += u32::from(is_on(client, "prod", &[("targetingKey", key.as_str())]).await?);
    }
    let word = |is_on| if is_on { "on" } else { "off" };
    print(&format!(
        "    newCheckout answers: dev {} · beta users in prod {} · {users} of {USERS} others in prod on\n",
        word(in_dev),
        word(beta),
    ))
}

async fn is_on(
    client: &Client,
    environment: &str,
    attributes: &[(&str, &str)],
) -> Result<bool, Failure> {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = attributes.iter().map(|(key, value)| ((*key).to_owned(), text(value)));
    let request = v1::EvaluateFlagRequest {
        flag: "flags/newCheckout".to_owned(),
        environment: environment.to_owned(),
        context: Some(Struct { fields: fields.collect() }),
    };
    let answer = client.evaluate_flag(request).await?;
    Ok(matches!(answer.value, Some(Value { kind: Some(Kind::BoolValue(true)) })))
}

fn where_next(url: &str, release: &str) -> String {
    format!(
        "\nThe server goes on at {url} until Ctrl-C. Try:\n\n  \
         PHASEGATE_ADDRESS={url} cargo run --release -- release events {}\n  \
         open {url}/releases/{} in a browser\n  \
         grpcurl -plaintext -d '{{\"name\":\"{release}\"}}' {} phasegate.v1.ReleaseService/GetRelease\n  \
         read README.md (a first release of your own), docs/tutorial.md (a week in a second)\n",
        id(release),
        id(release),
        url.trim_start_matches("http://"),
    )
}
