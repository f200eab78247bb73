//! The guest's world: its arguments, environment, folders and standard streams.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use remuda_host::decode_module;
use remuda_model::{GuestContext, Preopen, Sink, Stdin};
use rustix::fs::{FileType, SeekFrom, fstat, major, minor, seek};

use super::STDIN;
use super::flags::Settings;

/// Options that grant a guest folders, variables and a name.
#[derive(Args)]
pub(crate) struct WorldOptions {
    /// Let the guest open a folder: HOST, or HOST::GUEST to give it another name; read-only unless ::rw follows
    #[arg(long = "dir", value_name = "HOST[::GUEST[::rw]]")]
    dirs: Vec<String>,

    /// Set a variable of the guest's environment; NAME alone takes it from ours, if we have it
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// What the guest sees as its own name, argv[0] [default: the module's file name]
    #[arg(long, value_name = "NAME")]
    argv0: Option<String>,
}

impl WorldOptions {
    pub(crate) fn context(&self, module: &Path, args: &[String], settings: &Settings) -> anyhow::Result<GuestContext> {
        let program = self.argv0.clone().unwrap_or_else(|| program_name(module));
        let host_or_nothing = |inherits| if inherits { Sink::Inherit } else { NOTHING };
        Ok(GuestContext {
            args: std::iter::once(&program).chain(args).cloned().collect(),
            env: self.environment(settings.inherits_env)?,
            stdin: if settings.inherits_stdin { stdin()? } else { Stdin::Empty },
            stdout: host_or_nothing(settings.inherits_stdout),
            stderr: host_or_nothing(settings.inherits_stderr),
            preopens: self.dirs.iter().map(|dir| parse_dir(dir)).collect::<Result<_, _>>()?,
            outbound: None,
            request: None,
            responder: None,
            gate: None,
        })
    }

    /// The guest's environment: first our variables, if they are inherited, and then those that `--env` sets. A
    /// variable that is set twice occurs twice, as in `wasmtime run`.
    fn environment(&self, inherits: bool) -> anyhow::Result<Vec<(String, String)>> {
        let mut environment = Vec::new();
        if inherits {
            for (name, value) in std::env::vars_os() {
                let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
                    bail!(
                        "-S inherit-env: the variable {} is not UTF-8; unset it, or name others with --env",
                        name.display()
                    );
                };
                environment.push((name.to_owned(), value.to_owned()));
            }
        }
        for variable in &self.env {
            match variable.split_once('=') {
                Some((name, value)) => environment.push((name.to_owned(), value.to_owned())),
                None => match std::env::var(variable) {
                    Ok(value) => environment.push((variable.clone(), value)),
                    Err(std::env::VarError::NotPresent) => {}
                    Err(std::env::VarError::NotUnicode(_)) => {
                        bail!("--env {variable}: its value here is not UTF-8; write {variable}=VALUE")
                    }
                },
            }
        }
        Ok(environment)
    }
}

/// An output stream of which nothing is kept. The guest does not notice.
const NOTHING: Sink = Sink::CaptureHead { bytes_max: 0 };

/// The name that a guest sees as its own. A guest's arguments are UTF-8, but a file's name may not be.
fn program_name(module: &Path) -> String {
    let name = module.file_name().unwrap_or(module.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Standard input for the guest. Nothing is read from it here.
fn stdin() -> anyhow::Result<Stdin> {
    let stdin = std::io::stdin();
    let stat = fstat(&stdin).context("cannot use standard input")?;
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => {
            let offset = seek(&stdin, SeekFrom::Current(0)).context("cannot use standard input")?;
            // Files that the kernel generates while they are read, in /proc for example, report a size of 0.
            let size = u64::try_from(stat.st_size).ok().filter(|size| *size > 0);
            Stdin::File { offset, len: size.map(|size| size.saturating_sub(offset)) }
        }
        FileType::CharacterDevice if (major(stat.st_rdev), minor(stat.st_rdev)) == DEV_NULL => Stdin::Empty,
        _ => Stdin::Inherit,
    })
}

/// Linux's device numbers (major, minor) of `/dev/null`. Reading it never waits, so the guest gets an empty input
/// instead.
const DEV_NULL: (u32, u32) = (1, 3);

/// If standard input is a file, moves its position, which other processes may share, to where the guest has read.
pub(crate) fn consume(stdin: &Stdin, bytes_read: u64) -> anyhow::Result<()> {
    if let Stdin::File { offset, .. } = stdin
        && bytes_read > 0
    {
        seek(std::io::stdin(), SeekFrom::Start(offset + bytes_read))
            .context("cannot move standard input's position to where the guest has read")?;
    }
    Ok(())
}

/// Reads a module from standard input, to its end.
pub(crate) fn read_module_from_stdin() -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read the module from standard input")?;
    Ok(decode_module(bytes, Path::new(STDIN))?)
}

fn parse_dir(text: &str) -> anyhow::Result<Preopen> {
    let mut parts = text.split("::");
    let host = parts.next().unwrap_or_default();
    let guest = parts.next().unwrap_or(host);
    let writable = match parts.next() {
        None | Some("ro") => false,
        Some("rw") => true,
        Some(other) => bail!("--dir {text}: {other:?} is neither ro nor rw"),
    };
    if host.is_empty() || parts.next().is_some() {
        bail!("--dir {text}: write HOST, HOST::GUEST or HOST::GUEST::rw");
    }
    Ok(Preopen { host: host.into(), guest: guest.to_owned(), writable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_only_unless_they_say_so() {
        let preopen = |host: &str, guest: &str, writable| Preopen { host: host.into(), guest: guest.into(), writable };
        for (text, expected) in [
            ("data", Some(preopen("data", "data", false))),
            ("data::/in", Some(preopen("data", "/in", false))),
            ("data::/in::ro", Some(preopen("data", "/in", false))),
            ("data::/in::rw", Some(preopen("data", "/in", true))),
            ("data::", Some(preopen("data", "", false))),
            ("data::/in::x", None),
            ("::/in", None),
            ("", None),
            ("a::b::rw::c", None),
        ] {
            assert_eq!(parse_dir(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_guest_s_name_is_the_module_s() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        for (path, name) in
            [(&b"a/b/app.wasm"[..], "app.wasm"), (b"-", "-"), (b"a/..", "a/.."), (b"a/\xff", "\u{fffd}")]
        {
            assert_eq!(program_name(Path::new(OsStr::from_bytes(path))), name);
        }
    }
}
