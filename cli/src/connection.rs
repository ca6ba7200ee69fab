//! Which server to talk to, and as whom.

use crate::failure::Failure;
use clap::Args;
use phasegate_client::Client;

/// Where a server listens unless it is told otherwise.
pub(crate) const DEFAULT_ADDRESS: &str = "http://127.0.0.1:7433";

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server and caller")]
pub(crate) struct Connection {
    /// Address of the server
    #[arg(
        long,
        env = "PHASEGATE_ADDRESS",
        default_value = DEFAULT_ADDRESS,
        value_name = "URL",
        global = true
    )]
    pub(crate) address: String,
    /// Who you are, as the log shall have it
    #[arg(long = "as", env = "PHASEGATE_PRINCIPAL", value_name = "PRINCIPAL", global = true)]
    pub(crate) principal: Option<String>,
    /// The groups you are in, comma-separated; approvals are counted by them
    #[arg(
        long,
        env = "PHASEGATE_GROUPS",
        value_name = "GROUPS",
        value_delimiter = ',',
        global = true
    )]
    pub(crate) groups: Vec<String>,
}

impl Connection {
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let groups = self.groups.iter().map(|group| group.trim()).filter(|group| !group.is_empty());
        let mut connect = Client::connect(&self.address).groups(groups);
        if let Some(principal) = &self.principal {
            connect = connect.principal(principal);
        }
        Ok(connect.await?)
    }
}
