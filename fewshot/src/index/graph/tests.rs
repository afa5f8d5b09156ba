use super::*;
use crate::index::testing::clustered;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

/// Cancelled.
static NEVER: AtomicBool = AtomicBool::new(false);

fn extended(graph: &mut Graph, vectors: &[Vec<f32>], threads: usize) {
    let mut codes = Codes::new(vectors[0].len());
    for vector in vectors {
        codes.push(vector);
    }
    let ids: Vec<u64> = (graph.slots() as u64..).take(vectors.len()).collect();
    assert!(graph.extend(codes, &ids, threads, &|_| ControlFlow::Continue(())).is_continue());
}

fn built(vectors: &[Vec<f32>], threads: usize) -> Graph {
    let mut graph = Graph::new(vectors[0].len());
    extended(&mut graph, vectors, threads);
    graph
}

/// Every link of every layer.
fn all_links(graph: &Graph) -> Vec<Vec<Vec<u32>>> {
    let of = |slot| (0..=graph.level(slot)).map(|layer| graph.links(slot, layer).collect()).collect();
    (0..graph.slots() as u32).map(of).collect()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let vectors = clustered(3_000, 24, 1);
    let one = all_links(&built(&vectors, 1));
    for threads in [2, 5] {
        assert_eq!(all_links(&built(&vectors, threads)), one, "{threads} threads");
    }
}

#[test]
fn links_are_of_their_layer_and_never_to_oneself_or_twice() {
    let graph = built(&clustered(3_000, 24, 2), 2);
    assert!(graph.entry.is_some_and(|entry| graph.level(entry) >= 1));
    for (slot, layers) in all_links(&graph).iter().enumerate() {
        for (layer, links) in layers.iter().enumerate() {
            let mut distinct = links.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), links.len());
            assert!(!links.contains(&(slot as u32)));
            assert!(links.iter().all(|&link| graph.level(link) >= layer));
            assert!(layer > 0 || !links.is_empty());
        }
    }
}

/// Classes that come one after the other, as they are labelled: a batch may hold a class that the graph knows nothing of.
#[test]
fn vectors_that_come_sorted_by_class_are_found() {
    let mut vectors = clustered(4_000, 32, 3);
    let classes = 40;
    vectors = (0..classes).flat_map(|class| vectors.iter().skip(class).step_by(classes).cloned()).collect();
    let graph = built(&vectors, 2);
    assert!(graph.measure(2, &NEVER).is_ok_and(|width| width <= 64), "{:?}", graph.measure(2, &NEVER));
}

#[test]
fn a_graph_extended_in_steps_recalls_as_much() {
    let vectors = clustered(4_000, 32, 4);
    let mut graph = built(&vectors[..2_000], 2);
    extended(&mut graph, &vectors[2_000..3_900], 2);
    for vector in &vectors[3_900..] {
        extended(&mut graph, std::slice::from_ref(vector), 2);
    }
    assert!(graph.measure(2, &NEVER).is_ok_and(|width| width <= 64), "{:?}", graph.measure(2, &NEVER));
    for (id, vector) in vectors.iter().enumerate().step_by(50) {
        assert_eq!(graph.search(vector, 24)[0], id as u64);
    }
}

#[test]
fn a_graph_whose_links_lead_nowhere_says_so() {
    let mut graph = built(&clustered(1_000, 16, 5), 2);
    for slot in 0..1_000 {
        graph.set_links(slot, 0, &[]);
    }
    assert!(graph.measure(2, &NEVER).is_err_and(|share| share < 0.2));
}

#[test]
fn equal_vectors_do_not_cut_each_other_off() {
    let mut vectors = clustered(500, 16, 6);
    vectors.extend(std::iter::repeat_n(vectors[0].clone(), 500));
    let graph = built(&vectors, 2);
    assert!(graph.measure(2, &NEVER).is_ok(), "{:?}", graph.measure(2, &NEVER));
    for (id, vector) in vectors.iter().enumerate().take(500).skip(1).step_by(25) {
        assert_eq!(graph.search(vector, 24)[0], id as u64);
    }
}

#[test]
fn a_build_ends_when_it_is_told_to() {
    let mut codes = Codes::new(16);
    for vector in clustered(500, 16, 7) {
        codes.push(&vector);
    }
    let ids: Vec<u64> = (0..500).collect();
    let stop = |linked| if linked < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    assert!(Graph::new(16).extend(codes, &ids, 2, &stop).is_break());
}

#[test]
fn an_empty_graph_finds_nothing() {
    assert!(Graph::new(4).search(&[1.0, 0.0, 0.0, 0.0], 10).is_empty());
}
