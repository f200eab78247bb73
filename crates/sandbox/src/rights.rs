//! Files and ports, by Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest version of Landlock that is asked for. An older kernel does what it can.
const NEWEST: ABI = ABI::V6;

/// What a dynamically linked program reads to start: its libraries, and where they are. Nothing there is secret.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];

/// What a process opens for another one that it starts without input or output.
const NULL: &str = "/dev/null";

/// The files and ports that a process keeps. It keeps no others; and in any case it can send no signal to processes that
/// it has not started, nor look into their memory.
///
/// Paths of what does not exist are passed over. A path of a folder is for everything below, also for what comes later; one of a
/// file is for that very file, and not for another one that takes its name.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    paths: Vec<(PathBuf, BitFlags<AccessFs>)>,
    binds: Vec<u16>,
    connects: Vec<u16>,
    keeps_abstract_sockets: bool,
}

/// How much of that the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    All,
    /// Some of it, as far as an older kernel can.
    Some,
    /// Nothing: the kernel has no Landlock, or does not use it.
    Nothing,
}

/// The error of a kernel that has Landlock, and does not do what it should.
#[derive(Debug, thiserror::Error)]
#[error("Landlock: {0}")]
pub struct RightsError(#[from] RulesetError);

impl Rights {
    /// What it takes to start these programs: they themselves, their libraries, and `/dev/null`.
    #[must_use]
    pub fn to_start(programs: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        Self::default().run(LIBRARIES).run(programs).change([NULL])
    }

    /// Files that may be read, and programs that may be run.
    #[must_use]
    pub fn run(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.with(paths, AccessFs::from_read(NEWEST))
    }

    /// Files that may be read.
    #[must_use]
    pub fn read(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.with(paths, AccessFs::ReadFile | AccessFs::ReadDir)
    }

    /// Files that may be read, made, changed and removed; but none that would be a program or a device.
    #[must_use]
    pub fn write(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let others = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
        self.with(paths, AccessFs::from_all(NEWEST) & !others)
    }

    /// Files that may be read and changed as they are, such as devices.
    #[must_use]
    pub fn change(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.with(paths, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)
    }

    /// Folders in which sockets may be made and anything may be removed.
    #[must_use]
    pub fn make_sockets(self, paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        self.with(paths, AccessFs::MakeSock | AccessFs::RemoveFile)
    }

    /// TCP ports on which the process may listen; 0: any that is free.
    #[must_use]
    pub fn listen(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.binds.extend(ports);
        self
    }

    /// TCP ports to which the process may connect, on whatever machine.
    #[must_use]
    pub fn connect(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.connects.extend(ports);
        self
    }

    /// Connections to Unix sockets without a path that other processes have made.
    #[must_use]
    pub fn abstract_sockets(mut self) -> Self {
        self.keeps_abstract_sockets = true;
        self
    }

    fn with(
        mut self,
        paths: impl IntoIterator<Item = impl AsRef<Path>>,
        access: impl Into<BitFlags<AccessFs>>,
    ) -> Self {
        let access = access.into();
        self.paths.extend(paths.into_iter().map(|path| (path.as_ref().to_owned(), access)));
        self
    }

    /// Gives up everything else, for the calling thread and all that it starts from now on. Privileges can no longer be gained
    /// by starting a program (`no_new_privs`).
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel has Landlock and does not do what it should.
    pub fn enter(&self) -> Result<Kept, RightsError> {
        let scope = if self.keeps_abstract_sockets { Scope::Signal.into() } else { Scope::from_all(NEWEST) };
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(scope)?
            .create()?;
        for (path, access) in &self.paths {
            ruleset = ruleset.add_rules(path_beneath_rules([path], *access))?;
        }
        for (ports, access) in [(&self.binds, AccessNet::BindTcp), (&self.connects, AccessNet::ConnectTcp)] {
            for port in ports {
                ruleset = ruleset.add_rule(NetPort::new(*port, access))?;
            }
        }
        Ok(match ruleset.restrict_self()?.ruleset {
            RulesetStatus::FullyEnforced => Kept::All,
            RulesetStatus::PartiallyEnforced => Kept::Some,
            RulesetStatus::NotEnforced => Kept::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;
    use std::thread;

    use super::*;

    /// What a thread sees that has given up everything else: rules bind a thread, so this takes one of its own. `None`: on
    /// this kernel, there is nothing to see.
    fn seen_within<T: Send>(rights: &Rights, look: impl FnOnce() -> T + Send) -> Option<T> {
        let look = move || (rights.enter().unwrap() == Kept::All).then(look);
        thread::scope(|scope| scope.spawn(look).join()).expect("it ends")
    }

    #[test]
    fn only_what_was_kept_can_be_read_written_and_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["read", "write", "other"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), "text").unwrap();
        }
        let script = path("write").join("script");
        fs::write(&script, "#!/bin/sh\ntrue").unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let rights = Rights::to_start(["/bin/sh"]).read([path("read"), path("missing")]).write([path("write")]);
        let seen = seen_within(&rights, || {
            let read = |name: &str| fs::read(path(name).join("file")).is_ok();
            let write = |name: &str| fs::write(path(name).join("new"), "text").is_ok();
            let run = |program: &str| Command::new(program).args(["-c", "true"]).status().is_ok();
            (
                ["read", "write", "other"].map(read),
                ["read", "write", "other"].map(write),
                fs::remove_file(path("other").join("file")).is_ok(),
                ["/bin/sh", "/bin/ls", script.to_str().unwrap()].map(run),
            )
        });
        let Some(seen) = seen else { return };
        assert_eq!(seen, ([true, true, false], [false, true, false], false, [true, false, false]));
    }

    #[test]
    fn only_ports_that_were_kept_are_listened_on_and_connected_to() {
        let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (first, second) = (free(), free());
        let rights = Rights::default().connect([addresses[0].port()]).listen([first.port()]);
        let seen = seen_within(&rights, || {
            let connects = [addresses[0], addresses[1]].map(|address| TcpStream::connect(address).is_ok());
            (connects, [first, second].map(|address| TcpListener::bind(address).is_ok()))
        });
        let Some(seen) = seen else { return };
        assert_eq!(seen, ([true, false], [true, false]));
    }
}
