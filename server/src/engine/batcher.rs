//! Groups waiting crops into batches the encoder can take in one go.

use std::collections::VecDeque;

/// Waiting items in order of arrival.
///
/// Invariants (tested as properties): nothing is lost or doubled; items of one kind leave in the order they came; a
/// batch has 1 to `max` items, all of one kind; the oldest waiting item is always in the next batch, so no kind
/// starves another. The kind is the patch budget: a batch is one call of the encoder, which takes one.
pub struct Batcher<K, T> {
    waiting: VecDeque<(K, T)>,
    max: usize,
}

impl<K: PartialEq, T> Batcher<K, T> {
    /// Batches of at most `max` items (at least 1).
    pub fn new(max: usize) -> Self {
        Self { waiting: VecDeque::new(), max: max.max(1) }
    }

    /// Adds an item behind those that wait.
    pub fn push(&mut self, kind: K, item: T) {
        self.waiting.push_back((kind, item));
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the oldest item and everything behind it of its kind, up to the maximum.
    pub fn next_batch(&mut self) -> Option<(K, Vec<T>)> {
        let (kind, first) = self.waiting.pop_front()?;
        let mut batch = vec![first];
        let mut others = VecDeque::with_capacity(self.waiting.len());
        while let Some((other, item)) = self.waiting.pop_front() {
            if other == kind && batch.len() < self.max {
                batch.push(item);
            } else {
                others.push_back((other, item));
            }
            if batch.len() == self.max {
                others.append(&mut self.waiting);
            }
        }
        self.waiting = others;
        Some((kind, batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_keep_order_lose_nothing_and_never_mix(
            budgets in prop::collection::vec(prop::sample::select(vec![0.25f32, 0.5, 1.0]), 0..200),
            max in 1usize..20,
            drain_after in 1usize..50,
        ) {
            let mut batcher = Batcher::new(max);
            let mut batches = Vec::new();
            for (number, &keep) in budgets.iter().enumerate() {
                batcher.push(keep, (number, keep));
                // Interleave arrivals with batches, as the encoder thread does.
                if number % drain_after == drain_after - 1 {
                    batches.extend(batcher.next_batch());
                }
            }
            while let Some(batch) = batcher.next_batch() {
                batches.push(batch);
            }
            prop_assert!(batcher.is_empty());

            let mut seen: Vec<usize> = Vec::new();
            for (keep, items) in &batches {
                prop_assert!((1..=max).contains(&items.len()));
                prop_assert!(items.iter().all(|(_, item_keep)| item_keep.to_bits() == keep.to_bits()));
                seen.extend(items.iter().map(|(number, _)| number));
            }
            for budget in [0.25f32, 0.5, 1.0] {
                let order: Vec<usize> = seen.iter().copied().filter(|&n| budgets[n].to_bits() == budget.to_bits()).collect();
                prop_assert!(order.is_sorted(), "items of one budget overtook each other: {order:?}");
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..budgets.len()).collect::<Vec<_>>());
        }

        #[test]
        fn the_oldest_item_is_in_the_next_batch(
            budgets in prop::collection::vec(prop::sample::select(vec![0.5f32, 1.0]), 1..50),
            max in 1usize..8,
        ) {
            let mut batcher = Batcher::new(max);
            for (number, &keep) in budgets.iter().enumerate() {
                batcher.push(keep, number);
            }
            let mut waiting: Vec<usize> = (0..budgets.len()).collect();
            while let Some((_, batch)) = batcher.next_batch() {
                prop_assert_eq!(batch[0], waiting[0]);
                waiting.retain(|number| !batch.contains(number));
            }
        }
    }
}
