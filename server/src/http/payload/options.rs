//! The options of calls that take images. They come in a JSON body, in a form's part `options`, or in the query.

use super::budget::{BudgetOptions, KeepOption, Select};
use crate::http::problem::Problem;
use dozen_models::Budget;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::{IntoParams, ToSchema};

/// Nearest examples an answer comes with unless told otherwise.
const DEFAULT_EVIDENCE: usize = 3;
/// Scores an answer lists unless told otherwise.
const DEFAULT_TOP_K: usize = 5;
/// Share of images of known classes called unknown by mistake, unless told otherwise.
const DEFAULT_FALSE_REJECTION_RATE: f32 = 0.05;
/// Views of one image of the pool at most.
const MOST_VIEWS: usize = 8;
/// Scores and nearest examples an answer lists at most.
const LONGEST_LIST: usize = 1000;

/// What one bad image does to the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The whole call fails with the first bad image's problem, and nothing is stored.
    #[default]
    Fail,
    /// The others are answered; a bad image's item holds its problem.
    Skip,
}

/// How embeddings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodingFormat {
    /// An array of numbers.
    #[default]
    Float,
    /// Base64 of little-endian 32-bit floats.
    Base64,
}

/// Options of `POST /embed`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EmbedOptions {
    /// Share of the patches that are embedded, above 0 and up to 1, or `auto`: less is faster and a little less accurate.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub keep: Option<KeepOption>,
    /// With `keep=auto`: the cosine to the embedding of all patches that the smaller share has to preserve on the
    /// calibration photos; 0.95 unless given.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[param(minimum = 0, maximum = 1, nullable = false)]
    pub min_cosine: Option<f32>,
    /// Which patches are kept, where not all are.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub select: Option<Select>,
    /// Decides random patches; 0 unless given.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub seed: Option<u64>,
    /// Embeds every image under so many random masks, 1 to 64, and answers the mean with its `spread`: what the masks
    /// disagree on tells how sure the model is. With `keep` below 1.
    #[schema(minimum = 1, maximum = 64, nullable = false)]
    #[param(minimum = 1, maximum = 64, nullable = false)]
    pub masks: Option<usize>,
    /// Shortens the embeddings to their first components, normalised again.
    #[schema(minimum = 1, nullable = false)]
    #[param(minimum = 1, nullable = false)]
    pub dimensions: Option<usize>,
    /// How embeddings are written.
    pub encoding_format: EncodingFormat,
    /// Embeddings are unit vectors always; `false` is refused.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub normalize: Option<bool>,
    /// What one bad image does to the call.
    pub on_error: OnError,
}

impl EmbedOptions {
    /// The patch budget, checked.
    pub fn budget(&self) -> Result<Budget, Problem> {
        let Self { keep, min_cosine, select, seed, masks, .. } = *self;
        BudgetOptions { keep, min_cosine, select, seed, masks }.budget()
    }

    /// Length of the answered embeddings.
    pub fn output_dimensions(&self, full: usize) -> Result<usize, Problem> {
        match self.dimensions {
            Some(asked) if asked == 0 || asked > full => Err(Problem::invalid(
                "/dimensions",
                format!("is {asked}, this model has 1 to {full} dimensions"),
            )
            .with_limit(full as u64, asked as u64)),
            asked => Ok(asked.unwrap_or(full)),
        }
    }

    /// Refuses what cannot be honoured.
    pub fn check(&self) -> Result<(), Problem> {
        match self.normalize {
            Some(false) => {
                Err(Problem::invalid("/normalize", "cannot be false: embeddings are unit vectors always"))
            }
            Some(true) | None => Ok(()),
        }
    }
}

/// Options of `POST /classes/{id}/examples`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExampleOptions {
    /// What one bad image does to the call.
    pub on_error: OnError,
}

/// Options of `POST /images`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImageOptions {
    /// Also embeds each image so many times, 0 to 8, with most of its patches hidden at random: what learning by agreement
    /// between views needs.
    #[schema(maximum = 8)]
    #[param(maximum = 8)]
    pub views: usize,
    /// What one bad image does to the call. Archives and NDJSON are always `skip`.
    pub on_error: OnError,
}

