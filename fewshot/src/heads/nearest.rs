//! The classes of the nearest stored vectors, weighted by similarity (as in arXiv 1805.01978, §3.4).
//!
//! Each of the k nearest examples votes for its class with weight exp((similarity − 1)/temperature). The vectors live in
//! an index that is written to all the time, so the head is a view of it; what is chosen and stored is the options.

use serde::{Deserialize, Serialize};

use super::stored::check_format;
use super::{Head, HeldOut, Logit};
use crate::index::VectorIndex;
use crate::matrix::for_each_row;
use crate::progress::{Progress, report};
use crate::{ClassKey, Error, Examples};

/// How neighbours vote.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredNearestOptions", into = "StoredNearestOptions")]
pub struct NearestOptions {
    /// How many neighbours vote, 1 or more.
    pub k: usize,
    /// A neighbour further away by this much similarity weighs 1/e as much.
    pub temperature: f64,
}

/// The stored form. `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
struct StoredNearestOptions {
    format: u32,
    k: usize,
    temperature: f64,
}

impl Default for NearestOptions {
    /// The temperature of arXiv 1805.01978, and as many neighbours as a class has examples in this project's name.
    fn default() -> Self {
        Self { k: 12, temperature: 0.07 }
    }
}

impl NearestOptions {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// Numbers of neighbours that a fit compares.
    const NEIGHBOURS: [usize; 6] = [1, 3, 6, 12, 25, 50];

    /// Temperatures that a fit compares.
    const TEMPERATURES: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5];

    /// The options of least log-loss when each example is left out in turn; the default if no example can be judged.
    ///
    /// Compares every example with every other once: quadratic in their number, linear in memory.
    pub fn fit(examples: &Examples, progress: Progress<'_>) -> Result<Self, Error> {
        let most = Self::NEIGHBOURS[Self::NEIGHBOURS.len() - 1];
        let mut losses = vec![0.0; Self::NEIGHBOURS.len() * Self::TEMPERATURES.len()];
        let classes = examples.classes().len();
        let mut judged = false;
        for_each_left_out(examples, most, progress, |example, neighbours| {
            judged = true;
            let label = examples.labels()[example];
            let mut losses = losses.iter_mut();
            for k in Self::NEIGHBOURS {
                let neighbours = &neighbours[..k.min(neighbours.len())];
                for (temperature, loss) in Self::TEMPERATURES.iter().zip(&mut losses) {
                    *loss -= Votes::new(neighbours, *temperature, classes).log_share(label);
                }
            }
        })?;
        let least = |best: usize, next: usize| if losses[next] < losses[best] { next } else { best };
        let best = (0..losses.len()).reduce(least).filter(|_| judged);
        Ok(best.map_or_else(Self::default, |best| Self {
            k: Self::NEIGHBOURS[best / Self::TEMPERATURES.len()],
            temperature: Self::TEMPERATURES[best % Self::TEMPERATURES.len()],
        }))
    }

    /// What all other examples say of each.
    pub fn leave_one_out(&self, examples: &Examples, progress: Progress<'_>) -> Result<HeldOut, Error> {
        self.check()?;
        let mut held_out = HeldOut::new(examples);
        let classes = examples.classes().len();
        for_each_left_out(examples, self.k, progress, |example, neighbours| {
            let logits = Votes::new(neighbours, self.temperature, classes).log_shares();
            held_out.push(example, examples.labels()[example], &logits);
        })?;
        Ok(held_out)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |name, value, range| Err(Error::InvalidOption { name, value, range });
        if self.k == 0 {
            return refuse("k", self.k.to_string(), "1 or more");
        }
        if !self.temperature.is_finite() || self.temperature <= 0.0 {
            return refuse("temperature", self.temperature.to_string(), "a finite number above 0");
        }
        Ok(())
    }
}

impl From<NearestOptions> for StoredNearestOptions {
    fn from(NearestOptions { k, temperature }: NearestOptions) -> Self {
        Self { format: NearestOptions::FORMAT, k, temperature }
    }
}

impl TryFrom<StoredNearestOptions> for NearestOptions {
    type Error = Error;

