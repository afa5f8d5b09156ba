use super::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ANY: &dyn Fn(u64) -> bool = &|_| true;

/// Unit vectors around random centres, as embeddings of classes lie; a centre per hundred.
fn clustered(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut gaussian = move |spread: f32| -> Vec<f32> {
        let uniform_sum = |rng: &mut ChaCha8Rng| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        (0..dimensions).map(|_| spread * uniform_sum(&mut rng)).collect()
    };
    let centres: Vec<_> = (0..count.div_ceil(100)).map(|_| gaussian(1.0)).collect();
    (0..count)
        .map(|i| {
            let noise = gaussian(0.7);
            let vector: Vec<f32> =
                centres[i % centres.len()].iter().zip(&noise).map(|(c, n)| c + n).collect();
            unit(&vector, dimensions).unwrap()
        })
        .collect()
}

fn filled(vectors: &[Vec<f32>], threshold: usize) -> AdaptiveIndex {
    let mut index = AdaptiveIndex::with_threshold(vectors[0].len(), threshold);
    for (id, vector) in vectors.iter().enumerate() {
        index.insert(id as u64, vector).unwrap();
    }
    index
}

fn recall(index: &AdaptiveIndex, queries: &[Vec<f32>], accept: &dyn Fn(u64) -> bool) -> f64 {
    let (mut found, mut all) = (0, 0);
    for query in queries {
        let truth = index.vectors.search(query, 10, accept).unwrap();
        let answer = index.search(query, 10, accept).unwrap();
        assert_eq!(answer.len(), truth.len());
        assert!(answer.iter().all(|hit| accept(hit.id)));
        assert!(answer.is_sorted_by(|a, b| nearest_first(a, b).is_lt()));
        all += truth.len();
        found += truth.iter().filter(|hit| answer.contains(hit)).count();
    }
    found as f64 / all as f64
}

#[test]
fn the_graph_recalls_what_the_scan_finds() {
    let vectors = clustered(5_200, 64, 1);
    let (stored, queries) = vectors.split_at(5_000);
    let index = filled(stored, 1);
    assert_eq!(index.status(), Status::Approximate);
    let plain = recall(&index, queries, ANY);
    assert!(plain >= 0.98, "recall@10 is {plain}");
    // Half the vectors: the first search is wide enough. One in 50: the second. One in 1000: the scan.
    for share in [2, 50, 1000] {
        let filtered = recall(&index, queries, &|id| id % share == 0);
        assert!(filtered >= 0.98, "recall@10 is {filtered} for one in {share}");
    }
}

#[test]
fn equal_writes_build_equal_graphs() {
    let vectors = clustered(700, 16, 2);
    let (first, second) = (filled(&vectors, 100), filled(&vectors, 100));
    let (State::Ready { graph: a, .. }, State::Ready { graph: b, .. }) = (&first.state, &second.state) else {
        panic!("{:?} {:?}", first.status(), second.status());
    };
    for vector in &vectors {
        assert_eq!(a.candidates(vector, 20), b.candidates(vector, 20));
    }
}

#[test]
fn a_graph_starts_at_the_threshold_grows_by_steps_and_ends_below_half() {
    let vectors = clustered(400, 16, 3);
    let mut index = AdaptiveIndex::with_threshold(16, 200);
    let mut before = 0;
    for (id, vector) in vectors.iter().enumerate() {
        index.insert(id as u64, vector).unwrap();
        match index.status() {
            Status::Exact => assert!(id + 1 < 200),
            Status::Building { linked, total } => {
                assert!(id + 1 >= 200 && total == id + 1);
                assert!(linked - before <= BUILD_STEP + 1);
                before = linked;
            }
            Status::Approximate => assert!(id > 200 + 200 / (BUILD_STEP + 1)),
            Status::FallenBack { reason } => panic!("{reason}"),
        }
    }
    assert_eq!(index.status(), Status::Approximate);
    for id in 0..301 {
        assert!(index.remove(id));
    }
    assert_eq!(index.status(), Status::Exact);
    assert_eq!(index.len(), 99);
}

