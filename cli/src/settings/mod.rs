//! The settings of the server, wherever they are said: a flag, the environment, a file.
//!
//! One table makes all three, and docs/configuration.md: the arguments of `serve`. A flag `--keep-events`
//! is the variable `PHASEGATE_KEEP_EVENTS` and the key `keep-events` of the file. What is said the nearest
//! holds: the flag, then the variable, then the file, then the default. A value is read by the same parser
//! wherever it stands, and everything that is wrong is said at once.

mod file;
#[cfg(test)]
mod tests;

use clap::{
    Arg, ArgAction, ArgMatches, Command, FromArgMatches, builder::Resettable, parser::ValueSource,
};
use file::Entry;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
};

/// Names the file, where no flag does. `PHASEGATE_CONFIG` is the file of contexts.
pub(crate) const FILE_VARIABLE: &str = "PHASEGATE_SERVER_CONFIG";
/// The flag that names the file: no setting itself.
const FILE: &str = "config";
/// Each setting has a variable that begins so.
const PREFIX: &str = "PHASEGATE_";
/// Between the values of a setting that may have several, in a variable.
const SEPARATOR: char = ',';

/// The arguments of a command that has settings: the table, and the flag of the file.
pub(crate) fn declare<S: clap::Args>(command: Command) -> Command {
    let file = Arg::new(FILE)
        .long(FILE)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help(format!("A file with settings (docs/configuration.md) [env: {FILE_VARIABLE}]"));
    let mut command = command.arg(file);
    for Row { arg, variable } in table::<S>() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        command = command.arg(arg.help(format!("{help} [env: {variable}]")));
    }
    command
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    arg: Arg,
    /// The one that the argument names, because others have agreed on it; else the one of its name.
    variable: String,
}

impl Row {
    fn name(&self) -> &str {
        self.arg.get_long().unwrap_or_default()
    }
}

/// The settings, in the order in which they are declared.
fn table<S: clap::Args>() -> Vec<Row> {
    let all = S::augment_args(Command::new("settings"));
    let named = all.get_arguments().filter_map(|arg| Some((arg, arg.get_long()?)));
    let rows = named.map(|(arg, name)| {
        let agreed = arg.get_env().map(|name| name.to_string_lossy().into_owned());
        let derived = || format!("{PREFIX}{}", name.replace('-', "_").to_uppercase());
        let variable = agreed.unwrap_or_else(derived);
        // It is read here, with the others.
        Row { arg: arg.clone().env(Resettable::Reset), variable }
    });
    rows.collect()
}