impl ImageOptions {
    /// The number of views, checked.
    pub fn views(&self) -> Result<usize, Problem> {
        match self.views {
            views @ 0..=MOST_VIEWS => Ok(views),
            views => Err(Problem::invalid("/views", format!("is {views}, it has to be 0 to {MOST_VIEWS}"))),
        }
    }
}

/// Options of `POST /classify`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClassifyOptions {
    /// Scores listed, best first; 5 unless given.
    #[schema(minimum = 1, maximum = 1000, nullable = false)]
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    pub top_k: Option<usize>,
    /// Candidate classes; all unless given. In a query: one string with commas.
    #[serde(deserialize_with = "names")]
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub classes: Option<Vec<String>>,
    /// Below this probability, from 0 to 1, the answer is `unknown`.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[param(minimum = 0, maximum = 1, nullable = false)]
    pub min_confidence: Option<f32>,
    /// Share of images of known classes, from 0 to 0.5, that may be called `unknown` by mistake for being unlike the
    /// examples; 0.05 unless given, 0 never calls an image that. It takes 1 / rate labelled examples to call anything so.
    #[schema(minimum = 0, maximum = 0.5, nullable = false)]
    #[param(minimum = 0, maximum = 0.5, nullable = false)]
    pub false_rejection_rate: Option<f32>,
    /// Also answer the `set` of classes that holds the truth with this probability, from 0 to 1.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[param(minimum = 0, maximum = 1, nullable = false)]
    pub coverage: Option<f64>,
    /// Nearest examples as evidence: `true` (3 of them, the default), `false`, or how many.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub explain: Option<Explain>,
    /// Share of the patches that are embedded, above 0 and up to 1, or `auto`: less is faster and a little less accurate.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub keep: Option<KeepOption>,
    /// With `keep=auto`: the cosine to the embedding of all patches that the smaller share has to preserve on the
    /// calibration photos; 0.95 unless given.
    #[schema(minimum = 0, maximum = 1, nullable = false)]
    #[param(minimum = 0, maximum = 1, nullable = false)]
    pub min_cosine: Option<f32>,
    /// Which patches are kept, where not all are.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub select: Option<Select>,
    /// Decides random patches; 0 unless given.
    #[schema(nullable = false)]
    #[param(nullable = false)]
    pub seed: Option<u64>,
    /// Embeds every image under so many random masks, 1 to 64, and answers the mean with its `spread`: what the masks
    /// disagree on tells how sure the model is. With `keep` below 1.
    #[schema(minimum = 1, maximum = 64, nullable = false)]
    #[param(minimum = 1, maximum = 64, nullable = false)]
    pub masks: Option<usize>,
    /// What one bad image does to the call.
    pub on_error: OnError,
}

impl ClassifyOptions {
    /// The patch budget, checked.
    pub fn budget(&self) -> Result<Budget, Problem> {
        let &Self { keep, min_cosine, select, seed, masks, .. } = self;
        BudgetOptions { keep, min_cosine, select, seed, masks }.budget()
    }

    /// The options as the loop takes them, checked.
    pub fn to_learn(&self) -> Result<crate::learn::ClassifyOptions, Problem> {
        let top_k = self.top_k.unwrap_or(DEFAULT_TOP_K);
        if top_k == 0 || top_k > LONGEST_LIST {
            return Err(Problem::invalid("/top_k", format!("is {top_k}, it has to be 1 to {LONGEST_LIST}")));
        }
        if let Some(confidence) = self.min_confidence
            && !(0.0..=1.0).contains(&confidence)
        {
            return Err(Problem::invalid("/min_confidence", format!("is {confidence}, it has to be 0 to 1")));
        }
        let false_rejection_rate = self.false_rejection_rate.unwrap_or(DEFAULT_FALSE_REJECTION_RATE);
        if !(0.0..=0.5).contains(&false_rejection_rate) {
            let what = format!("is {false_rejection_rate}, it has to be 0 to 0.5");
            return Err(Problem::invalid("/false_rejection_rate", what));
        }
        if let Some(coverage) = self.coverage
            && !(0.0..=1.0).contains(&coverage)
        {
            return Err(Problem::invalid("/coverage", format!("is {coverage}, it has to be 0 to 1")));
        }
        if self.classes.as_ref().is_some_and(Vec::is_empty) {
            return Err(Problem::invalid("/classes", "is empty; leave it out to consider all classes"));
        }
        let evidence = match self.explain {
            None | Some(Explain::Switch(true)) => DEFAULT_EVIDENCE,
            Some(Explain::Switch(false)) => 0,
            Some(Explain::Count(count)) if count <= LONGEST_LIST => count,
            Some(Explain::Count(count)) => {
                return Err(Problem::invalid(
                    "/explain",
                    format!("is {count}, at most {LONGEST_LIST} are listed"),
                ));
            }
        };
        Ok(crate::learn::ClassifyOptions {
            top_k,
            classes: self.classes.clone(),
            min_confidence: self.min_confidence,
            false_rejection_rate,
            coverage: self.coverage,
            evidence,
        })
    }
}

