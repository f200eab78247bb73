//! The servers that are measured, each as a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server to measure.
pub(crate) struct Spec {
    pub(crate) label: &'static str,
    pub(crate) path: &'static str,
    /// Whether the server answers without a guest, that is with 404.
    pub(crate) is_bare: bool,
    kind: Kind,
}

enum Kind {
    /// `remuda serve --engine ...`, with or without running short requests on the threads of the network, of the core
    /// module or of the component that does nothing.
    Remuda {
        engine: &'static str,
        inline: bool,
        component: bool,
    },
    WasmtimeServe,
    Workerd,
    Node,
}

const fn remuda(label: &'static str, engine: &'static str) -> Spec {
    Spec { label, path: "/noop", is_bare: false, kind: Kind::Remuda { engine, inline: true, component: false } }
}

const fn peer(label: &'static str, kind: Kind) -> Spec {
    Spec { label, path: "/", is_bare: false, kind }
}

pub(crate) const SERVERS: &[Spec] = &[
    Spec {
        label: "the bare server: no guest (404)",
        path: "/",
        is_bare: true,
        kind: Kind::Remuda { engine: "auto", inline: true, component: false },
    },
    remuda("**remuda**", "auto"),
    remuda("remuda, `mock` (no WebAssembly)", "mock"),
    remuda("remuda, `wasmi.lazy`", "wasmi.lazy"),
    remuda("remuda, `wasmtime.winch`", "wasmtime.winch"),
    remuda("remuda, `wasmtime.cranelift`", "wasmtime.cranelift"),
    Spec {
        label: "remuda, `server.inline = false`",
        path: "/noop",
        is_bare: false,
        kind: Kind::Remuda { engine: "auto", inline: false, component: false },
    },
    Spec {
        label: "remuda, the same component as `wasmtime serve`",
        path: "/noop",
        is_bare: false,
        kind: Kind::Remuda { engine: "auto", inline: true, component: true },
    },
    peer("`wasmtime serve`, a component", Kind::WasmtimeServe),
    peer("workerd, JavaScript", Kind::Workerd),
    peer("Node.js, a fresh instance", Kind::Node),
];

/// A server that runs; dropping this ends it.
pub(crate) struct Server {
    pub(crate) spec: &'static Spec,
    pub(crate) address: String,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts a server, and waits until it answers.
    pub(crate) fn start(spec: &'static Spec) -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut command = match spec.kind {
            Kind::Remuda { engine, inline, component } => {
                let module = if component { peer_file("noop.component.wasm") } else { noop() };
                let manifest = format!(
                    "[server]\ninline = {inline}\n[[function]]\nname = \"noop\"\nmodule = {:?}\n",
                    module.display().to_string()
                );
                fs::write(dir.path().join("remuda.toml"), manifest).map_err(|error| error.to_string())?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
                command.args(["serve", "--listen", &address, "--engine", engine, "--data-dir"]);
                command.arg(dir.path().join("data")).arg(dir.path()).env("REMUDA_LOG", "error");
                command
            }
            Kind::WasmtimeServe => {
                let mut command = Command::new(program("wasmtime")?);
                command.args(["serve", "--addr", &address]).arg(peer_file("noop.component.wasm"));
                command
            }
            Kind::Workerd => {
                let mut command = Command::new(program("workerd")?);
                command.arg("serve").arg(peer_file("workerd.capnp")).arg(format!("--socket-addr=http={address}"));
                command
            }
            Kind::Node => {
                let mut command = Command::new(program("node")?);
                command.args(["--no-warnings"]).arg(peer_file("node.mjs")).arg(port.to_string()).arg(noop());
                command
            }
        };
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = spawned.map_err(|error| format!("it cannot be started: {error}"))?;
        let server = Self { spec, address, child, _dir: dir };
        server.wait()?;
        Ok(server)
    }

    fn wait(&self) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let began = Instant::now();
        loop {
            match self.ask() {
                Ok(()) => return Ok(()),
                Err(error) if began.elapsed() > PATIENCE => return Err(format!("it does not answer: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Makes one request, and checks that it is answered as it should be.
    fn ask(&self) -> Result<(), String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|error| error.to_string())?;
        stream.write_all(request(self, "close").as_bytes()).map_err(|error| error.to_string())?;
        let mut status = String::new();
        let mut reader = BufReader::new(stream);
        reader.read_line(&mut status).map_err(|error| error.to_string())?;
        reader.read_to_end(&mut Vec::new()).map_err(|error| error.to_string())?;
        let expected = if self.spec.is_bare { " 404 " } else { " 200 " };
        if status.contains(expected) { Ok(()) } else { Err(format!("it answers {status:?}")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as it is sent.
pub(crate) fn request(server: &Server, connection: &str) -> String {
    format!("GET {} HTTP/1.1\r\nhost: {}\r\nconnection: {connection}\r\n\r\n", server.spec.path, server.address)
}

/// A file of this benchmark.
pub(crate) fn peer_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving/peers").join(name)
}

fn noop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/noop/noop.wasm")
}

/// A program of a peer: the one that the script installed, or else the one on PATH.
fn program(name: &str) -> Result<PathBuf, String> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers/bin").join(name);
    if installed.exists() {
        return Ok(installed);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.exists());
    found.ok_or_else(|| format!("there is no `{name}`; scripts/install-peers.sh --serving installs it"))
}

/// A port that nobody has just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback network works");
    listener.local_addr().expect("it is bound").port()
}
