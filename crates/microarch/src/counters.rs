//! The counters of the processor itself, where the machine has them: what a program really did to its front end.
//!
//! Most virtual machines have none. Those that are there count what the calling thread does in user mode from here on, and what
//! threads and processes do that it starts later.

use std::io;

use perf_event::events::{Hardware, Raw};
use perf_event::{Builder, Counter, ReadFormat};
use serde::{Deserialize, Serialize};

/// The file with what Linux knows of the processor.
const CPUINFO: &str = "/proc/cpuinfo";

/// Counters that have been opened.
pub struct Counters(Vec<(&'static str, Counter)>);

/// How often an event has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventCount {
    /// The event's name, as the processor's maker spells it; those that Linux knows on every processor, as Linux does.
    pub event: String,
    /// How often it has happened; an estimate if it was not counted all the time.
    pub count: u64,
    /// The share of time in which it was counted: a processor has fewer counters than events.
    pub counted: f64,
}

/// Why there are no counters.
#[derive(Debug, thiserror::Error)]
pub enum CountersError {
    /// The kernel has none to give.
    #[error("this machine shows no hardware counters, as most virtual machines do not ({0})")]
    None(io::Error),
    /// The user may not have them.
    #[error("hardware counters are refused ({0}); root may write 2 or less to /proc/sys/kernel/perf_event_paranoid")]
    Refused(io::Error),
    /// A counter fails that was opened.
    #[error("a hardware counter cannot be used: {0}")]
    Failed(io::Error),
}

/// An event, by the number that the kernel passes on to the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawEvent {
    name: &'static str,
    config: u64,
}

/// Intel's numbers: the event in the lowest 8 bits, its unit mask in the next 8 (Intel 64 and IA-32 Software Developer's Manual,
/// volume 3B, "Performance Monitoring"; perfmon-events.intel.com).
const INTEL: [RawEvent; 2] =
    [RawEvent { name: "IDQ.DSB_UOPS", config: 0x0879 }, RawEvent { name: "IDQ.MITE_UOPS", config: 0x0479 }];
/// Those that only some of Intel's processors have: Skylake to Rocket Lake.
const INTEL_ICACHE: [RawEvent; 2] = [
    RawEvent { name: "ICACHE_64B.IFTAG_HIT", config: 0x0183 },
    RawEvent { name: "ICACHE_64B.IFTAG_MISS", config: 0x0283 },
];
/// The models (of family 6) with [`INTEL_ICACHE`].
const INTEL_ICACHE_MODELS: [u32; 15] =
    [0x4e, 0x55, 0x5e, 0x66, 0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d, 0x8e, 0x9e, 0xa5, 0xa6, 0xa7];
/// AMD's numbers: as Intel's, and the event's highest 4 bits from bit 32 on (Processor Programming Reference for family 19h,
/// "Core Performance Monitor Counters": `PMCx28F` and `PMCx18E`).
const AMD: [RawEvent; 4] = [
    RawEvent { name: "op_cache_hit_miss.op_cache_hit", config: 0x2_0000_038f },
    RawEvent { name: "op_cache_hit_miss.op_cache_miss", config: 0x2_0000_048f },
    RawEvent { name: "ic_tag_hit_miss.instruction_cache_hit", config: 0x1_0000_078e },
    RawEvent { name: "ic_tag_hit_miss.instruction_cache_miss", config: 0x1_0000_188e },
];
/// The first of AMD's families with these events: Zen 3.
const AMD_FAMILY_MIN: u32 = 0x19;
/// Arm's numbers (Arm Architecture Reference Manual, "PMU events and event numbers").
const ARM: [RawEvent; 3] = [
    RawEvent { name: "L1I_CACHE", config: 0x14 },
    RawEvent { name: "L1I_CACHE_REFILL", config: 0x01 },
    RawEvent { name: "STALL_FRONTEND", config: 0x23 },
];

/// The events of the front end on the processor that Linux describes like this.
fn front_end(cpuinfo: &str) -> Vec<RawEvent> {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split_once(':').map(|(_, value)| value.trim())
    };
    let number = |name: &str| field(name).and_then(|value| value.parse::<u32>().ok());
    match (field("vendor_id"), number("cpu family"), number("model")) {
        (Some("GenuineIntel"), Some(6), Some(model)) => {
            let with_icache = INTEL_ICACHE_MODELS.contains(&model);
            INTEL.into_iter().chain(INTEL_ICACHE.into_iter().filter(|_| with_icache)).collect()
        }
        (Some("AuthenticAMD"), Some(family), _) if family >= AMD_FAMILY_MIN => AMD.to_vec(),
        (None, ..) if field("CPU architecture").is_some() => ARM.to_vec(),
        _ => Vec::new(),
    }
}

/// A counter that does not count yet.
fn closed(builder: &mut Builder<'_>) -> io::Result<Counter> {
    let times = ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING;
    builder.inherit(true).read_format(times).build()
}

