//! Which method: the one whose held-out answers lose least, unless class means do better on the slice.

use std::ops::ControlFlow;

use super::settings::{Method, Settings};
use super::standalone::Standalone;
use super::{TrainingOptions, Trial};
use crate::heads::{MsnHead, MsnOptions, best_temperature};
use crate::progress::part;
use crate::{Error, Examples, Pool, Progress};

/// Where a fit of the MSN head would take more multiplications than this, it is fitted only if it is asked for. For 300 classes of
/// 13 examples, 384 dimensions and a full pool it takes nearly as many, and choosing takes three minutes on two cores.
const MOST_WORK: f64 = 6e10;

/// What was chosen and why.
pub(super) struct Choice {
    pub(super) settings: Settings,
    pub(super) reason: String,
    pub(super) trials: Vec<Trial>,
}

/// Chooses method and numbers on `known`; `slice` has a veto only.
///
/// Methods are compared by log-loss, each at the temperature that suits it best: accuracy on a dozen examples per class
/// moves in steps too coarse to tell neighbours apart.
pub(super) fn choose(
    known: &Examples,
    slice: &Examples,
    pool: &Pool,
    options: &TrainingOptions,
    progress: Progress<'_>,
) -> Result<Choice, Error> {
    if let Some(method) = options.method {
        let settings = Settings::tune(method, known, options, progress)?;
        return Ok(Choice { settings, reason: "asked for".to_owned(), trials: Vec::new() });
    }
    let trials = trials(known, pool, options, &mut part(progress, 0.0, 0.8))?;
    let Some(best) = trials.first().copied() else {
        let (method, because) = if pool.is_empty() {
            (Method::Prototype, "class means ask for least")
        } else {
            (Method::Msn, "unlabelled images help most then")
        };
        let settings = Settings::tune(method, known, options, progress)?;
        let reason = format!("no class has a second example to judge by, and {because}");
        return Ok(Choice { settings, reason, trials });
    };
    let settings = Settings::tune(best.method, known, options, &mut part(progress, 0.8, 0.9))?;
    let means = Settings::tune(Method::Prototype, known, options, &mut part(progress, 0.9, 1.0))?;
    let right = |settings: &Settings| -> Result<usize, Error> {
        let head = settings.fit(known, pool, &mut |_| ControlFlow::Continue(()))?;
        let right = Standalone::new(head, known.clone())?.right(slice)?;
        Ok(right.into_iter().filter(|right| *right).count())
    };
    let (ours, theirs) = (right(&settings)?, right(&means)?);
    let word = best.method.word();
    let (settings, mut reason) = if ours < theirs {
        let reason = format!(
            "{word} loses least on examples left out, but answers {ours} of the {} held back rightly, class means {theirs}",
            slice.len()
        );
        (means, reason)
    } else {
        (settings, format!("{word} loses least on examples left out: {:.3} nats each", best.log_loss))
    };
    if trials.len() < Method::ALL.len() {
        reason += "; msn was not tried, it would take minutes with so many classes and images";
    }
    Ok(Choice { settings, reason, trials })
}

/// The methods that are tried.
pub(super) fn tried(known: &Examples, pool: &Pool) -> Vec<Method> {
    let is_too_much = MsnHead::work(known, pool, &MsnOptions::default()) > MOST_WORK;
    Method::ALL.into_iter().filter(|method| !(is_too_much && *method == Method::Msn)).collect()
}

/// Their nested held-out answers, least loss first, the simpler of equals; empty where nothing can be judged.
fn trials(
    known: &Examples,
    pool: &Pool,
    options: &TrainingOptions,
    progress: Progress<'_>,
) -> Result<Vec<Trial>, Error> {
    let tried = tried(known, pool);
    let share = 1.0 / tried.len() as f64;
    let mut trials = Vec::new();
    for (place, method) in tried.into_iter().enumerate() {
        let (from, to) = (place as f64 * share, (place + 1) as f64 * share);
        let held_out = Settings::nested(method, known, pool, options, &mut part(progress, from, to))?;
        let Some((_, log_loss)) = best_temperature(&held_out) else { return Ok(Vec::new()) };
        trials.push(Trial { method, accuracy: held_out.accuracy(), log_loss });
    }
    trials.sort_by(|a, b| a.log_loss.total_cmp(&b.log_loss));
    Ok(trials)
}
