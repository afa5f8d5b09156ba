//! What was acknowledged is there after a restart, also after kill -9 in the middle of writes.

use dozen_tests::photos::{photo, photos, plain_png};
use dozen_tests::{Reply, Server, image_form};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn answer(server: &Server) -> serde_json::Value {
    server.post_images("/classify", &photos("hat", 20..=23)).expect(200)
}

#[test]
fn a_restart_changes_no_answer() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    for class in ["hat", "pants", "shoes"] {
        server.post_images(&format!("/classes/{class}/examples"), &photos(class, 1..=6)).expect(201);
    }
    server.train();
    let before = answer(&server);
    assert!(server.stop(), "SIGTERM ends it cleanly");
    let server = Server::start(data.path(), &[]);
    assert_eq!(answer(&server), before);
    let job = &server.get("/jobs").expect(200)["data"][0];
    assert_eq!(job["status"], "succeeded");
}

#[test]
fn kill_in_the_middle_of_writes_loses_nothing_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let acknowledged = Mutex::new(Vec::new());
    let server = Server::start(data.path(), &[]);
    let (http, base) = (server.http.clone(), server.base.clone());
    let serial = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let (http, base, acknowledged, serial) = (&http, &base, &acknowledged, &serial);
            scope.spawn(move || {
                loop {
                    // Every image is another one: two writers never send the same content.
                    let number = serial.fetch_add(1, Ordering::Relaxed);
                    let image = plain_png(8 + number % 50, 8 + number / 50, [writer as u8, number as u8, 77]);
                    let url = format!("{base}/classes/class-{writer}/examples");
                    let Ok(response) = http.post(url).multipart(image_form(&[image])).send() else { return };
                    if response.status() == 201 {
                        let Ok(body) = response.json::<serde_json::Value>() else { return };
                        let id = body["examples"][0]["id"].as_str().unwrap().to_owned();
                        acknowledged.lock().unwrap().push((writer, id));
                    }
                }
            });
        }
        while acknowledged.lock().unwrap().len() < 40 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.kill();
    });
    let server = Server::start(data.path(), &[]);
    for (writer, id) in acknowledged.into_inner().unwrap() {
        let image: Reply = server.get(&format!("/classes/class-{writer}/examples/{id}/image"));
        assert_eq!(image.status, 200, "example {id} of class-{writer} was acknowledged");
    }
    // Index and heads were rebuilt from the same rows.
    server.post_images("/classify", &[photo("hat", 1)]).expect(200);
}

#[test]
fn a_job_survives_kill() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    for class in ["hat", "pants", "shoes"] {
        server.post_images(&format!("/classes/{class}/examples"), &photos(class, 1..=12)).expect(201);
    }
    let job = server.post("/train").expect(202);
    server.kill();
    let server = Server::start(data.path(), &[]);
    let job = server.wait_for_job(job["id"].as_str().unwrap());
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(server.get("/heads").expect(200)["data"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let _server = Server::start(data.path(), &[]);
    let mut second = dozen_tests::program("dozen");
    let output = second.args(["--port", "0", "--data-dir"]).arg(data.path()).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains(&data.path().display().to_string()), "{message}");
}
