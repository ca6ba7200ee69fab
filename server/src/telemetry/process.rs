//! What the process uses, as Linux tells it. Elsewhere nothing is known, and nothing is said.

use super::Metrics;
use std::{fs, time::Duration};

/// Reads it.
pub fn observe(metrics: &Metrics) {
    if let Some(used) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu(&stat)) {
        metrics.cpu.observe(used);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        if let Some(kib) = field("VmRSS:") {
            metrics.memory.set_to(kib * 1024);
        }
        if let Some(threads) = field("Threads:") {
            metrics.threads.set_to(threads);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is read.
        metrics.files.set(files.count().saturating_sub(1));
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    metrics.files_max.set_to(limit.current.unwrap_or(u64::MAX));
}

/// Time in user mode and in the kernel: the 14th and the 15th field of `/proc/PID/stat`, see proc(5). The
/// second is a name in parentheses that may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis((user + system).saturating_mul(1000) / ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_a_name_that_looks_like_fields() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("7 (a) 1 2 (b)) S 1 2 3 4 5 6 7 8 9 10 {} {} 0 0", 2 * ticks, ticks);
        assert_eq!(cpu(&stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("7 (a"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_on_linux_has_memory_threads_and_files() {
        let metrics = Metrics::default();
        observe(&metrics);
        for gauge in [&metrics.memory, &metrics.threads, &metrics.files, &metrics.files_max] {
            assert!(gauge.get() > 0, "{metrics:?}");
        }
    }
}
