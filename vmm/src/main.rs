//! qvmd: a virtual machine monitor for Linux KVM, driven over QMP.

fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    vmm::startup::run(&words).into()
}
