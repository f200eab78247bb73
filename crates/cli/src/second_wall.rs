//! The second wall around `remuda serve`: what the process gives up before it has a thread or a module. A guest that has
//! broken out of its engine is still within this wall.

use std::path::{Path, PathBuf};

use remuda_engine::{Known, Registry};
use remuda_manifest::{Deployment, Listen};
use remuda_model::{Origin, Preopen};
use remuda_sandbox::{Calls, Kept, Rights};

use crate::calibrate::make_private_dir;

/// The port of DNS over TCP, for answers that are too long for UDP.
const DNS: u16 = 53;

/// Gives up all that a deployment has no use for, as far as the kernel can do that, and says in the log what that is.
pub(crate) fn enter(deployment: &Deployment, data_dir: Option<&Path>) {
    if let Some(data_dir) = data_dir {
        // A folder that does not exist yet could not be kept. If it cannot be made, the host says why.
        let _ = make_private_dir(data_dir);
    }
    let kept = rights(deployment, data_dir).enter();
    let files_and_ports = match &kept {
        Ok(Kept::All) => "only those in use",
        Ok(Kept::Some) => "only those in use, as far as this kernel's Landlock can",
        Ok(Kept::Nothing) => "all, since this kernel has no Landlock",
        Err(_) => "all, since Landlock has failed",
    };
    let filtered = Calls::Server { looks_up_names: sends_requests(deployment) }.enter();
    let system_calls = if filtered.is_ok() { "only those of servers" } else { "all, since seccomp has failed" };
    tracing::info!(files_and_ports, system_calls, "the process keeps");
    let errors = [kept.err().map(|error| error.to_string()), filtered.err().map(|error| error.to_string())];
    for error in errors.into_iter().flatten() {
        tracing::warn!(error, "the second wall around guests is missing a part");
    }
}

/// Whether guests may send requests to other servers.
fn sends_requests(deployment: &Deployment) -> bool {
    deployment.functions.iter().any(|function| function.spec.outbound.is_some())
}

fn rights(deployment: &Deployment, data_dir: Option<&Path>) -> Rights {
    let Deployment { server, functions } = deployment;
    let registry = Registry::default();
    let programs = registry.known().flat_map(Known::programs);
    let folders = |writable: bool| {
        let preopens = functions.iter().flat_map(|function| &function.spec.preopens);
        preopens.filter(move |preopen| preopen.writable == writable).map(|Preopen { host, .. }| host)
    };
    let mut rights = Rights::to_start(programs)
        // Compile children are this program, started anew.
        .run(["/proc/self/exe"])
        .read(functions.iter().map(|function| &function.spec.module))
        .read(folders(false))
        .write(folders(true))
        // Without a data directory, the host measures what disks cost where temporary files are.
        .write([data_dir.map_or_else(std::env::temp_dir, Path::to_owned)])
        .read(["/sys"]);
    // A compile child says in its file of /proc that it is the first to go if the kernel is short of memory. An
    // administrator's process could change the whole machine there.
    rights = if rustix::process::geteuid().is_root() { rights.read(["/proc"]) } else { rights.change(["/proc"]) };
    for listen in &server.listen {
        rights = match listen {
            Listen::Http(address) | Listen::Https(address) => rights.listen([address.port()]),
            Listen::Unix(path) => rights.make_sockets(path.parent()),
        };
    }
    if let Some(files) = &server.tls {
        // They are read again after they were replaced, so their folders have to be kept: those of links, and those to which
        // the links lead.
        for file in [&files.certificate, &files.key] {
            rights = rights.read(folders_of(file));
        }
    }
    if sends_requests(deployment) {
        let outbound = functions.iter().filter_map(|function| function.spec.outbound.as_deref());
        let ports = outbound.flat_map(|outbound| &outbound.allow).map(Origin::port);
        // How names are looked up stands in files that are replaced while the server runs.
        rights = rights.connect(ports).connect([DNS]).read(["/etc"]).read(folders_of(Path::new("/etc/resolv.conf")));
    }
    // The address at which systemd wants to be told may be one without a path.
    if std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| socket.as_encoded_bytes().starts_with(b"@")) {
        rights = rights.abstract_sockets();
    }
    rights
}

/// The folder that a path names a file in, and the one in which the file is.
fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let real = file.canonicalize().ok();
    let folder = |file: &Path| file.parent().map(Path::to_owned);
    folder(file).into_iter().chain(real.as_deref().and_then(folder))
}
