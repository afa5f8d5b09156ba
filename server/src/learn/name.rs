//! Names that callers choose.

use super::LearnError;

/// Longest name in bytes.
const MAXIMUM_LENGTH: usize = 64;

/// Checks the name of a collection or class: `[a-z0-9][a-z0-9._-]{0,63}`, or a ULID as this server makes them.
pub(super) fn check(name: &str) -> Result<(), LearnError> {
    if is_slug(name) || is_ulid(name) {
        Ok(())
    } else {
        Err(LearnError::InvalidName { name: name.to_owned() })
    }
}

fn is_slug(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = |byte: u8| first(byte) || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= MAXIMUM_LENGTH && name.bytes().next().is_some_and(first) && name.bytes().all(rest)
}

fn is_ulid(name: &str) -> bool {
    name.parse::<ulid::Ulid>().is_ok_and(|id| id.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_slug() {
        let too_long = "a".repeat(65);
        for name in ["", ".a", "-a", "_a", "A", "a/b", "a b", "ä", "a\0", "../x", too_long.as_str()] {
            assert!(check(name).is_err(), "{name:?}");
        }
        // Lower case and out of range: not the canonical spelling of any ULID, and too long or not a slug otherwise.
        assert!(check("81ARZ3NDEKTSV4RRFFQ69G5FAV").is_err());
    }

    proptest! {
        #[test]
        fn accepts_every_slug(name in "[a-z0-9][a-z0-9._-]{0,63}") {
            prop_assert!(check(&name).is_ok());
        }

        #[test]
        fn accepts_every_ulid(value in any::<u128>()) {
            let name = ulid::Ulid::from(value).to_string();
            prop_assert!(check(&name).is_ok());
        }
    }
}