impl Counters {
    /// Opens the counters; they do not count yet.
    ///
    /// # Errors
    /// If the machine has no counter for cycles and instructions, or the user may not have it. Other events are left out if the
    /// processor does not know them.
    pub fn open() -> Result<Self, CountersError> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::PermissionDenied => CountersError::Refused(error),
            _ => CountersError::None(error),
        };
        let mut counters = Vec::new();
        for (name, event) in [("cycles", Hardware::CPU_CYCLES), ("instructions", Hardware::INSTRUCTIONS)] {
            counters.push((name, closed(&mut Builder::new(event)).map_err(refused)?));
        }
        for (name, event) in [
            ("branches", Hardware::BRANCH_INSTRUCTIONS),
            ("branch-misses", Hardware::BRANCH_MISSES),
            ("stalled-cycles-frontend", Hardware::STALLED_CYCLES_FRONTEND),
        ] {
            counters.extend(closed(&mut Builder::new(event)).ok().map(|counter| (name, counter)));
        }
        let cpuinfo = std::fs::read_to_string(CPUINFO).unwrap_or_default();
        for RawEvent { name, config } in front_end(&cpuinfo) {
            counters.extend(closed(&mut Builder::new(Raw::new(config))).ok().map(|counter| (name, counter)));
        }
        Ok(Self(counters))
    }

    /// Counts from here on.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn start(&mut self) -> Result<(), CountersError> {
        self.0.iter_mut().try_for_each(|(_, counter)| counter.enable()).map_err(CountersError::Failed)
    }

    /// Stops counting, and returns what was counted since the counters were opened. Events of which nothing was counted, since
    /// others had the processor's counters all the time, are left out.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn stop(&mut self) -> Result<Vec<EventCount>, CountersError> {
        self.0.iter_mut().try_for_each(|(_, counter)| counter.disable()).map_err(CountersError::Failed)?;
        let mut counts = Vec::new();
        for (name, counter) in &mut self.0 {
            let read = counter.read_count_and_time().map_err(CountersError::Failed)?;
            if read.time_running > 0 {
                let counted = read.time_running as f64 / read.time_enabled as f64;
                let count = scaled(read.count, read.time_enabled, read.time_running);
                counts.push(EventCount { event: (*name).to_owned(), count, counted });
            }
        }
        Ok(counts)
    }
}

/// The count that was to be expected if the event had been counted all the time.
fn scaled(count: u64, enabled: u64, running: u64) -> u64 {
    let whole = u128::from(count) * u128::from(enabled) / u128::from(running.max(1));
    u64::try_from(whole).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use perf_event::events::Software;

    use super::*;

    #[test]
    fn events_are_those_of_the_processor() {
        let names = |cpuinfo: &str| front_end(cpuinfo).iter().map(|event| event.name).collect::<Vec<_>>();
        let intel = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: x\n";
        assert_eq!(
            names(intel),
            ["IDQ.DSB_UOPS", "IDQ.MITE_UOPS", "ICACHE_64B.IFTAG_HIT", "ICACHE_64B.IFTAG_MISS"],
            "Ice Lake"
        );
        assert_eq!(names(&intel.replace("106", "143")), ["IDQ.DSB_UOPS", "IDQ.MITE_UOPS"], "Sapphire Rapids");
        let amd = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\n";
        assert_eq!(names(amd).len(), 4);
        assert_eq!(names(&amd.replace("25", "23")), [""; 0], "Zen 2 has other events");
        let arm =
            "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n";
        assert_eq!(names(arm), ["L1I_CACHE", "L1I_CACHE_REFILL", "STALL_FRONTEND"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn what_was_counted_for_a_part_of_the_time_is_scaled() {
        assert_eq!(scaled(100, 30, 30), 100);
        assert_eq!(scaled(100, 30, 10), 300);
        assert_eq!(scaled(u64::MAX, 2, 1), u64::MAX);
    }

    /// The kernel's own events take the same way as the processor's, and are on every machine that lets programs count.
    #[test]
    fn threads_that_are_started_later_are_counted() {
        let Ok(counter) = closed(&mut Builder::new(Software::PAGE_FAULTS)) else {
            eprintln!("skipped: the kernel does not let this user count");
            return;
        };
        let mut counters = Counters(vec![("page-faults", counter)]);
        // Pages that are touched for the first time, in another thread; how many at once, the kernel decides.
        let touch = || std::thread::spawn(|| std::hint::black_box(vec![1_u8; 4096 * 1000])[4096 * 999]).join().unwrap();
        touch();
        counters.start().unwrap();
        touch();
        let counts = counters.stop().unwrap();
        assert_eq!((counts.len(), counts[0].event.as_str()), (1, "page-faults"));
        assert!(counts[0].count > 0 && (counts[0].counted - 1.0).abs() < 1e-9, "{counts:?}");
        touch();
        assert_eq!(counters.stop().unwrap()[0].count, counts[0].count, "nothing counts any more");
    }
}
