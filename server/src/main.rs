//! The `dozen` program.
fn main() {}