    fn try_from(stored: StoredNearestOptions) -> Result<Self, Error> {
        check_format(stored.format, Self::FORMAT)?;
        let options = Self { k: stored.k, temperature: stored.temperature };
        options.check().map(|()| options)
    }
}

/// The options at work on an index.
///
/// A logit is the log of a class's share of the votes; a class without a vote shares in one that is divided over all. The
/// similarity is that of the class's nearest voter, 0 for a class without one.
pub struct NearestHead<'a> {
    options: NearestOptions,
    index: &'a dyn VectorIndex,
    class_of: &'a (dyn Fn(u64) -> Option<ClassKey> + Sync),
    /// Ascending.
    classes: Vec<ClassKey>,
}

impl<'a> NearestHead<'a> {
    /// Answers with these classes: `class_of` says to which of them a stored vector belongs; others do not vote.
    pub fn new(
        options: NearestOptions,
        index: &'a dyn VectorIndex,
        class_of: &'a (dyn Fn(u64) -> Option<ClassKey> + Sync),
        classes: impl IntoIterator<Item = ClassKey>,
    ) -> Result<Self, Error> {
        options.check()?;
        let mut classes: Vec<ClassKey> = classes.into_iter().collect();
        classes.sort_unstable();
        classes.dedup();
        Ok(Self { options, index, class_of, classes })
    }

    fn row_of(&self, id: u64) -> Option<usize> {
        self.classes.binary_search(&(self.class_of)(id)?).ok()
    }
}

impl Head for NearestHead<'_> {
    fn classes(&self) -> Vec<ClassKey> {
        self.classes.clone()
    }

    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error> {
        let hits = self.index.search(vector, self.options.k, &|id| self.row_of(id).is_some())?;
        let neighbours: Vec<Neighbour> = hits
            .iter()
            .filter_map(|hit| {
                Some(Neighbour { row: self.row_of(hit.id)?, similarity: f64::from(hit.similarity) })
            })
            .collect();
        let mut similarities = vec![0.0; self.classes.len()];
        for neighbour in neighbours.iter().rev() {
            similarities[neighbour.row] = neighbour.similarity;
        }
        let logits = Votes::new(&neighbours, self.options.temperature, self.classes.len()).log_shares();
        let answers = self.classes.iter().zip(logits).zip(similarities);
        Ok(answers.map(|((&class, logit), similarity)| Logit { class, logit, similarity }).collect())
    }
}

/// A voter.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// Position of its class.
    row: usize,
    similarity: f64,
}

/// The votes of some neighbours, nearest first, and one more as far away as the last, divided evenly over all classes.
///
/// That one stands for what was not found, which is at most as near as the last that was. It keeps the share of a class
/// without a voter above 0, the lower the further away the neighbours thin out, so that its log is finite.
struct Votes<'a> {
    neighbours: &'a [Neighbour],
    temperature: f64,
    classes: usize,
    /// Similarity of the nearest: weights are taken relative to it, which no share notices and no weight overflows.
    nearest: f64,
    /// Each class's part of the divided vote.
    unseen: f64,
    total: f64,
}

impl<'a> Votes<'a> {
    fn new(neighbours: &'a [Neighbour], temperature: f64, classes: usize) -> Self {
        let nearest = neighbours.first().map_or(0.0, |neighbour| neighbour.similarity);
        let mut votes = Self { neighbours, temperature, classes, nearest, unseen: 0.0, total: 0.0 };
        let divided = neighbours.last().map_or(1.0, |neighbour| votes.weight(neighbour));
        votes.unseen = divided / classes as f64;
        votes.total = divided + neighbours.iter().map(|neighbour| votes.weight(neighbour)).sum::<f64>();
        votes
    }

    fn weight(&self, neighbour: &Neighbour) -> f64 {
        ((neighbour.similarity - self.nearest) / self.temperature).exp()
    }

    /// The log of a weight's share; that of the smallest number for a vote too small for one.
    fn log_share_of(&self, weight: f64) -> f64 {
        (weight / self.total).max(f64::MIN_POSITIVE).ln()
    }

