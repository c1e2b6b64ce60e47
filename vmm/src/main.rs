//! qvmd: a virtual machine monitor for Linux KVM, driven over QMP.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
