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

/// Raises the soft limit of open descriptors to the hard one; the limit that holds then.
///
/// # Errors
/// Those of getrlimit(2) and setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // JUSTIFICATION: std has no resource limits.
    // SAFETY: both calls read or write one rlimit that lives on this stack.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(limit.rlim_cur)
}

/// The soft limits of open descriptors and of locked memory (bytes), for the doctor.
///
/// # Errors
/// Those of getrlimit(2).
pub fn limits() -> io::Result<(u64, u64)> {
    let read = |what| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // JUSTIFICATION: std has no resource limits.
        // SAFETY: getrlimit writes one rlimit that lives on this stack.
        match unsafe { libc::getrlimit(what, &raw mut limit) } {
            0 => Ok(limit.rlim_cur),
            _ => Err(io::Error::last_os_error()),
        }
    };
    Ok((read(libc::RLIMIT_NOFILE)?, read(libc::RLIMIT_MEMLOCK)?))
}
