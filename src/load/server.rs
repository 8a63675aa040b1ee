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

/// CPU time so far, nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CpuTime {
    /// By thread that lives, exact; a control group is one entry.
    threads: BTreeMap<u32, u64>,
    /// Of the processes with all threads that ever were, in ticks of 10 ms; 0 of a control group.
    processes: u64,
}

/// How far the two accounts differ by their resolution alone.
const TICKS_NS: u64 = 20_000_000;

impl CpuTime {
    /// Nanoseconds used since `start`: by the exact account, unless threads that ended meanwhile
    /// are missing in it.
    pub(super) fn since(&self, start: &Self) -> u64 {
        let exact: u64 = self
            .threads
            .iter()
            .map(|(task, ns)| ns.saturating_sub(start.threads.get(task).copied().unwrap_or(0)))
            .sum();
        let whole = self.processes.saturating_sub(start.processes);
        if whole > exact + TICKS_NS { whole } else { exact }
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
        let mut processes = 0;
        match self {
            Self::Processes(pids) => {
                for pid in pids {
                    let file = PathBuf::from(format!("/proc/{pid}/stat"));
                    let stat = fs::read_to_string(&file).map_err(|e| naming(&file, e))?;
                    processes += ticks_ns(&stat).ok_or_else(|| unexpected(&file))?;
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
        Ok(CpuTime { threads: times, processes })
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

/// utime and stime of `stat`, its fields 14 and 15 (proc(5)), threads that ended included. What
/// precedes them may hold spaces, up to the last parenthesis. A tick is 10 ms on Linux x86_64.
fn ticks_ns(stat: &str) -> Option<u64> {
    const TICK_NS: u64 = 10_000_000;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_NS)
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
    fn threads_that_start_count_whole() {
        let start = CpuTime { threads: [(1, 100), (2, 50)].into(), processes: 0 };
        let end = CpuTime { threads: [(1, 130), (2, 50), (3, 7)].into(), processes: TICKS_NS };
        assert_eq!(end.since(&start), 37);
    }

    #[test]
    fn threads_that_ended_count_by_the_account_of_their_process() {
        let start = CpuTime { threads: [(1, 100), (2, 50)].into(), processes: 10 * TICKS_NS };
        let end = CpuTime { threads: [(1, 130)].into(), processes: 15 * TICKS_NS };
        assert_eq!(end.since(&start), 5 * TICKS_NS);
    }

    #[test]
    fn ticks_are_found_behind_any_name_of_a_program() {
        let stat = "42 (a ) 1 (b) S 1 2 3 4 5 6 7 8 9 10 7 5 0 0 20";
        assert_eq!(ticks_ns(stat), Some(120_000_000));
        assert_eq!(ticks_ns("42 (x) S 1"), None);
        assert_eq!(ticks_ns(""), None);
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
        assert!(error.to_string().contains("/proc/4294967295/stat"), "{error}");
    }
}
