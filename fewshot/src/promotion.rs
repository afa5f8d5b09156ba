//! Guarded promotion: a slice of each class that no head is fitted on, and the test a new head must pass there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statistics::fair_coin_tail;
use crate::{ClassKey, Error};

/// A new head is worse if its losses among the answers that differ would come by chance less often than this.
pub const SIGNIFICANCE: f64 = 0.05;

/// One in so many examples of a class is held back, rounded down: never more than a fifth, none of fewer than 5.
const HELD_BACK_SHARE: usize = 5;

/// Which examples are held back, given each one's class and a hash that never changes, of its identifier, say.
///
/// Of a class of n these are the ⌊n/5⌋ with the smallest hashes; equal hashes go by the order given. The choice in a
/// class depends on that class alone, and adding or removing one of its examples changes the fate of at most one other
/// example. Hashes should be spread evenly over all `u64`: the slice is a fair sample exactly if they are.
pub fn held_back(examples: &[(ClassKey, u64)]) -> Vec<bool> {
    let mut classes: BTreeMap<ClassKey, Vec<(u64, usize)>> = BTreeMap::new();
    for (position, &(class, hash)) in examples.iter().enumerate() {
        classes.entry(class).or_default().push((hash, position));
    }
    let mut held_back = vec![false; examples.len()];
    for mut members in classes.into_values() {
        members.sort_unstable();
        for &(_, position) in &members[..members.len() / HELD_BACK_SHARE] {
            held_back[position] = true;
        }
    }
    held_back
}

/// Two heads on the same examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Examples that the head in use answers rightly.
    pub before_right: usize,
    /// Examples that the new head answers rightly.
    pub after_right: usize,
    /// Examples that only the head in use answers rightly.
    pub only_before: usize,
    /// Examples that only the new head answers rightly.
    pub only_after: usize,
    /// Chance of at least `only_before` losses among the answers that differ, were the heads equally good.
    pub p_value: f64,
    /// The new head is worse beyond chance: `p_value` is below [`SIGNIFICANCE`].
    pub worse: bool,
}

/// McNemar's test, exact and one-sided (McNemar 1947): do the examples on which one head is right and the other wrong
/// speak against the new head more than throws of a fair coin would?
///
/// It takes at least 5 such examples to find a head worse; on a slice of fewer every head passes.
/// `before` and `after` say for each example whether that head is right.
pub fn compare(before: &[bool], after: &[bool]) -> Result<Comparison, Error> {
    if before.len() != after.len() {
        return Err(Error::InvalidOption {
            name: "after",
            value: format!("{} answers", after.len()),
            range: "as many answers as before has, about the same examples",
        });
    }
    let count = |wanted: &dyn Fn(bool, bool) -> bool| {
        before.iter().zip(after).filter(|&(&before, &after)| wanted(before, after)).count()
    };
    let only_before = count(&|before, after| before && !after);
    let only_after = count(&|before, after| after && !before);
    let p_value = fair_coin_tail(only_before, only_before + only_after);
    Ok(Comparison {
        before_right: count(&|before, _| before),
        after_right: count(&|_, after| after),
        only_before,
        only_after,
        p_value,
        worse: p_value < SIGNIFICANCE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_hashes_of_a_class_are_held_back() {
        let examples = [(1, 50), (1, 10), (2, 1), (1, 40), (1, 30), (1, 20), (2, 2), (2, 3), (2, 4)];
        let kept = [false, true, false, false, false, false, false, false, false];
        assert_eq!(held_back(&examples), kept);
        assert!(held_back(&[]).is_empty());
    }

    #[test]
    fn a_head_is_worse_beyond_chance_only() {
        let before = [true; 12];
        let mut after = [true; 12];
        after[..4].fill(false);
        let comparison = compare(&before, &after).unwrap();
        assert_eq!((comparison.before_right, comparison.after_right), (12, 8));
        assert_eq!((comparison.only_before, comparison.only_after), (4, 0));
        // scipy.stats.binomtest(4, 4, alternative="greater") and (5, 5, …).
        assert!((comparison.p_value - 0.0625).abs() < 1e-12 && !comparison.worse);
        after[4] = false;
        let comparison = compare(&before, &after).unwrap();
        assert!((comparison.p_value - 0.03125).abs() < 1e-12 && comparison.worse);
        let better = compare(&after, &before).unwrap();
        assert!((better.p_value - 1.0).abs() < 1e-12 && !better.worse);
    }

    #[test]
    fn nothing_to_compare_is_no_loss() {
        assert!(!compare(&[], &[]).unwrap().worse);
        assert!(compare(&[true], &[]).is_err());
    }
}
