//! From unlabelled pictures to served answers: pre-train a few steps, export, serve the result.

use dozen_tests::photos::{photo, photos};
use dozen_tests::{Server, program, root};
use std::process::Command;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn weights_trained_here_serve() {
    let work = tempfile::tempdir().unwrap();
    let (run_folder, model) = (work.path().join("run"), work.path().join("model"));
    let config = root().join("tests/fixtures/train/micro.toml");
    run(program("dozen-train")
        .args(["pretrain", "--config"])
        .arg(config)
        .arg("--data")
        .arg(root().join("server/demo/photos"))
        .arg("--out")
        .arg(&run_folder));
    run(program("dozen-train")
        .args(["export", "--checkpoint"])
        .arg(run_folder.join("checkpoint.safetensors"))
        .arg("--out")
        .arg(&model));
    let server = Server::start(&work.path().join("data"), &["--model", &model.display().to_string()]);
    server.post_images("/classes/hat/examples", &photos("hat", 1..=2)).expect(201);
    server.post_images("/classes/shoes/examples", &photos("shoes", 1..=2)).expect(201);
    let answer = server.post_images("/classify", &[photo("hat", 1)]).expect(200);
    assert_eq!(answer["model"], "model");
}
