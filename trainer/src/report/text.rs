//! Numbers for people.

/// Four significant digits, without trailing zeros; powers of ten where there would be many zeros.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { value.to_string() };
    }
    let size = value.abs().log10().floor();
    if !(-3.0..6.0).contains(&size) {
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trim(digits));
    }
    let places = (3.0 - size).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { trim(&text).to_owned() } else { text }
}

fn trim(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A whole number with commas between the thousands.
pub fn thousands(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_enough() {
        for (value, text) in [
            (0.0, "0"),
            (0.2, "0.2"),
            (1.0, "1"),
            (0.123_456, "0.1235"),
            (-12.345_6, "-12.35"),
            (1234.56, "1235"),
            (1e-6, "1e-6"),
            (0.000_125, "1.25e-4"),
            (0.996, "0.996"),
            (2_500_000.0, "2.5e6"),
            (0.6 + 0.000_000_000_1, "0.6"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(21_665_664), "21,665,664");
        assert_eq!(percent(0.0512), "5.1 %");
    }
}
