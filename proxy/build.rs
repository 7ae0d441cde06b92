//! Keeps the released program small.

#[path = "../build/small.rs"]
mod small;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../build/small.rs");
    small::link();
}
