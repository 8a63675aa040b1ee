//! The `countersign` command; everything is in the library.

use std::process::ExitCode;

/// Handshakes and certificates allocate a lot in small pieces; this allocator is made for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    countersign::cli::main()
}
