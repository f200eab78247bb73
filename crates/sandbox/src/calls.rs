//! System calls, by seccomp.

use std::collections::BTreeMap;

use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, ENOSYS, EPERM, NETLINK_ROUTE, SOCK_DGRAM, SOCK_STREAM};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The system calls that a process keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// What a server needs: everything but what only administrators and debuggers do, and large parts of the kernel that
    /// no server uses. Of sockets, it keeps those of TCP and Unix.
    Server {
        /// Whether it also keeps those by which names are looked up: UDP, and netlink to ask for the machine's addresses.
        looks_up_names: bool,
    },
    /// What a computation needs that has opened all its files: memory, threads of its own, clocks, and its open files.
    Computation,
}

/// The error of a process that keeps all its system calls.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    /// The kernel has no seccomp, or does not let this process use it.
    #[error("seccomp: {0}")]
    Kernel(#[from] seccompiler::Error),
    /// There is no filter for this kind of machine.
    #[error("seccomp: {0}")]
    Machine(#[from] BackendError),
}

/// Calls of administrators and debuggers, and parts of the kernel that no server uses, in the order of what they are about.
const NOT_OF_SERVERS: &[i64] = &[
    // Other processes: their memory, their files, what they do.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_process_madvise,
    libc::SYS_perf_event_open,
    libc::SYS_lookup_dcookie,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_syslog,
    libc::SYS_reboot,
    libc::SYS_personality,
    // Parts of the kernel that are large, and that no server of ours uses.
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_vmsplice,
    // File systems and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    // The machine's clock and names.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
];

/// Calls as above that only this kind of machine has.
#[cfg(target_arch = "x86_64")]
const NOT_OF_SERVERS_HERE: &[i64] = &[
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_mknod,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NOT_OF_SERVERS_HERE: &[i64] = &[];

/// What a computation needs: memory, threads, clocks, and reading and writing what is open.
const OF_COMPUTATIONS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // A panic that aborts, and a thread that is named.
    libc::SYS_tgkill,
    libc::SYS_prctl,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_close,
    libc::SYS_ioctl,
];

#[cfg(target_arch = "x86_64")]
const OF_COMPUTATIONS_HERE: &[i64] = &[libc::SYS_arch_prctl, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OF_COMPUTATIONS_HERE: &[i64] = &[];

/// Flags of `clone` that would make a namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// The part of a socket's type that is not flags.
const SOCKET_TYPE: u64 = 0xf;

/// The numbers of all types of sockets.
const SOCKET_TYPES: std::ops::RangeInclusive<i32> = 1..=10;

impl Calls {
    /// Gives up all other system calls, for the calling thread and all that it starts from now on: they fail. Privileges can
    /// no longer be gained by starting a program (`no_new_privs`).
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel does not do this.
    pub fn enter(self) -> Result<(), CallsError> {
        for program in self.programs()? {
            seccompiler::apply_filter(&program)?;
        }
        Ok(())
    }

    /// As [`Calls::enter`], for all threads of this process.
    ///
    /// # Errors
    ///
    /// As for [`Calls::enter`].
    pub fn enter_with_all_threads(self) -> Result<(), CallsError> {
        for program in self.programs()? {
            seccompiler::apply_filter_all_threads(&program)?;
        }
        Ok(())
    }

    /// The filters. All of them are asked about each call, and the strictest answer counts.
    fn programs(self) -> Result<[BpfProgram; 2], CallsError> {
        let fails = |error: i32| SeccompAction::Errno(error.unsigned_abs());
        // What `clone3` is to do stands in memory, where no filter looks. A C library that is told that there is no such call
        // uses `clone`.
        let no_clone3 = filter([(libc::SYS_clone3, Vec::new())], SeccompAction::Allow, fails(ENOSYS))?;
        let calls = match self {
            Self::Server { looks_up_names } => {
                let denied = NOT_OF_SERVERS.iter().chain(NOT_OF_SERVERS_HERE).map(|call| (*call, Vec::new()));
                let namespaces = NAMESPACES.map(|flag| rule(&[has(0, flag)?])).into_iter().collect::<Result<_, _>>()?;
                let sockets = (libc::SYS_socket, sockets_not_of_servers(looks_up_names)?);
                filter(denied.chain([(libc::SYS_clone, namespaces), sockets]), SeccompAction::Allow, fails(EPERM))?
            }
            Self::Computation => {
                let allowed = OF_COMPUTATIONS.iter().chain(OF_COMPUTATIONS_HERE).map(|call| (*call, Vec::new()));
                // A thread, and no process.
                let thread = (libc::SYS_clone, vec![rule(&[has(0, libc::CLONE_THREAD)?])?]);
                // The other filter has the last word on this call.
                let clone3 = (libc::SYS_clone3, Vec::new());
                filter(allowed.chain([thread, clone3]), fails(EPERM), SeccompAction::Allow)?
            }
        };
        Ok([no_clone3, calls])
    }
}

/// The sockets that a server does not open: all but those of Unix and TCP and, if it looks up names, those for that.
fn sockets_not_of_servers(looks_up_names: bool) -> Result<Vec<SeccompRule>, CallsError> {
    const DOMAIN: u8 = 0;
    const TYPE: u8 = 1;
    const PROTOCOL: u8 = 2;
    let domains = [AF_UNIX, AF_INET, AF_INET6].into_iter().chain(looks_up_names.then_some(AF_NETLINK));
    let of_no_domain = domains.map(|domain| is_not(DOMAIN, domain)).collect::<Result<Vec<_>, _>>()?;
    let mut denied = vec![rule(&of_no_domain)?];
    for kind in SOCKET_TYPES.filter(|kind| *kind != SOCK_STREAM && !(looks_up_names && *kind == SOCK_DGRAM)) {
        for domain in [AF_INET, AF_INET6] {
            denied.push(rule(&[is(DOMAIN, domain)?, is_masked(TYPE, SOCKET_TYPE, kind)?])?);
        }
    }
    if looks_up_names {
        denied.push(rule(&[is(DOMAIN, AF_NETLINK)?, is_not(PROTOCOL, NETLINK_ROUTE)?])?);
    }
    Ok(denied)
}

/// A filter that does one thing with these calls, where one of a call's rules applies or it has none, and another one with
/// all others. A program for another kind of machine than this one is killed at its first call.
fn filter(
    calls: impl IntoIterator<Item = (i64, Vec<SeccompRule>)>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(calls.into_iter().collect::<BTreeMap<_, _>>(), others, these, machine)?.try_into()
}

/// A rule that applies if all of these conditions do.
fn rule(conditions: &[SeccompCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

fn is(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: i32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Ne, value)
}

fn is_masked(argument: u8, mask: u64, value: i32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(mask), value)
}

/// Whether an argument has this flag.
fn has(argument: u8, flag: i32) -> Result<SeccompCondition, BackendError> {
    is_masked(argument, u64::from(flag.cast_unsigned()), flag)
}

/// A condition on an argument that is an `int`: the kernel ignores its upper half.
fn condition(argument: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// What a thread sees that has given up its other calls: filters bind a thread, so this takes one of its own.
    fn seen_within<T: Send>(calls: Calls, look: impl FnOnce() -> T + Send) -> T {
        let look = move || {
            calls.enter().expect("this kernel has seccomp");
            look()
        };
        thread::scope(|scope| scope.spawn(look).join()).expect("it ends")
    }

    fn is_denied<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(EPERM))
    }

    #[test]
    fn a_computation_has_memory_threads_and_open_files_alone() {
        let open = tempfile::tempfile().unwrap();
        let seen = seen_within(Calls::Computation, || {
            let computes = thread::spawn(|| vec![1_u8; 10 << 20].len()).join().is_ok_and(|n| n == 10 << 20);
            let writes = io::Write::write_all(&mut &open, b"result").is_ok();
            let denied = [
                is_denied(std::fs::read("/etc/passwd")),
                is_denied(std::fs::write("/tmp/remuda-computation-was-here", "")),
                is_denied(std::fs::remove_file("/tmp/remuda-computation-was-here")),
                is_denied(TcpListener::bind("127.0.0.1:0")),
                is_denied(UnixStream::pair()),
                is_denied(Command::new("/bin/true").status()),
            ];
            (computes, writes, denied)
        });
        assert_eq!(seen, (true, true, [true; 6]));
    }

    #[test]
    fn a_server_has_sockets_of_tcp_and_unix_and_others_for_names() {
        for looks_up_names in [false, true] {
            let seen = seen_within(Calls::Server { looks_up_names }, || {
                let works = thread::spawn(|| ()).join().is_ok()
                    && TcpListener::bind("127.0.0.1:0").is_ok()
                    && UnixStream::pair().is_ok()
                    && Command::new("/bin/true").status().is_ok_and(|status| status.success());
                (works, is_denied(UdpSocket::bind("127.0.0.1:0")))
            });
            assert_eq!(seen, (true, !looks_up_names));
        }
    }

    /// What programs that a server starts try in its place.
    #[test]
    fn what_a_server_starts_has_no_other_calls_either() {
        let succeeds = |script: &str| {
            let script = script.to_owned();
            let run = move || Command::new("/bin/sh").args(["-c", &script]).status();
            seen_within(Calls::Server { looks_up_names: true }, run).unwrap().success()
        };
        assert!(succeeds("true"));
        // Without the filter, the first needs no privileges, and the second only those of an administrator.
        assert!(!succeeds("unshare --user true 2>/dev/null"));
        assert!(!succeeds("mount -t tmpfs none /mnt 2>/dev/null && umount /mnt"));
    }
}
