//! The pool of unlabelled images: every way to fill it, what is refused, labels, suggestions.

use crate::support::{Answer, FORM, Server, Setup, base64, form_body, picture};
use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::io::{Cursor, Write};
use std::sync::mpsc;
use std::time::Duration;

/// A tar archive of files as they are given.
fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written by hand: the crate's own setter refuses names such as `../x`.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// Adds one picture per colour; their ids.
async fn fill(server: &Server, colours: &[(u8, u8, u8)]) -> Vec<String> {
    let pictures: Vec<Bytes> = colours.iter().map(|&(r, g, b)| picture(r, g, b)).collect();
    let answer = server.form("/images", &pictures, None).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let images = answer.value()["images"].clone();
    images.as_array().unwrap().iter().map(|image| image["id"].as_str().unwrap().to_owned()).collect()
}

fn numbers(answer: &Answer) -> [u64; 4] {
    let value = answer.value();
    ["added", "duplicates", "failed", "count"]
        .map(|field| value[field].as_u64().unwrap_or_else(|| panic!("{value}")))
}

#[tokio::test]
async fn every_form_fills_the_pool() {
    let server = Server::new().await;
    let image = |red| picture(red, 10, 20);
    let json = |red| format!("{{\"image\":\"{}\"}}\n", base64(&image(red)));
    let one = |red| [("a.bmp", image(red))];
    let archive = |red| {
        let files = one(red);
        tar_of(&[(files[0].0, &files[0].1)])
    };
    let zipped = zip_of(&[("b.bmp", &image(9))]);
    let answers = [
        server.form("/images", &[image(1)], None).await,
        server.post("/images", FORM, form_body(&[("file", image(2))], None)).await,
        server.post("/images", "image/bmp", image(3)).await,
        server.json("POST", "/images", &json!({"images": [base64(&image(4))]})).await,
        server
            .json("POST", "/images", &json!({"images": [{"type": "embedding", "value": [1, 2, 3, 4]}]}))
            .await,
        server.post("/images", "application/x-ndjson", json(5)).await,
        server.post("/images", "application/x-tar", archive(6)).await,
        server.post("/images", "application/gzip", gzip(&archive(7))).await,
        server.post("/images", "application/zstd", zstd(&archive(8))).await,
        server.post("/images", "application/zip", zipped).await,
    ];
    for (count, answer) in (1..).zip(&answers) {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        assert_eq!(numbers(answer), [1, 0, 0, count]);
        let added = &answer.value()["images"][0];
        assert_eq!((&added["index"], &added["duplicate"]), (&json!(0), &json!(false)));
        assert_eq!(added["name"].is_string(), count > 6, "files of archives have names: {added}");
    }
    let again = server.post("/images", "application/zstd", zstd(&archive(6))).await;
    assert_eq!((again.status, numbers(&again)), (StatusCode::OK, [0, 1, 0, 10]));
    let listed = server.get("/images").await.value();
    assert_eq!(listed["data"].as_array().unwrap().len(), 10);
    let vector = &listed["data"][4];
    assert!(vector.get("media_type").is_none() && vector["embedded"] == true, "{vector}");
    let id = vector["id"].as_str().unwrap();
    let bytes = server.get(&format!("/images/{id}/image")).await;
    assert_eq!(bytes.problem(), (404, "image_has_no_bytes".to_owned()));
    let id = listed["data"][9]["id"].as_str().unwrap();
    let bytes = server.get(&format!("/images/{id}/image")).await;
    assert_eq!((bytes.header("content-type"), &bytes.bytes), ("image/bmp", &image(9)));
    assert_eq!(bytes.header("x-content-type-options"), "nosniff");
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("dozen_pool_images "));
    assert!(metrics.contains("dozen_images_total{op=\"images\",outcome=\"duplicate\"}"));
}

