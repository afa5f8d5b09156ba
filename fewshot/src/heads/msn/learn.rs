//! The steps.

use super::MsnOptions;
use super::features::Features;
use super::neighbours::Neighbours;
use super::objective::{Assignment, mean_rows};
use super::targets::{balance, pass, sharpen};
use crate::matrix::dot;
use crate::progress::{Progress, report};
use crate::{Error, Examples, Pool};

/// Length of prototypes at the start, about what the penalty leaves them where there is one example of each class.
const START: f64 = 2.0;
/// Length of the first step, in root mean square over the prototypes; falls to 0 as a cosine.
const STEP: f64 = 0.3;
/// Share of the gradients before in each step, and of their squares.
const MOMENTUM: f64 = 0.9;
const SQUARES: f64 = 0.99;
/// A gradient shorter than this is taken for that long: near its end it is rounding, which is no direction to go.
const SHORTEST: f64 = 1e-6;
/// Rounds of k-means that place several prototypes per class: few examples settle in two or three.
const ROUNDS: usize = 10;

/// Everything that does not change from step to step.
pub(super) struct Learner<'a> {
    options: &'a MsnOptions,
    assignment: Assignment,
    features: Features,
    /// `[example][dimension]`.
    labelled: Vec<f64>,
    /// One-hot, `[example][class]`.
    labels: Vec<f64>,
    /// Position of each example's class.
    label_of: Vec<usize>,
    /// Examples of each class.
    counts: Vec<usize>,
    /// `[image][dimension]`.
    pool: Vec<f64>,
    /// The same view of every image, `[view][image][dimension]`.
    views: Vec<Vec<f64>>,
    neighbours: Neighbours,
    prior: Vec<f64>,
    state: State,
}

/// Prototypes in the making.
#[derive(Default)]
struct State {
    /// `[prototype][dimension]`.
    prototypes: Vec<f64>,
    momentum: Vec<f64>,
    square: f64,
    step: usize,
}

/// What has been learned.
pub(super) struct Learned {
    pub(super) class_of: Vec<usize>,
    /// `[prototype][dimension]`, of the vectors themselves.
    pub(super) weights: Vec<f64>,
    pub(super) offsets: Vec<f64>,
    pub(super) prior: Vec<f64>,
}

impl<'a> Learner<'a> {
    /// `prior` has the share of each class of the examples, or is absent to be estimated.
    pub(super) fn new(
        examples: &Examples,
        pool: &Pool,
        options: &'a MsnOptions,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        let (dimensions, classes) = (examples.dimensions(), examples.classes().len());
        let prior = options.prior.of(examples.classes());
        let mut rows = examples.unit_rows();
        let mut centre = centre(examples, &rows, &prior);
        rows.extend(pool.vectors().iter().map(|&component| f64::from(component)));
        let pooled = rows.chunks_exact(dimensions).skip(examples.len());
        for row in pooled {
            for (sum, component) in centre.iter_mut().zip(row) {
                *sum += component;
            }
        }
        for sum in &mut centre {
            *sum /= (examples.len() + pool.len()) as f64;
        }
        let per_image = pool.views_per_image();
        let views: Vec<f64> = pool.views().iter().map(|&component| f64::from(component)).collect();
        let features = Features::new(&rows, centre, &views, per_image);
        let mut labelled = features.apply(&rows);
        let neighbours = Neighbours::find(&labelled, dimensions, options.neighbours, progress)?;
        let pool_features = labelled.split_off(examples.len() * dimensions);
        let views = (0..per_image).map(|view| {
            let images = views.chunks_exact(dimensions).skip(view).step_by(per_image);
            features.apply(&images.flatten().copied().collect::<Vec<_>>())
        });
        let views = views.collect();
        let mut labels = vec![0.0; examples.len() * classes];
        for (row, &label) in labels.chunks_exact_mut(classes).zip(examples.labels()) {
            row[label] = 1.0;
        }
        let counts = examples.counts();
        let own = counts.iter().map(|&count| count.min(options.prototypes));
        let class_of = own.enumerate().flat_map(|(class, own)| std::iter::repeat_n(class, own)).collect();
        let mut learner = Self {
            assignment: Assignment { dimensions, classes, class_of },
            prior,
            label_of: examples.labels().to_vec(),
            pool: pool_features,
            options,
            features,
            labelled,
            labels,
            counts,
            views,
            neighbours,
            state: State::default(),
        };
        learner.state.prototypes = learner.first_prototypes();
        learner.state.momentum = vec![0.0; learner.state.prototypes.len()];
        Ok(learner)
    }

