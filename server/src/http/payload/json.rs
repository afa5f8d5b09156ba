//! Images in a JSON body.
//!
//! Deserialised by hand into the narrowest types: a generic JSON value takes 32 bytes for each two-byte element of
//! `[0,0,…]`, so a body at the size limit would grow sixteenfold in memory.

use super::Input;
use crate::http::problem::{Code, Problem};
use axum::body::Bytes;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Standard alphabet; padding is taken as it comes, because clients disagree about it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A whole body: the images as sent, and every other field.
pub(super) struct Body {
    pub(super) images: Option<Vec<Item>>,
    pub(super) options: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BodyVisitor;
        impl<'de> Visitor<'de> for BodyVisitor {
            type Value = Body;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with a list `images`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
                let mut body = Body { images: None, options: Map::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "images" {
                        body.images = Some(map.next_value()?);
                    } else {
                        body.options.insert(key, map.next_value()?);
                    }
                }
                Ok(body)
            }
        }
        deserializer.deserialize_map(BodyVisitor)
    }
}

/// One element of `images`.
#[derive(Default)]
pub(super) struct Item {
    kind: Option<String>,
    value: Option<ItemValue>,
    unknown: Option<String>,
}

enum ItemValue {
    Text(String),
    Numbers(Vec<f32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a base64 string, a data URI, or an object with `type` and `value`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item { value: Some(ItemValue::Text(text.to_owned())), ..Item::default() })
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Item, E> {
                Ok(Item { value: Some(ItemValue::Text(text)), ..Item::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let mut item = Item::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "type" => item.kind = Some(map.next_value()?),
                        "value" => item.value = Some(map.next_value()?),
                        "image" => item.value = Some(ItemValue::Text(map.next_value()?)),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            item.unknown = Some(key);
                        }
                    }
                }
                Ok(item)
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

impl<'de> Deserialize<'de> for ItemValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;
        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = ItemValue;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a base64 string or a list of numbers")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ItemValue, E> {
                Ok(ItemValue::Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<ItemValue, E> {
                Ok(ItemValue::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<ItemValue, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = sequence.next_element()? {
                    numbers.push(number);
                }
                Ok(ItemValue::Numbers(numbers))
            }
        }
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl Item {
    /// Bytes or a vector, or what is wrong with this element.
    pub(super) fn into_input(self, index: usize) -> Result<Input, Problem> {
        let invalid = |detail: String| {
            Problem::new(Code::InvalidRequest, format!("Image {index}: {detail}.")).at_image(index, detail)
        };
        if let Some(key) = self.unknown {
            return Err(invalid(format!(
                "the field `{key}` is unknown; `image`, or `type` and `value` are expected"
            )));
        }
        match (self.kind.as_deref(), self.value) {
            (_, None) => Err(invalid("there is no `value`".to_owned())),
            (Some("url"), _) => Err(url_disabled(index)),
            (None | Some("base64"), Some(ItemValue::Text(text))) => {
                image_bytes(&text, index).map(Input::Image)
            }
            (Some("embedding"), Some(ItemValue::Numbers(numbers))) => Ok(Input::Vector(numbers)),
            (Some("embedding"), Some(ItemValue::Text(text))) => {
                let bytes = BASE64.decode(&text).map_err(|error| invalid(format!("not base64: {error}")))?;
                let (words, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(invalid(format!(
                        "{} bytes are no whole number of 32-bit floats",
                        bytes.len()
                    )));
                }
                Ok(Input::Vector(words.iter().map(|word| f32::from_le_bytes(*word)).collect()))
            }
            (None | Some("base64"), Some(ItemValue::Numbers(_))) => {
                Err(invalid("a list of numbers needs `\"type\": \"embedding\"`".to_owned()))
            }
            (Some(other), Some(_)) => {
                Err(invalid(format!("the type `{other}` is unknown; `base64` and `embedding` are known")))
            }
        }
    }
}

/// The bytes of a base64 string or data URI.
fn image_bytes(text: &str, index: usize) -> Result<Bytes, Problem> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(url_disabled(index));
    }
    let invalid = |detail: String| {
        Problem::new(
            Code::InvalidRequest,
            format!("Image {index}: {detail}. Send a base64 string or a data URI."),
        )
        .at_image(index, detail)
    };
    let encoded = match text.strip_prefix("data:") {
        Some(uri) => {
            let (header, data) =
                uri.split_once(',').ok_or_else(|| invalid("the data URI has no comma".to_owned()))?;
            if !header.ends_with(";base64") {
                return Err(invalid("the data URI is not base64".to_owned()));
            }
            data
        }
        None => text,
    };
    BASE64.decode(encoded).map(Bytes::from).map_err(|error| invalid(format!("not base64: {error}")))
}

