//! Shows that the simulation can fail: the project is broken on purpose, in one way after the other,
//! and each breakage has to be found as the promise that it breaks.
//!
//! ```text
//! cargo run -p phasegate-tests --example breakages              all of them
//! cargo run -p phasegate-tests --example breakages no-barrier   some
//! ```
//!
//! The breakages are data, in `list/`: edits of the sources, each behind a switch. They are applied
//! together to a copy of the tree, which is built once; a variable of the environment chooses which
//! one is live. So the sources themselves know nothing of any of this. An edit that no longer fits
//! the sources fails a test in `tests/tidy`.

mod edits;

use edits::{Breakage, list, root};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

/// The variable that says what is broken.
const SWITCH: &str = "PHASEGATE_BREAKAGE";
/// Seeds tried until a breakage shows; the rarest took some hundred.
const SEEDS: &str = "6000";
/// Seeds that have to pass with nothing broken.
const SEEDS_SOUND: &str = "600";

/// What every edit asks, added to the engine, below everything else.
const ASKS: &str = r#"
/// True if this is broken on purpose.
pub fn is_broken(what: &str) -> bool {
    static BROKEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    BROKEN.get_or_init(|| std::env::var("PHASEGATE_BREAKAGE").ok()).as_deref() == Some(what)
}
"#;

/// A copy of what git tracks or would track, with every edit in it.
fn copy(to: &Path, breakages: &[Breakage]) -> Result<(), Box<dyn Error>> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()?;
    for name in String::from_utf8(listed.stdout)?.lines() {
        let (from, to) = (root().join(name), to.join(name));
        if !from.is_file() {
            continue;
        }
        let mut content = fs::read(&from)?;
        let edits = breakages.iter().flat_map(|breakage| &breakage.edits);
        for edit in edits.filter(|edit| edit.file == Path::new(name)) {
            content = edit.apply(&String::from_utf8(content)?)?.into_bytes();
        }
        if name == "engine/src/lib.rs" {
            content.extend(ASKS.bytes());
        }
        // What is as it was keeps its time, so that it is not built again.
        if fs::read(&to).is_ok_and(|before| before == content) {
            continue;
        }
        fs::create_dir_all(to.parent().ok_or("a file without a folder")?)?;
        fs::write(to, content)?;
    }
    Ok(())
}

/// Builds the simulation of a tree, and says where its program is.
fn build(tree: &Path, target: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace, so that the dependencies are those that the tests are built with.
    let arguments = ["test", "--workspace", "--locked", "--test", "simulation", "--no-run"];
    let mut building = Command::new(cargo)
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = building.stdout.take().ok_or("cargo has no output")?;
    let mut program = None;
    for message in cargo_metadata::Message::parse_stream(std::io::BufReader::new(output)) {
        if let cargo_metadata::Message::CompilerArtifact(artifact) = message?
            && artifact.target.name == "simulation"
        {
            program = artifact.executable.map(PathBuf::from);
        }
    }
    if !building.wait()?.success() {
        return Err("the copy with all breakages in it does not build".into());
    }
    program.ok_or_else(|| "cargo built no simulation".into())
}

/// What the simulation said: how many seconds it took, and the seed and the promise, if one broke.
struct Run {
    seconds: f64,
    found: Option<(String, String)>,
    text: String,
}

fn run(program: &Path, broken: &str, seeds: &str) -> Result<Run, Box<dyn Error>> {
    let begun = Instant::now();
    let output = Command::new(program)
        .args(["--exact", "every_promise_holds_whatever_happens", "--nocapture"])
        .env(SWITCH, broken)
        .env("SEEDS", seeds)
        .env("BRIEF", "1")
        .env("RUST_BACKTRACE", "0")
        .env_remove("SEED")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let found = text.lines().find_map(|line| {
        let (seed, rest) = line.strip_prefix("SEED=")?.split_once(" broke the promise ")?;
        Some((seed.to_owned(), rest.split(':').next()?.to_owned()))
    });
    let found = if output.status.success() {
        None
    } else {
        found.or_else(|| Some(("?".into(), "?".into())))
    };
    Ok(Run { seconds: begun.elapsed().as_secs_f64(), found, text })
}

fn check(wanted: &[String]) -> Result<bool, Box<dyn Error>> {
    let breakages = list()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| root().join("target"));
    let tree = target.join("breakages");
    copy(&tree, &breakages)?;
    let program = build(&tree, &target)?;
    let sound = run(&program, "", SEEDS_SOUND)?;
    if sound.found.is_some() {
        println!("{}", sound.text);
        return Err("with nothing broken the simulation fails".into());
    }
    println!("| breakage | found as | seed | seconds |\n|---|---|---|---|");
    let mut all_found = true;
    for breakage in &breakages {
        if !wanted.is_empty() && !wanted.contains(&breakage.name) {
            continue;
        }
        let run = run(&program, &breakage.name, SEEDS)?;
        let (seed, promise) = run.found.unwrap_or_else(|| ("-".into(), "NOT FOUND".into()));
        let is_right = breakage.promises.contains(&promise);
        all_found &= is_right;
        let mark = if is_right { "" } else { " (WRONG)" };
        println!("| {} | `{promise}`{mark} | {seed} | {:.1} |", breakage.what, run.seconds);
        if !is_right {
            let lines: Vec<_> = run.text.lines().collect();
            let last = &lines[lines.len().saturating_sub(12)..];
            eprintln!("{}: expected {:?}\n{}", breakage.name, breakage.promises, last.join("\n"));
        }
    }
    Ok(all_found)
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match check(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
