//! Two head versions side by side: the images on which they differ.

use super::labelled::LabelledSet;
use super::suggest::Unlabelled;
use super::trained::TrainedHead;
use super::{Diff, Difference, HeadUsed, LearnError, Learner, PoolDiff, PoolDifference, name};
use crate::store::blocking;
use dozen_fewshot::heads::{Head, MsnHead, Score, rank};
use dozen_fewshot::training::{FittedHead, Standalone};
use dozen_fewshot::{ClassKey, Error, Examples};

/// The best score of each image by two heads.
struct Answers([Vec<Score>; 2]);

impl Learner {
    /// How two versions (0 is the prototype head) answer the labelled examples and the pool as they are now, and up to `limit`
    /// of each on which they differ.
    ///
    /// Heads were fitted on most of the examples, so they seldom differ there. Of the pool so many images are compared as
    /// training reads, evenly spaced.
    pub async fn diff_heads(
        &self,
        collection: &str,
        [a, b]: [i64; 2],
        limit: usize,
    ) -> Result<Diff, LearnError> {
        name::check(collection)?;
        let core = self.core();
        let _turn = core.advising(collection).await;
        let heads = [core.head(collection, a).await?, core.head(collection, b).await?];
        let [used_a, used_b] = [HeadUsed::of(heads[0].as_deref()), HeadUsed::of(heads[1].as_deref())];
        let labelled = LabelledSet::read(&core, collection).await?;
        // Without examples, heads that follow the labels have no answer.
        let most = if labelled.ids.is_empty() { 0 } else { MsnHead::MAX_POOL };
        let Unlabelled { ids: images, pool, .. } = core.pool(collection, most).await?;
        let (labelled, known, unknown) = blocking(move || -> Result<_, Error> {
            let examples = &labelled.vectors;
            let dimensions = examples.dimensions().max(1);
            let [a, b] = &heads;
            let pair = [Answerer::new(a.as_deref(), examples)?, Answerer::new(b.as_deref(), examples)?];
            let known = Answers::of(&pair, (0..examples.len()).map(|i| examples.vector(i)))?;
            let unknown = Answers::of(&pair, pool.vectors().chunks_exact(dimensions))?;
            Ok((labelled, known, unknown))
        })
        .await??;
        core.read(collection, move |state| {
            let slug = |class: ClassKey| state.slug(class).unwrap_or_default().to_owned();
            let answer = |score: Score| (slug(score.class), score.probability);
            let right = |scores: &[Score]| {
                (0..scores.len()).filter(|&example| scores[example].class == labelled.class(example)).count()
            };
            let differing = known.differing();
            let difference = |&example: &usize| Difference {
                example: labelled.ids[example].clone(),
                class: slug(labelled.class(example)),
                a: answer(known.0[0][example]),
                b: answer(known.0[1][example]),
            };
            let mut doubtful = unknown.differing();
            // Stable: equally sure ones stay in order.
            doubtful.sort_by(|&one, &other| unknown.sureness(other).total_cmp(&unknown.sureness(one)));
            let pool_difference = |&image: &usize| PoolDifference {
                image: images[image].clone(),
                a: answer(unknown.0[0][image]),
                b: answer(unknown.0[1][image]),
            };
            Diff {
                compared: labelled.ids.len(),
                a_right: right(&known.0[0]),
                b_right: right(&known.0[1]),
                differing: differing.len(),
                data: differing.iter().take(limit).map(difference).collect(),
                pool: PoolDiff {
                    compared: images.len(),
                    differing: doubtful.len(),
                    data: doubtful.iter().take(limit).map(pool_difference).collect(),
                },
                a: used_a,
                b: used_b,
            }
        })
        .await
        .map_err(LearnError::from)
    }
}

impl Answers {
    fn of<'a>([a, b]: &[Answerer<'_>; 2], vectors: impl Iterator<Item = &'a [f32]>) -> Result<Self, Error> {
        let mut answers = Self([Vec::new(), Vec::new()]);
        for vector in vectors {
            answers.0[0].push(a.best(vector)?);
            answers.0[1].push(b.best(vector)?);
        }
        Ok(answers)
    }

    /// Positions of the images on which they differ.
    fn differing(&self) -> Vec<usize> {
        let Self([a, b]) = self;
        (0..a.len()).filter(|&image| a[image].class != b[image].class).collect()
    }

    /// How sure the less sure of the two is.
    fn sureness(&self, image: usize) -> f32 {
        let Self([a, b]) = self;
        a[image].probability.min(b[image].probability)
    }
}

/// A head with the examples that it may need.
struct Answerer<'a> {
    head: Option<&'a TrainedHead>,
    standalone: Standalone,
}

impl<'a> Answerer<'a> {
    fn new(head: Option<&'a TrainedHead>, examples: &Examples) -> Result<Self, Error> {
        let fitted = head.map_or(FittedHead::Prototype { shrinkage: 0.0 }, |head| head.head().clone());
        Ok(Self { head, standalone: Standalone::new(fitted, examples.clone())? })
    }

    fn best(&self, vector: &[f32]) -> Result<Score, Error> {
        let logits = self.standalone.logits(vector)?;
        let scores = match self.head {
            Some(head) => head.reliability().scores(logits),
            None => rank(logits),
        };
        scores.into_iter().next().ok_or(Error::TooFewClasses { needed: 1, actual: 0 })
    }
}