#[tokio::test]
async fn what_is_wrong_in_an_archive_is_named_and_fails_for_itself() {
    let server = Server::new().await;
    let (red, blue) = (picture(200, 10, 10), picture(10, 10, 200));
    // More than one image may have, and than a body in memory, and less than an archive.
    let huge = [&b"GIF89a"[..], &vec![0; 5 << 19]].concat();
    let files: &[(&str, &[u8])] = &[
        ("photos/red.bmp", &red),
        ("photos/readme.txt", b"not an image"),
        ("../../etc/blue.bmp", &blue),
        ("/photos/broken.bmp", &red[..60]),
        ("photos/empty.jpg", b""),
        ("photos/red again.bmp", &red),
        ("huge.gif", &huge),
    ];
    let mut tar = tar::Builder::new(Vec::new());
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_size(0);
    tar.append_data(&mut folder, "photos/", &[][..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "passwd", "/etc/passwd").unwrap();
    let folders = tar.into_inner().unwrap();
    // Without the end marker of the first.
    let tar = [&folders[..folders.len() - 1024], &tar_of(files)[..]].concat();
    for (collection, media_type, archive) in
        [("a", "application/x-tar", tar), ("b", "application/zip", zip_of(files))]
    {
        let answer = server.post(&format!("/collections/{collection}/images"), media_type, archive).await;
        assert_eq!(numbers(&answer), [2, 1, 4, 2], "{}", answer.text());
        let value = answer.value();
        let seen = |list: &str, field: &str| -> Vec<Value> {
            value[list].as_array().unwrap().iter().map(|item| item.pointer(field).unwrap().clone()).collect()
        };
        assert_eq!(seen("images", "/index"), [0, 2, 5]);
        assert_eq!(seen("images", "/name"), ["photos/red.bmp", "../../etc/blue.bmp", "photos/red again.bmp"]);
        assert_eq!(seen("images", "/duplicate"), [false, false, true]);
        assert_eq!(seen("errors", "/index"), [1, 3, 4, 6]);
        assert_eq!(
            seen("errors", "/error/code"),
            ["unsupported_image_format", "undecodable_image", "undecodable_image", "image_too_large"]
        );
        assert_eq!(seen("errors", "/name")[0], "photos/readme.txt");
        assert_eq!(value["errors"][3]["error"]["limit"], 1 << 20);
    }
}

#[tokio::test]
async fn lines_fail_for_themselves() {
    let server = Server::new().await;
    let good = |red| format!("\"{}\"", base64(&picture(red, 1, 2)));
    let long = format!("\"{}\"", "A".repeat(1_500_000));
    let lines = [
        good(1),
        "{\"image\":".to_owned(),
        String::new(),
        "\"https://example.org/a.jpg\"".to_owned(),
        long,
        "{\"type\":\"embedding\",\"value\":[1,2]}".to_owned(),
        good(2) + "\r",
        good(1),
    ];
    let answer = server.post("/images", "application/x-ndjson", lines.join("\n")).await;
    assert_eq!(numbers(&answer), [2, 1, 4, 2], "{}", answer.text());
    let value = answer.value();
    let errors: Vec<_> = value["errors"].as_array().unwrap().iter().collect();
    for (error, (index, code)) in errors.iter().zip([
        (1, "malformed_json"),
        (2, "url_input_disabled"),
        (3, "image_too_large"),
        (4, "invalid_vector"),
    ]) {
        assert_eq!((&error["index"], &error["error"]["code"]), (&json!(index), &json!(code)), "{error}");
        assert_eq!(error["error"]["index"], index);
    }
    assert_eq!(value["images"][2]["index"], 6);
}

#[tokio::test]
async fn one_bad_image_fails_a_form_unless_it_is_to_be_skipped() {
    let server = Server::new().await;
    let images = [picture(1, 2, 3), picture(4, 5, 6).slice(..60)];
    let failed = server.form("/images", &images, None).await;
    assert_eq!(failed.problem(), (422, "undecodable_image".to_owned()));
    assert_eq!(failed.value()["index"], 1);
    assert_eq!(server.get("/images").await.value()["data"], json!([]), "nothing is stored");
    let skipped = server.form("/images", &images, Some(r#"{"on_error":"skip"}"#)).await;
    assert_eq!(numbers(&skipped), [1, 0, 1, 1]);
    assert_eq!(skipped.value()["errors"][0]["error"]["code"], "undecodable_image");
}

#[tokio::test]
async fn an_archive_larger_than_a_batch_is_added_in_order_and_again_as_duplicates() {
    let server = Server::new().await;
    let pictures: Vec<(String, Bytes)> =
        (0..100).map(|i| (format!("{i:03}.bmp"), picture(i, 100, 3))).collect();
    let files: Vec<(&str, &[u8])> =
        pictures.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref())).collect();
    let archive = gzip(&tar_of(&files));
    let answer = server.post("/images?views=2", "application/gzip", archive.clone()).await;
    assert_eq!(numbers(&answer), [100, 0, 0, 100], "{}", answer.text());
    let value = answer.value();
    for (index, image) in value["images"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&image["index"], &image["name"]), (&json!(index), &json!(files[index].0)));
    }
    let again = server.post("/images?views=2", "application/gzip", archive).await;
    assert_eq!((again.status, numbers(&again)), (StatusCode::OK, [0, 100, 0, 100]));
}