fn url_disabled(index: usize) -> Problem {
    Problem::new(
        Code::UrlInputDisabled,
        format!(
            "Image {index} is a URL, and this server fetches none. Send its bytes, as base64 or as a form."
        ),
    )
    .at_image(index, "URL input is disabled")
}

/// One image of a JSON body, as documented.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum ImageInput {
    /// A data URI, or plain base64.
    #[schema(example = "data:image/jpeg;base64,/9j/4AAQ…")]
    Text(String),
    /// Base64, or a vector that `POST /embed` answered before.
    Typed {
        /// What the value is.
        #[serde(rename = "type")]
        kind: ImageInputType,
        /// Base64 of an image's bytes; or for a vector a list of numbers or base64 of little-endian 32-bit floats.
        value: ImageInputValue,
    },
    /// The same as the text alone.
    Image {
        /// A data URI, or plain base64.
        image: String,
    },
}

/// What a typed image's value is.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageInputType {
    /// An image's bytes.
    Base64,
    /// A vector.
    Embedding,
}

/// The value of a typed image.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum ImageInputValue {
    /// Base64.
    Text(String),
    /// A vector's components.
    Numbers(Vec<f32>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(item: &str) -> Result<Input, Code> {
        let item: Item = serde_json::from_str(item).unwrap();
        item.into_input(0).map_err(|problem| problem.code)
    }

    #[test]
    fn every_documented_form_is_read() {
        for text in [
            r#""AQID""#,
            r#""data:image/png;base64,AQID""#,
            r#"{"image":"AQID"}"#,
            r#"{"image":"data:image/png;base64,AQID"}"#,
            r#"{"type":"base64","value":"AQID"}"#,
        ] {
            assert_eq!(parse(text), Ok(Input::Image(Bytes::from_static(&[1, 2, 3]))), "{text}");
        }
        let vector = Ok(Input::Vector(vec![1.0, -2.0]));
        assert_eq!(parse(r#"{"type":"embedding","value":[1,-2.0]}"#), vector);
        let base64 = BASE64.encode([1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
        assert_eq!(parse(&format!(r#"{{"type":"embedding","value":"{base64}"}}"#)), vector);
        assert_eq!(parse(r#""AQIDBA""#), Ok(Input::Image(Bytes::from_static(&[1, 2, 3, 4]))), "no padding");
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            r#""not base64!""#,
            r#""data:image/png,AQID""#,
            r#""data:image/png;base64""#,
            r#"{"type":"pickle","value":"AQID"}"#,
            r#"{"type":"base64"}"#,
            r#"{"type":"base64","value":[1]}"#,
            r#"{"type":"embedding","value":"AQID"}"#,
            r#"{"image":"AQID","caption":"x"}"#,
            "{}",
        ] {
            assert_eq!(parse(text), Err(Code::InvalidRequest), "{text}");
        }
        for text in [r#""https://example.org/a.jpg""#, r#"{"type":"url","value":"http://10.0.0.1/"}"#] {
            assert_eq!(parse(text), Err(Code::UrlInputDisabled), "{text}");
        }
    }
}
