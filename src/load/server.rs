//! The CPU time and memory of the process under test, read from `/proc` or a control group.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Whose CPU time and memory are the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// These processes, with all of their threads.
    Processes(Vec<u32>),
    /// A control group, version 1 (cpuacct) or 2.
    Cgroup(PathBuf),
}

/// CPU time so far in nanoseconds, by thread; a control group is one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CpuTime(BTreeMap<u32, u64>);

impl CpuTime {
    /// Nanoseconds used since `start`. A thread that ended in between is missing, one that
    /// began counts whole.
    pub(super) fn since(&self, start: &Self) -> u64 {
        self.0
            .iter()
            .map(|(task, ns)| ns.saturating_sub(start.0.get(task).copied().unwrap_or(0)))
            .sum()
    }
}

impl Server {
    /// Reads the CPU time of now.
    ///
    /// The scheduler's own account (`schedstat`) has nanoseconds where `stat` has ticks of ten
    /// milliseconds.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at.
    pub(super) fn cpu_time(&self) -> io::Result<CpuTime> {
        let mut times = BTreeMap::new();
        match self {
            Self::Processes(pids) => {
                for pid in pids {
                    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
                    for task in fs::read_dir(&tasks).map_err(|e| naming(&tasks, e))? {
                        let task = task?;
                        let file = task.path().join("schedstat");
                        // A thread may end between the listing and the reading.
                        let Ok(text) = fs::read_to_string(&file) else { continue };
                        let ns = on_cpu_ns(&text).ok_or_else(|| unexpected(&file))?;
                        let name = task.file_name();
                        let id = name.to_str().and_then(|id| id.parse().ok());
                        times.insert(id.ok_or_else(|| unexpected(&file))?, ns);
                    }
                }
            }
            Self::Cgroup(path) => {
                let v2 = path.join("cpu.stat");
                let usage = fs::read_to_string(&v2).ok().and_then(|text| usage_ns(&text));
                let ns = match usage {
                    Some(ns) => ns,
                    None => {
                        let v1 = path.join("cpuacct.usage");
                        let text = fs::read_to_string(&v1).map_err(|e| naming(&v1, e))?;
                        text.trim().parse().map_err(|_| unexpected(&v1))?
                    }
                };
                times.insert(0, ns);
            }
        }
        Ok(CpuTime(times))
    }

    /// Resident memory (`VmRSS`) in kB of 1024 bytes, as the kernel counts it.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at.
    pub(super) fn resident_kb(&self) -> io::Result<u64> {
        let pids = match self {
            Self::Processes(pids) => pids.clone(),
            Self::Cgroup(path) => {
                let file = path.join("cgroup.procs");
                let text = fs::read_to_string(&file).map_err(|e| naming(&file, e))?;
                text.lines().filter_map(|line| line.parse().ok()).collect()
            }
        };
        let mut sum = 0;
        for pid in pids {
            let file = PathBuf::from(format!("/proc/{pid}/status"));
            let text = fs::read_to_string(&file).map_err(|e| naming(&file, e))?;
            sum += vm_rss_kb(&text).ok_or_else(|| unexpected(&file))?;
        }
        Ok(sum)
    }
}

/// CPU time of this process so far in nanoseconds, with that of threads that have ended.
pub(super) fn own_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The first field of `schedstat`: nanoseconds on a CPU (proc(5)).
fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// `usage_usec` of a control group's `cpu.stat`.
fn usage_ns(cpu_stat: &str) -> Option<u64> {
    let line = cpu_stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    line.trim().parse::<u64>().ok()?.checked_mul(1000)
}

fn vm_rss_kb(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn naming(file: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

fn unexpected(file: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: not as expected", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(on_cpu_ns("382505823 81362 137\n"), Some(382_505_823));
        assert_eq!(on_cpu_ns(""), None);
        assert_eq!(usage_ns("usage_usec 1234\nuser_usec 1000\n"), Some(1_234_000));
        assert_eq!(usage_ns("nr_periods 0\n"), None);
        assert_eq!(vm_rss_kb("VmHWM:\t    20 kB\nVmRSS:\t    1884 kB\n"), Some(1884));
        assert_eq!(vm_rss_kb("Name: kthreadd\n"), None);
    }

    #[test]
    fn threads_that_start_count_whole_and_threads_that_end_count_nothing() {
        let start = CpuTime([(1, 100), (2, 50)].into());
        let end = CpuTime([(1, 130), (3, 7)].into());
        assert_eq!(end.since(&start), 37);
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        let own = Server::Processes(vec![std::process::id()]);
        let start = own.cpu_time().unwrap();
        let mut sum = 0u64;
        while own.cpu_time().unwrap().since(&start) == 0 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(own.resident_kb().unwrap() > 0);
        assert!(own_cpu_ns() > 0);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error_that_names_it() {
        let error = Server::Processes(vec![u32::MAX]).cpu_time().unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/task"), "{error}");
    }
}
