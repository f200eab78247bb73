//! Valgrind's cachegrind as oracle: it counts the same programs with a simulator of its own, in another translator.
//!
//! The programs have no C library and a stack of their own, so that both translators execute the same instructions on the same
//! addresses. All counts have to be equal.

use std::process::Command;

use remuda_microarch::{CacheCounts, Report};
use tempfile::TempDir;

use crate::tools::{FREESTANDING, GCC, QEMU_X86_64, VALGRIND, compile, have, program, ran};

/// Size in bytes, ways, and bytes of a line: small and large, one way and many.
const CACHES: [(u64, u32, u32); 5] =
    [(1024, 1, 32), (4096, 2, 64), (8192, 8, 64), (32 << 10, 8, 64), (128 << 10, 16, 128)];

/// What cachegrind counts: instructions with their misses, data with its misses, and conditional branches.
fn cachegrind(
    elf: &std::path::Path,
    (size, ways, line): (u64, u32, u32),
    folder: &TempDir,
) -> (CacheCounts, CacheCounts, u64) {
    let out = folder.path().join("cachegrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=yes", "--branch-sim=yes"])
        .arg(format!("--I1={size},{ways},{line}"))
        .arg(format!("--D1={size},{ways},{line}"))
        .arg(format!("--LL={},16,{line}", 8 << 20))
        .arg(format!("--cachegrind-out-file={}", out.display()))
        .arg(elf)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(out).unwrap();
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("events: "), "Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw Bc Bcm Bi Bim");
    let counts: Vec<u64> = line("summary: ").split_whitespace().map(|count| count.parse().unwrap()).collect();
    let [instructions, fetch_misses, _, loads, load_misses, _, stores, store_misses, _, conditional, _, _, _] =
        counts[..]
    else {
        panic!("{counts:?}")
    };
    (
        CacheCounts { loads: instructions, load_misses: fetch_misses, stores: 0, store_misses: 0 },
        CacheCounts { loads, load_misses, stores, store_misses },
        conditional,
    )
}

fn check(source: &str) {
    if !have(&[QEMU_X86_64, GCC, VALGRIND]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC, source, FREESTANDING, &folder);
    let caches: Vec<_> = CACHES.iter().map(|(size, ways, line)| format!("{size}/{line}/{ways}")).collect();
    let (icache, dcache) = (format!("icache={}", caches.join(":")), format!("dcache={}", caches.join(":")));
    let options = ["range=all", "count=cachegrind", &icache, &dcache];
    let report: Report = ran(&program(&elf, &[], &options, &folder)).report;
    for (at, &cache) in CACHES.iter().enumerate() {
        let (fetches, data, conditional) = cachegrind(&elf, cache, &folder);
        assert_eq!(report.instruction_caches[at].counts, fetches, "{source}, instructions, {cache:?}");
        assert_eq!(report.data_caches[at].counts, data, "{source}, data, {cache:?}");
        assert_eq!(report.conditional_branches, conditional, "{source}");
        assert!(fetches.load_misses > 0 && data.misses() > 0, "{source}, {cache:?}: nothing was compared");
    }
}

#[test]
fn strided_matrices() {
    check("gemm.c");
}

#[test]
fn sorting_and_searching() {
    check("sort.c");
}

#[test]
fn more_code_than_a_cache_holds() {
    check("code.c");
}
