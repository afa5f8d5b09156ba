//! Who may know whom, and under which licences: asserted from `cargo metadata`.

use crate::commands::root;
use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// The edges of ARCHITECTURE.md: a crate of ours, and the crates of ours it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("dozen-models", &[]),
    ("dozen-fewshot", &[]),
    ("dozen-trainer", &["dozen-models", "dozen-fewshot"]),
    ("dozen", &["dozen-models", "dozen-fewshot"]),
    ("dozen-tests", &[]),
    ("dozen-bench", &["dozen-models", "dozen-fewshot", "dozen-trainer"]),
    ("xtask", &[]),
];

/// Crates that only the named crates of ours may use directly.
const CONFINED: &[(&str, &[&str])] = &[
    ("candle-core", &["dozen-models", "dozen-trainer"]),
    ("candle-nn", &["dozen-models", "dozen-trainer"]),
    // A peer of the index.
    ("hnsw_rs", &["dozen-bench"]),
    ("image", &["dozen-models", "dozen-tests"]),
    ("axum", &["dozen"]),
    ("tokio", &["dozen"]),
    ("sqlx", &["dozen"]),
];

/// Licences a dependency may come under; an SPDX expression passes if one of its `OR` branches is made of these alone.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Fails with every edge and licence that should not be there.
pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".into()])
        .exec()
        .context("cargo metadata")?;
    let mut faults = edge_faults(&metadata);
    faults.extend(metadata.packages.iter().filter_map(licence_fault));
    if !faults.is_empty() {
        bail!("crate boundaries:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn edge_faults(metadata: &Metadata) -> Vec<String> {
    let mut faults = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let Some((_, allowed)) = EDGES.iter().find(|(ours, _)| *ours == name) else {
            faults.push(format!("{name} is not in the list of edges (xtask/src/boundaries.rs)"));
            continue;
        };
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            let ours = EDGES.iter().any(|(known, _)| *known == other);
            if ours && !allowed.contains(&other) {
                faults.push(format!("{name} must not use {other}"));
            }
            let confined = CONFINED.iter().find(|(foreign, _)| *foreign == other);
            let test_only = dependency.kind == DependencyKind::Development;
            if confined.is_some_and(|(_, users)| !users.contains(&name)) && !test_only {
                faults.push(format!("{name} must not use {other} directly"));
            }
        }
    }
    faults
}

fn licence_fault(package: &Package) -> Option<String> {
    let expression = package.license.as_deref().unwrap_or("");
    if package.license.is_none() && package.license_file.is_some() {
        return Some(format!(
            "{} {} has a licence of its own: read it and list it",
            package.name, package.version
        ));
    }
    let permitted = expression.replace('/', " OR ").split(" OR ").any(|branch| {
        branch.split(" AND ").all(|term| LICENCES.contains(&term.trim_matches(['(', ')', ' '])))
    });
    (!permitted).then(|| format!("{} {} is under `{expression}`", package.name, package.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn package(licence: &Value) -> Package {
        serde_json::from_value(json!({
            "name": "other", "version": "1.0.0", "id": "other", "license": licence, "dependencies": [], "targets": [],
            "features": {}, "manifest_path": "/other/Cargo.toml", "metadata": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_licence_needs_one_permitted_branch() {
        assert_eq!(licence_fault(&package(&json!("MIT OR GPL-3.0"))), None);
        assert_eq!(licence_fault(&package(&json!("(MIT OR Apache-2.0) AND Unicode-3.0"))), None);
        assert!(licence_fault(&package(&json!("MIT AND GPL-3.0"))).is_some());
        assert!(licence_fault(&package(&json!("AGPL-3.0"))).is_some());
        assert!(licence_fault(&package(&Value::Null)).is_some());
    }
}
