//! qvmd: a virtual machine monitor for Linux KVM, driven over QMP.

fn main() -> std::process::ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    vmm::startup::run(words).into()
}