#[tokio::test]
async fn an_archive_waits_where_the_queue_is_full() {
    let (word, gate) = mpsc::channel();
    let server = Server::with(Setup { max_queue: Some(2), gate: Some(gate), ..Setup::default() }).await;
    let red = picture(200, 10, 10);
    let files: Vec<(&str, &[u8])> = vec![("red.bmp", &red)];
    let filling = [picture(1, 2, 3), picture(4, 5, 6)];
    let fill = server.form("/embed", &filling, None);
    let few = async {
        // Until both places are taken.
        while server.services.engine.depth() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refused = server.post("/images", "image/bmp", red.clone()).await;
        assert_eq!(refused.problem(), (429, "queue_full".to_owned()));
    };
    let many = async {
        few.await;
        let mut archive = std::pin::pin!(server.post("/images", "application/x-tar", tar_of(&files)));
        let early = tokio::time::timeout(Duration::from_millis(400), &mut archive).await;
        assert!(early.is_err(), "there is no room yet");
        (0..3).for_each(|_| word.send(()).unwrap());
        archive.await
    };
    let (filled, answer) = tokio::join!(fill, many);
    assert_eq!((filled.status, numbers(&answer)), (StatusCode::OK, [1, 0, 0, 1]));
}

/// Nothing of what is refused as a whole is stored.
#[tokio::test]
async fn bombs_and_damaged_archives_are_refused_before_anything_is_stored() {
    let server = Server::new().await;
    let red = picture(200, 10, 10);
    // Five MiB of zeros, in a few kilobytes; the server's limit is four.
    let zeros = vec![0; 5 << 20];
    let bomb: &[(&str, &[u8])] = &[("red.bmp", &red), ("zeros.bmp", &zeros)];
    let many: Vec<(String, Bytes)> = (0..201).map(|i| (format!("{i}.bmp"), red.clone())).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|(name, bytes)| (name.as_str(), bytes.as_ref())).collect();
    let lines = format!("\"{}\"\n", base64(&red)).repeat(201);
    let mut liar = tar_of(&[("red.bmp", &red), ("liar.bmp", &red)]);
    let second = 512 + red.len().div_ceil(512) * 512;
    liar[second + 124..second + 136].copy_from_slice(b"77777777777\0");
    let mut sum = tar::Header::new_gnu();
    sum.as_mut_bytes().copy_from_slice(&liar[second..second + 512]);
    sum.set_cksum();
    liar[second..second + 512].copy_from_slice(sum.as_bytes());
    let whole = tar_of(&[("red.bmp", &red), ("more.bmp", &red)]);
    let mut garbled = whole.clone();
    garbled[second..second + 100].fill(b'x');
    let mut zip_cut = zip_of(&[("red.bmp", &red)]);
    zip_cut.truncate(zip_cut.len() - 10);
    let packed = gzip(&whole);
    let too_large = (413, "payload_too_large");
    let too_many = (413, "too_many_images");
    let damaged = (400, "malformed_body");
    for (name, media_type, body, (status, code)) in [
        ("zip bomb", "application/zip", zip_of(bomb), too_large),
        ("gzip bomb", "application/gzip", gzip(&tar_of(bomb)), too_large),
        ("zstd bomb", "application/zstd", zstd(&tar_of(bomb)), too_large),
        ("8 GiB by its header", "application/x-tar", liar, too_large),
        ("many in a zip", "application/zip", zip_of(&many), too_many),
        ("many in a tar", "application/gzip", gzip(&tar_of(&many)), too_many),
        ("many lines", "application/x-ndjson", lines.into_bytes(), too_many),
        ("as sent", "application/x-tar", vec![0; (4 << 20) + 1], too_large),
        ("cut off", "application/x-tar", whole[..second + 600].to_vec(), damaged),
        ("garbled", "application/x-tar", garbled, damaged),
        ("cut off", "application/gzip", packed[..packed.len() - 20].to_vec(), damaged),
        ("cut off", "application/zip", zip_cut, damaged),
        ("no archive", "application/zip", red.to_vec(), (415, "unsupported_media_type")),
        ("a picture in gzip", "application/gzip", gzip(&red), damaged),
        ("empty", "application/zip", Vec::new(), (400, "empty_body")),
        ("empty", "application/x-tar", tar_of(&[]), (415, "unsupported_media_type")),
        ("empty", "application/zip", zip_of(&[]), (400, "no_images")),
        ("blank", "application/x-ndjson", b"\n \n".to_vec(), (400, "no_images")),
    ] {
        let answer = server.post("/images", media_type, body).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{name}, {media_type}: {}", answer.text());
        if status == 413 {
            let value = answer.value();
            assert!(value["actual"].as_u64() > value["limit"].as_u64(), "{name}: {value}");
        }
    }
    assert_eq!(server.get("/images").await.value()["data"], json!([]));
}

