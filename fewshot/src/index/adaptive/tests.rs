use super::*;
use crate::index::testing::clustered;

const ANY: &dyn Fn(u64) -> bool = &|_| true;

fn filled(vectors: &[Vec<f32>], threshold: usize) -> AdaptiveIndex {
    let mut index = AdaptiveIndex::with_threshold(vectors[0].len(), threshold);
    for (id, vector) in vectors.iter().enumerate() {
        index.insert(id as u64, vector).unwrap();
    }
    index.settle();
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

fn slots(index: &AdaptiveIndex) -> usize {
    index.graph.as_ref().map_or(0, |usable| usable.graph.slots())
}

/// Waits for the thread, but leaves what it has made where it is.
fn wait(index: &mut AdaptiveIndex) {
    index.build.as_mut().unwrap().wait();
}

#[test]
fn the_graph_recalls_what_the_scan_finds() {
    let vectors = clustered(5_200, 64, 1);
    let (stored, queries) = vectors.split_at(5_000);
    let index = filled(stored, 1);
    assert_eq!(index.status(), Status::Approximate);
    let plain = recall(&index, queries, ANY);
    assert!(plain >= 0.98, "recall@10 is {plain}");
    // Half the vectors: the first search may be wide enough. One in 20: the second. One in 1000: the scan.
    for share in [2, 20, 1000] {
        let filtered = recall(&index, queries, &|id| id % share == 0);
        assert!(filtered >= 0.98, "recall@10 is {filtered} for one in {share}");
    }
}

#[test]
fn writes_during_a_build_are_seen_at_once_and_later() {
    let vectors = clustered(1_200, 16, 2);
    let mut index = AdaptiveIndex::with_threshold(16, 1_000);
    for (id, vector) in vectors[..1_000].iter().enumerate() {
        index.insert(id as u64, vector).unwrap();
    }
    assert!(index.build.is_some());
    let check = |index: &AdaptiveIndex| {
        assert_eq!(index.search(&vectors[1_100], 1, ANY).unwrap()[0].id, 5, "replaced");
        assert_eq!(index.search(&vectors[1_001], 1, ANY).unwrap()[0].id, 1_001, "new");
        assert_eq!(index.search(&vectors[7], 1, ANY).unwrap()[0].id, 7, "removed and put back");
        assert_ne!(index.search(&vectors[6], 1, ANY).unwrap()[0].id, 6, "removed");
        assert_ne!(index.search(&vectors[5], 1, ANY).unwrap()[0].id, 5, "its old vector");
        let hits = index.search(&vectors[7], 40, ANY).unwrap();
        let mut ids: Vec<u64> = hits.iter().map(|hit| hit.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 40, "nothing twice");
    };
    index.insert(5, &vectors[1_100]).unwrap();
    index.insert(1_001, &vectors[1_001]).unwrap();
    index.remove(6);
    index.remove(7);
    index.insert(7, &vectors[7]).unwrap();
    check(&index);
    // Finished, but no write has come by to put the graph in its place.
    wait(&mut index);
    index.threshold = 1;
    assert_eq!(index.status(), Status::Approximate);
    check(&index);
    index.settle();
    assert_eq!((index.status(), slots(&index)), (Status::Approximate, 1_003));
    assert!(index.waiting.is_empty() && index.build.is_none());
    check(&index);
}

#[test]
fn a_finished_graph_takes_what_is_written() {
    let vectors = clustered(600, 16, 3);
    let mut index = filled(&vectors[..500], 100);
    let before = slots(&index);
    for (id, vector) in vectors.iter().enumerate().skip(500) {
        index.insert(id as u64, vector).unwrap();
        assert!(index.waiting.is_empty() && index.build.is_none());
        assert_eq!(index.search(vector, 1, ANY).unwrap()[0].id, id as u64);
    }
    assert_eq!(slots(&index), before + 100);
}

#[test]
fn a_graph_starts_at_the_threshold_and_ends_below_half() {
    let vectors = clustered(400, 16, 4);
    let mut index = filled(&vectors[..199], 200);
    assert_eq!(index.status(), Status::Exact);
    index.insert(199, &vectors[199]).unwrap();
    assert!(matches!(index.status(), Status::Building { total: 200, .. } | Status::Approximate));
    index.settle();
    assert_eq!(index.status(), Status::Approximate);
    for id in 0..101 {
        assert!(index.remove(id));
    }
    assert_eq!(index.status(), Status::Exact);
    assert_eq!((index.len(), slots(&index)), (99, 0));
}

#[test]
fn a_fifth_dead_means_a_rebuild_and_the_old_graph_answers_meanwhile() {
    let vectors = clustered(500, 16, 5);
    let mut index = filled(&vectors, 100);
    assert_eq!(slots(&index), 500);
    for id in 0..100 {
        index.remove(id);
    }
    assert!(index.build.is_none(), "exactly a fifth is dead");
    index.remove(100);
    assert!(index.build.is_some());
    assert_eq!(index.status(), Status::Approximate);
    let plain = recall(&index, &vectors[..100], ANY);
    assert!(plain >= 0.98, "{plain}");
    index.settle();
    assert_eq!(slots(&index), 399);
    let plain = recall(&index, &vectors[..100], ANY);
    assert!(plain >= 0.98, "{plain}");
}

/// A load: the graph is never far behind, and nothing is linked twice.
#[test]
fn many_waiting_vectors_are_linked_by_a_thread() {
    let vectors = clustered(4_000, 16, 6);
    let mut index = filled(&vectors[..500], 100);
    let (codes, ids) = index.vectors.coded(0..1);
    index.build = Some(Build::start(Arc::clone(&index.graph.as_ref().unwrap().graph), codes, ids));
    wait(&mut index);
    // As if it were still at work while all these come.
    let mut build = index.build.take().unwrap();
    for (id, vector) in vectors.iter().enumerate().skip(500) {
        index.vectors.insert_unit(id as u64, vector);
        build.changed.insert(id as u64);
    }
    index.build = Some(build);
    index.maintain();
    assert!(index.build.is_some() && index.waiting.len() == 3_500);
    assert_eq!(index.search(&vectors[3_999], 1, ANY).unwrap()[0].id, 3_999);
    index.settle();
    assert_eq!((index.status(), slots(&index)), (Status::Approximate, 4_001));
    let plain = recall(&index, &vectors[..100], ANY);
    assert!(plain >= 0.98, "{plain}");
}

#[test]
fn an_index_dropped_during_a_build_ends_the_thread() {
    let vectors = clustered(20_000, 32, 7);
    let mut index = AdaptiveIndex::with_threshold(32, vectors.len());
    for (id, vector) in vectors.iter().enumerate() {
        index.insert(id as u64, vector).unwrap();
    }
    let shared = index.build.as_ref().unwrap().watch();
    drop(index);
    assert_eq!(shared.strong_count(), 0, "the thread holds a share as long as it runs");
}

#[test]
fn a_graph_that_recalls_too_little_is_not_used() {
    let vectors = clustered(600, 16, 8);
    let mut index = filled(&vectors[..300], 100);
    index.graph = None;
    index.build = Some(Build::failed("as a test wants it"));
    let exact = |index: &AdaptiveIndex| {
        assert_eq!(index.status(), Status::FallenBack { reason: "as a test wants it".to_owned() });
        for (id, vector) in vectors[..300].iter().enumerate() {
            assert_eq!(index.search(vector, 1, ANY).unwrap()[0].id, id as u64);
        }
    };
    exact(&index);
    index.settle();
    exact(&index);
    for (id, vector) in vectors.iter().enumerate().skip(300) {
        assert!(index.build.is_none());
        index.insert(id as u64, vector).unwrap();
    }
    assert!(index.build.is_some(), "tried again at twice the size");
    index.settle();
    assert_eq!(index.status(), Status::Approximate);
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
