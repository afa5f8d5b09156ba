//! Classes, examples and answers.

use crate::support::{Server, picture};
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn examples_are_learnt_at_once_and_only_once() {
    let server = Server::new().await;
    let images = [picture(200, 10, 10), picture(220, 30, 20), picture(200, 10, 10)];
    let answer = server.form("/classes/red/examples", &images, None).await;
    let value = answer.value();
    assert_eq!(answer.status, StatusCode::CREATED, "{value}");
    assert_eq!(answer.header("location"), "/classes/red/examples");
    assert_eq!(
        (&value["class"], &value["added"], &value["duplicates"]),
        (&json!("red"), &json!(2), &json!(1))
    );
    assert_eq!(value["count"], 2);
    let examples = value["examples"].as_array().unwrap();
    assert_eq!(
        examples.iter().map(|e| e["duplicate"].as_bool().unwrap()).collect::<Vec<_>>(),
        [false, false, true]
    );
    assert_eq!(examples[0]["id"], examples[2]["id"]);
    assert!(examples[0]["content_hash"].as_str().unwrap().starts_with("blake3:"));

    let again = server.form("/classes/red/examples", &images[..2], None).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!((&again.value()["added"], &again.value()["duplicates"]), (&json!(0), &json!(2)));
    assert_eq!(again.value()["examples"][0]["id"], examples[0]["id"]);
}

#[tokio::test]
async fn skip_stores_the_good_examples_in_their_places() {
    let server = Server::new().await;
    let images = [Bytes::from_static(b"text"), picture(200, 10, 10)];
    let skip = Some(r#"{"on_error":"skip"}"#);
    let answer = server.form("/classes/red/examples", &images, skip).await;
    let value = answer.value();
    assert_eq!(answer.status, StatusCode::CREATED, "{value}");
    assert_eq!((&value["added"], &value["count"]), (&json!(1), &json!(1)));
    assert_eq!(value["examples"][0]["error"]["code"], "unsupported_image_format");
    assert_eq!(value["examples"][1]["index"], 1);

    let answer = server.form("/classes/blue/examples", &images[..1], skip).await;
    assert_eq!(answer.problem().1, "unsupported_image_format", "nothing good is nothing to store");
}

#[tokio::test]
async fn answers_have_probabilities_scores_and_evidence() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let server = &server;
    let classify = |query: &'static str| async move {
        let path = format!("/classify?{query}");
        server.post(&path, "image/bmp", picture(210, 20, 20)).await.value()
    };
    let value = classify("").await;
    assert_eq!(value["model"], "first-colour");
    assert_eq!(value["head"], json!({"version": 0, "method": "prototype"}));
    let item = &value["data"][0];
    assert_eq!((&item["label"], &item["unknown"], &item["index"]), (&json!("red"), &json!(false), &json!(0)));
    let scores = item["scores"].as_array().unwrap();
    assert_eq!(
        scores.iter().map(|score| score["label"].as_str().unwrap()).collect::<Vec<_>>(),
        ["red", "blue"]
    );
    let total: f64 = scores.iter().map(|score| score["probability"].as_f64().unwrap()).sum();
    assert!((total - 1.0).abs() < 1e-5, "{value}");
    assert_eq!(item["probability"], scores[0]["probability"]);
    let evidence = item["evidence"].as_array().unwrap();
    assert_eq!(evidence.len(), 3);
    assert!(evidence.iter().all(|near| near["label"] == "red" && near["example"].is_string()), "{value}");

    assert_eq!(classify("explain=1").await["data"][0]["evidence"].as_array().unwrap().len(), 1);
    assert_eq!(classify("explain=false").await["data"][0].get("evidence"), None);
    assert_eq!(classify("top_k=1").await["data"][0]["scores"].as_array().unwrap().len(), 1);
    let only = classify("classes=blue").await;
    assert_eq!((&only["data"][0]["label"], &only["data"][0]["probability"]), (&json!("blue"), &json!(1.0)));
    let unsure = classify("min_confidence=1").await;
    let item = &unsure["data"][0];
    assert_eq!((&item["label"], &item["unknown"]), (&Value::Null, &json!(true)), "{unsure}");
    assert_eq!(item["scores"][0]["label"], "red", "the candidates are still listed");
}

