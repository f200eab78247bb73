//! What keeps a worker from everything but its socket, by Landlock. The rest is done when the worker has started
//! ([`super::process`]).

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest version of Landlock that is asked for. An older kernel does what it can.
const NEWEST: ABI = ABI::V6;

/// What a dynamically linked program reads to start: its libraries, and where they are. Nothing there is secret.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];

/// What the host opens for a process that it starts without output.
const NULL: &str = "/dev/null";

/// Has the calling thread, and all processes that it starts from now on, give up what a worker has no use for: all files
/// but the program and its libraries, which are read-only; TCP; and signals and sockets to other processes. On a kernel
/// without Landlock this does nothing: a worker that has started can open no file or socket even there. Returns how much
/// of this the kernel does.
///
/// # Errors
///
/// Returns an error if the kernel has Landlock and does not do what it should.
pub(super) fn enter(program: &Path) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::from_read(NEWEST);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(LIBRARIES.map(Path::new).into_iter().chain([program]), read))?
        .add_rules(path_beneath_rules([NULL], AccessFs::from_file(NEWEST)))?
        .restrict_self()?;
    Ok(status.ruleset)
}
