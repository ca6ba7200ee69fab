//! Contexts: servers under a name, with who one is there, in a file.
//!
//! What is deliberately absent: secrets. A context names the file of a token, never the token.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Names the file, if it is not where it is looked for.
pub(crate) const FILE_VARIABLE: &str = "PHASEGATE_CONFIG";
/// Readable and writable for its owner only.
const MODE: u32 = 0o600;

/// One server, and who one is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
    /// The authorities of the server's certificate, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The file that holds one's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// One's certificate, and its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

/// All contexts, and which of them holds where none is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// Why contexts could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: {message}", .path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no place for a configuration file: set PHASEGATE_CONFIG, or HOME")]
    NoHome,
}

/// Where contexts are kept.
pub(crate) fn path() -> Result<PathBuf, Error> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable(FILE_VARIABLE) {
        return Ok(file);
    }
    let configuration =
        variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    Ok(configuration.ok_or(Error::NoHome)?.join("phasegate").join("config.yaml"))
}

impl Contexts {
    /// What the file says; nothing if there is none.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
        };
        // A file that was emptied by hand says nothing, and that is not wrong.
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| Error::Malformed {
            path: path.to_owned(),
            // The first line says what and where; the rest is a drawing of it.
            message: error.to_string().lines().next().unwrap_or_default().to_owned(),
        })
    }

    /// Writes the file: whole or not at all, and for its owner only.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let text = serde_saphyr::to_string(self)
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            Some(_) | None => Path::new("."),
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.as_file().set_permissions(Permissions::from_mode(MODE)).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// What is said to somebody who named one that is not there.
    pub(crate) fn unknown(&self, name: &str) -> Failure {
        let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        Failure::Usage(match names[..] {
            [] => format!(
                "there is no context {name:?}; `phasegate context set {name} --address URL` makes it"
            ),
            _ => format!("there is no context {name:?}, there is {}", names.join(", ")),
        })
    }
}
