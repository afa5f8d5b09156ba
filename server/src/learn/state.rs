//! A collection in memory: class table, index and heads. Everything here can be rebuilt from the store, and is, with the
//! same changes that writes apply.

use super::trained::TrainedHead;
use super::{Class, LearnError};
use crate::store::StoreError;
use crate::store::classes::ClassRow;
use dozen_fewshot::ClassKey;
use dozen_fewshot::heads::{Head, PrototypeHead};
use dozen_fewshot::index::{AdaptiveIndex, VectorIndex};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use ulid::Ulid;

/// One step of a write, applied after its transaction. Keys are those of the rows.
pub(crate) enum Change {
    /// The collection has a row now.
    Collection { key: i64 },
    /// A class is new or was changed.
    Class(ClassRow),
    /// A class and all its examples are gone.
    ClassGone { class: i64 },
    /// An example is live now.
    Enter { example: i64, id: String, class: i64, vector: Option<Vec<f32>> },
    /// A live example got the vector it lacked.
    Vector { example: i64, vector: Vec<f32> },
    /// An example is not live any more.
    Leave { example: i64, vector: Option<Vec<f32>> },
    /// Another head answers; `None` is the prototype head.
    Head(Option<Arc<TrainedHead>>),
}

/// A live class.
struct ClassEntry {
    row: ClassRow,
    count: usize,
}

/// A live example.
pub(super) struct ExampleEntry {
    pub(super) id: Ulid,
    pub(super) class: ClassKey,
    /// Is in index and prototypes.
    embedded: bool,
}

/// A collection in memory.
pub(crate) struct State {
    /// The collection's row; `None` until the first write.
    pub(super) key: Option<i64>,
    classes: BTreeMap<ClassKey, ClassEntry>,
    slugs: HashMap<String, ClassKey>,
    pub(super) examples: HashMap<u64, ExampleEntry>,
    pub(super) index: AdaptiveIndex,
    pub(super) prototypes: PrototypeHead,
    pub(super) trained: Option<Arc<TrainedHead>>,
    /// Counts the vectors that came and went.
    pub(super) changes: u64,
}

impl State {
    /// Without anything.
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            key: None,
            classes: BTreeMap::new(),
            slugs: HashMap::new(),
            examples: HashMap::new(),
            index: AdaptiveIndex::new(dimensions),
            prototypes: PrototypeHead::new(dimensions),
            trained: None,
            changes: 0,
        }
    }

    /// Numbers of live classes and examples.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.classes.len(), self.examples.len())
    }

    /// The class a slug names.
    pub(crate) fn class_key(&self, slug: &str) -> Option<ClassKey> {
        self.slugs.get(slug).copied()
    }

    /// A class as callers see it.
    pub(super) fn class(&self, key: ClassKey) -> Option<Class> {
        self.classes.get(&key).map(ClassEntry::public)
    }

    /// The slug of a live class.
    pub(super) fn slug(&self, key: ClassKey) -> Option<&str> {
        self.classes.get(&key).map(|entry| entry.row.slug.as_str())
    }

    /// Up to `limit` classes after a key, in order of creation, with their keys.
    pub(super) fn classes_after(&self, after: Option<i64>, limit: usize) -> Vec<(i64, Class)> {
        let start = after.map_or(0, |key| class_key(key) + 1);
        self.classes.range(start..).take(limit).map(|(_, entry)| (entry.row.key, entry.public())).collect()
    }

    /// The classes that can be answered with: those with at least one embedded example.
    pub(super) fn answerable(&self) -> HashSet<ClassKey> {
        self.prototypes.classes().into_iter().collect()
    }

    /// Live examples with a vector.
    pub(super) fn embedded_examples(&self) -> Vec<u64> {
        self.examples.iter().filter(|(_, entry)| entry.embedded).map(|(key, _)| *key).collect()
    }

    /// The class and vector of a live example that has one.
    pub(super) fn labelled_vector(&self, example: u64) -> Option<(ClassKey, &[f32])> {
        Some((self.examples.get(&example)?.class, self.index.vector(example)?))
    }

    /// Applies one step. On an error the state is to be rebuilt from the store.
    pub(super) fn apply(&mut self, change: Change) -> Result<(), LearnError> {
        match change {
            Change::Collection { key } => self.key = Some(key),
            Change::Class(row) => self.set_class(row),
            Change::ClassGone { class } => self.remove_class(class_key(class)),
            Change::Enter { example, id, class, vector } => {
                self.enter(example as u64, &id, class_key(class))?;
                if let Some(vector) = vector {
                    self.embed(example as u64, &vector)?;
                }
            }
            Change::Vector { example, vector } => self.embed(example as u64, &vector)?,
            Change::Leave { example, vector } => self.leave(example as u64, vector.as_deref())?,
            Change::Head(trained) => self.trained = trained,
        }
        Ok(())
    }

    fn set_class(&mut self, row: ClassRow) {
        let key = class_key(row.key);
        self.slugs.insert(row.slug.clone(), key);
        match self.classes.get_mut(&key) {
            Some(entry) => {
                if entry.row.slug != row.slug {
                    self.slugs.remove(&entry.row.slug);
                }
                entry.row = row;
            }
            None => {
                self.classes.insert(key, ClassEntry { row, count: 0 });
            }
        }
    }

    fn remove_class(&mut self, class: ClassKey) {
        if let Some(entry) = self.classes.remove(&class) {
            self.slugs.remove(&entry.row.slug);
        }
        let gone: Vec<u64> =
            self.examples.iter().filter(|(_, entry)| entry.class == class).map(|(key, _)| *key).collect();
        for example in gone {
            self.examples.remove(&example);
            self.index.remove(example);
        }
        self.prototypes.remove_class(class);
        self.changes += 1;
    }

    fn enter(&mut self, example: u64, id: &str, class: ClassKey) -> Result<(), StoreError> {
        let Some(entry) = self.classes.get_mut(&class) else {
            return Err(StoreError::Damaged(format!("the class of example {id} is missing")));
        };
        let Ok(id) = id.parse() else {
            return Err(StoreError::Damaged(format!("`{id}` is not the id of an example")));
        };
        if self.examples.insert(example, ExampleEntry { id, class, embedded: false }).is_none() {
            entry.count += 1;
        }
        Ok(())
    }

    fn embed(&mut self, example: u64, vector: &[f32]) -> Result<(), LearnError> {
        if let Some(entry) = self.examples.get_mut(&example)
            && !entry.embedded
        {
            self.index.insert(example, vector)?;
            self.prototypes.add(entry.class, vector)?;
            entry.embedded = true;
            self.changes += 1;
        }
        Ok(())
    }

    fn leave(&mut self, example: u64, vector: Option<&[f32]>) -> Result<(), LearnError> {
        let Some(entry) = self.examples.remove(&example) else { return Ok(()) };
        if let Some(class) = self.classes.get_mut(&entry.class) {
            class.count -= 1;
        }
        if entry.embedded {
            self.index.remove(example);
            let missing = || StoreError::Damaged(format!("the vector of example {} is missing", entry.id));
            self.prototypes.remove(entry.class, vector.ok_or_else(missing)?)?;
            self.changes += 1;
        }
        Ok(())
    }
}

impl ClassEntry {
    fn public(&self) -> Class {
        Class {
            id: self.row.slug.clone(),
            name: self.row.name.clone(),
            count: self.count,
            revision: self.row.revision,
            created_at: self.row.created_at.clone(),
        }
    }
}

/// A row's key as the heads use it; keys count from 1.
pub(crate) fn class_key(key: i64) -> ClassKey {
    key as ClassKey
}
