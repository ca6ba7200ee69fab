//! `phasegate whoami`: who the caller is to the server, and what they may.

use crate::{
    connection::Connection,
    failure::Failure,
    output::{Output, table::Table},
    time,
};
use clap::Args;
use phasegate_api::v1;

#[derive(Args, Debug)]
pub(crate) struct Whoami {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

impl Whoami {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        let identity = client.identity().await?;
        self.output.show(&identity, || shown(&identity))
    }
}

fn shown(identity: &v1::GetIdentityResponse) -> String {
    let mut facts = Table::of_facts();
    facts.fact("principal", &*identity.principal);
    if identity.authenticated != identity.principal {
        facts.fact("authenticated", &*identity.authenticated);
    }
    facts.fact("name", &*identity.display_name);
    facts.fact("kind", if identity.service_account { "service account" } else { "" });
    facts.fact("groups", identity.groups.join(", "));
    facts.fact("until", identity.expire_time.as_ref().map(time::machine).unwrap_or_default());
    let roles = identity.roles.iter().map(|role| (role.role.as_str(), role.scopes.as_slice()));
    let roles = roles.map(|(role, scopes)| match places(scopes).as_str() {
        "everywhere" => role.to_owned(),
        places => format!("{role} ({places})"),
    });
    facts.fact("roles", roles.collect::<Vec<_>>().join(", "));
    let mut text = facts.render();
    text.push('\n');
    if identity.open {
        text.push_str(
            "The server has no policy: it believes this name, and everybody may do everything.\n",
        );
        return text;
    }
    let mut table = Table::new(&["PERMISSION", "OF FLAGS WITH"]);
    for granted in &identity.permissions {
        table.row([granted.permission.clone(), places(&granted.scopes)]);
    }
    text.push_str(&table.render());
    text
}

fn places(scopes: &[v1::LabelScope]) -> String {
    let scope = |scope: &v1::LabelScope| {
        let labels = scope.labels.iter().map(|(key, value)| format!("{key}={value}"));
        labels.collect::<Vec<_>>().join(" ")
    };
    if scopes.iter().any(|scope| scope.labels.is_empty()) {
        return "everywhere".to_owned();
    }
    scopes.iter().map(scope).collect::<Vec<_>>().join(", or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_somewhere_says_where() {
        let labels = |pairs: &[(&str, &str)]| v1::LabelScope {
            labels: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        assert_eq!(places(&[labels(&[("team", "a"), ("tier", "1")])]), "team=a tier=1");
        assert_eq!(places(&[labels(&[("team", "a")]), labels(&[("b", "c")])]), "team=a, or b=c");
        assert_eq!(places(&[labels(&[])]), "everywhere");
    }
}
