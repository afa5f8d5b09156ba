//! Every way to send images and options, and every way to get vectors back.

use crate::support::{FORM, Server, assert_close, base64, colour_vector, form_body, from_base64, picture};
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn all_forms_of_one_image_answer_the_same_vector() {
    let server = Server::new().await;
    let image = picture(200, 100, 50);
    let encoded = base64(&image);
    let answers = [
        server.post("/embed", "image/bmp", image.clone()).await,
        server.post("/embed", "image/jpeg", image.clone()).await, // the bytes count, not the header
        server.post("/embed", "application/octet-stream", image.clone()).await,
        server.form("/embed", std::slice::from_ref(&image), None).await,
        server.post("/embed", FORM, form_body(&[("file", image.clone())], None)).await,
        server.json("POST", "/embed", &json!({"images": [encoded]})).await,
        server.json("POST", "/embed", &json!({"images": [format!("data:image/bmp;base64,{encoded}")]})).await,
        server.json("POST", "/embed", &json!({"images": [{"image": encoded}]})).await,
        server.json("POST", "/embed", &json!({"images": [{"type": "base64", "value": encoded}]})).await,
        server.json("POST", "/collections/other/embed", &json!({"images": [encoded]})).await,
    ];
    for answer in answers {
        let value = answer.value();
        assert_eq!(answer.status, StatusCode::OK, "{value}");
        assert_eq!((&value["model"], &value["dimensions"]), (&json!("first-colour"), &json!(4)));
        assert_eq!(
            (&value["usage"], &value["data"][0]["index"]),
            (&json!({"images": 1, "keep": 1.0}), &json!(0))
        );
        assert_close(&value["data"][0]["embedding"], &colour_vector(200, 100, 50));
        let timing = answer.header("server-timing");
        assert!(
            ["queue;dur=", "decode;dur=", "infer;dur="].iter().all(|stage| timing.contains(stage)),
            "{timing}"
        );
    }
}

#[tokio::test]
async fn many_images_are_answered_in_order() {
    let server = Server::new().await;
    let images: Vec<Bytes> = (0..100).map(|number| picture(number, 50, 150)).collect();
    let value = server.form("/embed", &images, None).await.value();
    for number in 0..100u8 {
        let item = &value["data"][usize::from(number)];
        assert_eq!(item["index"], number);
        assert_close(&item["embedding"], &colour_vector(number, 50, 150));
    }
}

#[tokio::test]
async fn options_mean_the_same_in_query_form_and_json() {
    let server = Server::new().await;
    let image = picture(30, 40, 99);
    let answers = [
        server.post("/embed?dimensions=2&encoding_format=base64&keep=0.5&normalize=true", "image/bmp", image.clone()).await,
        server
            .form(
                "/embed",
                std::slice::from_ref(&image),
                Some(r#"{"dimensions":2,"encoding_format":"base64","keep":0.5,"normalize":true}"#),
            )
            .await,
        server
            .json(
                "POST",
                "/embed",
                &json!({"images": [base64(&image)], "dimensions": 2, "encoding_format": "base64", "keep": 0.5, "normalize": true}),
            )
            .await,
    ];
    for answer in answers {
        let value = answer.value();
        assert_eq!(value["dimensions"], 2, "{value}");
        let bytes = from_base64(value["data"][0]["embedding"].as_str().unwrap());
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        let vector: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        // (30, 40) of any length, as a unit vector.
        assert_close(&json!(vector), &[0.6, 0.8]);
    }
}

#[tokio::test]
async fn skip_answers_the_good_and_says_what_is_wrong_with_the_bad() {
    let server = Server::new().await;
    let images = [picture(1, 2, 3), Bytes::from_static(b"this is text"), picture(4, 5, 6)];
    let answer = server.form("/embed", &images, Some(r#"{"on_error":"skip"}"#)).await;
    let value = answer.value();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(value["usage"]["images"], 2);
    assert_close(&value["data"][0]["embedding"], &colour_vector(1, 2, 3));
    assert_eq!(value["data"][1]["index"], 1);
    assert_eq!(value["data"][1]["error"]["code"], "unsupported_image_format");
    assert_eq!(value["data"][1]["error"]["index"], 1);
    assert_close(&value["data"][2]["embedding"], &colour_vector(4, 5, 6));

    let answer = server.form("/embed", &images, None).await;
    assert_eq!(answer.problem(), (415, "unsupported_image_format".to_owned()));
    assert_eq!(answer.value()["index"], 1);
}

#[tokio::test]
async fn vectors_stand_in_for_images_where_they_mean_something() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let red = colour_vector(210, 20, 20);
    let bytes: Vec<u8> = red.iter().flat_map(|component| component.to_le_bytes()).collect();
    let double: Vec<f32> = red.iter().map(|component| component * 2.0).collect();
    let images = json!([
        {"type": "embedding", "value": red},
        {"type": "embedding", "value": base64(&bytes)},
        {"type": "embedding", "value": double},
        base64(&picture(210, 20, 20)),
    ]);
    let value = server.json("POST", "/classify", &json!({"images": images})).await.value();
    let data = value["data"].as_array().unwrap();
    assert_eq!(data.len(), 4, "{value}");
    for (index, item) in data.iter().enumerate() {
        assert_eq!((&item["label"], &item["index"]), (&json!("red"), &json!(index)), "{value}");
        let probability = item["probability"].as_f64().unwrap();
        assert!((probability - data[0]["probability"].as_f64().unwrap()).abs() < 1e-4, "{value}");
    }

    let answer = server
        .json("POST", "/classes/red/examples", &json!({"images": [{"type": "embedding", "value": red}]}))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.value());
    let id = answer.value()["examples"][0]["id"].as_str().unwrap().to_owned();
    let image = server.get(&format!("/classes/red/examples/{id}/image")).await;
    assert_eq!(image.problem(), (404, "example_has_no_image".to_owned()));
}

#[tokio::test]
async fn vectors_that_are_none_are_refused_and_nothing_is_stored() {
    let server = Server::new().await;
    let nan = base64(&[f32::NAN.to_le_bytes(); 4].concat());
    let infinite = base64(&[f32::INFINITY.to_le_bytes(); 4].concat());
    let bad: [Value; 5] =
        [json!(nan), json!(infinite), json!([1, 2, 3]), json!([0, 0, 0, 0]), json!([1e39, 0, 0, 0])];
    for vector in bad {
        let body = json!({"images": [{"type": "embedding", "value": vector}]});
        for path in ["/classes/red/examples", "/classify"] {
            let answer = server.json("POST", path, &body).await;
            assert_eq!(answer.problem(), (422, "invalid_vector".to_owned()), "{body}");
            assert_eq!(answer.value()["errors"][0]["pointer"], "/images/0");
        }
    }
    // JSON has no way to write them: an overflowing number is a bad value, NaN is bad syntax.
    let body = r#"{"images":[{"type":"embedding","value":[1e400,0,0,0]}]}"#;
    assert_eq!(server.post("/classify", "application/json", body).await.problem().0, 422);
    let body = r#"{"images":[{"type":"embedding","value":[NaN,0,0,0]}]}"#;
    assert_eq!(
        server.post("/classify", "application/json", body).await.problem(),
        (400, "malformed_json".to_owned())
    );
    assert_eq!(server.get("/classes").await.value()["data"], json!([]));
}
