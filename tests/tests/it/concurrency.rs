//! Many clients at once, and more work than the queue holds.

use dozen_tests::photos::{CLASSES, photo, photos};
use dozen_tests::{Reply, Server};

#[test]
fn sixty_four_clients_get_the_answers_one_client_gets() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    for class in &CLASSES[..3] {
        server.post_images(&format!("/classes/{class}/examples"), &photos(class, 1..=3)).expect(201);
    }
    let image = photo("hat", 20);
    let alone = server.post_images("/classify", std::slice::from_ref(&image)).expect(200)["data"].clone();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| server.post_images("/classify", std::slice::from_ref(&image))))
            .collect();
        for client in clients {
            let reply = client.join().unwrap();
            let answer = reply.expect(200)["data"].clone();
            assert_eq!(answer[0]["label"], alone[0]["label"]);
            // Batches of other sizes round differently.
            let difference =
                answer[0]["probability"].as_f64().unwrap() - alone[0]["probability"].as_f64().unwrap();
            assert!(difference.abs() < 1e-4, "{difference}");
        }
    });
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--max-queue", "8", "--max-client-batch-size", "8"]);
    let images = photos("hat", 1..=8);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..24).map(|_| scope.spawn(|| server.post_images("/embed", &images))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let refused: Vec<Reply> = replies.into_iter().filter(|reply| reply.status != 200).collect();
    assert!(!refused.is_empty(), "24 calls of 8 images do not fit a queue of 8");
    for reply in refused {
        let seconds: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(seconds >= 1);
        reply.expect_problem(429, "queue_full");
    }
    server.post_images("/embed", &images).expect(200);
}
