//! Compiles the filters of system calls (the program is not to read JSON when it starts), and lists
//! the modules that can be logged.

#[path = "src/armour/calls.rs"]
mod calls;
#[path = "build/filters.rs"]
mod filters;
#[path = "build/modules.rs"]
mod modules;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/filters.rs");
    println!("cargo::rerun-if-changed=build/modules.rs");
    println!("cargo::rerun-if-changed=src/armour/calls.rs");
    println!("cargo::rerun-if-changed={}", filters::SOURCE);
    let text = std::fs::read_to_string(filters::SOURCE).expect("the filters can be read");
    let out = std::env::var_os("OUT_DIR").expect("cargo says where to");
    let out = std::path::Path::new(&out);
    for (_, directory) in modules::CRATES {
        println!("cargo::rerun-if-changed={directory}");
    }
    let names = modules::names().expect("the sources can be read");
    std::fs::write(out.join("modules.txt"), names).expect("the output can be written");
    match filters::compile(&text) {
        Ok(source) => {
            std::fs::write(out.join("filters.rs"), source).expect("the output can be written");
        }
        Err(error) => panic!("{}: {error}", filters::SOURCE),
    }
}
