//! Two head versions side by side: the images on which they differ.

use super::labelled::LabelledSet;
use super::trained::TrainedHead;
use super::{Diff, Difference, HeadUsed, LearnError, Learner, name};
use crate::store::blocking;
use dozen_fewshot::heads::{Head, Score, rank};
use dozen_fewshot::training::{FittedHead, Standalone};
use dozen_fewshot::{ClassKey, Error, Examples};

impl Learner {
    /// How two versions (0 is the prototype head) answer the labelled examples as they are now, and up to `limit` of those
    /// on which they differ. Most of these examples are ones that the heads were fitted on.
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
        let (labelled, answers) = blocking(move || -> Result<_, Error> {
            let [a, b] = heads;
            let answers =
                [answers(a.as_deref(), &labelled.vectors)?, answers(b.as_deref(), &labelled.vectors)?];
            Ok((labelled, answers))
        })
        .await??;
        core.read(collection, move |state| {
            let slug = |class: ClassKey| state.slug(class).unwrap_or_default().to_owned();
            let [a, b] = &answers;
            let right = |answers: &[Score]| {
                (0..answers.len())
                    .filter(|&example| answers[example].class == labelled.class(example))
                    .count()
            };
            let differing: Vec<usize> = (0..a.len()).filter(|&i| a[i].class != b[i].class).collect();
            let difference = |&example: &usize| Difference {
                example: labelled.ids[example].clone(),
                class: slug(labelled.class(example)),
                a: (slug(a[example].class), a[example].probability),
                b: (slug(b[example].class), b[example].probability),
            };
            Diff {
                compared: a.len(),
                a_right: right(a),
                b_right: right(b),
                differing: differing.len(),
                data: differing.iter().take(limit).map(difference).collect(),
                a: used_a,
                b: used_b,
            }
        })
        .await
        .map_err(LearnError::from)
    }
}

/// The best score of each example.
fn answers(head: Option<&TrainedHead>, examples: &Examples) -> Result<Vec<Score>, Error> {
    let fitted = head.map_or(FittedHead::Prototype { shrinkage: 0.0 }, |head| head.head().clone());
    let standalone = Standalone::new(fitted, examples.clone())?;
    let best = |example| {
        let logits = standalone.logits(examples.vector(example))?;
        let scores = match head {
            Some(head) => head.reliability().scores(logits),
            None => rank(logits),
        };
        scores.into_iter().next().ok_or(Error::TooFewClasses { needed: 1, actual: 0 })
    };
    (0..examples.len()).map(best).collect()
}
