//! The table of an evaluation.

use super::Shots;
use serde::Serialize;
use std::fmt::Write as _;

/// Which head answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "head", rename_all = "snake_case")]
pub enum HeadKind {
    /// Nearest class mean by cosine.
    Prototype,
    /// Multinomial logistic regression without intercept.
    Logistic {
        /// λ, whose C is 1/λ.
        l2: f64,
    },
}

impl HeadKind {
    /// Its name, without options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prototype => "prototype",
            Self::Logistic { .. } => "logistic",
        }
    }
}

/// One cell of the table: one head, one number of shots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The head.
    #[serde(flatten)]
    pub head: HeadKind,
    /// Labelled images per class; absent where lists name them.
    pub shots: Option<Shots>,
    /// Number of splits.
    pub splits: usize,
    /// Mean class-balanced accuracy over the splits, 0–1.
    pub accuracy: f64,
    /// Half the width of the 95 % interval of that mean (Student's t); absent for a single split.
    pub interval: Option<f64>,
}

/// Everything an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowShotReport {
    /// What made the features.
    pub model: String,
    /// Images evaluated, labelled and queries together.
    pub images: usize,
    /// Classes.
    pub classes: usize,
    /// The table.
    pub rows: Vec<Row>,
}

impl Row {
    /// Summarises the accuracies of several splits.
    pub(super) fn new(head: HeadKind, shots: Option<Shots>, accuracies: &[f64]) -> Self {
        let count = accuracies.len() as f64;
        let mean = accuracies.iter().sum::<f64>() / count;
        let interval = (accuracies.len() > 1).then(|| {
            let squares: f64 = accuracies.iter().map(|accuracy| (accuracy - mean).powi(2)).sum();
            student_t_975(count - 1.0) * (squares / (count - 1.0) / count).sqrt()
        });
        Self { head, shots, splits: accuracies.len(), accuracy: mean, interval }
    }
}

impl LowShotReport {
    /// The table in Markdown, accuracies in percent.
    pub fn to_markdown(&self) -> String {
        let mut table = format!(
            "{}: {} images, {} classes, class-balanced accuracy in %\n\n| head | shots | accuracy | 95 % interval | splits |\n|---|---|---|---|---|\n",
            self.model, self.images, self.classes
        );
        for row in &self.rows {
            let name = row.head.name();
            let head = match row.head {
                HeadKind::Prototype => name.to_owned(),
                HeadKind::Logistic { l2 } => format!("{name}, λ = {l2}"),
            };
            let shots = row.shots.map_or_else(|| "listed".to_owned(), |shots| shots.to_string());
            let interval = row.interval.map_or_else(String::new, |half| format!("± {:.1}", 100.0 * half));
            let accuracy = 100.0 * row.accuracy;
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {head} | {shots} | {accuracy:.1} | {interval} | {} |", row.splits);
        }
        table
    }
}

/// The 97.5 % quantile of Student's t: exact for 1 and 2 degrees of freedom, beyond by the Cornish–Fisher expansion,
/// good to 0.03 at 3 and 0.001 from 6 on.
fn student_t_975(degrees: f64) -> f64 {
    if degrees < 1.5 {
        return 12.706_205;
    }
    if degrees < 2.5 {
        return 4.302_653;
    }
    let z = 1.959_964_f64;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    z + terms[0] / degrees + terms[1] / degrees.powi(2) + terms[2] / degrees.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_use_students_t() {
        for (degrees, quantile, tolerance) in
            [(2.0, 4.3027, 1e-3), (3.0, 3.1824, 0.03), (6.0, 2.4469, 2e-3), (19.0, 2.0930, 1e-3)]
        {
            assert!((student_t_975(degrees) - quantile).abs() < tolerance, "{degrees}");
        }
        let row = Row::new(HeadKind::Prototype, Some(Shots::PerClass(1)), &[0.4, 0.5, 0.6]);
        assert!((row.accuracy - 0.5).abs() < 1e-12);
        // s = 0.1, so 4.3027 · 0.1 / √3.
        assert!((row.interval.unwrap() - 0.248_41).abs() < 1e-4);
        assert_eq!(Row::new(HeadKind::Prototype, None, &[0.4]).interval, None);
    }

    #[test]
    fn the_table_says_what_it_shows() {
        let rows = vec![Row {
            head: HeadKind::Logistic { l2: 0.0025 },
            shots: Some(Shots::PerClass(5)),
            splits: 20,
            accuracy: 0.6789,
            interval: Some(0.0123),
        }];
        let report = LowShotReport { model: "tiny".into(), images: 90, classes: 3, rows };
        let table = report.to_markdown();
        assert!(table.starts_with("tiny: 90 images, 3 classes"));
        let row = serde_json::to_value(&report.rows[0]).unwrap();
        assert_eq!((&row["head"], &row["l2"]), (&"logistic".into(), &0.0025.into()));
        assert!(table.contains("| logistic, λ = 0.0025 | 5 | 67.9 | ± 1.2 | 20 |"), "{table}");
    }
}
