//! A description of this machine, as far as it matters to a measurement.

use std::fs;

use remuda_model::ModuleDigest;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::row::Machine;

/// Describes the machine that this process runs on.
#[must_use]
pub fn look() -> Machine {
    let refresh =
        RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(refresh);
    let system = system.as_ref();
    let brand = system.ok().and_then(|system| system.cpus().first()).map_or("unknown", |cpu| cpu.brand().trim());
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut machine = Machine {
        fingerprint: String::new(),
        cpu: format!("{brand}{}", family_and_model(&about)),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        memory_bytes: system.map_or(0, System::total_memory),
        kernel: format!(
            "{}, kernel {}",
            System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.into()),
            System::kernel_version().unwrap_or_else(|_| "unknown".into())
        ),
        governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|text| text.trim().to_owned()),
    };
    machine.fingerprint = fingerprint(&machine);
    machine
}

/// The load average over the last minute; 0 where the system does not say.
#[must_use]
pub fn load() -> f64 {
    System::load_average().map_or(0.0, |load| load.one)
}

/// A digest that identifies the machine. It leaves the governor out, which may be changed for a measurement.
fn fingerprint(machine: &Machine) -> String {
    let Machine { cpu, cores, memory_bytes, kernel, .. } = machine;
    let text = format!("{cpu}\n{cores}\n{}\n{kernel}", memory_bytes >> 20);
    format!("{:.12}", ModuleDigest::of(text.as_bytes()))
}

/// The processor's family and model, such as ` (family 25, model 17)`, if `about` (the text of /proc/cpuinfo) has them.
/// Clouds give different processors the same name, so the name alone is not enough.
fn family_and_model(about: &str) -> String {
    let field = |name: &str| {
        about.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) => format!(" (family {family}, model {model})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_one_name_are_told_apart() {
        let about = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(family_and_model(about), " (family 25, model 17)");
        assert_eq!(family_and_model("Features : fp asimd\n"), "");
    }

    #[test]
    fn the_fingerprint_is_that_of_what_stays() {
        let machine = look();
        assert_eq!(machine.fingerprint, look().fingerprint);
        assert_eq!(machine.fingerprint.len(), 12);
        let governed = Machine { governor: Some("performance".into()), ..machine.clone() };
        assert_eq!(fingerprint(&governed), machine.fingerprint);
        let other = Machine { cores: machine.cores + 1, ..machine.clone() };
        assert_ne!(fingerprint(&other), machine.fingerprint);
    }
}