#[tokio::test]
async fn classes_are_created_listed_renamed_and_deleted() {
    let server = Server::new().await;
    let created = server.json("POST", "/classes", &json!({"id": "red", "name": "Red things"})).await;
    assert_eq!(created.status, StatusCode::CREATED, "{:?}", created.value());
    assert_eq!(created.header("location"), "/classes/red");
    assert_eq!((&created.value()["name"], &created.value()["count"]), (&json!("Red things"), &json!(0)));
    let made_up = server.json("POST", "/classes", &json!({"name": "Nameless"})).await;
    let id = made_up.value()["id"].as_str().unwrap().to_owned();
    assert_eq!(made_up.header("location"), format!("/classes/{id}"));
    server.teach("blue", &[(1, 1, 200)]).await;

    let mut seen = Vec::new();
    let mut path = "/classes?limit=2".to_owned();
    loop {
        let page = server.get(&path).await.value();
        seen.extend(
            page["data"].as_array().unwrap().iter().map(|class| class["id"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["has_more"], page.get("next").is_some());
        let Some(next) = page.get("next") else { break };
        path = format!("/classes?limit=2&after={}", next.as_str().unwrap());
    }
    assert_eq!(seen, ["red".to_owned(), id, "blue".to_owned()]);

    let renamed =
        server.json("PATCH", "/classes/blue", &json!({"id": "azure", "name": "Azure"})).await.value();
    assert_eq!(
        (&renamed["id"], &renamed["name"], &renamed["count"]),
        (&json!("azure"), &json!("Azure"), &json!(1))
    );
    assert_eq!(server.get("/classes/blue").await.status, StatusCode::NOT_FOUND);
    let answer = server.post("/classify", "image/bmp", picture(1, 1, 200)).await.value();
    assert_eq!(answer["data"][0]["label"], "azure");

    assert_eq!(server.json("DELETE", "/classes/azure", &json!({})).await.status, StatusCode::NO_CONTENT);
    let answer = server.post("/classify", "image/bmp", picture(1, 1, 200)).await;
    assert_eq!(answer.problem(), (422, "no_examples".to_owned()));
}

#[tokio::test]
async fn an_unchanged_class_is_not_sent_again() {
    let server = Server::new().await;
    server.teach("red", &[(200, 1, 1)]).await;
    let first = server.get("/classes/red").await;
    let tag = first.header("etag").to_owned();
    let revision = first.value()["revision"].to_string();
    assert!(tag.starts_with('"') && tag.ends_with(&format!("/{revision}\"")), "strong: {tag}");
    let ask = || Request::get("/classes/red").header("if-none-match", &tag).body(Body::empty()).unwrap();
    let same = server.send(ask()).await;
    assert_eq!((same.status, same.bytes.len()), (StatusCode::NOT_MODIFIED, 0));
    server.teach("red", &[(201, 1, 1)]).await;
    assert_eq!(server.send(ask()).await.status, StatusCode::OK);

    // Made again, it comes to the same revision; it is another class all the same.
    server.json("DELETE", "/classes/red", &json!({})).await;
    server.teach("red", &[(200, 1, 1)]).await;
    let again = server.send(ask()).await;
    assert_eq!((again.status, again.value()["revision"].to_string()), (StatusCode::OK, revision));
}

#[tokio::test]
async fn a_class_that_changed_meanwhile_is_neither_renamed_nor_deleted() {
    let server = Server::new().await;
    server.teach("red", &[(200, 1, 1)]).await;
    let seen = server.get("/classes/red").await.header("etag").to_owned();
    server.teach("red", &[(201, 1, 1)]).await;
    let now = server.get("/classes/red").await.header("etag").to_owned();
    let ask = |method: &str, tags: &str, body: &str| {
        let request = Request::builder().method(method).uri("/classes/red").header("if-match", tags);
        request.header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap()
    };
    let rename = r#"{"name":"Crimson"}"#;
    for tags in [seen.clone(), format!("W/{now}"), "nonsense".to_owned()] {
        for (method, body) in [("PATCH", rename), ("DELETE", "")] {
            let refused = server.send(ask(method, &tags, body)).await;
            assert_eq!(refused.problem(), (412, "class_changed".to_owned()), "{method} {tags}");
        }
    }
    assert_eq!(server.get("/classes/red").await.header("etag"), now, "nothing was done");
    let renamed = server.send(ask("PATCH", &format!("{seen}, {now}"), rename)).await;
    assert_eq!((renamed.status, &renamed.value()["name"]), (StatusCode::OK, &json!("Crimson")));
    assert_eq!(server.send(ask("DELETE", "*", "")).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn examples_are_listed_deleted_restored_moved_and_shown() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let path = "/classes/red/examples";
    let listed = server.get(path).await.value();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3, "{listed}");
    let first = &listed["data"][0];
    assert_eq!((&first["media_type"], &first["class"]), (&json!("image/bmp"), &json!("red")));
    let id = first["id"].as_str().unwrap();

    let image = server.get(&format!("{path}/{id}/image")).await;
    assert_eq!((image.header("content-type"), &image.bytes), ("image/bmp", &picture(200, 10, 10)));
    assert_eq!(image.header("x-content-type-options"), "nosniff");

    let delete = server.json("DELETE", &format!("{path}/{id}"), &json!({})).await;
    assert_eq!(delete.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(path).await.value()["data"].as_array().unwrap().len(), 2);
    let all = server.get(&format!("{path}?include_deleted=true")).await.value();
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    assert!(all["data"].as_array().unwrap().iter().any(|example| example["deleted_at"].is_string()));

    let restored = server.json("POST", &format!("{path}/{id}/restore"), &json!({})).await;
    assert_eq!(restored.status, StatusCode::OK);
    assert_eq!(restored.value().get("deleted_at"), None);

    let moved = server.json("POST", &format!("{path}/{id}/move"), &json!({"class": "crimson"})).await;
    assert_eq!((moved.status, &moved.value()["class"]), (StatusCode::OK, &json!("crimson")));
    assert_eq!(server.get("/classes/crimson").await.value()["count"], 1);
    assert_eq!(server.get("/classes/red").await.value()["count"], 2);
    let answer = server.post("/classify", "image/bmp", picture(200, 10, 10)).await.value();
    assert_eq!(answer["data"][0]["label"], "crimson", "{answer}");
}

#[tokio::test]
async fn collections_know_nothing_of_each_other() {
    let server = Server::new().await;
    server.teach("red", &[(200, 10, 10)]).await;
    let other = "/collections/other";
    let added = server.post(&format!("{other}/classes/blue/examples"), "image/bmp", picture(1, 1, 200)).await;
    assert_eq!(added.status, StatusCode::CREATED, "{:?}", added.value());
    assert_eq!(added.header("location"), "/collections/other/classes/blue/examples");
    let answer = server.post(&format!("{other}/classify"), "image/bmp", picture(200, 10, 10)).await.value();
    assert_eq!(answer["data"][0]["label"], "blue", "the only class there is");
    let default = server.post("/collections/default/classify", "image/bmp", picture(1, 1, 200)).await.value();
    assert_eq!(default["data"][0]["label"], "red");
    assert_eq!(server.get("/classes/blue").await.status, StatusCode::NOT_FOUND);
}
