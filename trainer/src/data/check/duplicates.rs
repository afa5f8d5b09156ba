//! Groups of pictures that are the same, or nearly.

use std::collections::HashMap;
use std::hash::Hash;

/// Perceptual hashes that differ in at most this many of their 64 bits are near duplicates.
pub(super) const NEAR: u32 = 3;

/// The 64 bits are cut into this many blocks. Two hashes that differ in at most [`NEAR`] bits agree in three blocks at
/// least, so sorting by each choice of three brings every such pair together: twenty sorts instead of all pairs
/// (Manku, Jain and Das Sarma, Detecting near-duplicates for web crawling, WWW 2007).
const BLOCKS: u32 = 6;

/// Positions with equal keys, two or more each, in order.
pub(super) fn equal<K: Eq + Hash>(keys: impl Iterator<Item = K>) -> Vec<Vec<usize>> {
    let mut groups: HashMap<K, Vec<usize>> = HashMap::new();
    for (position, key) in keys.enumerate() {
        groups.entry(key).or_default().push(position);
    }
    let mut groups: Vec<_> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

/// Positions linked by hashes within [`NEAR`] bits of each other for which `confirm` holds, two or more each, in order.
pub(super) fn near(hashes: &[(usize, u64)], confirm: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut groups = Groups::new(hashes.len());
    for mask in masks() {
        let mut keyed: Vec<(u64, usize)> =
            hashes.iter().enumerate().map(|(place, (_, hash))| (hash & mask, place)).collect();
        keyed.sort_unstable();
        for run in keyed.chunk_by(|a, b| a.0 == b.0) {
            for (offset, &(_, first)) in run.iter().enumerate() {
                for &(_, second) in &run[offset + 1..] {
                    let (one, other) = (hashes[first], hashes[second]);
                    let near = (one.1 ^ other.1).count_ones() <= NEAR;
                    if near && groups.root(first) != groups.root(second) && confirm(one.0, other.0) {
                        groups.join(first, second);
                    }
                }
            }
        }
    }
    let mut found = equal((0..hashes.len()).map(|place| groups.root(place)));
    for group in &mut found {
        for place in group.iter_mut() {
            *place = hashes[*place].0;
        }
        group.sort_unstable();
    }
    found.sort_unstable();
    found
}

/// Every choice of three blocks.
fn masks() -> impl Iterator<Item = u64> {
    let block = |number: u32| {
        let bits = (number * 64 / BLOCKS)..((number + 1) * 64 / BLOCKS);
        bits.fold(0_u64, |mask, bit| mask | 1 << bit)
    };
    (0_u32..1 << BLOCKS).filter(|choice| choice.count_ones() == BLOCKS - NEAR).map(move |choice| {
        (0..BLOCKS).filter(|number| choice >> number & 1 == 1).fold(0, |mask, number| mask | block(number))
    })
}

/// Disjoint sets.
struct Groups(Vec<usize>);

impl Groups {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.0[place] != place {
            self.0[place] = self.0[self.0[place]];
            place = self.0[place];
        }
        place
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::order::{Purpose, keyed_rng};
    use rand::Rng as _;

    #[test]
    fn near_pairs_are_found_wherever_their_bits_differ() {
        let mut rng = keyed_rng(3, Purpose::Shuffle, 0, 0, 0);
        let mut hashes: Vec<u64> = (0..400).map(|_| rng.random()).collect();
        for original in 0..200 {
            let mut copy = hashes[original];
            let flips = original as u32 % 5;
            while (copy ^ hashes[original]).count_ones() < flips {
                copy ^= 1 << rng.random_range(0..64);
            }
            hashes.push(copy);
        }
        let numbered: Vec<_> = hashes.iter().copied().enumerate().collect();
        let found = near(&numbered, |_, _| true);
        // Against all pairs.
        let mut expected = Vec::new();
        for (one, hash) in hashes.iter().enumerate() {
            for (other, second) in hashes.iter().enumerate().skip(one + 1) {
                if (hash ^ second).count_ones() <= NEAR {
                    expected.push(vec![one, other]);
                }
            }
        }
        assert_eq!(expected.len(), 160);
        assert_eq!(found, expected);
        assert!(near(&numbered, |_, _| false).is_empty());
    }

    #[test]
    fn chains_make_one_group() {
        let hashes = [(7, 0b0), (1, 0b111), (4, 0b11_1111), (9, u64::MAX)];
        assert_eq!(near(&hashes, |_, _| true), [[1, 4, 7]]);
        assert_eq!(equal(["a", "b", "a", "c", "b"].iter()), [[0, 2], [1, 4]]);
    }
}
