//! Which code is counted: what a program tells, what it makes at run time, its own file.

use remuda_microarch::{Report, Scope};
use tempfile::TempDir;

use crate::tools::{
    FREESTANDING, GCC, GCC_AARCH64, QEMU_AARCH64, QEMU_X86_64, Tool, compile, compile_shared, have, program, ran,
};

fn report(compiler: &Tool, what: &str) -> Report {
    let folder = TempDir::new().unwrap();
    let elf = compile(compiler, "program.c", &["-pthread"], &folder);
    ran(&program(&elf, &[what], &[], &folder)).report
}

#[test]
fn only_told_code_is_counted_while_counting_is_on() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let report = report(&GCC, "windows");
    let Scope::Ranges(ranges) = &report.scope else { panic!("{:?}", report.scope) };
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].length, 5);
    assert_eq!((report.instructions, report.loads, report.stores), (3 * 11, 11, 11));
    let stack = report.return_stack.unwrap();
    assert_eq!(stack.counts.branches, 0, "all returns leave the code that is counted");
}

#[test]
fn aarch64_programs_tell_in_the_same_way() {
    if !have(&[QEMU_AARCH64, GCC_AARCH64]) {
        return;
    }
    let report = report(&GCC_AARCH64, "windows");
    assert_eq!((report.instructions, report.loads, report.stores), (3 * 11, 0, 11));
}

#[test]
fn each_thread_has_a_core() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let report = report(&GCC, "threads");
    assert_eq!(report.cores, 5, "the first thread and four more");
    assert_eq!(report.instructions, 3 * (100 + 200 + 300 + 400));
    // Each of the four has an empty cache, for one line of code or two.
    let misses = report.instruction_caches[0].counts.load_misses;
    assert!([4, 8].contains(&misses), "{misses}");
}

#[test]
fn a_child_process_does_not_write_the_report() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    assert_eq!(report(&GCC, "forks").instructions, 3 * 10);
}

#[test]
fn code_that_is_written_anew_is_counted_as_it_is_then() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    assert_eq!(report(&GCC, "writes-code").instructions, 10 * (2 + 5 + 2));
}

#[test]
fn code_that_is_made_at_run_time_is_counted_without_being_told() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC, "program.c", &["-pthread"], &folder);
    let counted = |what: &str| ran(&program(&elf, &[what], &["range=generated"], &folder)).report;
    let written = counted("writes-code-silently");
    assert_eq!(written.instructions, 10 * (2 + 5 + 2));
    let Scope::Ranges(ranges) = &written.scope else { panic!("{:?}", written.scope) };
    assert!(ranges.len() == 1 && ranges[0].length == 4096, "{ranges:?}");
    assert_eq!(counted("maps-code").instructions, 10 * 2);
    assert_eq!(counted("nothing").instructions, 0);
}

#[test]
fn the_programs_own_file_is_counted_without_its_libraries() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    // Without a C library, all that is executed is in the program's file.
    let elf = compile(&GCC, "gemm.c", FREESTANDING, &folder);
    let counted = |range: &str| ran(&program(&elf, &[], &[range], &folder)).report;
    let (own, all) = (counted("range=program"), counted("range=all"));
    assert!(own.instructions > 0);
    assert_eq!((own.instructions, own.loads, own.stores), (all.instructions, all.loads, all.stores));
    let Scope::Ranges(ranges) = &own.scope else { panic!("{:?}", own.scope) };
    assert_eq!(ranges.len(), 1);
    // With a library that is loaded beside it, most of what is executed is not.
    let elf = compile_shared(&GCC, "program.c", &["-pthread"], &folder);
    let counted = |range: &str| ran(&program(&elf, &["nothing"], &[range], &folder)).report.instructions;
    let (own, all) = (counted("range=program"), counted("range=all"));
    assert!(own > 10 && own * 20 < all, "{own} of {all}");
}

#[test]
fn nothing_told_is_nothing_counted() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let report = report(&GCC, "nothing");
    assert_eq!((report.instructions, report.loads), (0, 0));
    assert_eq!(report.scope, Scope::Ranges(Vec::new()));
    assert!(report.data_caches.iter().all(|cache| cache.miss_percent == 0.0));
}
