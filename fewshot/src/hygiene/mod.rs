//! What may be wrong with the stored examples: labels, copies, strangers, and a held-back slice that leaks.
//!
//! Findings are questions to a person, each with the answer that is likeliest right; nothing is changed here.

mod mislabels;
mod neighbours;
mod outliers;

use serde::{Deserialize, Serialize};

use crate::heads::HeldOut;
use crate::matrix::softmax;
use crate::{ClassKey, Error, Examples, Progress};
use neighbours::Neighbours;

/// What is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An example that looks like another class's.
    Mislabel,
    /// Examples with the same vector.
    ExactDuplicate,
    /// Examples whose vectors are all but the same.
    NearDuplicate,
    /// An example unlike the rest of its class.
    Outlier,
    /// A held-back example with a copy among those that heads are fitted on: the slice is no longer unseen.
    Leakage,
}

/// What to do with a finding's examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fix {
    /// Give them another label.
    Move {
        /// The class they look like.
        to: ClassKey,
    },
    /// Take them out.
    Delete,
    /// Keep them: a rare but true example teaches more than a typical one, so this takes a look.
    Accept,
}

/// One suspicion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is suspected.
    pub kind: Kind,
    /// Positions of the examples that `fix` is about, ascending.
    pub examples: Vec<usize>,
    /// Positions of the examples that speak for it: the copy to keep, the copies that are fitted on; ascending.
    pub evidence: Vec<usize>,
    /// Mislabel: the other class's probability minus its own. Duplicates and leakage: the lowest cosine found between
    /// an example and one already in its group. Outlier: distance below the class's median typicality, in deviations.
    pub score: f64,
    /// The likeliest right answer.
    pub fix: Fix,
}

/// How to audit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditOptions {
    /// Examples at least this similar (cosine) are near-duplicates.
    pub near_duplicate: f64,
}

impl Default for AuditOptions {
    /// The same cosine that keeps suggestions apart.
    fn default() -> Self {
        Self { near_duplicate: 0.98 }
    }
}

/// All findings: mislabels, duplicates, outliers, leakage, each kind with the highest score first.
///
/// `held_out` has calibrated logits of these examples by heads fitted without them; `held_back` says which examples the
/// slice for promotion holds. Time grows with the square of the number of examples, memory only in proportion to it.
pub fn audit(
    examples: &Examples,
    held_out: &HeldOut,
    held_back: &[bool],
    options: &AuditOptions,
    progress: Progress<'_>,
) -> Result<Vec<Finding>, Error> {
    if !(options.near_duplicate > 0.0 && options.near_duplicate <= 1.0) {
        let value = options.near_duplicate.to_string();
        return Err(Error::InvalidOption { name: "near_duplicate", value, range: "above 0 and at most 1" });
    }
    if held_back.len() != examples.len() {
        let value = format!("{} examples", held_back.len());
        return Err(Error::InvalidOption { name: "held_back", value, range: "one answer per example" });
    }
    let neighbours = Neighbours::find(examples, options.near_duplicate, progress)?;
    let probabilities = Probabilities::new(examples, held_out);
    let mut duplicates = Vec::new();
    let mut leakage = Vec::new();
    for group in neighbours.groups() {
        leakage.extend(leak(&group.members, group.similarity, held_back));
        duplicates.extend(copies(examples, &probabilities, &group.members, group.similarity));
    }
    let kinds = [
        mislabels::find(examples, &probabilities, &neighbours),
        duplicates,
        outliers::find(examples, &neighbours),
        leakage,
    ];
    let mut findings = Vec::new();
    for mut kind in kinds {
        kind.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.examples.cmp(&b.examples)));
        findings.extend(kind);
    }
    Ok(findings)
}

/// Held-out probabilities by position; none for examples that were not judged.
struct Probabilities {
    rows: Vec<Option<Vec<f64>>>,
}

impl Probabilities {
    fn new(examples: &Examples, held_out: &HeldOut) -> Self {
        let mut rows = vec![None; examples.len()];
        for (&position, logits) in held_out.examples().iter().zip(held_out.rows()) {
            let mut row = logits.to_vec();
            softmax(&mut row);
            rows[position] = Some(row);
        }
        Self { rows }
    }

    /// Of an example's own label; 0 where it was not judged.
    fn own(&self, examples: &Examples, position: usize) -> f64 {
        self.rows[position].as_ref().map_or(0.0, |row| row[examples.labels()[position]])
    }
}

/// Exact copies within a group of near-duplicates, and the group itself if its vectors differ. The example whose label
/// its head believes most is kept, the first of equals, whatever the class: of two labels for one image one is wrong.
fn copies(
    examples: &Examples,
    probabilities: &Probabilities,
    members: &[usize],
    similarity: f64,
) -> Vec<Finding> {
    let finding = |kind, members: &[usize], score| {
        let keep = members.iter().copied().reduce(|best, other| {
            let believed = |position| probabilities.own(examples, position);
            if believed(other) > believed(best) { other } else { best }
        })?;
        let examples = members.iter().copied().filter(|&member| member != keep).collect();
        Some(Finding { kind, examples, evidence: vec![keep], score, fix: Fix::Delete })
    };
    let mut sorted = members.to_vec();
    sorted.sort_by(|&a, &b| compare(examples.vector(a), examples.vector(b)).then(a.cmp(&b)));
    let same: Vec<&[usize]> =
        sorted.chunk_by(|&a, &b| compare(examples.vector(a), examples.vector(b)).is_eq()).collect();
    let exact = same.iter().filter(|copies| copies.len() > 1);
    let mut findings: Vec<Finding> =
        exact.filter_map(|copies| finding(Kind::ExactDuplicate, copies, 1.0)).collect();
    if same.len() > 1 {
        // One of each set of exact copies stands for it.
        let mut different: Vec<usize> = same.iter().map(|copies| copies[0]).collect();
        different.sort_unstable();
        findings.extend(finding(Kind::NearDuplicate, &different, similarity));
    }
    findings
}

/// Held-back members of a group that also has others.
fn leak(members: &[usize], similarity: f64, held_back: &[bool]) -> Option<Finding> {
    let (held, fitted): (Vec<usize>, Vec<usize>) = members.iter().partition(|&&member| held_back[member]);
    (!held.is_empty() && !fitted.is_empty()).then_some(Finding {
        kind: Kind::Leakage,
        examples: held,
        evidence: fitted,
        score: similarity,
        fix: Fix::Delete,
    })
}

/// An order in which equal vectors meet.
fn compare(a: &[f32], b: &[f32]) -> std::cmp::Ordering {
    a.iter().map(|component| component.to_bits()).cmp(b.iter().map(|component| component.to_bits()))
}

#[cfg(test)]
mod tests;