/// What kind of value a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// True or false; as a flag it stands alone.
    Switch,
    /// One.
    One,
    /// Any number.
    Many,
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let action = arg.get_action();
        if matches!(action, ArgAction::SetTrue) {
            Self::Switch
        } else if matches!(action, ArgAction::Append) {
            Self::Many
        } else {
            Self::One
        }
    }
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// By a flag.
    Flag(String),
    /// By a variable.
    Variable(String),
    /// In the file, at this line.
    File { file: String, line: u64 },
    /// Nowhere.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as it holds.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Its name: the flag's, and the key's of the file.
    pub(crate) name: String,
    kind: Kind,
    values: Vec<OsString>,
    /// Where it was said.
    pub(crate) source: Source,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn at(place: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self(format!("{place}: {text}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All settings, as they hold.
#[derive(Debug)]
pub(crate) struct Resolved<S> {
    /// What can be read of them: of one that is wrong, its default.
    pub(crate) settings: S,
    /// One by one.
    pub(crate) each: Vec<Setting>,
    /// All that is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// The environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Puts together what the flags, the environment and the file say.
pub(crate) fn resolve<S: clap::Args + FromArgMatches>(
    flags: &ArgMatches,
    environment: Environment<'_>,
) -> Result<Resolved<S>, clap::Error> {
    let table = table::<S>();
    let mut problems = Vec::new();
    let file = flags.get_one::<PathBuf>(FILE).cloned();
    let file = file.or_else(|| environment(FILE_VARIABLE).map(PathBuf::from));
    let mut said = match &file {
        Some(path) => file::read(path, &names(&table), &mut problems),
        None => BTreeMap::new(),
    };
    let mut each = Vec::new();
    // What is said elsewhere, as flags would say it.
    let mut arguments: Vec<OsString> = Vec::new();
    for row in &table {
        let setting = nearest(row, flags, environment, said.remove(row.name()));
        let read = setting.and_then(|setting| {
            let written = setting.arguments();
            check(&row.arg, &written).map_err(|text| Problem::at(&setting.source, text))?;
            Ok((setting, written))
        });
        match read {
            Ok((setting, written)) => {
                arguments.extend(written);
                each.push(setting);
            }
            Err(problem) => problems.push(problem),
        }
    }
    let command = S::augment_args(Command::new("settings").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments)?;
    Ok(Resolved { settings: S::from_arg_matches(&matches)?, each, problems })
}

fn names(table: &[Row]) -> Vec<&str> {
    table.iter().map(Row::name).collect()
}

/// The value of a setting that is said the nearest.
fn nearest(
    row: &Row,
    flags: &ArgMatches,
    environment: Environment<'_>,
    in_file: Option<Entry>,
) -> Result<Setting, Problem> {
    let Row { arg, variable } = row;
    let (name, kind) = (row.name().to_owned(), Kind::of(arg));
    let id = arg.get_id().as_str();
    let setting = |values, source| Setting { name: name.clone(), kind, values, source };
    if flags.value_source(id) == Some(ValueSource::CommandLine) {
        let values = flags.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect();
        return Ok(setting(values, Source::Flag(format!("--{name}"))));
    }
    // One that is set to nothing is as one that is not set: so units and compose files leave them.
    if let Some(value) = environment(variable).filter(|value| !value.is_empty()) {
        let values = match (kind, value.to_str()) {
            (Kind::Many, Some(text)) => {
                text.split(SEPARATOR).map(|value| value.trim().into()).collect()
            }
            _ => vec![value],
        };
        return Ok(setting(values, Source::Variable(variable.clone())));
    }
    if let Some(Entry { file, line, values, is_list }) = in_file {
        let source = Source::File { file, line };
        if is_list && kind != Kind::Many {
            return Err(Problem::at(&source, format!("{name} has one value, not a list")));
        }
        return Ok(setting(values.into_iter().map(OsString::from).collect(), source));
    }
    let default = arg.get_default_values().iter().map(|value| OsStr::to_owned(value)).collect();
    Ok(setting(default, Source::Default))
}

impl Setting {
    /// As it would stand on a command line; nothing for a default, which is the parser's own.
    fn arguments(&self) -> Vec<OsString> {
        let flag = OsString::from(format!("--{}", self.name));
        if self.source == Source::Default {
            return Vec::new();
        }
        let with = |value: &OsString| {
            let mut argument = flag.clone();
            argument.push("=");
            argument.push(value);
            argument
        };
        match self.kind {
            Kind::Switch => match self.values.first().and_then(|value| value.to_str()) {
                Some("false") | None => Vec::new(),
                Some("true") => vec![flag],
                // The parser says what is wrong with it.
                Some(_) => self.values.iter().map(with).collect(),
            },
            Kind::One | Kind::Many => self.values.iter().map(with).collect(),
        }
    }

    /// A line of a file that says the same, with where it comes from.
    pub(crate) fn line(&self) -> String {
        let shown: Vec<String> = self.values.iter().map(|value| scalar(value)).collect();
        let text = match (self.kind, shown.as_slice()) {
            (Kind::Many, values) => format!("{}: [{}]", self.name, values.join(", ")),
            (Kind::Switch, []) => format!("{}: false", self.name),
            (Kind::One, []) => return format!("# {} is not set", self.name),
            (Kind::One | Kind::Switch, [value, ..]) => format!("{}: {value}", self.name),
        };
        format!("{text}  # {}", self.source)
    }
}

/// A value as YAML. What an address has before `@` may be a password, and is not shown.
fn scalar(value: &OsStr) -> String {
    let text = value.to_string_lossy();
    let text = match (text.find("://"), text.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://***{}", &text[..scheme], &text[at..])
        }
        _ => text.into_owned(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
    let begins_plain =
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '.');
    if begins_plain && text.chars().all(is_plain) && !text.ends_with(':') {
        text
    } else {
        // A text in JSON is one in YAML.
        serde_json::Value::String(text).to_string()
    }
}

/// Whether the setting takes these, or why not.
fn check(arg: &Arg, arguments: &[OsString]) -> Result<(), String> {
    let alone = Command::new("setting")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(arg.clone());
    alone.try_get_matches_from(arguments).map(drop).map_err(|error| {
        let text = error.render().to_string();
        let lines = text.lines().take_while(|line| !line.starts_with("Usage:"));
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.filter(|line| !line.starts_with("For more information"));
        let text = lines.collect::<Vec<_>>().join(" ");
        text.strip_prefix("error: ").map(str::to_owned).unwrap_or(text)
    })
}
