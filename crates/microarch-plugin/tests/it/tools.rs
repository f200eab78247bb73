//! Programs that tests compile, and the plugin that they run under.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use remuda_microarch::{PLUGIN_FILE, Ran, Run};
use tempfile::TempDir;

/// A program may run so long before its test fails: the largest takes about a second, so that only one that hangs gets here.
const TIMEOUT: Duration = Duration::from_mins(5);

/// A tool, and the Debian package that has it.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
}

pub(crate) const QEMU_X86_64: Tool = Tool { name: "qemu-x86_64", package: "qemu-user" };
pub(crate) const QEMU_AARCH64: Tool = Tool { name: "qemu-aarch64", package: "qemu-user" };
pub(crate) const GCC: Tool = Tool { name: "gcc", package: "gcc" };
pub(crate) const GCC_AARCH64: Tool = Tool { name: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu" };
pub(crate) const VALGRIND: Tool = Tool { name: "valgrind", package: "valgrind" };

/// Whether all these tools are here, and this machine is one on which their programs are x86-64's. If not, says so.
pub(crate) fn have(tools: &[Tool]) -> bool {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| Command::new(tool.name).arg("--version").output().is_err())
        .map(|tool| format!("{} (Debian's package {})", tool.name, tool.package))
        .collect();
    let here = cfg!(all(target_arch = "x86_64", target_os = "linux"));
    if missing.is_empty() && here {
        return true;
    }
    let why = if here { format!("missing: {}", missing.join(", ")) } else { "this is no Linux on x86-64".to_owned() };
    assert!(std::env::var_os("REMUDA_REQUIRE_TOOLS").is_none(), "{why}");
    // Not with eprintln!, whose text is hidden where a test passes.
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
    false
}

/// The plugin that cargo built for these tests.
pub(crate) fn plugin() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let beside = this.parent().unwrap().join(PLUGIN_FILE);
    if beside.is_file() { beside } else { this.parent().unwrap().parent().unwrap().join(PLUGIN_FILE) }
}

/// Compiles one of the programs in guests/, with all that it needs in one file at a fixed address.
pub(crate) fn compile(compiler: &Tool, source: &str, options: &[&str], folder: &TempDir) -> PathBuf {
    compile_as(&["-static", "-no-pie"], compiler, source, options, folder)
}

/// Compiles one of the programs in guests/ so that shared libraries are loaded beside it.
pub(crate) fn compile_shared(compiler: &Tool, source: &str, options: &[&str], folder: &TempDir) -> PathBuf {
    compile_as(&["-pie", "-fPIE"], compiler, source, options, folder)
}

fn compile_as(kind: &[&str], compiler: &Tool, source: &str, options: &[&str], folder: &TempDir) -> PathBuf {
    let program = folder.path().join(source).with_extension("elf");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/guests").join(source);
    let output = Command::new(compiler.name)
        .args(kind)
        .arg("-O2")
        .args(options)
        .arg("-o")
        .args([&program, &source])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// The options for a program without a C library.
pub(crate) const FREESTANDING: &[&str] = &["-nostdlib", "-ffreestanding", "-fno-stack-protector"];

/// A program under qemu with the plugin.
pub(crate) fn program(program: &Path, arguments: &[&str], options: &[&str], folder: &TempDir) -> Run {
    Run {
        program: program.to_owned(),
        arguments: arguments.iter().map(Into::into).collect(),
        stdin: None,
        plugin: plugin(),
        options: options.iter().map(ToString::to_string).collect(),
        report: folder.path().join("report.json"),
        timeout: TIMEOUT,
    }
}

/// Runs a program that has to end well.
pub(crate) fn ran(run: &Run) -> Ran {
    run.run().unwrap_or_else(|error| panic!("{error}"))
}
