//! `phasegate eval`: what a flag answers, and why.

use crate::{
    complete,
    connection::Connection,
    failure::Failure,
    name,
    output::{Output, answer},
};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use phasegate_api::v1::EvaluateFlagRequest;
use phasegate_document::context::{self, Attributes};
use prost_types::Struct;

#[derive(Args, Debug)]
pub(crate) struct Eval {
    /// The flag
    #[arg(value_parser = name::flag, add = ArgValueCandidates::new(complete::flags))]
    flag: String,
    /// The environment that asks
    #[arg(long = "env", value_name = "ENVIRONMENT")]
    environment: String,
    /// What is known about who asks: KEY=VALUE, or a JSON object; may come more than once
    #[arg(
        short = 'a',
        long = "attribute",
        value_name = "KEY=VALUE|JSON",
        value_parser = attributes
    )]
    attributes: Vec<Several>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Some attributes of a context. A type of its own, because clap takes a list for an option that comes
/// more than once.
#[derive(Clone, Debug, PartialEq)]
struct Several(Attributes);

fn attributes(text: &str) -> Result<Several, String> {
    context::attributes(text).map(Several)
}

impl Eval {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        let fields = self.attributes.into_iter().flat_map(|Several(fields)| fields).collect();
        let request = EvaluateFlagRequest {
            flag: self.flag,
            environment: self.environment,
            context: Some(Struct { fields }),
        };
        let answered = client.evaluate_flag(request).await?;
        self.output.show(&answered, || answer::answer(&answered))
    }
}
