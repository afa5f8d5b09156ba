//! The Python packages our code is compared to, pinned, in a virtual environment under target/.

use crate::commands::{cargo, root, run};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `xtask/python/fixtures/*.py`, each with the workspace root as its argument.
pub(crate) fn fixtures(topics: &[String]) -> Result<()> {
    let folder = root().join("xtask/python/fixtures");
    let scripts = scripts(&folder)?;
    for topic in topics {
        if !scripts.iter().any(|script| stem(script) == *topic) {
            bail!("there is no {}/{topic}.py", folder.display());
        }
    }
    let python = environment(Purpose::Tests)?;
    for script in scripts.iter().filter(|script| topics.is_empty() || topics.contains(&stem(script))) {
        println!("── {}", script.display());
        run(Command::new(&python).arg(script).arg(root()))?;
    }
    Ok(())
}

/// Exports models with our code and has `transformers` load them and agree.
pub(crate) fn interop() -> Result<()> {
    let python = environment(Purpose::Tests)?;
    let exchange = root().join("target/interop");
    if exchange.exists() {
        std::fs::remove_dir_all(&exchange).with_context(|| format!("cannot empty {}", exchange.display()))?;
    }
    let example = ["run", "--quiet", "--package", "dozen-models", "--example", "export_for_interop", "--"];
    run(cargo().args(example).arg(&exchange))?;
    for script in scripts(&root().join("xtask/python/interop"))? {
        println!("── {}", script.display());
        run(Command::new(&python).arg(&script).arg(&exchange))?;
    }
    println!("interop: ok");
    Ok(())
}

/// What an environment is for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Fixtures, interoperability and the training benchmarks.
    Tests,
    /// The engines that embedding is compared with.
    Engines,
    /// The libraries that learning is compared with.
    Learning,
    /// The libraries that the vector index is compared with.
    Index,
}

/// The interpreter of a virtual environment; made, or remade when the pins change.
pub(crate) fn environment(purpose: Purpose) -> Result<PathBuf> {
    let (folder, pins) = match purpose {
        Purpose::Tests => ("venv", &["requirements.txt"][..]),
        Purpose::Engines => ("venv-engines", &["requirements-engines.txt", "requirements.txt"][..]),
        Purpose::Learning => {
            ("venv-learning", &["requirements-learning.txt", "requirements-learning-source.txt"][..])
        }
        Purpose::Index => ("venv-index", &["requirements-index.txt"][..]),
    };
    let folder = root().join("target").join(folder);
    let pins: Vec<PathBuf> = pins.iter().map(|file| root().join("xtask/python").join(file)).collect();
    let mut wanted = Vec::new();
    for file in &pins {
        wanted.extend(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let python = folder.join("bin/python");
    let stamp = folder.join("installed-requirements.txt");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
        .context("python3 with the venv module is needed here (Debian: apt-get install python3-venv)")?;
    for file in &pins {
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        if file.to_string_lossy().ends_with("-source.txt") {
            // Built here, with what the files before it name.
            install.arg("--no-build-isolation");
        }
        run(install.arg("--requirement").arg(file))?;
    }
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn scripts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut scripts: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .collect();
    scripts.sort();
    Ok(scripts)
}

fn stem(script: &Path) -> String {
    script.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}