    /// Takes steps until so many have been taken.
    pub(super) fn advance(&mut self, step: usize, progress: Progress<'_>) -> Result<(), Error> {
        while self.state.step < step {
            report(&mut *progress, self.state.step as f64 / self.options.steps as f64)?;
            let gradient = self.gradient();
            self.state.descend(&gradient, self.assignment.class_of.len(), self.options.steps);
        }
        Ok(())
    }

    /// What has been learned so far.
    pub(super) fn learned(&self) -> Learned {
        let (weights, offsets) = self.features.fold(&self.state.prototypes);
        Learned { class_of: self.assignment.class_of.clone(), weights, offsets, prior: self.prior.clone() }
    }

    /// Of the loss with targets as the prototypes make them now. Views take turns with the pictures themselves.
    fn gradient(&mut self) -> Vec<f64> {
        let assignment = &self.assignment;
        let examples = assignment.probabilities(&self.state.prototypes, &self.labelled);
        let weights = self.label_of.iter().map(|&class| self.prior[class] / self.counts[class] as f64);
        let (_, slopes) = assignment.cross_entropy(&examples, &self.labels, weights);
        let mut gradient = assignment.gradient(&slopes, &self.labelled);
        let penalty = self.options.l2 / self.label_of.len() as f64;
        for (slope, component) in gradient.iter_mut().zip(&self.state.prototypes) {
            *slope += penalty * component;
        }
        if self.pool.is_empty() {
            return gradient;
        }
        let images = assignment.probabilities(&self.state.prototypes, &self.pool);
        if self.options.prior.is_estimated() {
            self.prior = estimate(&self.targets(&images.classes), assignment.classes);
        }
        let mut balanced = images.classes.clone();
        balance(&mut balanced, &self.prior);
        let targets = self.targets(&balanced);
        let turn = self.state.step % (self.views.len() + 1);
        let (anchors, found) = match turn.checked_sub(1) {
            None => (&self.pool, images),
            Some(view) => {
                (&self.views[view], assignment.probabilities(&self.state.prototypes, &self.views[view]))
            }
        };
        let share = self.options.pool_weight * assignment.dimensions as f64 / self.pool.len() as f64;
        let (_, mut slopes) = assignment.cross_entropy(&found, &targets, std::iter::repeat(share));
        let weight = self.options.pool_weight * self.options.evenness;
        assignment.unevenness(&found, &self.prior, weight, &mut slopes);
        for (sum, more) in gradient.iter_mut().zip(assignment.gradient(&slopes, anchors)) {
            *sum += more;
        }
        gradient
    }

    /// Of assignments of the pool's pictures.
    fn targets(&self, assignments: &[f64]) -> Vec<f64> {
        let classes = self.assignment.classes;
        let mut targets = pass(assignments, &self.labels, classes, &self.neighbours);
        sharpen(&mut targets, classes, self.options.sharpening);
        targets
    }

    /// The directions of class means, or of as many groups of a class's examples as it has prototypes.
    fn first_prototypes(&self) -> Vec<f64> {
        let dimensions = self.assignment.dimensions;
        let mut prototypes = Vec::with_capacity(self.assignment.class_of.len() * dimensions);
        for (class, &count) in self.counts.iter().enumerate() {
            let rows: Vec<&[f64]> = self
                .labelled
                .chunks_exact(dimensions)
                .zip(&self.label_of)
                .filter(|(_, label)| **label == class)
                .map(|(row, _)| row)
                .collect();
            for centre in group(&rows, count.min(self.options.prototypes)) {
                prototypes.extend(start(centre));
            }
        }
        prototypes
    }
}

