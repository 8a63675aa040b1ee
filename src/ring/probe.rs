//! Whether this kernel offers what the workers need, asked before anything is served.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::setup::sized;

/// Something the workers need of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelNeed {
    /// Its name in the kernel's headers.
    pub name: &'static str,
    /// The first Linux release that has it.
    pub since: &'static str,
}

/// The flags that every worker's ring is set up with.
const RING_FLAGS: KernelNeed =
    KernelNeed { name: "IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER", since: "6.0" };

/// The operations that the workers submit.
const OPERATIONS: [(u8, KernelNeed); 4] = [
    (opcode::PollAdd::CODE, KernelNeed { name: "IORING_OP_POLL_ADD", since: "5.1" }),
    (opcode::Accept::CODE, KernelNeed { name: "IORING_OP_ACCEPT", since: "5.5" }),
    (opcode::Connect::CODE, KernelNeed { name: "IORING_OP_CONNECT", since: "5.5" }),
    (opcode::AsyncCancel2::CODE, KernelNeed { name: "IORING_OP_ASYNC_CANCEL", since: "5.5" }),
];

/// Why the workers can't run on this kernel.
#[derive(Debug, thiserror::Error)]
pub enum MissingNeed {
    /// io_uring is switched off or forbidden.
    #[error(
        "this kernel or its sandbox forbids io_uring ({0}): set the sysctl \
         kernel.io_uring_disabled = 0, allow the io_uring_* system calls in the container's \
         seccomp profile, and run Linux 6.0 or later"
    )]
    Forbidden(io::Error),
    /// Not enough memory for a ring, or not in one piece.
    #[error(
        "the kernel has no memory for io_uring: free some, raise the service's limit (MemoryMax= \
         in systemd), and where the kernel counts rings as locked memory, the memlock limit \
         (LimitMEMLOCK=, ulimit -l) to at least 8192 kB a worker"
    )]
    Memory,
    /// The kernel is too old.
    #[error("this kernel lacks {}, which Linux {} and later have", .0.name, .0.since)]
    Kernel(KernelNeed),
}

/// Asks the kernel for all that the workers need; returns what it has, for the doctor.
///
/// # Errors
/// The first thing that is missing.
pub fn probe() -> Result<Vec<KernelNeed>, MissingNeed> {
    let ring: IoUring = sized(|entries| {
        IoUring::builder()
            .setup_coop_taskrun()
            .setup_single_issuer()
            .setup_cqsize(entries.completion)
            .build(entries.submission)
    })
    .map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => MissingNeed::Kernel(RING_FLAGS),
        Some(libc::ENOMEM) => MissingNeed::Memory,
        _ => MissingNeed::Forbidden(error),
    })?;
    let mut offered = Probe::new();
    ring.submitter().register_probe(&mut offered).map_err(MissingNeed::Forbidden)?;
    let mut found = vec![RING_FLAGS];
    for (code, need) in OPERATIONS {
        if !offered.is_supported(code) {
            return Err(MissingNeed::Kernel(need));
        }
        found.push(need);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_offers_what_the_workers_need() {
        let found = probe().expect("tests need io_uring");
        assert_eq!(found.len(), 1 + OPERATIONS.len());
    }
}
