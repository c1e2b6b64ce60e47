//! Hands the linker its script.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rustc-link-arg=-T{directory}/link.ld");
    println!("cargo:rerun-if-changed=link.ld");
}
