//! Answers: head scores, the `unknown` test, nearest examples as evidence.
//!
//! **Which head answers.** A trained head does not know classes that got their first example after it was fitted. It
//! answers only while it knows every candidate; otherwise the prototype head, which is always current, answers, and
//! `HeadUsed` says version 0, until the next training. Classes deleted since are no candidates and take no probability.

use super::state::State;
use super::{Answer, ClassifyOptions, Evidence, HeadUsed, LearnError, Learner, Score, name};
use dozen_fewshot::ClassKey;
use dozen_fewshot::heads::Head;
use dozen_fewshot::index::VectorIndex;
use std::collections::HashSet;

/// The method of version 0.
pub(super) const PROTOTYPE: &str = "prototype";

/// The method of trained heads.
pub(crate) const LOGISTIC: &str = "logistic";

impl Learner {
    /// Answers for several vectors with the active head. CPU-bound and brief; runs off the async threads and holds no
    /// lock across await points.
    ///
    /// Candidates are the classes with examples, or those of them named in the options; an empty list names none and
    /// means all.
    pub async fn classify(
        &self,
        collection: &str,
        vectors: &[Vec<f32>],
        options: &ClassifyOptions,
    ) -> Result<(HeadUsed, Vec<Answer>), LearnError> {
        name::check(collection)?;
        let (queries, options) = (vectors.to_vec(), options.clone());
        self.core().read(collection, move |state| answers(state, &queries, &options)).await?
    }
}

fn answers(
    state: &State,
    queries: &[Vec<f32>],
    options: &ClassifyOptions,
) -> Result<(HeadUsed, Vec<Answer>), LearnError> {
    let candidates = candidates(state, options)?;
    let trained = state.trained.as_deref().filter(|trained| trained.classes.is_superset(&candidates));
    let (head, used): (&dyn Head, _) = match trained {
        Some(trained) => (&trained.head, HeadUsed { version: trained.version, method: LOGISTIC.to_owned() }),
        None => (&state.prototypes, HeadUsed { version: 0, method: PROTOTYPE.to_owned() }),
    };
    let answers = queries
        .iter()
        .map(|query| answer(state, head, query, &candidates, options))
        .collect::<Result<_, _>>()?;
    Ok((used, answers))
}

/// The classes to choose from.
fn candidates(state: &State, options: &ClassifyOptions) -> Result<HashSet<ClassKey>, LearnError> {
    let answerable = state.answerable();
    let named = options.classes.as_deref().unwrap_or_default();
    let candidates = if named.is_empty() {
        answerable
    } else {
        let find = |slug: &String| match state.class_key(slug) {
            Some(key) if answerable.contains(&key) => Ok(key),
            Some(_) => Err(LearnError::ClassNotInHead { class: slug.clone() }),
            None => Err(LearnError::UnknownClass { class: slug.clone() }),
        };
        named.iter().map(find).collect::<Result<_, _>>()?
    };
    if candidates.is_empty() { Err(LearnError::NoExamples) } else { Ok(candidates) }
}

fn answer(
    state: &State,
    head: &dyn Head,
    query: &[f32],
    candidates: &HashSet<ClassKey>,
    options: &ClassifyOptions,
) -> Result<Answer, LearnError> {
    let label = |class: ClassKey| state.slug(class).unwrap_or_default().to_owned();
    let scores = head.predict(query, &|class| candidates.contains(&class))?;
    let best = scores.first().ok_or(LearnError::NoExamples)?;
    let unknown = options.min_confidence.is_some_and(|minimum| best.probability < minimum);
    let accept =
        |example: u64| state.examples.get(&example).is_some_and(|entry| candidates.contains(&entry.class));
    let hits = state.index.search(query, options.evidence, &accept)?;
    let evidence = hits.iter().filter_map(|hit| {
        let entry = state.examples.get(&hit.id)?;
        Some(Evidence {
            example: entry.id.to_string(),
            label: label(entry.class),
            similarity: hit.similarity,
        })
    });
    Ok(Answer {
        label: (!unknown).then(|| label(best.class)),
        probability: best.probability,
        unknown,
        evidence: evidence.collect(),
        scores: scores
            .iter()
            .take(options.top_k)
            .map(|score| Score {
                label: label(score.class),
                probability: score.probability,
                similarity: score.similarity,
            })
            .collect(),
    })
}