impl State {
    /// A step down, of a length that does not depend on the gradient's: Adam with one scale for all numbers (arXiv
    /// 1412.6980), so that steps do not depend on how features are turned.
    fn descend(&mut self, gradient: &[f64], prototypes: usize, steps: usize) {
        self.step += 1;
        for (momentum, gradient) in self.momentum.iter_mut().zip(gradient) {
            *momentum = MOMENTUM * *momentum + (1.0 - MOMENTUM) * gradient;
        }
        let square = dot(gradient, gradient) / prototypes as f64;
        self.square = SQUARES * self.square + (1.0 - SQUARES) * square;
        // The averages are divided by the sum of their weights.
        let step = self.step as i32;
        let length = (self.square / (1.0 - SQUARES.powi(step))).sqrt();
        let decay = 0.5 * (1.0 + (std::f64::consts::PI * self.step as f64 / steps as f64).cos());
        let rate = STEP * decay / ((1.0 - MOMENTUM.powi(step)) * length.max(SHORTEST));
        for (component, momentum) in self.prototypes.iter_mut().zip(&self.momentum) {
            *component -= rate * momentum;
        }
    }
}

/// The sum of the examples if classes were spread as in the pool: one class of thousands must not draw the centre to itself.
fn centre(examples: &Examples, rows: &[f64], prior: &[f64]) -> Vec<f64> {
    let mut centre = vec![0.0; examples.dimensions()];
    let sums = examples.class_sums(rows);
    let shares = prior
        .iter()
        .zip(examples.counts())
        .map(|(share, count)| share * examples.len() as f64 / count as f64);
    for (sum, share) in sums.chunks_exact(examples.dimensions()).zip(shares) {
        for (centre, component) in centre.iter_mut().zip(sum) {
            *centre += share * component;
        }
    }
    centre
}

/// Half way between what the prototypes say and that all classes are alike: prototypes of few examples do not know how
/// many pictures there are of each class, and a class believed to have none would get none.
fn estimate(assignments: &[f64], classes: usize) -> Vec<f64> {
    let mean = mean_rows(assignments, classes);
    mean.iter().map(|share| 0.5 * (share + 1.0 / classes as f64)).collect()
}

/// k-means from the row furthest from the mean, then the one furthest from those chosen, and so on.
fn group(rows: &[&[f64]], count: usize) -> Vec<Vec<f64>> {
    let mut centres = vec![mean(rows)];
    if count <= 1 {
        return centres;
    }
    let mut chosen: Vec<Vec<f64>> = Vec::with_capacity(count);
    while chosen.len() < count {
        let from = if chosen.is_empty() { &centres } else { &chosen };
        let furthest = rows.iter().max_by(|a, b| nearest(from, a).1.total_cmp(&nearest(from, b).1));
        chosen.extend(furthest.map(|row| row.to_vec()));
    }
    centres = chosen;
    for _ in 0..ROUNDS {
        let mut groups = vec![Vec::new(); count];
        for row in rows {
            groups[nearest(&centres, row).0].push(*row);
        }
        for (centre, group) in centres.iter_mut().zip(&groups) {
            if !group.is_empty() {
                *centre = mean(group);
            }
        }
    }
    centres
}

/// The nearest of these centres, and its squared distance.
fn nearest(centres: &[Vec<f64>], row: &[f64]) -> (usize, f64) {
    let distance = |centre: &Vec<f64>| centre.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum();
    let distances = centres.iter().map(distance).enumerate();
    distances.min_by(|a: &(usize, f64), b| a.1.total_cmp(&b.1)).unwrap_or((0, f64::INFINITY))
}

fn mean(rows: &[&[f64]]) -> Vec<f64> {
    let mut mean = vec![0.0; rows.first().map_or(0, |row| row.len())];
    for row in rows {
        for (sum, component) in mean.iter_mut().zip(*row) {
            *sum += component / rows.len() as f64;
        }
    }
    mean
}

/// As long as prototypes are at the start, or as it is where it has no direction.
fn start(mut centre: Vec<f64>) -> Vec<f64> {
    let norm = dot(&centre, &centre).sqrt();
    if norm > 0.0 {
        for component in &mut centre {
            *component *= START / norm;
        }
    }
    centre
}
