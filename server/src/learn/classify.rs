//! Answers: head scores, the tests for doubt, nearest examples as evidence.
//!
//! **Which head answers.** A trained head does not know classes that got their first example after it was fitted. It
//! answers only while it knows every candidate; otherwise the prototype head, which is always current, answers, and
//! `HeadUsed` says version 0, until the next training. Classes deleted since are no candidates and take no probability.

use super::state::State;
use super::trained::TrainedHead;
use super::{Answer, ClassifyOptions, Doubt, Evidence, HeadUsed, LearnError, Learner, Likeness, Score, name};
use dozen_fewshot::heads::{Head, Logit, NearestHead, rank};
use dozen_fewshot::index::VectorIndex;
use dozen_fewshot::training::{FittedHead, Method};
use dozen_fewshot::{ClassKey, Error, Reliability};
use std::collections::HashSet;

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
        let core = self.core();
        let untrained = core.untrained(collection).await?;
        core.read(collection, move |state| answers(state, untrained.as_deref(), &queries, &options)).await?
    }
}

fn answers(
    state: &State,
    untrained: Option<&Reliability>,
    queries: &[Vec<f32>],
    options: &ClassifyOptions,
) -> Result<(HeadUsed, Vec<Answer>), LearnError> {
    let candidates = candidates(state, options)?;
    let trained = state.trained.as_deref().filter(|trained| trained.classes.is_superset(&candidates));
    let answering = Answering {
        state,
        head: trained.map(TrainedHead::head),
        reliability: trained.map(TrainedHead::reliability).or(untrained),
        candidates,
        options,
    };
    let answers = queries.iter().map(|query| answering.answer(query)).collect::<Result<_, _>>()?;
    Ok((HeadUsed::of(trained), answers))
}

impl HeadUsed {
    /// `None` is the prototype head.
    pub(super) fn of(trained: Option<&TrainedHead>) -> Self {
        let (version, method) =
            trained.map_or((0, Method::Prototype), |trained| (trained.version, trained.head().method()));
        Self { version, method: method.word().to_owned() }
    }
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

/// What a head says of a vector, over the collection as it is; `None` is the prototype head.
pub(super) fn logits(state: &State, head: Option<&FittedHead>, vector: &[f32]) -> Result<Vec<Logit>, Error> {
    match head {
        None => state.prototypes.logits(vector),
        Some(FittedHead::Prototype { shrinkage }) => state.prototypes.logits_shrunk_by(vector, *shrinkage),
        Some(FittedHead::Nearest(options)) => {
            let class_of = |example: u64| state.examples.get(&example).map(|entry| entry.class);
            NearestHead::new(*options, &state.index, &class_of, state.prototypes.classes())?.logits(vector)
        }
        Some(FittedHead::Logistic(head)) => head.logits(vector),
        Some(FittedHead::Discriminant(head)) => head.logits(vector),
        Some(FittedHead::Msn(head)) => head.logits(vector),
    }
}

/// What the answers of one call share.
struct Answering<'a> {
    state: &'a State,
    /// `None` is the prototype head.
    head: Option<&'a FittedHead>,
    reliability: Option<&'a Reliability>,
    candidates: HashSet<ClassKey>,
    options: &'a ClassifyOptions,
}

impl Answering<'_> {
    fn label(&self, class: ClassKey) -> String {
        self.state.slug(class).unwrap_or_default().to_owned()
    }

    fn answer(&self, query: &[f32]) -> Result<Answer, LearnError> {
        let mut logits = logits(self.state, self.head, query)?;
        logits.retain(|logit| self.candidates.contains(&logit.class));
        let scores = match self.reliability {
            Some(reliability) => reliability.scores(logits),
            None => rank(logits),
        };
        let best = scores.first().ok_or(LearnError::NoExamples)?;
        let second = scores.get(1).map_or(0.0, |second| second.probability);
        let typicality = self.reliability.map(|reliability| reliability.typicality(query)).transpose()?;
        let unlike = typicality.is_some_and(|it| it.is_unknown(self.options.false_rejection_rate));
        let unsure = self.options.min_confidence.is_some_and(|minimum| best.probability < minimum);
        let doubt = if unlike { Some(Doubt::UnlikeExamples) } else { unsure.then_some(Doubt::LowConfidence) };
        let set = match (self.options.coverage, self.reliability) {
            (Some(coverage), Some(reliability)) => {
                let set = reliability.set(&scores, coverage)?;
                Some(super::LabelSet {
                    labels: set.classes.iter().map(|class| self.label(*class)).collect(),
                    coverage,
                    per_class: set.per_class,
                    examples: reliability.examples(),
                })
            }
            _ => None,
        };
        Ok(Answer {
            label: doubt.is_none().then(|| self.label(best.class)),
            probability: best.probability,
            margin: best.probability - second,
            doubt,
            likeness: typicality.map(|it| Likeness {
                p_value: it.p_value,
                distance: it.distance,
                nearest: self.state.slug(it.nearest).map(str::to_owned),
            }),
            set,
            evidence: self.evidence(query)?,
            scores: scores
                .iter()
                .take(self.options.top_k)
                .map(|score| Score {
                    label: self.label(score.class),
                    probability: score.probability,
                    similarity: score.similarity,
                })
                .collect(),
        })
    }

    fn evidence(&self, query: &[f32]) -> Result<Vec<Evidence>, LearnError> {
        let entry = |example: u64| self.state.examples.get(&example);
        let accept =
            |example: u64| entry(example).is_some_and(|entry| self.candidates.contains(&entry.class));
        let hits = self.state.index.search(query, self.options.evidence, &accept)?;
        let evidence = hits.iter().filter_map(|hit| {
            let entry = entry(hit.id)?;
            Some(Evidence {
                example: entry.id.to_string(),
                label: self.label(entry.class),
                similarity: hit.similarity,
            })
        });
        Ok(evidence.collect())
    }
}
