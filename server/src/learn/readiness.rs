//! Have enough examples been labelled?

use super::labelled::LabelledSet;
use super::trained::TrainedHead;
use super::{ClassReadiness, HeadUsed, LearnError, Learner, Readiness, name};
use crate::store::blocking;
use dozen_fewshot::heads::MsnHead;
use dozen_fewshot::readiness::{self, Accuracy, Point};
use dozen_fewshot::{Error, Examples, Pool, evenly_spaced};
use std::ops::ControlFlow;

/// A collection with more examples is represented by so many, evenly spaced, so that the answer takes seconds at most.
const MOST_EXAMPLES: usize = 5_000;
/// Random orders that a learning curve is averaged over.
const REPEATS: usize = 16;

/// What is judged, before classes have names.
struct Judged {
    known: readiness::Readiness,
    curves: Vec<Vec<Point>>,
}

impl Learner {
    /// Accuracy on examples left out, by the method and the numbers of the head in use, and what `more` examples of each
    /// class should bring. Works off the async threads, one call at a time in a collection.
    pub async fn readiness(&self, collection: &str, more: usize) -> Result<Readiness, LearnError> {
        name::check(collection)?;
        let core = self.core();
        let _turn = core.advising(collection).await;
        let labelled = LabelledSet::read(&core, collection).await?.vectors;
        let current = core.active_head(collection).await?;
        let pool = core.pool(collection, MsnHead::MAX_POOL).await?.pool;
        let head = HeadUsed::of(current.as_deref());
        let examples = labelled.len();
        let judged = blocking(move || judge(&labelled, current.as_deref(), &pool)).await??;
        core.read(collection, move |state| {
            let slug = |class| state.slug(class).map(str::to_owned);
            let classes = judged.known.classes.iter().zip(judged.curves).filter_map(|(class, curve)| {
                // A class may have been deleted meanwhile.
                let name = slug(class.class)?;
                let forecast = class.forecast(&curve, more);
                Some(ClassReadiness {
                    verdict: readiness::verdict(&name, class, forecast.as_ref()),
                    class: name,
                    examples: class.examples,
                    accuracy: class.accuracy,
                    taken_for: class
                        .taken_for
                        .iter()
                        .filter_map(|(other, count)| Some((slug(*other)?, *count)))
                        .collect(),
                    curve,
                    forecast,
                })
            });
            let classes: Vec<ClassReadiness> = classes.collect();
            let overall = judged.known.overall;
            Readiness { head, examples, overall, verdict: verdict(&overall, &classes), classes }
        })
        .await
        .map_err(LearnError::from)
    }
}

fn judge(labelled: &Examples, current: Option<&TrainedHead>, pool: &Pool) -> Result<Judged, Error> {
    let examples = labelled.subset(&evenly_spaced(labelled.len(), MOST_EXAMPLES));
    let go_on = &mut |_| ControlFlow::Continue(());
    // One class has no other to be taken for: any method but class means refuses.
    let settings = TrainedHead::settings_of(current.filter(|_| examples.classes().len() > 1));
    let held_out = settings.held_out(&examples, pool, go_on)?;
    let known = readiness::Readiness::new(&examples, &held_out);
    let curves = readiness::learning_curves(&examples, REPEATS, 0, go_on)?;
    Ok(Judged { known, curves })
}

/// One sentence on all classes.
fn verdict(overall: &Accuracy, classes: &[ClassReadiness]) -> String {
    let Some(share) = overall.share() else {
        return "nothing can be judged yet: label a second example of some class".to_owned();
    };
    if classes.len() < 2 {
        return "there is one class only: label examples of another".to_owned();
    }
    let judged = classes.iter().filter_map(|class| Some((class.accuracy.share()?, class)));
    let weakest = judged.reduce(|least, next| if next.0 < least.0 { next } else { least });
    let weakest = weakest.map_or_else(String::new, |(share, class)| {
        format!("; the weakest class is {} with {share:.2}", class.class)
    });
    let (low, high) = (overall.interval.low, overall.interval.high);
    format!("{share:.2} of the examples are answered rightly when left out ({low:.2} to {high:.2}){weakest}")
}
