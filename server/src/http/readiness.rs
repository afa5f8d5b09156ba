//! `GET /readiness`: have enough examples been labelled?

use super::classify::HeadUsed;
use super::extract::{CollectionPath, PathParams, QueryParams};
use super::problem::{Code, Problem};
use super::responses::CommonProblems;
use super::state::Services;
use crate::learn;
use axum::Json;
use dozen_fewshot::readiness as measured;
use dozen_fewshot::statistics;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Further examples that a forecast is about, unless told otherwise.
const DEFAULT_MORE: usize = 4;
const MOST_MORE: usize = 1000;

/// What to forecast.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadinessQuery {
    /// Forecast what so many more examples of each class should bring; 4 unless given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    more: Option<usize>,
}

/// Accuracy on examples that were left out, now and forecast.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "head": {"version": 3, "method": "discriminant"}, "examples": 48,
    "overall": {"right": 41, "judged": 48, "share": 0.854, "interval": {"low": 0.728, "high": 0.928}},
    "verdict": "0.85 of the examples are answered rightly when left out (0.73 to 0.93); the weakest class is lynx with 0.71",
    "classes": [{"class": "lynx", "examples": 12,
        "accuracy": {"right": 9, "judged": 12, "share": 0.75, "interval": {"low": 0.468, "high": 0.911}},
        "taken_for": [{"class": "cat", "count": 3}], "curve": [{"examples": 1, "right": 80, "judged": 176}],
        "forecast": {"more": 4, "accuracy": 0.8, "interval": {"low": 0.5, "high": 0.97}},
        "verdict": "lynx: 4 more examples should lift 0.75 to about 0.80 (0.50 to 0.97)"}]
}))]
pub(super) struct Readiness {
    /// The head whose method and numbers judged.
    pub head: HeadUsed,
    /// Labelled examples.
    pub examples: usize,
    /// Over all examples that could be judged: those whose class has another.
    pub overall: Accuracy,
    /// One sentence on all classes.
    pub verdict: String,
    /// In order of creation.
    pub classes: Vec<ClassReadiness>,
}

/// One class.
#[derive(Serialize, ToSchema)]
pub(super) struct ClassReadiness {
    /// Id of the class.
    pub class: String,
    /// Labelled examples it has.
    pub examples: usize,
    /// Over its examples.
    pub accuracy: Accuracy,
    /// The classes its examples are taken for, most often first.
    pub taken_for: Vec<TakenFor>,
    /// Accuracy against the number of examples of each class, measured with class means on parts of the examples.
    pub curve: Vec<Point>,
    /// What more examples should bring; absent where the class has too few to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub forecast: Option<Forecast>,
    /// One sentence.
    pub verdict: String,
}

/// A share that was counted.
#[derive(Serialize, ToSchema)]
pub(super) struct Accuracy {
    /// Examples taken for what they are.
    pub right: usize,
    /// Examples judged.
    pub judged: usize,
    /// `right` of `judged`; null where nothing was judged.
    pub share: Option<f64>,
    /// Wilson's 95 % interval of the share.
    pub interval: Interval,
}

/// A range.
#[derive(Serialize, ToSchema)]
pub(super) struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Another class that examples are taken for.
#[derive(Serialize, ToSchema)]
pub(super) struct TakenFor {
    /// Id of the other class.
    pub class: String,
    /// How many examples.
    pub count: usize,
}

/// A point of a learning curve.
#[derive(Serialize, ToSchema)]
pub(super) struct Point {
    /// Examples of each class that were learned from.
    pub examples: usize,
    /// Right answers about the class's other examples.
    pub right: usize,
    /// Answers.
    pub judged: usize,
}

/// What more examples should bring.
#[derive(Serialize, ToSchema)]
pub(super) struct Forecast {
    /// How many more.
    pub more: usize,
    /// Accuracy with them.
    pub accuracy: f64,
    /// Today's 95 % interval, lifted.
    pub interval: Interval,
}

impl From<statistics::Interval> for Interval {
    fn from(statistics::Interval { low, high }: statistics::Interval) -> Self {
        Self { low, high }
    }
}

impl From<measured::Accuracy> for Accuracy {
    fn from(accuracy: measured::Accuracy) -> Self {
        let measured::Accuracy { right, judged, interval } = accuracy;
        Self { right, judged, share: accuracy.share(), interval: interval.into() }
    }
}

impl From<learn::ClassReadiness> for ClassReadiness {
    fn from(class: learn::ClassReadiness) -> Self {
        let learn::ClassReadiness { class, examples, accuracy, taken_for, curve, forecast, verdict } = class;
        let point = |measured::Point { examples, right, judged }| Point { examples, right, judged };
        Self {
            class,
            examples,
            accuracy: accuracy.into(),
            taken_for: taken_for.into_iter().map(|(class, count)| TakenFor { class, count }).collect(),
            curve: curve.into_iter().map(point).collect(),
            forecast: forecast.map(|measured::Forecast { more, accuracy, interval }| Forecast {
                more,
                accuracy,
                interval: interval.into(),
            }),
            verdict,
        }
    }
}

/// Have enough examples been labelled?
///
/// Leaves every example out in turn (or in folds, where the method knows no shortcut), asks the others what it is, and says
/// for each class how often they are right, what it is taken for, and what more examples should bring.
#[utoipa::path(
    get, path = "/readiness", tag = "training", params(ReadinessQuery),
    responses((status = 200, description = "What is known", body = Readiness), CommonProblems)
)]
pub(super) async fn readiness(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    QueryParams(query): QueryParams<ReadinessQuery>,
) -> Result<Json<Readiness>, Problem> {
    let more = query.more.unwrap_or(DEFAULT_MORE);
    if more == 0 || more > MOST_MORE {
        let what = format!("`more` is {more}. It has to be 1 to {MOST_MORE}.");
        return Err(Problem::new(Code::InvalidQuery, what));
    }
    let learn::Readiness { head, examples, overall, verdict, classes } =
        services.learner.readiness(&path.collection, more).await?;
    Ok(Json(Readiness {
        head: head.into(),
        examples,
        overall: overall.into(),
        verdict,
        classes: classes.into_iter().map(Into::into).collect(),
    }))
}
