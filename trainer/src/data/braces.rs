//! Brace patterns: `shard-{000..012}.tar` names thirteen files, as in bash.

/// The names a pattern stands for, in order; `None` where it holds no well-formed pair of braces.
pub(super) fn expand(pattern: &str) -> Option<Vec<String>> {
    let open = pattern.find('{')?;
    let close = open + pattern[open..].find('}')?;
    let (head, inside, tail) = (&pattern[..open], &pattern[open + 1..close], &pattern[close + 1..]);
    let middles = match inside.split_once("..") {
        Some((first, last)) => range(first, last)?,
        None if inside.contains(',') => inside.split(',').map(str::to_owned).collect(),
        None => return None,
    };
    let tails = expand(tail).unwrap_or_else(|| vec![tail.to_owned()]);
    Some(
        middles
            .iter()
            .flat_map(|middle| tails.iter().map(move |tail| format!("{head}{middle}{tail}")))
            .collect(),
    )
}

/// More files than anybody names; a slip of the keyboard must not fill the memory.
const MOST: u64 = 1_000_000;

/// `000..012`: numbers as wide as the wider end.
fn range(first: &str, last: &str) -> Option<Vec<String>> {
    let (low, high): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let width = if first.starts_with('0') || last.starts_with('0') { first.len().max(last.len()) } else { 0 };
    (low <= high && high - low < MOST)
        .then(|| (low..=high).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_width_and_combine() {
        assert_eq!(expand("s-{008..010}.tar").unwrap(), ["s-008.tar", "s-009.tar", "s-010.tar"]);
        assert_eq!(expand("{9..10}").unwrap(), ["9", "10"]);
        assert_eq!(expand("{a,b}/{0..1}").unwrap(), ["a/0", "a/1", "b/0", "b/1"]);
    }

    #[test]
    fn anything_else_is_a_plain_name() {
        for name in ["plain.tar", "{}.tar", "{a}.tar", "{3..1}", "{x..y}", "{0..99999999999}", "}{"] {
            assert_eq!(expand(name), None, "{name}");
        }
    }
}