    /// Of the class at one position.
    fn log_share(&self, row: usize) -> f64 {
        let own = self.neighbours.iter().filter(|neighbour| neighbour.row == row);
        self.log_share_of(self.unseen + own.map(|neighbour| self.weight(neighbour)).sum::<f64>())
    }

    /// Of every class.
    fn log_shares(&self) -> Vec<f64> {
        let mut weights = vec![self.unseen; self.classes];
        for neighbour in self.neighbours {
            weights[neighbour.row] += self.weight(neighbour);
        }
        weights.into_iter().map(|weight| self.log_share_of(weight)).collect()
    }
}

/// Calls `each` with every example that shares its class, and its `k` nearest among all others.
fn for_each_left_out(
    examples: &Examples,
    k: usize,
    progress: Progress<'_>,
    mut each: impl FnMut(usize, &[Neighbour]),
) -> Result<(), Error> {
    let (rows, counts) = (examples.unit_rows(), examples.counts());
    let step = examples.len().div_ceil(100).max(1);
    let mut neighbours = Vec::with_capacity(examples.len());
    for_each_row(&rows, &rows, examples.dimensions(), |example, similarities| {
        if example % step == 0 {
            report(&mut *progress, example as f64 / examples.len() as f64)?;
        }
        if counts[examples.labels()[example]] > 1 {
            let all = examples.labels().iter().zip(similarities.iter());
            let others = all.enumerate().filter(|(other, _)| *other != example);
            neighbours.clear();
            neighbours.extend(others.map(|(_, (&row, &similarity))| Neighbour { row, similarity }));
            keep_nearest(&mut neighbours, k);
            each(example, &neighbours);
        }
        Ok(())
    })
}

