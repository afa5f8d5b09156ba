//! What the evaluations other than low-shot print and write.

use serde::Serialize;
use std::fmt::Write as _;

/// One line of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportRow {
    /// What was varied.
    pub case: String,
    /// Share of the queries answered rightly, 0–1.
    pub accuracy: f64,
    /// Half the width of its 95 % interval: over the splits where there are several, otherwise of a proportion.
    pub interval: f64,
    /// Mean cosine to the features of whole images, where patches were dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
}

/// Everything one evaluation found, and what it takes to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the evaluation.
    pub evaluation: &'static str,
    /// What made the features.
    pub model: String,
    /// Images that were classified.
    pub queries: usize,
    /// Classes.
    pub classes: usize,
    /// Settings, the seed among them.
    pub settings: Vec<(&'static str, String)>,
    /// The table.
    pub rows: Vec<ReportRow>,
}

impl ReportRow {
    /// `right` of `asked` queries.
    pub(super) fn of_proportion(case: String, right: usize, asked: usize) -> Self {
        let share = right as f64 / asked.max(1) as f64;
        let interval = 1.959_964 * (share * (1.0 - share) / asked.max(1) as f64).sqrt();
        Self { case, accuracy: share, interval, cosine: None }
    }
}

impl Report {
    /// The table in Markdown, accuracies in percent.
    pub fn to_markdown(&self) -> String {
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut text = format!(
            "{}, {}: {} queries, {} classes ({})\n\n",
            self.evaluation,
            self.model,
            self.queries,
            self.classes,
            settings.join(", ")
        );
        let with_cosine = self.rows.iter().any(|row| row.cosine.is_some());
        let (title, rule) = if with_cosine { (" cosine |", "---|") } else { ("", "") };
        let _ = writeln!(text, "| case | accuracy, % | 95 % interval |{title}\n|---|---|---|{rule}");
        for row in &self.rows {
            let (accuracy, interval) = (100.0 * row.accuracy, 100.0 * row.interval);
            let cosine = match row.cosine {
                Some(cosine) => format!(" {cosine:.3} |"),
                None if with_cosine => " |".into(),
                None => String::new(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} | {accuracy:.1} | ± {interval:.1} |{cosine}", row.case);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_cosine_only_where_one_was_measured() {
        let mut report = Report {
            evaluation: "k-NN",
            model: "tiny".into(),
            queries: 100,
            classes: 4,
            settings: vec![("seed", "3".into())],
            rows: vec![ReportRow::of_proportion("k = 10".into(), 80, 100)],
        };
        let text = report.to_markdown();
        assert!(text.contains("100 queries, 4 classes (seed 3)"), "{text}");
        // 1.96 · √(0.8 · 0.2 / 100) is 7.8 %.
        assert!(text.contains("| k = 10 | 80.0 | ± 7.8 |\n"), "{text}");
        report.rows[0].cosine = Some(0.987_6);
        assert!(report.to_markdown().contains("| k = 10 | 80.0 | ± 7.8 | 0.988 |\n"));
    }
}
