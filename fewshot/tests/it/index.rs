//! Sequences of writes against a list that is scanned.

use dozen_fewshot::index::{AdaptiveIndex, ExactIndex, Hit, Status, VectorIndex};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const DIMENSIONS: usize = 6;

#[derive(Clone, Debug)]
enum Write {
    Insert(u64, Vec<f32>),
    Remove(u64),
}

/// Few ids, so that replacing and removing what is there happen often.
fn writes() -> impl Strategy<Value = Vec<Write>> {
    let vector = prop::collection::vec(-1.0f32..1.0, DIMENSIONS)
        .prop_filter("has a direction", |vector| vector.iter().any(|x| x.abs() > 1e-3));
    let write = prop_oneof![
        3 => (0u64..80, vector).prop_map(|(id, vector)| Write::Insert(id, vector)),
        1 => (0u64..80).prop_map(Write::Remove),
    ];
    prop::collection::vec(write, 1..200)
}

fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What an index must do, in the plainest way.
#[derive(Default)]
struct Model(Vec<(u64, Vec<f32>)>);

impl Model {
    fn remove(&mut self, id: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| *other != id);
        self.0.len() < before
    }

    fn search(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Vec<Hit> {
        let mut hits: Vec<Hit> = self
            .0
            .iter()
            .filter(|(id, _)| accept(*id))
            .map(|(id, vector)| Hit { id: *id, similarity: cosine(vector, query) })
            .collect();
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.id.cmp(&b.id)));
        hits.truncate(k);
        hits
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum() };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

fn apply(index: &mut dyn VectorIndex, model: &mut Model, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Insert(id, vector) => {
                index.insert(*id, vector).unwrap();
                model.remove(*id);
                model.0.push((*id, vector.clone()));
            }
            Write::Remove(id) => assert_eq!(index.remove(*id), model.remove(*id)),
        }
        assert_eq!(index.len(), model.0.len());
        assert_eq!(index.is_empty(), model.0.is_empty());
    }
}

/// Equal but for rounding, which may also swap hits that are as near as rounding.
fn same(ours: &[Hit], expected: &[Hit]) -> bool {
    ours.len() == expected.len()
        && ours.iter().zip(expected).all(|(a, b)| (a.similarity - b.similarity).abs() < 1e-5)
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn the_exact_index_behaves_like_a_list(
        writes in writes(),
        query in prop::collection::vec(0.1f32..1.0, DIMENSIONS),
        k in 0usize..12,
    ) {
        let (mut index, mut model) = (ExactIndex::new(DIMENSIONS), Model::default());
        apply(&mut index, &mut model, &writes);
        for accept in [&(|_| true) as &dyn Fn(u64) -> bool, &|id| id % 3 == 0, &|_| false] {
            let ours = index.search(&query, k, accept).unwrap();
            let expected = model.search(&query, k, accept);
            prop_assert!(same(&ours, &expected), "{:?} {:?}", ours, expected);
            prop_assert!(ours.iter().all(|hit| accept(hit.id)));
        }
    }

    /// The graph may miss a vector; whatever answers, cosines, order, number and filter are right.
    #[test]
    fn the_adaptive_index_behaves_like_a_list_in_every_state(
        writes in writes(),
        query in prop::collection::vec(0.1f32..1.0, DIMENSIONS),
        k in 0usize..12,
        threshold in 0usize..60,
    ) {
        let (mut index, mut model) = (AdaptiveIndex::with_threshold(DIMENSIONS, threshold), Model::default());
        for (turn, chunk) in writes.chunks(25).enumerate() {
            apply(&mut index, &mut model, chunk);
            if turn % 2 == 1 {
                index.settle();
            }
            for accept in [&(|_| true) as &dyn Fn(u64) -> bool, &|id| id % 3 == 0, &|_| false] {
                let ours = index.search(&query, k, accept).unwrap();
                let expected = model.search(&query, k, accept);
                prop_assert_eq!(ours.len(), expected.len());
                if index.status() != Status::Approximate {
                    prop_assert!(same(&ours, &expected), "{:?} {:?} {:?}", index.status(), ours, expected);
                }
                let nearest_first = |a: &Hit, b: &Hit| {
                    a.similarity > b.similarity || (a.similarity >= b.similarity && a.id < b.id)
                };
                prop_assert!(ours.is_sorted_by(nearest_first));
                for hit in ours {
                    prop_assert!(accept(hit.id));
                    let stored = model.0.iter().find(|(id, _)| *id == hit.id);
                    prop_assert!(stored.is_some_and(|(_, v)| (cosine(v, &query) - hit.similarity).abs() < 1e-5));
                }
            }
        }
    }

    #[test]
    fn what_comes_and_goes_leaves_exact_answers_as_they_were(
        writes in writes(),
        passing in prop::collection::vec(prop::collection::vec(0.1f32..1.0, DIMENSIONS), 1..40),
        query in prop::collection::vec(0.1f32..1.0, DIMENSIONS),
    ) {
        let (mut index, mut model) = (ExactIndex::new(DIMENSIONS), Model::default());
        apply(&mut index, &mut model, &writes);
        let before = index.search(&query, 20, &|_| true).unwrap();
        for (id, vector) in (1000..).zip(&passing) {
            index.insert(id, vector).unwrap();
        }
        for (id, _) in (1000..).zip(&passing) {
            prop_assert!(index.remove(id));
        }
        prop_assert_eq!(index.search(&query, 20, &|_| true).unwrap(), before);
    }

    #[test]
    fn the_order_of_insertion_changes_no_exact_answer(
        vectors in prop::collection::vec(prop::collection::vec(0.1f32..1.0, DIMENSIONS), 1..120),
        query in prop::collection::vec(0.1f32..1.0, DIMENSIONS),
        order in any::<prop::sample::Index>(),
    ) {
        let (mut one, mut other) = (ExactIndex::new(DIMENSIONS), ExactIndex::new(DIMENSIONS));
        for (id, vector) in (0..).zip(&vectors) {
            one.insert(id, vector).unwrap();
        }
        let mut rotated: Vec<(u64, &Vec<f32>)> = (0..).zip(&vectors).collect();
        rotated.reverse();
        rotated.rotate_left(order.index(vectors.len()));
        for (id, vector) in rotated {
            other.insert(id, vector).unwrap();
        }
        prop_assert_eq!(one.search(&query, 20, &|_| true), other.search(&query, 20, &|_| true));
    }
}
