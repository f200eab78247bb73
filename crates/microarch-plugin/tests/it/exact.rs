//! Programs in assembly, of which every count is known.

use remuda_microarch::{BranchCounts, Report, TargetCounts};
use tempfile::TempDir;

use crate::tools::{FREESTANDING, GCC, GCC_AARCH64, QEMU_AARCH64, QEMU_X86_64, compile, have, program, ran};

fn check_branches(report: &Report) {
    // In each of 1000 rounds one branch is taken every second time, and one always but the last time.
    assert_eq!((report.conditional_branches, report.taken_branches), (2000, 500 + 999));
    assert_eq!(report.unresolved_branches, 0);
    let local = &report.predictors[0];
    // The alternating branch finds its counter at 0 when it is not taken, then (round 2 on) at 0 when it is taken: wrong 500
    // times. The other finds it at 0, 1, then 2 and 3, and is wrong twice at the beginning and once at the end.
    assert_eq!(local.counts, BranchCounts { branches: 2000, mispredictions: 503 });
    let buffer = report.target_buffer.as_ref().unwrap();
    let taken = 500 + 999 + 1000;
    assert_eq!(buffer.counts, TargetCounts { lookups: taken, misses: 3, wrong_targets: 0 });
    let stack = report.return_stack.as_ref().unwrap();
    assert_eq!(stack.counts, BranchCounts { branches: 1000, mispredictions: 0 });
}

#[test]
fn x86_64_counts_are_exact() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC, "exact_x86_64.S", FREESTANDING, &folder);
    let report = ran(&program(&elf, &[], &["range=all", "shift=0"], &folder)).report;
    assert_eq!((report.target.as_str(), report.cores), ("x86_64", 1));
    // 11 instructions in each round, and one more in every second; 1 before, 7 after.
    assert_eq!(report.instructions, 11 * 1000 + 500 + 1 + 7);
    // mov, addq, movups and ret; mov, addq and call; rep movsb.
    assert_eq!((report.loads, report.stores), (4 * 1000 + 64, 3 * 1000 + 64));
    check_branches(&report);
    for cache in &report.instruction_caches {
        assert_eq!(cache.counts.loads, report.instructions);
        // The code lies in two lines: 84 bytes from the beginning of a page.
        assert_eq!(cache.counts.load_misses, 2, "{:?}", cache.config);
    }
    for cache in &report.data_caches {
        assert_eq!((cache.counts.loads, cache.counts.stores), (report.loads, report.stores));
        // Two lines of data and one of the stack. The second line is written first.
        assert_eq!((cache.counts.load_misses, cache.counts.store_misses), (1, 2), "{:?}", cache.config);
    }

    let report = ran(&program(&elf, &[], &["range=all", "count=cachegrind"], &folder)).report;
    // 64 rounds, and one that finds nothing left to do.
    assert_eq!(report.instructions, 11 * 1000 + 500 + 1 + 7 + 64, "each round of rep movsb is an instruction");
    assert_eq!((report.loads, report.stores), (4 * 1000 + 64, 2 * 1000 + 64), "what addq modifies, it loads");
}

#[test]
fn aarch64_counts_are_exact() {
    if !have(&[QEMU_AARCH64, GCC_AARCH64]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC_AARCH64, "exact_aarch64.S", FREESTANDING, &folder);
    let report = ran(&program(&elf, &[], &["range=all"], &folder)).report;
    assert_eq!((report.target.as_str(), report.cores), ("aarch64", 1));
    assert_eq!(report.instructions, 10 * 1000 + 500 + 3 + 3);
    // ldr, ldp and ldr q; str.
    assert_eq!((report.loads, report.stores), (3 * 1000, 1000));
    check_branches(&report);
    for cache in &report.data_caches {
        assert_eq!((cache.counts.load_misses, cache.counts.store_misses), (1, 0), "{:?}", cache.config);
    }
}

#[test]
fn only_what_lies_in_given_addresses_is_counted() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    // The function of two instructions stands at an address that is known.
    let options = [FREESTANDING, &["-Wl,-Ttext=0x600000"]].concat();
    let elf = compile(&GCC, "exact_x86_64.S", &options, &folder);
    let names = std::process::Command::new("nm").arg(&elf).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    let address = |name: &str| {
        let line = names.lines().find(|line| line.split_whitespace().nth(2) == Some(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
    };
    let (start, end) = (address("function"), address("function_end"));
    let range = format!("range={start:#x}+{}", end - start);
    let report = ran(&program(&elf, &[], &[&range], &folder)).report;
    assert_eq!((report.instructions, report.loads, report.stores), (2000, 2000, 0));
    assert_eq!(report.conditional_branches, 0);
}
