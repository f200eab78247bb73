//! `remuda serve`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use remuda_host::{Host, HostConfig};
use remuda_manifest::{Deployment, Listen, ServedFunction};
use remuda_scheduler::Sizing;
use remuda_server::{Control, Listener, Mounted, Predecessor, Server, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::options::{DataDir, EngineChoice, compiler, start_log};
use crate::second_wall;

/// The exit code of a server that was told twice to stop: 128 and SIGINT's number.
const EXIT_INTERRUPTED: i32 = 130;

/// The longest time that the socket stays closed while functions are made ready for their first requests.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// Serve functions over HTTP as a manifest describes them
#[derive(Args)]
pub(crate) struct Serve {
    /// A remuda.toml, or a folder that has one
    #[arg(value_name = "DIR|remuda.toml", default_value = ".")]
    manifest: PathBuf,

    /// Listen here instead of where the manifest says: an address and a port (0 takes any free one), https://ADDRESS:PORT,
    /// or unix:PATH; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<Listen>,

    /// Take over the sockets of the `remuda serve` with this process id and the same data directory; it answers what it
    /// has begun, and ends
    #[arg(long, value_name = "PID", conflicts_with = "no_data")]
    take_over: Option<u32>,

    #[command(flatten)]
    engine: EngineChoice,

    #[command(flatten)]
    data_dir: DataDir,

    /// Write the log as JSON, a line for each event
    #[arg(long)]
    log_json: bool,
}

impl Serve {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let activated = Listener::activated()?;
        start_log("info", self.log_json);
        raise_open_files_limit();
        let mut deployment = Deployment::read(&self.manifest)?;
        if !self.listen.is_empty() {
            deployment.server.listen = self.listen.into_iter().map(|place| place.within(Path::new(""))).collect();
        }
        let data_dir = self.data_dir.resolve();
        if deployment.server.sandbox {
            second_wall::enter(&deployment, data_dir.as_deref());
        }
        let Deployment { server, functions } = deployment;
        let tls = server.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let host = Host::open(&HostConfig {
            data_dir: data_dir.clone(),
            policy: self.engine.policy()?,
            workers: server.workers.unwrap_or(Sizing::of(cores).workers),
            queue_max: server.queue_max,
            memory_budget_bytes: server.artifact_memory_bytes,
            disk_budget_bytes: server.artifact_disk_bytes,
            compiler: compiler(),
            compile_budget: server.compile_budget,
            calibrate_in_background: true,
            waste_share: server.hedge_share,
            inline: server.inline,
            ..HostConfig::default()
        })?;
        let deploy = |ServedFunction { spec, endpoint }| {
            let module = spec.module.clone();
            let function = host.deploy(spec, None)?;
            anyhow::ensure!(
                function.spec().outbound.is_none() || function.module().is_component(),
                "{} is a core module, which can send no requests; leave `outbound` out of its function",
                module.display()
            );
            anyhow::ensure!(
                function.spec().reuse.is_none() || function.module().is_http_handler(),
                "instances of {} cannot be used again, since it does not answer HTTP requests itself \
                 (wasi:http/incoming-handler); leave `reuse` out of its function",
                module.display()
            );
            anyhow::ensure!(
                !(endpoint.stream && function.module().is_http_handler()),
                "{} answers HTTP requests itself, and its bodies always flow; leave `stream` out of its function",
                module.display()
            );
            let mounted = Mounted::new(function, endpoint);
            mounted.with_context(|| format!("cannot serve {}", module.display()))
        };
        let mounted = functions.into_iter().map(deploy).collect::<anyhow::Result<Vec<_>>>()?;
        let functions: Vec<_> = mounted.iter().map(|mounted| Arc::clone(&mounted.function)).collect();
        host.make_ready(&functions, START_PATIENCE);

        let (listeners, predecessor, refusal) = match (self.take_over, data_dir.as_deref()) {
            _ if !activated.is_empty() => {
                (activated, None, Some("they are systemd's, which keeps them while its unit restarts"))
            }
            (Some(pid), Some(data_dir)) => {
                let mut predecessor = Predecessor::ask(data_dir, pid)?;
                (predecessor.listen(&server.listen)?, Some(predecessor), None)
            }
            (Some(_), None) => anyhow::bail!("--take-over needs a data directory: name it with --data-dir"),
            (None, _) => (server.listen.iter().map(Listener::bind).collect::<Result<_, _>>()?, None, None),
        };
        // This thread only accepts connections, and hears signals.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let control = data_dir.as_deref().and_then(|data_dir| control(data_dir, refusal));
            let server = Server::new(host, mounted, &server, listeners, tls.as_ref(), cores)?;
            if let Err(error) = server.rehearse().await {
                tracing::debug!(%error, "the first client may wait a little longer");
            }
            let stop = stop_signals()?;
            reload_at_hangup(tls)?;
            for place in server.places() {
                println!("listening on {place}");
            }
            for Mounted { function, endpoint, .. } in server.functions() {
                let spec = function.spec();
                println!("  {:<24} {} ({})", endpoint.route, spec.name, spec.module.display());
            }
            notify(&[NotifyState::Ready]);
            if let Some(predecessor) = predecessor {
                predecessor.serve_in_its_place()?;
            }
            server.run(stop, control).await;
            anyhow::Ok(())
        })?;
        tracing::info!("every request was answered");
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns a future that resolves at the first SIGTERM or Ctrl-C. The second signal ends the process at once.
fn stop_signals() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        notify(&[NotifyState::Stopping]);
        tracing::info!("shutting down: answering every request that has come; once more to stop at once");
        let _ = stop.send(());
        next().await;
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(async {
        // An error is impossible: the sender is dropped only after it has sent.
        let _ = stopped.await;
    })
}

/// Has TLS read its files again at each SIGHUP. Without TLS, the signal does nothing.
fn reload_at_hangup(tls: Option<Arc<Tls>>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.as_deref().map(Tls::reload) {
                Some(Ok(())) => tracing::info!("clients that connect from now on see the certificate as it is now"),
                Some(Err(error)) => tracing::error!(%error, "clients go on seeing the certificate of before"),
                None => tracing::info!("there is no certificate to read again; to change anything else, take over"),
            }
        }
    });
    Ok(())
}

/// The socket by which another process takes over from this one.
fn control(data_dir: &Path, refusal: Option<&'static str>) -> Option<Control> {
    let opened = Control::open(data_dir, refusal);
    opened.inspect_err(|error| tracing::warn!(%error, "no other process can take over from this one")).ok()
}

/// Tells systemd, if it has started this process, how far it is.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told how far the server is");
    }
}

/// Raises the limit on open files as far as the system allows. Connections and guests share the file descriptors, and a
/// guest may hold a thousand.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit on open files; raise it with `ulimit -n` if guests open many");
    }
}
