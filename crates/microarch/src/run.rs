//! Runs a program under qemu with the plugin, and reads what was counted.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::instruction::InstructionSet;
use crate::report::{ReadError, Report};

/// The file name of the plugin, as cargo builds it.
pub const PLUGIN_FILE: &str = "libremuda_microarch_plugin.so";

/// How often a program that runs is looked at. A program ends up to this much before it is noticed, which is little beside
/// the start of qemu (about 20 ms).
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How much of a program's error output an error repeats, in bytes from its end.
const ERROR_OUTPUT_BYTES_MAX: usize = 2000;

/// A program to be run under qemu.
#[derive(Debug, Clone)]
pub struct Run {
    /// The program: an ELF file for x86-64 or 64-bit Arm.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// The file that is its standard input; `None`: it is empty.
    pub stdin: Option<PathBuf>,
    /// The plugin's file, see [`PLUGIN_FILE`].
    pub plugin: PathBuf,
    /// The plugin's arguments but `out`, see [`crate::options`].
    pub options: Vec<String>,
    /// The file that the report is written to. A file that is there is removed first.
    pub report: PathBuf,
    /// How long the program may run.
    pub timeout: Duration,
}

/// A program that has run.
#[derive(Debug, Clone)]
pub struct Ran {
    /// What was counted.
    pub report: Report,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it, qemu and the plugin wrote to their error output.
    pub stderr: Vec<u8>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program cannot be read.
    #[error("cannot read the program {}: {source}", path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program is none that the plugin knows.
    #[error("{} is no ELF program for x86-64 or AArch64", path.display())]
    NotElf {
        /// The program.
        path: PathBuf,
    },
    /// The command does not start: most often, there is no qemu.
    #[error("cannot start {name}: {source}; qemu is in the package qemu-user of Debian 12, version 7.2")]
    NoStart {
        /// The name of the command.
        name: String,
        /// Why it does not start.
        source: io::Error,
    },
    /// There is no plugin.
    #[error("the plugin {} is not there: `cargo build --release -p remuda-microarch-plugin` builds it", path.display())]
    NoPlugin {
        /// Where it was expected.
        path: PathBuf,
    },
    /// A file cannot be removed, or a process not be waited for.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The program did not end in time, and was ended.
    #[error("the program did not end within {} s, and was ended", timeout.as_secs_f64())]
    Timeout {
        /// How long it might have run.
        timeout: Duration,
    },
    /// The program, qemu or the plugin failed.
    #[error("{name} ended with {status}; its error output ends with:\n{stderr}")]
    Failed {
        /// The name of the command.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its error output.
        stderr: String,
    },
    /// The program ended well, but there is no report.
    #[error("{source}; the error output ends with:\n{stderr}")]
    NoReport {
        /// Why not.
        source: ReadError,
        /// The end of the error output.
        stderr: String,
    },
}

impl Run {
    /// Runs the program to its end.
    ///
    /// # Errors
    /// If it cannot be started, does not end in time, ends with another exit code than 0, or leaves no report.
    pub fn run(&self) -> Result<Ran, RunError> {
        self.watch(self.command()?)
    }

    /// The program in the emulator, as a command to be changed before it is [watched](Run::watch).
    ///
    /// # Errors
    /// If there is no emulator for the program, or no plugin.
    pub fn command(&self) -> Result<Command, RunError> {
        let words = self.emulator()?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(&self.program).args(&self.arguments);
        Ok(command)
    }

    /// The emulator with its arguments, for another program that starts [`Run::program`] in it; see [`Run::watch`].
    ///
    /// # Errors
    /// If there is no emulator for the program, or no plugin.
    pub fn emulator(&self) -> Result<Vec<OsString>, RunError> {
        let mut words = emulator(&self.program)?;
        if !self.plugin.is_file() {
            return Err(RunError::NoPlugin { path: self.plugin.clone() });
        }
        words.extend(["-plugin".into(), self.plugin_option()]);
        Ok(words)
    }

