//! The ways to break the project, as data. `main.rs` beside this applies them; `tests/tidy` sees that
//! they fit.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

/// One way to break the project.
#[derive(Debug)]
pub(crate) struct Breakage {
    pub(crate) name: String,
    pub(crate) what: String,
    /// Promises that it breaks; one of them has to be the one that is found broken first.
    pub(crate) promises: Vec<String>,
    pub(crate) edits: Vec<Edit>,
}

#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) file: PathBuf,
    pub(crate) before: String,
    pub(crate) after: String,
}

impl Breakage {
    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let missing = |what: &str| format!("{name}: {what} is missing");
        let mut lines = text.lines();
        let what = lines.next().and_then(|line| line.strip_prefix("# "));
        let promises = lines.next().and_then(|line| line.strip_prefix("promise "));
        let mut edits = Vec::new();
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let file = line.strip_prefix("file ").ok_or_else(|| missing("a file"))?;
            if lines.next() != Some("---- before") {
                return Err(missing("---- before"));
            }
            let mut until = |mark: &str| -> Result<String, String> {
                let mut part = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == mark => return Ok(part.join("\n")),
                        Some(line) => part.push(line),
                        None => return Err(missing(mark)),
                    }
                }
            };
            let (before, after) = (until("---- after")?, until("----")?);
            edits.push(Edit { file: file.into(), before, after });
        }
        Ok(Self {
            name: name.to_owned(),
            what: what.ok_or_else(|| missing("what it is"))?.to_owned(),
            promises: promises
                .ok_or_else(|| missing("a promise"))?
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            edits,
        })
    }
}

impl Edit {
    /// The text with the edit in it. The place has to be there once.
    pub(crate) fn apply(&self, text: &str) -> Result<String, String> {
        let file = self.file.display();
        match text.matches(&self.before).count() {
            1 => Ok(text.replacen(&self.before, &self.after, 1)),
            count => Err(format!("{file}: the place is there {count} times:\n{}", self.before)),
        }
    }
}

/// The root of the project.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("tests/ stands in the root").to_owned()
}

/// All of them, by name.
pub(crate) fn list() -> Result<Vec<Breakage>, Box<dyn Error>> {
    let folder = root().join("tests/breakages/list");
    let mut breakages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or("a file without a name")?;
        breakages.push(Breakage::parse(&name, &fs::read_to_string(&path)?)?);
    }
    breakages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(breakages)
}
