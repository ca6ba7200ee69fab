use super::*;
use crate::command::serve::{Serve, Settings};
use clap::Args as _;
use std::path::Path;

/// What is said where.
#[derive(Default)]
struct Said<'a> {
    flags: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    file: &'a str,
}

impl Said<'_> {
    fn resolve(&self) -> Resolved<Settings> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.yaml");
        std::fs::write(&path, self.file).unwrap();
        let mut flags: Vec<OsString> = self.flags.iter().map(OsString::from).collect();
        if !self.file.is_empty() {
            flags.extend(["--config".into(), path.clone().into()]);
        }
        let command = Serve::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(flags).unwrap();
        let environment = |name: &str| {
            let found = self.variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let mut resolved = resolve::<Settings>(&matches, &environment).unwrap();
        let place = path.display().to_string();
        for problem in &mut resolved.problems {
            problem.0 = problem.0.replace(&place, "FILE");
        }
        for setting in &mut resolved.each {
            if let Source::File { file, .. } = &mut setting.source {
                "FILE".clone_into(file);
            }
        }
        resolved
    }

    fn line(&self, name: &str) -> String {
        let resolved = self.resolve();
        assert_eq!(resolved.problems, []);
        resolved.each.iter().find(|setting| setting.name == name).unwrap().line()
    }

    fn problems(&self) -> Vec<String> {
        self.resolve().problems.into_iter().map(|problem| problem.0).collect()
    }
}

#[test]
fn what_is_said_the_nearest_holds() {
    let mut said = Said::default();
    assert_eq!(said.line("keep-events"), "keep-events: 7d  # default");
    said.file = "# retention\nkeep-events: 3d\n";
    assert_eq!(said.line("keep-events"), "keep-events: 3d  # FILE:2");
    said.variables = &[("PHASEGATE_KEEP_EVENTS", "2d")];
    assert_eq!(said.line("keep-events"), "keep-events: 2d  # PHASEGATE_KEEP_EVENTS");
    said.flags = &["--keep-events=1d"];
    assert_eq!(said.line("keep-events"), "keep-events: 1d  # --keep-events");
    let (config, problems) = said.resolve().settings.config();
    assert_eq!(config.driver.retention.events.as_millis(), 86_400_000);
    assert_eq!(problems.len(), 1, "there is no place for data");
}