#[tokio::test]
async fn a_long_name_is_read_and_an_endless_one_refused() {
    let server = Server::new().await;
    let red = picture(200, 10, 10);
    let mut archive = tar::Builder::new(Vec::new());
    let name = format!("{}/red.bmp", "long".repeat(40));
    let mut header = tar::Header::new_gnu();
    header.set_size(red.len() as u64);
    archive.append_data(&mut header, &name, &red[..]).unwrap();
    let answer = server.post("/images", "application/x-tar", archive.into_inner().unwrap()).await;
    assert_eq!(answer.value()["images"][0]["name"], name.as_str());

    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    archive.append(&header, &vec![b'x'; 1 << 20][..]).unwrap();
    let answer = server.post("/images", "application/x-tar", archive.into_inner().unwrap()).await;
    assert_eq!(answer.problem(), (400, "malformed_body".to_owned()));
}

#[tokio::test]
async fn a_label_is_an_example_and_comes_off_with_it() {
    let server = Server::new().await;
    let ids = fill(&server, &[(200, 10, 10), (10, 10, 200), (10, 200, 10)]).await;
    let path = format!("/images/{}/label", ids[0]);
    let answer = server.json("POST", &path, &json!({"class": "red"})).await;
    let example = answer.value();
    assert_eq!((answer.status, &example["class"]), (StatusCode::CREATED, &json!("red")));
    assert_eq!(server.json("POST", &path, &json!({"class": "red"})).await.status, StatusCode::OK);
    server.json("POST", &format!("/images/{}/label", ids[1]), &json!({"class": "blue"})).await;
    let answer = server.post("/classify", "image/bmp", picture(220, 20, 20)).await.value();
    assert_eq!(answer["data"][0]["label"], "red");

    let listed = server.get("/images?labelled=true").await.value();
    assert_eq!(listed["data"][0]["labels"], json!([{"class": "red", "example": example["id"]}]));
    assert_eq!(server.get("/images?labelled=false").await.value()["data"][0]["id"], ids[2].as_str());
    let first = server.get("/images?limit=2").await.value();
    assert_eq!(first["has_more"], true);
    let next = first["next"].as_str().unwrap();
    assert_eq!(
        server.get(&format!("/images?limit=2&after={next}")).await.value()["data"][0]["id"],
        ids[2].as_str()
    );

    let moved = server.json("POST", &path, &json!({"class": "crimson"})).await;
    assert_eq!((moved.status, &moved.value()["id"]), (StatusCode::CREATED, &example["id"]));
    let delete = format!("/classes/crimson/examples/{}", example["id"].as_str().unwrap());
    assert_eq!(server.json("DELETE", &delete, &json!({})).await.status, StatusCode::NO_CONTENT);
    let image = server.get(&format!("/images/{}", ids[0])).await.value();
    assert_eq!(image["labels"], json!([]));

    let one = format!("/images/{}", ids[0]);
    assert_eq!(server.json("DELETE", &one, &json!({})).await.status, StatusCode::NO_CONTENT);
    assert!(server.get(&one).await.value()["deleted_at"].is_string());
    assert_eq!(server.json("POST", &path, &json!({"class": "red"})).await.problem().1, "image_not_found");
    let restored = server.json("POST", &format!("{one}/restore"), &json!({})).await;
    assert_eq!((restored.status, restored.value().get("deleted_at")), (StatusCode::OK, None));
}

