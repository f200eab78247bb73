//! The settings with which a host is opened, and the errors of opening one.

use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use remuda_model::ModuleLimits;
use remuda_scheduler::{Policy, Sizing};

use crate::artifact::compile::{Announce, CompileBudget};
use crate::artifact::store::StoreError;
use crate::learn::profile::ProfileError;

/// The default of [`HostConfig::memory_budget_bytes`].
pub const ARTIFACT_MEMORY_BYTES_DEFAULT: u64 = Sizing::of(1).memory_bytes_max;

/// The default of [`HostConfig::disk_budget_bytes`].
pub const ARTIFACT_DISK_BYTES_DEFAULT: u64 = Sizing::of(1).disk_bytes_max;

/// The default of [`HostConfig::waste_share`].
pub const WASTE_SHARE_DEFAULT: f64 = Sizing::of(1).waste_share_max;

/// The least memory that a compile may be given. A compiler takes about a third of it before it has seen a module.
pub const COMPILE_MEMORY_MIN: ByteSize = ByteSize::mib(32);

/// The settings of a host.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are as many switches, each of its own")]
pub struct HostConfig {
    /// The folder in which profiles and artifacts are kept. `None`: they are kept in memory, until the process ends.
    pub data_dir: Option<PathBuf>,
    /// The way in which engines are chosen.
    pub policy: Policy,
    /// The number of threads that run submitted requests; 0 for a host on which requests are only [called](crate::Host::call).
    pub workers: usize,
    /// The number of requests that may wait for one of these threads.
    pub queue_max: usize,
    /// The number of cores that guests and compilers may use; `None`: all that the process has.
    pub cores: Option<usize>,
    /// Bounds on modules.
    pub module_limits: ModuleLimits,
    /// The CPU time that races may waste, as a share of the CPU time that answers requests.
    pub waste_share: f64,
    /// Bytes of artifacts that stay in memory; [`ARTIFACT_MEMORY_BYTES_DEFAULT`] suits most hosts. An artifact that a
    /// guest is running is not freed.
    pub memory_budget_bytes: u64,
    /// Bytes of artifacts that stay in the data directory; [`ARTIFACT_DISK_BYTES_DEFAULT`] suits most hosts. Processes
    /// that share a directory should agree on it, since each evicts down to its own budget.
    pub disk_budget_bytes: u64,
    /// A program whose `compile-child` is [`compile_for_parent`](crate::compile_for_parent): compiles that may take
    /// long run in it. `None`: everything is compiled in this process, where no compile can be stopped.
    pub compiler: Option<PathBuf>,
    /// The budget of one compile in a child process.
    pub compile_budget: CompileBudget,
    /// The budget of a compile without which a request cannot be answered at all; `None`: the same as for other
    /// compiles.
    pub only_way_budget: Option<CompileBudget>,
    /// Whether to calibrate the host while no request runs, if the data directory has no calibration of it.
    pub calibrate_in_background: bool,
    /// A callback that is told of long compiles that a request waits for.
    pub announce: Option<Announce>,
    /// Whether this process will make one call and end. If so, no thread, pool or database is there before it is
    /// needed, and what is learnt is written when the host is [left](crate::Host::leave). Otherwise everything is made ready
    /// ahead.
    pub one_call: bool,
    /// Whether a process that makes one call may only read the data directory, and writes nothing to it.
    pub read_only: bool,
    /// Whether guests may move to other engines while they run; otherwise requests are raced.
    pub moves: bool,
    /// Whether threads that bring requests may run short ones themselves
    /// ([`Host::inline_thread`](crate::Host::inline_thread)).
    pub inline: bool,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            data_dir: None,
            policy: Policy::Hedged,
            workers: 0,
            queue_max: 0,
            cores: None,
            module_limits: ModuleLimits::default(),
            waste_share: WASTE_SHARE_DEFAULT,
            memory_budget_bytes: ARTIFACT_MEMORY_BYTES_DEFAULT,
            disk_budget_bytes: ARTIFACT_DISK_BYTES_DEFAULT,
            compiler: None,
            compile_budget: CompileBudget::default(),
            only_way_budget: None,
            calibrate_in_background: false,
            announce: None,
            one_call: false,
            read_only: false,
            moves: true,
            inline: false,
        }
    }
}

/// The reason why a host could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be made or written.
    #[error("cannot make or write the data directory {path:?}: {source}; name another with --data-dir")]
    DataDir {
        /// The data directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The artifact store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The operating system has no threads left.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}
