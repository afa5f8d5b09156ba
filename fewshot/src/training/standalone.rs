//! A head together with the labelled vectors that it needs to answer by itself.

use super::FittedHead;
use crate::heads::{Head, Logit, NearestHead, PrototypeHead};
use crate::index::{ExactIndex, VectorIndex};
use crate::{ClassKey, Error, Examples};

/// Answers as the head would, were these examples all that is labelled.
pub struct Standalone {
    form: Form,
}

enum Form {
    Prototype(PrototypeHead),
    Nearest { options: crate::heads::NearestOptions, index: ExactIndex, examples: Examples },
    Fitted(Box<dyn Head>),
}

impl Standalone {
    /// Heads that follow the labels take these; the others know what they were fitted on.
    pub fn new(head: FittedHead, examples: Examples) -> Result<Self, Error> {
        let form = match head {
            FittedHead::Prototype { shrinkage } => {
                Form::Prototype(PrototypeHead::of(&examples)?.with_shrinkage(shrinkage)?)
            }
            FittedHead::Nearest(options) => {
                let mut index = ExactIndex::new(examples.dimensions());
                for example in 0..examples.len() {
                    index.insert(example as u64, examples.vector(example))?;
                }
                Form::Nearest { options, index, examples }
            }
            FittedHead::Logistic(head) => Form::Fitted(Box::new(head)),
            FittedHead::Discriminant(head) => Form::Fitted(Box::new(head)),
            FittedHead::Msn(head) => Form::Fitted(Box::new(head)),
        };
        Ok(Self { form })
    }

    /// The class of the largest logit for each of these examples, the lower of equals.
    pub fn answers(&self, examples: &Examples) -> Result<Vec<ClassKey>, Error> {
        let answer = |example| {
            let logits = self.logits(examples.vector(example))?;
            let best = logits.iter().reduce(|best, next| if next.logit > best.logit { next } else { best });
            best.map(|best| best.class).ok_or(Error::TooFewClasses { needed: 1, actual: 0 })
        };
        (0..examples.len()).map(answer).collect()
    }

    /// Whether each of these examples is answered rightly.
    pub fn right(&self, examples: &Examples) -> Result<Vec<bool>, Error> {
        let answers = self.answers(examples)?;
        let truths = examples.labels().iter().map(|&label| examples.classes()[label]);
        Ok(answers.into_iter().zip(truths).map(|(answer, truth)| answer == truth).collect())
    }
}

impl Head for Standalone {
    fn classes(&self) -> Vec<ClassKey> {
        match &self.form {
            Form::Prototype(head) => head.classes(),
            Form::Nearest { examples, .. } => examples.classes().to_vec(),
            Form::Fitted(head) => head.classes(),
        }
    }

    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error> {
        match &self.form {
            Form::Prototype(head) => head.logits(vector),
            Form::Nearest { options, index, examples } => {
                let class_of = |id: u64| Some(examples.classes()[examples.labels()[id as usize]]);
                let classes = examples.classes().iter().copied();
                NearestHead::new(*options, index, &class_of, classes)?.logits(vector)
            }
            Form::Fitted(head) => head.logits(vector),
        }
    }
}
