//! The README's curl lines do what they say.

use dozen_tests::{Server, root};
use std::process::Command;

/// The shell blocks of the README that call a running server, in order.
fn curl_blocks() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains("curl")).map(str::to_owned).collect()
}

#[test]
fn every_curl_line_succeeds_verbatim() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let blocks = curl_blocks();
    assert!(!blocks.is_empty(), "the README shows no curl line");
    for block in blocks {
        // Only the port differs, and curl is told to fail on an error status.
        let script =
            block.replace("http://127.0.0.1:3000", &server.base).replace("curl ", "curl --fail-with-body ");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(root())
            .output()
            .expect("bash and curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{block}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(server.get("/classes").expect(200)["data"].as_array().map(Vec::len), Some(2));
}