/// The `k` nearest, nearest first; equals by class, so that the order of the examples does not matter.
fn keep_nearest(neighbours: &mut Vec<Neighbour>, k: usize) {
    let order = |a: &Neighbour, b: &Neighbour| b.similarity.total_cmp(&a.similarity).then(a.row.cmp(&b.row));
    if k < neighbours.len() {
        neighbours.select_nth_unstable_by(k, order);
        neighbours.truncate(k);
    }
    neighbours.sort_unstable_by(order);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::ExactIndex;
    use std::ops::ControlFlow;

    fn go_on(_: f64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Vectors on a half circle, three classes in turn, the last with one example.
    fn examples() -> Examples {
        let vectors: Vec<[f32; 2]> = (0..9).map(|i| (0.3 * i as f32).sin_cos().into()).collect();
        let class = |i: usize| if i == 8 { 30 } else { 10 * (1 + i as u64 % 2) };
        Examples::new(2, vectors.iter().enumerate().map(|(i, v)| (class(i), &v[..]))).unwrap()
    }

    /// The definition, without shifts: votes and one divided vote.
    fn plain(examples: &Examples, example: usize, options: NearestOptions) -> Vec<f64> {
        let cosine = |other: usize| -> f64 {
            let (a, b) = (examples.vector(example), examples.vector(other));
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
            };
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let mut others: Vec<(f64, usize)> = (0..examples.len())
            .filter(|&other| other != example)
            .map(|other| (cosine(other), examples.labels()[other]))
            .collect();
        others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        others.truncate(options.k);
        let weight = |similarity: f64| ((similarity - 1.0) / options.temperature).exp();
        let classes = examples.classes().len();
        let mut weights = vec![weight(others[others.len() - 1].0) / classes as f64; classes];
        for (similarity, label) in others {
            weights[label] += weight(similarity);
        }
        let total: f64 = weights.iter().sum();
        weights.iter().map(|weight| (weight / total).ln()).collect()
    }

    #[test]
    fn leaving_one_out_is_asking_the_others() {
        let examples = examples();
        for k in [1, 3, 100] {
            let options = NearestOptions { k, temperature: 0.1 };
            let held_out = options.leave_one_out(&examples, &mut go_on).unwrap();
            assert_eq!(
                held_out.examples(),
                [0, 1, 2, 3, 4, 5, 6, 7],
                "the only one of its class is not judged"
            );
            for (row, &example) in held_out.rows().zip(held_out.examples()) {
                for (ours, expected) in row.iter().zip(plain(&examples, example, options)) {
                    assert!((ours - expected).abs() < 1e-9 * expected.abs().max(1.0), "{ours} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_head_answers_over_a_live_index() {
        let examples = examples();
        let mut index = ExactIndex::new(2);
        for example in 1..examples.len() {
            index.insert(example as u64, examples.vector(example)).unwrap();
        }
        index.insert(99, examples.vector(0)).unwrap();
        let class_of = |id: u64| examples.labels().get(id as usize).map(|&label| examples.classes()[label]);
        let options = NearestOptions { k: 3, temperature: 0.1 };
        let head = NearestHead::new(options, &index, &class_of, [30, 10, 20, 10]).unwrap();
        assert_eq!(head.classes(), [10, 20, 30]);
        let logits = head.logits(examples.vector(0)).unwrap();
        for (logit, expected) in logits.iter().zip(plain(&examples, 0, options)) {
            assert!((logit.logit - expected).abs() < 1e-4, "an unlabelled vector does not vote: {logit:?}");
        }
        assert!((logits[1].similarity - f64::from(0.3f32.cos())).abs() < 1e-6);
        assert!(logits[2].similarity.abs() < 1e-12, "{logits:?}");
        let total: f64 = logits.iter().map(|logit| logit.logit.exp()).sum();
        assert!((total - 1.0).abs() < 1e-12);
    }

    #[test]
    fn an_index_without_neighbours_favours_no_class() {
        let index = ExactIndex::new(2);
        let head = NearestHead::new(NearestOptions::default(), &index, &|_| None, [1, 2]).unwrap();
        for logit in head.logits(&[1.0, 0.0]).unwrap() {
            assert!((logit.logit + 2f64.ln()).abs() < 1e-12);
        }
        assert!(head.logits(&[1.0]).is_err());
    }

    #[test]
    fn votes_too_small_for_a_number_stay_finite() {
        let neighbours = [Neighbour { row: 0, similarity: 1.0 }, Neighbour { row: 1, similarity: -1.0 }];
        let votes = Votes::new(&neighbours, 1e-300, 3);
        assert!(votes.log_shares().iter().all(|logit| logit.is_finite()));
    }

    #[test]
    fn the_fit_is_the_best_of_its_lists() {
        let examples = examples();
        let loss =
            |options: NearestOptions| options.leave_one_out(&examples, &mut go_on).unwrap().log_loss(1.0);
        let best = loss(NearestOptions::fit(&examples, &mut go_on).unwrap());
        for k in NearestOptions::NEIGHBOURS {
            for temperature in NearestOptions::TEMPERATURES {
                assert!(best <= loss(NearestOptions { k, temperature }) + 1e-12);
            }
        }
        let alone = examples.subset(&[0, 1, 8]);
        assert_eq!(NearestOptions::fit(&alone, &mut go_on), Ok(NearestOptions::default()));
        let mut stop = |_| ControlFlow::Break(());
        assert_eq!(NearestOptions::fit(&examples, &mut stop), Err(Error::Cancelled));
    }

    #[test]
    fn options_are_checked_where_they_come_in() {
        let index = ExactIndex::new(2);
        for (k, temperature) in [(0, 0.1), (1, 0.0), (1, f64::NAN), (1, f64::INFINITY)] {
            let options = NearestOptions { k, temperature };
            assert!(NearestHead::new(options, &index, &|_| None, []).is_err());
            assert!(options.leave_one_out(&examples(), &mut go_on).is_err());
        }
        let text = serde_json::to_string(&NearestOptions::default()).unwrap();
        assert_eq!(serde_json::from_str::<NearestOptions>(&text).unwrap(), NearestOptions::default());
        assert!(serde_json::from_str::<NearestOptions>(&text.replace(":12", ":0")).is_err());
        assert!(
            serde_json::from_str::<NearestOptions>(&text.replace("\"format\":1", "\"format\":2")).is_err()
        );
    }
}
