//! What the process asks of the operating system besides sockets.
#![allow(unsafe_code)]

use std::{io, mem::MaybeUninit, time::Duration};

/// Pins the calling thread; false if that CPU may not be used.
pub fn pin_to_cpu(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// The CPUs that this process may use, in order; empty if the kernel won't say.
pub fn usable_cpus() -> Vec<usize> {
    let mut cpus: Vec<_> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cpus.sort_unstable();
    cpus
}

/// CPU time that the calling thread has used, in user and kernel mode.
pub fn thread_cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // JUSTIFICATION: std has no clock for CPU time.
    // SAFETY: clock_gettime writes one timespec to the pointer; zeroed is a valid timespec in
    // case it fails, which it doesn't for a thread's own clock.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

/// The limits that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open descriptors.
    pub descriptors: Limit,
    /// Locked memory, bytes.
    pub locked_memory: Limit,
}

/// Reads the limits.
///
/// # Errors
/// Those of getrlimit(2).
pub fn limits() -> io::Result<Limits> {
    Ok(Limits {
        descriptors: limit(libc::RLIMIT_NOFILE)?,
        locked_memory: limit(libc::RLIMIT_MEMLOCK)?,
    })
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // JUSTIFICATION: std has no resource limits.
    // SAFETY: getrlimit writes one rlimit that lives on this stack.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit of open descriptors to the hard one, which is returned.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Limit { hard, .. } = limit(libc::RLIMIT_NOFILE)?;
    let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // JUSTIFICATION: std has no resource limits.
    // SAFETY: setrlimit reads one rlimit that lives on this stack.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } {
        0 => Ok(hard),
        _ => Err(io::Error::last_os_error()),
    }
}
