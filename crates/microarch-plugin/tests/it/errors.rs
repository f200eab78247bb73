//! What is said when something is wrong.

use std::time::Duration;

use remuda_microarch::RunError;
use tempfile::TempDir;

use crate::tools::{GCC, QEMU_X86_64, compile, have, program, ran};

#[test]
fn qemu_ends_if_an_argument_is_wrong() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC, "program.c", &["-pthread"], &folder);
    for (option, message) in [
        ("icache=33k", "remuda-microarch-plugin: icache=33k: a cache of 33792 bytes cannot have 8 ways"),
        ("predictor=best", "remuda-microarch-plugin: predictor=best: expected local, bimode, tournament or tage"),
        ("speed=9", "remuda-microarch-plugin: \"speed\" is no argument of this plugin"),
        ("out=again", "remuda-microarch-plugin: \"out\" has to be given once"),
    ] {
        let run = program(&elf, &["windows"], &[option], &folder);
        let RunError::Failed { status, stderr, .. } = run.run().unwrap_err() else { panic!("{option}") };
        assert!(!status.success());
        assert!(stderr.contains(message), "{option}: {stderr}");
        assert!(!run.report.exists());
    }
}

#[test]
fn what_goes_wrong_with_a_program_is_said() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC, "program.c", &["-pthread"], &folder);

    let said = program(&elf, &["fails"], &[], &folder).run().unwrap_err().to_string();
    assert!(said.starts_with("qemu-x86_64 ended with exit status: 3"), "{said}");

    let mut hangs = program(&elf, &["hangs"], &[], &folder);
    hangs.timeout = Duration::from_millis(500);
    let said = hangs.run().unwrap_err().to_string();
    assert_eq!(said, "the program did not end within 0.5 s, and was ended");

    let mut nowhere = program(&elf, &["windows"], &[], &folder);
    nowhere.report = folder.path().join("missing/report.json");
    let said = nowhere.run().unwrap_err().to_string();
    assert!(said.starts_with("cannot read the report "), "{said}");
    assert!(said.contains("remuda-microarch-plugin: cannot write "), "{said}");

    let unknown = ran(&program(&elf, &["unknown"], &[], &folder));
    let stderr = String::from_utf8(unknown.stderr).unwrap();
    assert!(stderr.contains("the program sent message 9 (0x0, 0x0), which this version does not know"), "{stderr}");
}

#[test]
fn a_report_stands_alone_in_its_folder_and_commas_are_no_end() {
    if !have(&[QEMU_X86_64, GCC]) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let elf = compile(&GCC, "program.c", &["-pthread"], &folder);
    let reports = TempDir::new().unwrap();
    let mut run = program(&elf, &["windows"], &[], &folder);
    run.report = reports.path().join("a,b=c.json");
    std::fs::write(&run.report, "old").unwrap();
    assert_eq!(ran(&run).report.instructions, 33);
    assert_eq!(std::fs::read_dir(reports.path()).unwrap().count(), 1);
}