    /// Runs a command, and reads the report that [`Run::program`] has left when it ends, be it the command itself or one that the
    /// command has started.
    ///
    /// # Errors
    /// If it cannot be started, does not end in time, ends with another exit code than 0, or leaves no report.
    pub fn watch(&self, mut command: Command) -> Result<Ran, RunError> {
        let name = command.get_program().to_string_lossy().into_owned();
        match std::fs::remove_file(&self.report) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let what = format!("remove the old report {}", self.report.display());
                return Err(RunError::Io { what, source: error });
            }
            _ => {}
        }
        let stdin = match &self.stdin {
            None => Stdio::null(),
            Some(path) => {
                let failed = |source| RunError::Io { what: format!("read {}", path.display()), source };
                std::fs::File::open(path).map_err(failed)?.into()
            }
        };
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RunError::NoStart { name: name.clone(), source })?;
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        let waited = wait(&mut child, self.timeout);
        let waited = waited.map_err(|source| RunError::Io { what: "wait for qemu".to_owned(), source })?;
        let status = waited.ok_or(RunError::Timeout { timeout: self.timeout })?;
        let (stdout, stderr) = (collect(stdout), collect(stderr));
        if !status.success() {
            return Err(RunError::Failed { name, status, stderr: end_of(&stderr) });
        }
        match Report::read(&self.report) {
            Ok(report) => Ok(Ran { report, stdout, stderr }),
            Err(source) => Err(RunError::NoReport { source, stderr: end_of(&stderr) }),
        }
    }

    /// What stands after `-plugin`: the file and its arguments, with commas between them. A comma within is written twice.
    fn plugin_option(&self) -> OsString {
        let mut option = double_commas(self.plugin.as_os_str());
        option.push(",out=");
        option.push(double_commas(self.report.as_os_str()));
        for argument in &self.options {
            option.push(",");
            option.push(double_commas(OsStr::new(argument)));
        }
        option
    }
}

/// Waits for a process. If it does not end in time, it is ended, and there is no status.
///
/// # Errors
/// If it cannot be waited for, or not be ended.
pub fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= timeout {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The emulator for a program with its arguments, without the plugin.
///
/// # Errors
/// If there is none.
pub fn emulator(program: &Path) -> Result<Vec<OsString>, RunError> {
    // The processor that qemu shows otherwise is of 2003, for which compilers make other code than for today's.
    Ok(vec![qemu_name(instruction_set(program)?).into(), "-cpu".into(), "max".into()])
}

fn double_commas(text: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let doubled = text.as_bytes().iter().flat_map(|&byte| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 }));
    OsString::from_vec(doubled.collect())
}

/// Reads all of a stream in a thread of its own, so that a program that writes much never waits for its reader.
fn drain(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before an error is better than nothing; the program's end is seen elsewhere.
            let _ = stream.read_to_end(&mut all);
        }
        all
    })
}

fn collect(reader: std::thread::JoinHandle<Vec<u8>>) -> Vec<u8> {
    reader.join().unwrap_or_default()
}

fn end_of(output: &[u8]) -> String {
    String::from_utf8_lossy(&output[output.len().saturating_sub(ERROR_OUTPUT_BYTES_MAX)..]).trim_end().to_owned()
}

/// The instruction set of a program, by the machine in its ELF header.
///
/// # Errors
/// If the file cannot be read, or is no program for one of the two.
pub fn instruction_set(program: &Path) -> Result<InstructionSet, RunError> {
    let mut header = [0; 20];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Err(source) => return Err(RunError::Program { path: program.to_owned(), source }),
        Ok(()) => {
            // The System V ABI, chapter 4: magic number, class (2: 64 bits), byte order (1: little), and at 18 the machine.
            if let ([0x7f, b'E', b'L', b'F', 2, 1, ..], [.., low, high]) = (&header, &header) {
                match u16::from_le_bytes([*low, *high]) {
                    62 => return Ok(InstructionSet::X86_64),
                    183 => return Ok(InstructionSet::Aarch64),
                    _ => {}
                }
            }
        }
    }
    Err(RunError::NotElf { path: program.to_owned() })
}

/// What qemu's user mode for this instruction set is called.
#[must_use]
pub fn qemu_name(set: InstructionSet) -> &'static str {
    match set {
        InstructionSet::X86_64 => "qemu-x86_64",
        InstructionSet::Aarch64 => "qemu-aarch64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str, plugin: &str) -> Run {
        Run {
            program: program.into(),
            arguments: Vec::new(),
            stdin: None,
            plugin: plugin.into(),
            options: vec!["range=all".to_owned()],
            report: "a,b.json".into(),
            timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn commas_are_doubled() {
        assert_eq!(run("x", "p,q.so").plugin_option(), "p,,q.so,out=a,,b.json,range=all");
    }

    #[test]
    fn what_cannot_be_run_is_refused_by_name() {
        let refused = |program: &str, plugin: &str| run(program, plugin).run().unwrap_err().to_string();
        assert!(refused("/nonexistent/program", "p").starts_with("cannot read the program /nonexistent/program: "));
        assert_eq!(refused("Cargo.toml", "p"), "Cargo.toml is no ELF program for x86-64 or AArch64");
        assert_eq!(refused("/dev/null", "p"), "/dev/null is no ELF program for x86-64 or AArch64");
        let this = std::env::current_exe().unwrap();
        let said = refused(this.to_str().unwrap(), "/nonexistent/plugin.so");
        assert!(said.starts_with("the plugin /nonexistent/plugin.so is not there: `cargo build"), "{said}");
    }
}