#[tokio::test]
async fn suggestions_need_no_labels_and_follow_them() {
    let server = Server::new().await;
    let none = server.json("POST", "/suggest", &json!({})).await.value();
    assert_eq!(none, json!({"data": [], "pool": 0, "considered": 0, "pending": 0}));
    let ids =
        fill(&server, &[(200, 10, 10), (201, 11, 10), (10, 10, 200), (11, 10, 201), (10, 200, 10)]).await;
    let colour = |id: &Value| ids.iter().position(|known| known == id.as_str().unwrap()).unwrap() / 2;
    let suggested = server.json("POST", "/suggest", &json!({"count": 5})).await.value();
    let mut colours: Vec<_> =
        suggested["data"].as_array().unwrap().iter().map(|item| colour(&item["image"])).collect();
    colours.sort_unstable();
    assert_eq!(colours, [0, 1, 2], "one of each colour, near-duplicates never together: {suggested}");
    assert_eq!((&suggested["pool"], &suggested["considered"]), (&json!(5), &json!(5)));
    server.json("POST", &format!("/images/{}/label", ids[0]), &json!({"class": "red"})).await;
    let suggested = server.json("POST", "/collections/default/suggest", &json!({"count": 5})).await.value();
    assert!(
        suggested["data"].as_array().unwrap().iter().all(|item| colour(&item["image"]) > 0),
        "{suggested}"
    );
    assert_eq!(suggested["pool"], 4);
}

#[tokio::test]
async fn mistakes_about_the_pool_have_their_status_and_code() {
    let server = Server::new().await;
    let id = fill(&server, &[(1, 2, 3)]).await.remove(0);
    for (method, path, body, status, code) in [
        ("GET", "/images/nothing".to_owned(), json!({}), 404, "image_not_found"),
        ("GET", "/images/nothing/image".to_owned(), json!({}), 404, "image_not_found"),
        ("GET", format!("/collections/other/images/{id}"), json!({}), 404, "image_not_found"),
        ("DELETE", "/images/nothing".to_owned(), json!({}), 404, "image_not_found"),
        ("POST", "/images/nothing/restore".to_owned(), json!({}), 404, "image_not_found"),
        ("POST", "/images/nothing/label".to_owned(), json!({"class": "red"}), 404, "image_not_found"),
        ("POST", format!("/images/{id}/label"), json!({"class": "Not A Slug"}), 422, "invalid_name"),
        ("POST", format!("/images/{id}/label"), json!({}), 422, "invalid_request"),
        ("GET", "/images?labelled=perhaps".to_owned(), json!({}), 400, "invalid_query"),
        ("GET", "/images?limit=0".to_owned(), json!({}), 400, "invalid_query"),
        ("GET", "/images?after=nonsense".to_owned(), json!({}), 400, "invalid_cursor"),
        ("GET", "/collections/UPPER/images".to_owned(), json!({}), 422, "invalid_name"),
        ("POST", "/suggest".to_owned(), json!({"count": 0}), 422, "invalid_request"),
        ("POST", "/suggest".to_owned(), json!({"count": 1001}), 422, "invalid_request"),
        ("POST", "/suggest".to_owned(), json!({"size": 3}), 422, "invalid_request"),
        ("POST", "/collections/UPPER/suggest".to_owned(), json!({}), 422, "invalid_name"),
        ("POST", "/images".to_owned(), json!({"images": ["AQID"], "views": 9}), 422, "invalid_request"),
    ] {
        let answer = server.json(method, &path, &body).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {path}: {}", answer.text());
    }
    let views = server.post("/images?views=9", "application/zip", zip_of(&[])).await;
    assert_eq!(views.problem(), (422, "invalid_request".to_owned()));
    let text = server.post("/images", "text/plain", "text").await;
    assert_eq!(text.problem(), (415, "unsupported_media_type".to_owned()));
}