/// `true`, `false`, or how many examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Explain {
    /// The default number, or none.
    Switch(bool),
    /// As many.
    Count(usize),
}

impl<'de> Deserialize<'de> for Explain {
    /// Also from text, as a query has it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ExplainVisitor;
        impl Visitor<'_> for ExplainVisitor {
            type Value = Explain;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("true, false or a number of examples")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Explain, E> {
                Ok(Explain::Switch(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Explain, E> {
                usize::try_from(value).map(Explain::Count).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Explain, E> {
                match value {
                    "true" => Ok(Explain::Switch(true)),
                    "false" => Ok(Explain::Switch(false)),
                    number => number
                        .parse()
                        .map(Explain::Count)
                        .map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(ExplainVisitor)
    }
}

/// A list of names, or one string with commas.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct NamesVisitor;
    impl<'de> Visitor<'de> for NamesVisitor {
        type Value = Option<Vec<String>>;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of class ids")
        }
        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
            Ok(Some(names.map(str::to_owned).collect()))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some(name) = sequence.next_element()? {
                names.push(name);
            }
            Ok(Some(names))
        }
        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(NamesVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Query;
    use axum::http::Uri;

    fn from_query(query: &str) -> ClassifyOptions {
        let uri: Uri = format!("/classify?{query}").parse().unwrap();
        Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn a_query_says_the_same_as_json() {
        let query = from_query(
            "top_k=2&classes=daisy,tulip&min_confidence=0.5&false_rejection_rate=0.1&coverage=0.9&explain=7&keep=0.25&select=random&seed=3&masks=2&on_error=skip",
        );
        let json: ClassifyOptions = serde_json::from_str(
            r#"{"top_k":2,"classes":["daisy","tulip"],"min_confidence":0.5,"false_rejection_rate":0.1,"coverage":0.9,"explain":7,"keep":0.25,"select":"random","seed":3,
                "masks":2,"on_error":"skip"}"#,
        )
        .unwrap();
        assert_eq!(format!("{query:?}"), format!("{json:?}"));
        assert_eq!(query.budget().unwrap().masks, 2);
        let json: ClassifyOptions = serde_json::from_str(r#"{"keep":"auto","min_cosine":0.9}"#).unwrap();
        assert_eq!(from_query("keep=auto&min_cosine=0.9").budget(), json.budget());
        assert_eq!(from_query("explain=false").to_learn().unwrap().evidence, 0);
        assert_eq!(from_query("").to_learn().unwrap().evidence, DEFAULT_EVIDENCE);
    }

    #[test]
    fn out_of_range_values_are_refused_with_their_place() {
        for (query, pointer) in [
            ("top_k=0", "/top_k"),
            ("top_k=1001", "/top_k"),
            ("min_confidence=1.5", "/min_confidence"),
            ("min_confidence=NaN", "/min_confidence"),
            ("false_rejection_rate=0.6", "/false_rejection_rate"),
            ("coverage=-0.1", "/coverage"),
            ("coverage=NaN", "/coverage"),
            ("classes=", "/classes"),
            ("explain=5000", "/explain"),
        ] {
            let problem = from_query(query).to_learn().unwrap_err();
            assert_eq!(problem.errors[0].pointer, pointer, "{query}");
        }
    }
}
