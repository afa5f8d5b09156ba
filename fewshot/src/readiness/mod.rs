//! Have enough examples been labelled? What leave-one-out says of each class, and what more examples should bring.

mod curve;

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

pub use curve::{Forecast, Point, learning_curves};

use crate::heads::HeldOut;
use crate::statistics::{Interval, wilson};
use crate::{ClassKey, Examples};

/// A share that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Examples taken for what they are.
    pub right: usize,
    /// Examples judged.
    pub judged: usize,
    /// Wilson's 95 % interval of the share; 0 to 1 where nothing was judged.
    pub interval: Interval,
}

/// What is known of all classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// Over all judged examples.
    pub overall: Accuracy,
    /// In the order of [`Examples::classes`].
    pub classes: Vec<ClassReadiness>,
}

/// What is known of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassReadiness {
    /// The class.
    pub class: ClassKey,
    /// How many examples it has.
    pub examples: usize,
    /// Over its judged examples.
    pub accuracy: Accuracy,
    /// The classes its examples are taken for and how often, most often first, ties by class.
    pub taken_for: Vec<(ClassKey, usize)>,
}

impl Accuracy {
    fn new(right: usize, judged: usize) -> Self {
        Self { right, judged, interval: wilson(right, judged) }
    }

    /// The share that is right, unless nothing was judged.
    pub fn share(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.right as f64 / self.judged as f64)
    }
}

impl Readiness {
    /// From the held-out logits of the examples.
    pub fn new(examples: &Examples, held_out: &HeldOut) -> Self {
        let classes = examples.classes();
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        for (prediction, &label) in held_out.predictions().into_iter().zip(held_out.labels()) {
            confusion[label][prediction] += 1;
        }
        let right = (0..classes.len()).map(|class| confusion[class][class]).sum();
        let of_class = |(class, counts): (usize, Vec<usize>)| {
            let mut taken_for: Vec<(ClassKey, usize)> = (0..classes.len())
                .filter(|&other| other != class && counts[other] > 0)
                .map(|other| (classes[other], counts[other]))
                .collect();
            taken_for.sort_by_key(|&(_, count)| Reverse(count));
            ClassReadiness {
                class: classes[class],
                examples: examples.counts()[class],
                accuracy: Accuracy::new(counts[class], counts.iter().sum()),
                taken_for,
            }
        };
        Self {
            overall: Accuracy::new(right, held_out.len()),
            classes: confusion.into_iter().enumerate().map(of_class).collect(),
        }
    }
}

/// One sentence on a class: "lynx: 4 more examples should lift 0.71 to about 0.82 (0.55 to 0.93)".
pub fn verdict(name: &str, class: &ClassReadiness, forecast: Option<&Forecast>) -> String {
    let Some(share) = class.accuracy.share() else {
        return format!("{name}: cannot be judged yet; add another example");
    };
    let Accuracy { right, judged, interval } = class.accuracy;
    let Some(forecast) = forecast else {
        return format!(
            "{name}: {right} of {judged} right ({:.2} to {:.2}); add examples for a forecast",
            interval.low, interval.high
        );
    };
    let Interval { low, high } = forecast.interval;
    let more = match forecast.more {
        1 => "1 more example".to_owned(),
        more => format!("{more} more examples"),
    };
    if forecast.accuracy - share < 0.005 {
        return format!("{name}: {more} should change little; {share:.2} now ({low:.2} to {high:.2})");
    }
    format!("{name}: {more} should lift {share:.2} to about {:.2} ({low:.2} to {high:.2})", forecast.accuracy)
}

#[cfg(test)]
mod tests;
