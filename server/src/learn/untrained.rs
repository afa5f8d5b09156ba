//! What makes the answers of the prototype head reliable: nobody trains it, so it is fitted when an answer needs it.

use super::LearnError;
use super::state::State;
use crate::store::blocking;
use dozen_fewshot::training::Settings;
use dozen_fewshot::{ClassKey, Error, Examples, Pool, Reliability, evenly_spaced};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

/// A collection with more examples is represented by so many, evenly spaced: about a second's work at 384 dimensions.
const MOST_EXAMPLES: usize = 10_000;

/// It is fitted anew when one in so many examples is new or gone, and whenever the classes are others.
const TOLERATED: u64 = 20;

/// The last fit.
#[derive(Default)]
pub(super) struct Untrained {
    /// Held while fitting: who comes meanwhile waits for the same fit.
    kept: tokio::sync::Mutex<Option<Arc<Kept>>>,
}

struct Kept {
    reliability: Arc<Reliability>,
    /// [`State::changes`] and the number of examples at the time.
    changes: u64,
    examples: u64,
    classes: HashSet<ClassKey>,
}

impl Kept {
    fn is_fresh(&self, state: &State) -> bool {
        (state.changes - self.changes) * TOLERATED <= self.examples && self.classes == state.answerable()
    }
}

impl Untrained {
    /// The fit for the collection nearly as it is; `None` while a trained head answers for all classes, or without
    /// examples. Works off the async threads, and holds no lock on the collection while fitting.
    pub(super) async fn get(
        &self,
        state: &Arc<RwLock<State>>,
    ) -> Result<Option<Arc<Reliability>>, LearnError> {
        let mut kept = self.kept.lock().await;
        let (state, last) = (Arc::clone(state), kept.clone());
        let now = blocking(move || now(&state, last)).await??;
        kept.clone_from(&now);
        Ok(now.map(|now| Arc::clone(&now.reliability)))
    }
}

fn now(state: &RwLock<State>, last: Option<Arc<Kept>>) -> Result<Option<Arc<Kept>>, Error> {
    let (labelled, changes, classes) = {
        let state = state.read().unwrap_or_else(PoisonError::into_inner);
        let classes = state.answerable();
        if classes.is_empty() || state.trained.as_ref().is_some_and(|head| head.classes.is_superset(&classes))
        {
            return Ok(None);
        }
        if let Some(fresh) = last.filter(|last| last.is_fresh(&state)) {
            return Ok(Some(fresh));
        }
        (labelled(&state)?, state.changes, classes)
    };
    let settings = Settings::Prototype { shrinkage: 0.0 };
    let held_out = settings.held_out(&labelled, &Pool::default(), &mut |_| ControlFlow::Continue(()))?;
    let reliability = Arc::new(Reliability::fit(&labelled, &held_out)?);
    Ok(Some(Arc::new(Kept { reliability, changes, examples: labelled.len() as u64, classes })))
}

/// The vectors of a collection in the order of their keys, so that a restart changes no answer.
fn labelled(state: &State) -> Result<Examples, Error> {
    let mut keys = state.embedded_examples();
    keys.sort_unstable();
    let positions = evenly_spaced(keys.len(), MOST_EXAMPLES).into_iter();
    let labelled = positions.filter_map(|position| state.labelled_vector(keys[position]));
    Examples::new(state.index.dimensions(), labelled)
}