#[test]
fn switches_and_lists_can_be_said_everywhere() {
    for (flags, variables, file) in [
        (&["--memory", "--page-host=a", "--page-host", "b"][..], &[][..], ""),
        (&[], &[("PHASEGATE_MEMORY", "true"), ("PHASEGATE_PAGE_HOST", "a, b")], ""),
        (&[], &[], "memory: true\npage-host: [a, b]\n"),
        (&[], &[], "memory: true\npage-host:\n- a\n- b\n"),
        (&["--memory"], &[("PHASEGATE_PAGE_HOST", "a,b")], "page-host: c\nmemory: false\n"),
    ] {
        let resolved = Said { flags, variables, file }.resolve();
        assert_eq!(resolved.problems, []);
        let (config, problems) = resolved.settings.config();
        assert_eq!(problems, []);
        assert_eq!(config.data, phasegate_server::config::Data::Memory);
        assert_eq!(config.page_hosts, ["a", "b"], "{file}");
    }
    let one = Said { file: "page-host: c\n", ..Said::default() };
    assert_eq!(one.line("page-host"), "page-host: [c]  # FILE:1");
    let off = Said { variables: &[("PHASEGATE_MEMORY", "false")], ..Said::default() };
    assert_eq!(off.line("memory"), "memory: false  # PHASEGATE_MEMORY");
    let empty = Said { variables: &[("PHASEGATE_DATA", "")], ..Said::default() };
    assert_eq!(empty.line("data"), "# data is not set");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let said = Said {
        variables: &[("PHASEGATE_CLOCK", "sundial"), ("PHASEGATE_MEMORY", "maybe")],
        file: "listen: here\nkeep_events: 1d\ntls-cret: a.pem\nquite-other: 1\n\
               connections-per-address: many\ndata: [a, b]\npolicy:\n",
        ..Said::default()
    };
    let problems = said.problems();
    let expected = [
        "FILE:2: there is no setting keep_events; is it keep-events?",
        "FILE:3: there is no setting tls-cret; is it tls-cert?",
        "FILE:4: there is no setting quite-other",
        "FILE:7: policy has no value",
        "FILE:1: invalid value 'here' for '--listen <ADDR>'",
        "FILE:6: data has one value, not a list",
        "PHASEGATE_MEMORY: ",
        "PHASEGATE_CLOCK: invalid value 'sundial' for '--clock <CLOCK>'",
        "FILE:5: invalid value 'many' for '--connections-per-address <COUNT>'",
    ];
    for begin in expected {
        let found = problems.iter().any(|problem| problem.starts_with(begin));
        assert!(found, "no {begin:?} in {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_file_that_is_none_is_refused_as_a_whole() {
    for (file, part) in [
        ("listen: [", "FILE: "),
        ("- listen\n", "FILE: "),
        ("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "listen"),
        ("page-host: [[a]]\n", "FILE: "),
    ] {
        let problems = Said { file, ..Said::default() }.problems();
        assert!(problems.len() == 1 && problems[0].contains(part), "{file}: {problems:?}");
    }
    let said = Said { flags: &["--config", "/none/settings.yaml"], ..Said::default() };
    assert!(said.problems()[0].starts_with("/none/settings.yaml: it cannot be read"));
    let said = Said { file: "# nothing\n", ..Said::default() };
    assert_eq!(said.problems(), [""; 0]);
}

#[test]
fn what_is_shown_can_be_read_again_and_holds_no_password() {
    let flags = ["--memory", "--page-host=a b", "--log", "info,phasegate_server=debug"];
    let said = Said { flags: &flags, ..Said::default() };
    let first: Vec<Setting> = said.resolve().each;
    let text: String = first.iter().map(|setting| setting.line() + "\n").collect();
    let again = Said { file: &text, ..Said::default() }.resolve();
    assert_eq!(again.problems, []);
    let lines = |each: &[Setting]| -> Vec<String> {
        let line = |setting: &Setting| setting.line().split("  # ").next().unwrap().to_owned();
        each.iter().map(line).collect()
    };
    assert_eq!(lines(&again.each), lines(&first));
    let shown = scalar(OsStr::new("https://ann:secret@collector.example:4317/v1"));
    assert_eq!(shown, r#""https://***@collector.example:4317/v1""#);
}

#[test]
fn no_two_settings_share_a_variable_and_none_is_the_client_s() {
    let mut variables: Vec<String> =
        table::<Settings>().into_iter().map(|row| row.variable).collect();
    let client = [
        "ADDRESS",
        "PRINCIPAL",
        "GROUPS",
        "CA",
        "TOKEN",
        "TOKEN_FILE",
        "CERT",
        "KEY",
        "CONTEXT",
        "CONFIG",
        "SERVER_CONFIG",
        "COMPLETE",
    ];
    variables.extend(client.map(|name| format!("{PREFIX}{name}")));
    let all = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), all);
}

/// Between these lines of the document stands the table.
const BEGINS: &str = "<!-- settings: written by a test -->\n";
const ENDS: &str = "<!-- end of settings -->\n";

#[test]
fn the_document_has_the_table_of_the_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGINS).expect("the table begins");
    let (written, after) = rest.split_once(ENDS).expect("the table ends");
    let mut rows =
        "\n| key | flag | variable | default | what |\n|---|---|---|---|---|\n".to_owned();
    for row in table::<Settings>() {
        let (name, Row { arg, variable }) = (row.name(), &row);
        let value = match Kind::of(arg) {
            Kind::Switch => String::new(),
            Kind::One | Kind::Many => {
                let named = arg.get_value_names().unwrap_or_default().join(" ");
                let possible: Vec<String> =
                    arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
                let value = if possible.is_empty() { named } else { possible.join("\\|") };
                format!(" {value}")
            }
        };
        let default = match (Kind::of(arg), arg.get_default_values()) {
            (Kind::Switch, _) => "`false`".to_owned(),
            (_, []) => String::new(),
            (_, [value, ..]) => format!("`{}`", value.to_string_lossy()),
        };
        let what = arg.get_help().unwrap().to_string().replace('|', "\\|");
        rows.push_str(&format!(
            "| `{name}` | `--{name}{value}` | `{variable}` | {default} | {what} |\n"
        ));
    }
    rows.push('\n');
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, [before, BEGINS, &rows, ENDS, after].concat()).unwrap();
        return;
    }
    assert_eq!(written, rows, "`UPDATE=1 cargo test -p phasegate-cli --lib settings` writes it");
}