#[test]
fn a_fifth_dead_means_a_rebuild() {
    let vectors = clustered(500, 16, 4);
    let mut index = filled(&vectors, 100);
    let State::Ready { graph, .. } = &index.state else { panic!("{:?}", index.status()) };
    assert_eq!((graph.len(), graph.slots()), (500, 500));
    for id in 0..100 {
        index.remove(id);
    }
    assert_eq!(index.status(), Status::Approximate, "exactly a fifth is dead");
    index.remove(100);
    assert_eq!(index.status(), Status::Building { linked: BUILD_STEP, total: 399 });
    // Removals and insertions of ids still pending must not confuse the build.
    for id in 101..130 {
        index.remove(id);
        index.insert(id, &vectors[0]).unwrap();
    }
    assert_eq!(index.status(), Status::Approximate);
    let State::Ready { graph, .. } = &index.state else { panic!("{:?}", index.status()) };
    assert_eq!(graph.len(), 399);
    assert!((graph.slots() - graph.len()) * 5 <= graph.slots());
    let hits = index.search(&vectors[0], 29, ANY).unwrap();
    assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), (101..130).collect::<Vec<_>>());
    assert!(hits.iter().all(|hit| (hit.similarity - 1.0).abs() < 1e-6));
}

#[test]
fn a_graph_that_misses_its_own_vectors_is_not_used() {
    let vectors = clustered(300, 16, 5);
    let mut index = filled(&vectors, 100);
    // Every id under a vector that is not its own.
    let mut wrong = HnswGraph::new(300);
    for (id, vector) in clustered(300, 16, 6).iter().enumerate() {
        wrong.insert(id as u64, vector);
    }
    index.state = index.probe(wrong);
    let Status::FallenBack { reason } = index.status() else { panic!("{:?}", index.status()) };
    assert!(reason.contains("of 100 stored vectors found themselves"), "{reason}");
    for (id, vector) in vectors.iter().enumerate() {
        assert_eq!(index.search(vector, 1, ANY).unwrap()[0].id, id as u64);
    }
    for (id, vector) in clustered(300, 16, 7).iter().enumerate() {
        index.insert(300 + id as u64, vector).unwrap();
    }
    assert!(matches!(index.status(), Status::Building { .. }), "tried again at twice the size");
}

#[test]
fn a_graph_that_panics_is_not_used() {
    let vectors = clustered(300, 16, 8);
    let mut index = filled(&vectors, 100);
    let mut foreign = HnswGraph::new(1);
    foreign.insert(0, &[1.0, 0.0, 0.0]);
    index.state = State::Ready { graph: foreign, probe_at: usize::MAX };
    assert_eq!(index.search(&vectors[7], 1, ANY).unwrap()[0].id, 7);
    assert!(matches!(index.status(), Status::FallenBack { .. }));
    index.insert(300, &vectors[7]).unwrap();
    assert!(matches!(&index.state, State::Refused { retry_at: 602, .. }));
    let ids: Vec<_> = index.search(&vectors[7], 2, ANY).unwrap().iter().map(|hit| hit.id).collect();
    assert_eq!(ids, [7, 300]);
}

#[test]
fn many_equal_vectors_are_all_found() {
    let mut vectors = clustered(300, 16, 9);
    vectors.extend(std::iter::repeat_n(vectors[0].clone(), 200));
    let index = filled(&vectors, 50);
    let hits = index.search(&vectors[0], 5, ANY).unwrap();
    assert!(hits.iter().all(|hit| (hit.similarity - 1.0).abs() < 1e-6), "{hits:?} {:?}", index.status());
}

#[test]
fn bad_vectors_are_refused_and_change_nothing() {
    let vectors = clustered(120, 16, 10);
    let mut index = filled(&vectors, 50);
    let mut bad = vectors[0].clone();
    bad[3] = f32::NAN;
    assert_eq!(index.insert(5, &bad), Err(Error::NotFinite { position: 3 }));
    assert_eq!(index.search(&bad, 1, ANY), Err(Error::NotFinite { position: 3 }));
    assert_eq!(index.insert(5, &[1.0]), Err(Error::Dimensions { expected: 16, actual: 1 }));
    assert_eq!(index.search(&[0.0; 16], 1, ANY), Err(Error::ZeroVector));
    assert!(!index.remove(500));
    assert_eq!(index.search(&vectors[5], 1, ANY).unwrap()[0].id, 5);
    assert_eq!(index.len(), 120);
}
