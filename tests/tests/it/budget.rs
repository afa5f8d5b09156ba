//! The patch budget and the type of the arithmetic, asked for over HTTP.

use dozen_tests::Server;
use dozen_tests::photos::{photo, photos};
use serde_json::{Value, json};

fn vector(answer: &Value, index: usize) -> Vec<f64> {
    let values = answer["data"][index]["embedding"].as_array().unwrap();
    values.iter().map(|value| value.as_f64().unwrap()).collect()
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

#[test]
fn less_of_an_image_gives_nearly_the_same_vector() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let embed =
        |query: &str| server.post_images(&format!("/embed{query}"), &photos("hat", 1..=3)).expect(200);
    let whole = embed("");
    assert_eq!(whole["usage"], json!({"images": 3, "keep": 1.0}));
    assert!(whole["data"][0].get("spread").is_none(), "{whole}");

    for select in ["spread", "content", "centre", "random&seed=5"] {
        let most = embed(&format!("?keep=0.75&select={select}"));
        let few = embed(&format!("?keep=0.1&select={select}"));
        assert_eq!(few, embed(&format!("?keep=0.1&select={select}")), "the same call, the same answer");
        for index in 0..3 {
            let [whole, most, few] = [&whole, &most, &few].map(|answer| vector(answer, index));
            let (near, far) = (cosine(&whole, &most), cosine(&whole, &few));
            assert!(near > far && near > 0.8 && near < 0.999_999, "{select}: {near}, {far}");
        }
    }

    let auto = embed("?keep=auto&min_cosine=0.8");
    let share = auto["usage"]["keep"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "{auto}");
    let strict = embed("?keep=auto&min_cosine=1");
    assert_eq!(strict["usage"]["keep"], 1.0);

    let masked = embed("?keep=0.5&masks=4&seed=1");
    for index in 0..3 {
        let spread = masked["data"][index]["spread"].as_f64().unwrap();
        assert!(spread > 0.0 && spread < 0.5, "{spread}");
    }
    server.post_images("/classes/hat/examples", &photos("hat", 4..=5)).expect(201);
    let answer = server.post_images("/classify?keep=0.5&masks=3", &[photo("hat", 6)]).expect(200);
    assert!(answer["data"][0]["spread"].as_f64().unwrap() > 0.0, "{answer}");
}

#[test]
fn the_server_says_what_it_computes_with() {
    let data = tempfile::tempdir().unwrap();
    let mut vectors = Vec::new();
    for dtype in ["f32", "int8", "auto"] {
        let server = Server::start(data.path(), &["--dtype", dtype]);
        let model = server.get("/info").expect(200)["model"].clone();
        if dtype == "auto" {
            assert!(model["dtype"] == "f32" || model["agreement"]["mean_cosine"].as_f64().unwrap() >= 0.998);
        } else {
            assert_eq!(model["dtype"], dtype);
            assert_eq!(model.get("agreement").is_some(), dtype == "int8", "{model}");
        }
        vectors.push(vector(&server.post_images("/embed", &[photo("hat", 1)]).expect(200), 0));
        assert!(server.stop());
    }
    assert!(cosine(&vectors[0], &vectors[1]) > 0.998 && cosine(&vectors[0], &vectors[2]) > 0.998);
}
