//! What can be set about the driver.

use super::notify::{NoRoutes, Route};
use crate::telemetry::Metrics;
use phasegate_engine::time::Span;
use std::sync::Arc;

/// Everything that can be set about the driver.
#[derive(Clone, Debug)]
pub struct Config {
    /// When timers fire, and when they do not.
    pub timers: Timers,
    /// How long the past is kept.
    pub retention: Retention,
    /// The log that is kept in memory for watches, in bytes.
    pub log_memory: LogMemory,
    /// When the disk counts as full.
    pub disk: Disk,
    /// How large the flags may become that applications are sent.
    pub flag_sets: FlagSets,
    /// How much may wait to be sent.
    pub outbox: OutboxLimits,
    /// How much of what was refused is on record.
    pub audit: AuditLimits,
    /// Who is told of what. Default: nobody of anything.
    pub routes: Arc<dyn Route>,
    /// Where it counts. Default: where nobody else does.
    pub metrics: Arc<Metrics>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timers: Timers::default(),
            retention: Retention::default(),
            log_memory: LogMemory::default(),
            disk: Disk::default(),
            flag_sets: FlagSets::default(),
            outbox: OutboxLimits::default(),
            audit: AuditLimits::default(),
            routes: Arc::new(NoRoutes),
            metrics: Arc::default(),
        }
    }
}

/// How much of what was refused is on record. What was done is always on record.
#[derive(Clone, Debug)]
pub struct AuditLimits {
    /// Entries in a minute about refusals of one principal for one reason, and of one address of
    /// anonymous callers; what comes beyond that is counted. Default 10.
    pub refusals_per_minute: u32,
    /// So many principals with their reasons, and addresses, are told apart at a time; all others
    /// count as one. Default 1024.
    pub told_apart: usize,
}

impl Default for AuditLimits {
    fn default() -> Self {
        Self { refusals_per_minute: 10, told_apart: 1024 }
    }
}

/// How much may wait to be sent, and when somebody is reminded.
#[derive(Clone, Debug)]
pub struct OutboxLimits {
    /// Notifications that wait for one sink; beyond that the oldest is given up. Default 10,000: a
    /// row takes half a KiB or so.
    pub pending_per_sink: usize,
    /// Notifications to one sink that were given up; beyond that the oldest goes. Default 10,000.
    pub dead_per_sink: usize,
    /// How long those are kept. Default 30 days.
    pub dead_for: Span,
    /// How long before approvals run out somebody is reminded of them, but no longer than a quarter
    /// of the time that there was. Default 1 h.
    pub remind_before: Span,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            pending_per_sink: 10_000,
            dead_per_sink: 10_000,
            dead_for: Span::from_secs(30 * 86_400),
            remind_before: Span::from_secs(3600),
        }
    }
}

/// When timers fire, and when they do not. Under a manual clock nothing is ever late, and none of
/// this has an effect.
#[derive(Clone, Debug)]
pub struct Timers {
    /// A timer that is found later than this, after the server or the machine was away, holds its
    /// release for a person if firing it would make exposure grow. Default 1 h: longer than a
    /// restart or a night's maintenance step, shorter than any bake that people rely on. Zero: never
    /// hold.
    pub hold_if_late_by: Span,
    /// At most so many overdue timers are fired in a second, lest a restart after a long outage
    /// moves everything at once. Default 200.
    pub overdue_per_second: usize,
    /// At most so many of them belong to one flag. Default 5.
    pub overdue_per_second_and_flag: usize,
    /// Wall time that moves by more than this against the time since boot was stepped, and is
    /// logged as `clock_step`. Default 5 s: no slewing gets there.
    pub step_noticed: Span,
    /// After a step ahead of more than this nothing fires for [`Self::step_withholds_for`], because
    /// the step may be a mistake that is about to be mended. Default 60 s.
    pub step_withholds_above: Span,
    /// How long that is. Default 30 s: some rounds of NTP.
    pub step_withholds_for: Span,
    /// If the clock is behind the last commit by more than this at the start, nothing fires until it
    /// has caught up. Default 60 s.
    pub behind_tolerated: Span,
    /// A writer that did not look at the clock for this long was away (a suspend, a frozen or
    /// stopped process): what came due meanwhile is overdue. Default 5 s; it looks every second.
    pub away_noticed: Span,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            hold_if_late_by: Span::from_secs(3600),
            overdue_per_second: 200,
            overdue_per_second_and_flag: 5,
            step_noticed: Span::from_secs(5),
            step_withholds_above: Span::from_secs(60),
            step_withholds_for: Span::from_secs(30),
            behind_tolerated: Span::from_secs(60),
            away_noticed: Span::from_secs(5),
        }
    }
}

/// How long the past is kept. The newest state of every release is kept for ever.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Events older than this are removed. Default 7 days: much longer than the longest outage that
    /// a watcher should get over without a new snapshot.
    pub events: Span,
    /// Requests older than this are forgotten. Default 24 h, which the contract promises at least.
    pub requests: Span,
    /// How often it is looked for something to remove. Default 60 s.
    pub every: Span,
    /// At most so many events, and as many requests, are removed between two batches. Default 1024:
    /// about the work of one full batch.
    pub step: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: Span::from_secs(7 * 86_400),
            requests: Span::DAY,
            every: Span::from_secs(60),
            step: 1024,
        }
    }
}

/// Bytes of the newest part of the log that stay in memory, by a rough estimate.
#[derive(Clone, Copy, Debug)]
pub struct LogMemory(pub usize);

impl Default for LogMemory {
    /// 64 MiB: a change with a handful of phases is estimated at one to two KiB, so some tens of
    /// thousands of changes. What is older is read from the store.
    fn default() -> Self {
        Self(64 << 20)
    }
}

/// How large the flags may become that applications are sent.
#[derive(Clone, Copy, Debug)]
pub struct FlagSets {
    /// Bytes of all flags together as flagd JSON; none: not counted, for servers whose applications
    /// ask for each answer. Default [`FLAG_SET_BYTES_MAX`].
    pub bytes_max: Option<usize>,
}

/// 4 MiB less 64 KiB: clients of gRPC refuse messages above 4 MiB unless told otherwise.
pub const FLAG_SET_BYTES_MAX: usize = (4 << 20) - (64 << 10);

impl Default for FlagSets {
    fn default() -> Self {
        Self { bytes_max: Some(FLAG_SET_BYTES_MAX) }
    }
}

/// When the disk counts as full.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// With less space than this calls that change something are refused and timers wait. Default
    /// 64 MiB: room for the store's own housekeeping, which needs space even to free some.
    pub reserve: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { reserve: 64 << 20 }
    }
}
