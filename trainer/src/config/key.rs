//! What is known of one key.

use std::fmt;

/// One key.
pub(super) struct Key {
    /// `section.key`.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) bounds: Bounds,
    /// What it does.
    pub(super) about: &'static str,
    /// Where that is from, as far as it is not our own.
    pub(super) source: Option<&'static str>,
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Count,
    Number,
    /// Lower and upper end of a range.
    Pair,
    /// One of a few words.
    Word(&'static [&'static str]),
}

/// What a number may be.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    low: f64,
    low_allowed: bool,
    high: f64,
    high_allowed: bool,
}

impl Kind {
    /// For people, as in "must be …".
    pub(super) fn name(self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Count => "a whole number".into(),
            Self::Number => "a number".into(),
            Self::Pair => "two numbers, the smaller first".into(),
            Self::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
        }
    }
}

impl Bounds {
    pub(super) fn allow(self, value: f64) -> bool {
        let above = value > self.low || (self.low_allowed && value >= self.low);
        let below = value < self.high || (self.high_allowed && value <= self.high);
        value.is_finite() && above && below
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = format!("{} {}", if self.low_allowed { "at least" } else { "above" }, self.low);
        let high = format!("{} {}", if self.high_allowed { "at most" } else { "below" }, self.high);
        match (self.low.is_finite(), self.high.is_finite()) {
            (true, true) => write!(formatter, "{low}, {high}"),
            (true, false) => formatter.write_str(&low),
            (false, true) => formatter.write_str(&high),
            (false, false) => formatter.write_str("finite"),
        }
    }
}

pub(super) const fn at_least(low: f64) -> Bounds {
    Bounds { low, low_allowed: true, high: f64::INFINITY, high_allowed: false }
}

pub(super) const fn above(low: f64) -> Bounds {
    Bounds { low_allowed: false, ..at_least(low) }
}

pub(super) const fn between(low: f64, high: f64) -> Bounds {
    Bounds { low, low_allowed: true, high, high_allowed: true }
}

pub(super) const SHARE: Bounds = between(0.0, 1.0);
pub(super) const POSITIVE_SHARE: Bounds = Bounds { low_allowed: false, ..SHARE };
pub(super) const SHARE_BELOW_ONE: Bounds = Bounds { high_allowed: false, ..SHARE };
pub(super) const NO_BOUNDS: Bounds = between(f64::NEG_INFINITY, f64::INFINITY);

/// A key of our own.
pub(super) const fn key(path: &'static str, kind: Kind, bounds: Bounds, about: &'static str) -> Key {
    Key { path, kind, bounds, about, source: None }
}

impl Key {
    /// Type and bounds, as in "must be …".
    pub(super) fn allowed(&self) -> String {
        match self.kind {
            Kind::Flag | Kind::Word(_) => self.kind.name(),
            Kind::Count | Kind::Number | Kind::Pair => format!("{}, {}", self.kind.name(), self.bounds),
        }
    }

    /// With its source.
    pub(super) const fn from(mut self, source: &'static str) -> Self {
        self.source = Some(source);
        self
    }
}
