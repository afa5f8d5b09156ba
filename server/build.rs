//! Migrations are compiled in by a macro that sees changed files but not new ones.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
