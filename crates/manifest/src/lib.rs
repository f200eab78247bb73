//! The manifest, `remuda.toml`: it says which functions to serve, and how HTTP reaches them. It is resolved and
//! validated once, before any socket opens.
#![forbid(unsafe_code)]

mod listen;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use remuda_engine::Module;
use remuda_host::{
    ARTIFACT_DISK_BYTES_DEFAULT, ARTIFACT_MEMORY_BYTES_DEFAULT, COMPILE_MEMORY_MIN, CompileBudget, FunctionSpec, Reuse,
    WASTE_SHARE_DEFAULT,
};
use remuda_model::{Entry, GuestLimits, Origin, Outbound, Preopen};
use remuda_scheduler::Sizing;
use serde::Deserialize;

pub use listen::{Listen, NoPlaceToListen};

use listen::OneOrMany;

/// The manifest's name in a folder that is deployed.
const MANIFEST_NAME: &str = "remuda.toml";

/// The beginning of a certificate in a file.
const PEM_BEGINS: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The values that make sense for `server.hedge_share`.
const HEDGE_SHARES: std::ops::RangeInclusive<f64> = 0.0..=10.0;

/// A manifest, resolved: where to listen, and the functions to serve.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The settings of the server.
    pub server: ServerSettings,
    /// The functions to serve.
    pub functions: Vec<ServedFunction>,
}

/// A function to be served: what it runs, and how HTTP reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFunction {
    /// What the function runs, and with which rights and limits.
    pub spec: FunctionSpec,
    /// How HTTP reaches it.
    pub endpoint: Endpoint,
}

/// How HTTP reaches a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The path that the function answers: `/exact`, or `/prefix/*` for all paths below.
    pub route: String,
    /// How a request reaches the guest, and how its answer comes back; `None`: as the module's exports have it
    /// ([`Abi::of`]).
    pub abi: Option<Abi>,
    /// The largest request body that the function takes, in bytes.
    pub body_bytes_max: u64,
    /// The media type of the function's answers, for [`Abi::Stdio`].
    pub content_type: String,
    /// Whether bodies flow while the guest runs, for [`Abi::Stdio`] and [`Abi::Cgi`]; with [`Abi::Http`], they always do.
    pub stream: bool,
}

/// The settings of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// The places where the server listens.
    pub listen: Vec<Listen>,
    /// How the server shows who it is to clients that speak TLS.
    pub tls: Option<TlsFiles>,
    /// The number of threads that run guests; `None`: one for each core.
    pub workers: Option<usize>,
    /// The number of requests that may wait for one of these threads.
    pub queue_max: usize,
    /// Whether threads that serve connections may run short requests themselves.
    pub inline: bool,
    /// The time that a client may take for sending its request, and between two requests.
    pub client_timeout: Duration,
    /// Bytes of artifacts that stay in memory.
    pub artifact_memory_bytes: u64,
    /// Bytes of artifacts that stay in the data directory.
    pub artifact_disk_bytes: u64,
    /// The CPU time that races may waste, as a share of the CPU time that answers requests; 0: there are no races.
    pub hedge_share: f64,
    /// The budget of one compile in a child process.
    pub compile_budget: CompileBudget,
    /// Whether the process gives up all files, ports and system calls that it has no use for.
    pub sandbox: bool,
}

/// The files that show who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and a root, in the PEM format.
    pub certificate: PathBuf,
    /// The certificate's private key, in the PEM format.
    pub key: PathBuf,
}

/// How a request reaches a guest, and how its answer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Abi {
    /// The request's body is on standard input; standard output is the answer.
    Stdio,
    /// RFC 3875: the request's variables are in the environment and its body is on standard input; standard output is
    /// header fields, an empty line and the answer's body.
    Cgi,
    /// `wasi:http` 0.2: the guest is a component that is given the request itself.
    Http,
}

impl Abi {
    /// The way in which a module is served that a manifest says nothing about.
    #[must_use]
    pub fn of(module: &Module) -> Self {
        if module.is_http_handler() { Self::Http } else { Self::Stdio }
    }

    /// The entry by which a request enters its guest.
    #[must_use]
    pub fn entry(self) -> Entry {
        match self {
            Self::Stdio | Self::Cgi => Entry::Command,
            Self::Http => Entry::HttpHandler,
        }
    }
}

/// The reason why a manifest cannot be used: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is no manifest, or it cannot be read.
    #[error("cannot read {path:?}: {reason}; name a {MANIFEST_NAME}, or a folder that has one")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// The file is not what a manifest looks like; the parser shows the place.
    #[error("{path:?} is not a valid manifest\n{reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and key.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{path:?}: {key} = {value}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, from the top.
        key: String,
        /// The key's value.
        value: String,
        /// The problem with the value, and what would be right.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(default)]
    server: RawServer,
    #[serde(default)]
    function: Vec<RawFunction>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawServer {
    listen: OneOrMany,
    tls: Option<RawTls>,
    workers: Option<usize>,
    queue: usize,
    inline: bool,
    #[serde(with = "humantime_serde")]
    client_timeout: Duration,
    artifact_memory: ByteSize,
    artifact_disk: ByteSize,
    hedge_share: f64,
    #[serde(with = "humantime_serde")]
    compile_timeout: Duration,
    compile_memory: ByteSize,
    sandbox: bool,
}

impl Default for RawServer {
    fn default() -> Self {
        let compile_budget = CompileBudget::default();
        Self {
            listen: OneOrMany::One("127.0.0.1:8080".into()),
            tls: None,
            workers: None,
            queue: Sizing::of(1).waiting_max,
            inline: true,
            client_timeout: Duration::from_secs(30),
            artifact_memory: ByteSize::b(ARTIFACT_MEMORY_BYTES_DEFAULT),
            artifact_disk: ByteSize::b(ARTIFACT_DISK_BYTES_DEFAULT),
            hedge_share: WASTE_SHARE_DEFAULT,
            compile_timeout: compile_budget.time_max,
            compile_memory: ByteSize::b(compile_budget.memory_bytes_max),
            sandbox: true,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFunction {
    name: String,
    route: Option<String>,
    module: PathBuf,
    abi: Option<Abi>,
    engines: Option<Vec<String>>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    dirs: Vec<RawDir>,
    #[serde(default)]
    outbound: Option<RawOutbound>,
    #[serde(default)]
    limits: RawLimits,
    content_type: Option<String>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    idempotent: bool,
    reuse: Option<RawReuse>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDir {
    host: PathBuf,
    guest: String,
    #[serde(default)]
    writable: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOutbound {
    allow: Vec<String>,
    requests: Option<u32>,
    concurrent: Option<u32>,
    #[serde(default, with = "humantime_serde")]
    timeout: Option<Duration>,
    body: Option<ByteSize>,
    certificates: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReuse {
    uses: Option<u32>,
    #[serde(default, with = "humantime_serde")]
    idle: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    #[serde(with = "humantime_serde")]
    timeout: Duration,
    memory: ByteSize,
    table: u64,
    body: ByteSize,
    output: ByteSize,
}

impl Default for RawLimits {
    fn default() -> Self {
        let GuestLimits { memory_bytes_max, table_elements_max, output_bytes_max, timeout } = GuestLimits::default();
        Self {
            timeout,
            memory: ByteSize::b(memory_bytes_max),
            table: table_elements_max,
            body: ByteSize::mib(8),
            output: ByteSize::b(output_bytes_max),
        }
    }
}

impl Deployment {
    /// Reads a manifest, or the manifest of a folder. Its paths are relative to the folder in which it lies.
    ///
    /// # Errors
    ///
    /// Returns an error if the manifest cannot be read, is no manifest, or has a value that makes no sense.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let path = if path.is_dir() { path.join(MANIFEST_NAME) } else { path.to_owned() };
        let text = fs::read_to_string(&path)
            .map_err(|error| ManifestError::Unreadable { path: path.clone(), reason: error.to_string() })?;
        Self::parse(&text, &path)
    }

    /// Resolves a manifest's text, which came from `path`.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is no manifest, or if a value in it makes no sense.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let raw: RawManifest = toml::from_str(text)
            .map_err(|error| ManifestError::Syntax { path: path.to_owned(), reason: error.to_string() })?;
        let check = Check { path };
        if raw.function.is_empty() {
            return Err(check.value("function", "[]", "there is nothing to serve; add a [[function]]"));
        }
        if raw.server.workers == Some(0) {
            return Err(check.value("server.workers", "0", "at least one thread must run guests"));
        }
        let hedge_share = raw.server.hedge_share;
        if !HEDGE_SHARES.contains(&hedge_share) {
            let problem =
                "it is CPU time that races may waste, as a share of what answers requests: from 0 (no races) to 10";
            return Err(check.value("server.hedge_share", &hedge_share.to_string(), problem));
        }
        check.compile_budget(&raw.server)?;
        let (listen, tls) = check.listen(&raw.server)?;
        let mut functions: Vec<ServedFunction> = Vec::new();
        for (i, raw) in raw.function.into_iter().enumerate() {
            let function = check.function(i, raw)?;
            if let Some(earlier) = functions.iter().find(|earlier| earlier.spec.name == function.spec.name) {
                let problem =
                    format!("it is also the name of the function at {}; names are unique", earlier.endpoint.route);
                return Err(check.value(&format!("function[{i}].name"), &quote(&function.spec.name), &problem));
            }
            if let Some(earlier) = functions.iter().find(|earlier| earlier.endpoint.route == function.endpoint.route) {
                let problem = format!("function {:?} has that route already", earlier.spec.name);
                return Err(check.value(&format!("function[{i}].route"), &quote(&function.endpoint.route), &problem));
            }
            functions.push(function);
        }
        let RawServer {
            workers,
            queue,
            inline,
            client_timeout,
            artifact_memory,
            artifact_disk,
            compile_timeout,
            compile_memory,
            sandbox,
            ..
        } = raw.server;
        let server = ServerSettings {
            listen,
            tls,
            workers,
            queue_max: queue,
            inline,
            client_timeout,
            artifact_memory_bytes: artifact_memory.as_u64(),
            artifact_disk_bytes: artifact_disk.as_u64(),
            hedge_share,
            compile_budget: CompileBudget { time_max: compile_timeout, memory_bytes_max: compile_memory.as_u64() },
            sandbox,
        };
        Ok(Self { server, functions })
    }
}

/// Checks a manifest's values.
struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn value(&self, key: &str, value: &str, problem: &str) -> ManifestError {
        ManifestError::Value {
            path: self.path.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
        }
    }

    /// Checks the compile budget: one within which nothing could be compiled would set every engine aside.
    fn compile_budget(&self, server: &RawServer) -> Result<(), ManifestError> {
        if server.compile_timeout.is_zero() {
            return Err(self.value("server.compile_timeout", "0s", "nothing could be compiled in time"));
        }
        if server.compile_memory < COMPILE_MEMORY_MIN {
            let problem = format!("a compiler does not start with less than {COMPILE_MEMORY_MIN}");
            return Err(self.value("server.compile_memory", &server.compile_memory.to_string(), &problem));
        }
        Ok(())
    }

    /// Where to listen, and what TLS needs.
    fn listen(&self, server: &RawServer) -> Result<(Vec<Listen>, Option<TlsFiles>), ManifestError> {
        let home = self.path.parent().unwrap_or(Path::new("."));
        let place = |text: &String| {
            let listen = text.parse::<Listen>();
            listen.map_err(|problem| self.value("server.listen", &quote(text), &problem.to_string()))
        };
        let listen = server.listen.as_slice().iter().map(|text| Ok(place(text)?.within(home)));
        let listen = listen.collect::<Result<Vec<_>, _>>()?;
        if listen.is_empty() {
            return Err(self.value("server.listen", "[]", "the server must listen somewhere"));
        }
        if let Some(twice) =
            listen.iter().enumerate().find_map(|(i, place)| listen[..i].contains(place).then_some(place))
        {
            return Err(self.value("server.listen", &quote(&twice.to_string()), "it is in the list twice"));
        }
        let tls = server
            .tls
            .as_ref()
            .map(|RawTls { certificate, key }| TlsFiles { certificate: home.join(certificate), key: home.join(key) });
        if let (Some(https), None) = (listen.iter().find(|place| matches!(place, Listen::Https(_))), &tls) {
            let problem = "it needs server.tls = { certificate = \"chain.pem\", key = \"key.pem\" }";
            return Err(self.value("server.listen", &quote(&https.to_string()), problem));
        }
        Ok((listen, tls))
    }

    fn function(&self, i: usize, raw: RawFunction) -> Result<ServedFunction, ManifestError> {
        let key = |name: &str| format!("function[{i}].{name}");
        let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if raw.name.is_empty() || !raw.name.chars().all(named) {
            let problem = "a name is letters, digits, '-', '_' and '.'";
            return Err(self.value(&key("name"), &quote(&raw.name), problem));
        }
        let route = raw.route.unwrap_or_else(|| format!("/{}", raw.name));
        if !route.starts_with('/') || route.trim_end_matches("/*").contains(['*', '?', '#']) {
            let problem = "a route is a path like \"/resize\", or \"/images/*\" for everything below";
            return Err(self.value(&key("route"), &quote(&route), problem));
        }
        let home = self.path.parent().unwrap_or(Path::new("."));
        let module = home.join(&raw.module);
        if !module.is_file() {
            let problem = format!("there is no file {}; paths are relative to the manifest", module.display());
            return Err(self.value(&key("module"), &quote(&raw.module.display().to_string()), &problem));
        }
        if raw.engines.as_ref().is_some_and(Vec::is_empty) {
            let problem = "no engine may run the function; name some, or leave the key out to allow all";
            return Err(self.value(&key("engines"), "[]", problem));
        }
        let nul = |text: &str| text.contains('\0');
        if let Some((name, _)) =
            raw.env.iter().find(|(name, value)| name.is_empty() || name.contains('=') || nul(name) || nul(value))
        {
            let problem = "a variable's name is not empty and has no '=', and nothing in it is NUL";
            return Err(self.value(&key("env"), &quote(name), problem));
        }
        if let Some(arg) = raw.args.iter().find(|arg| nul(arg)) {
            return Err(self.value(&key("args"), &quote(arg), "an argument has no NUL in it"));
        }
        let preopens = raw.dirs.into_iter().map(|dir| self.dir(i, home, dir)).collect::<Result<_, _>>()?;
        let outbound = raw.outbound.map(|outbound| self.outbound(i, home, &outbound)).transpose()?;
        let limits = raw.limits;
        if limits.timeout.is_zero() {
            return Err(self.value(&key("limits.timeout"), "0s", "no request could be answered in time"));
        }
        let spec = FunctionSpec {
            name: raw.name,
            module,
            engines: raw.engines,
            args: raw.args,
            env: raw.env.into_iter().collect(),
            preopens,
            outbound: outbound.map(Arc::new),
            limits: GuestLimits {
                memory_bytes_max: limits.memory.as_u64(),
                table_elements_max: limits.table,
                output_bytes_max: limits.output.as_u64(),
                timeout: limits.timeout,
            },
            idempotent: raw.idempotent,
            reuse: raw.reuse.map(|reuse| self.reuse(i, &reuse)).transpose()?,
        };
        let endpoint = Endpoint {
            route,
            abi: raw.abi,
            body_bytes_max: limits.body.as_u64(),
            content_type: raw.content_type.unwrap_or_else(|| "application/octet-stream".into()),
            stream: raw.stream,
        };
        Ok(ServedFunction { spec, endpoint })
    }

    fn outbound(&self, i: usize, home: &Path, raw: &RawOutbound) -> Result<Outbound, ManifestError> {
        let key = |name: &str| format!("function[{i}].outbound.{name}");
        let origin = |text: &String| {
            text.parse::<Origin>().map_err(|problem| self.value(&key("allow"), &quote(text), &problem.to_string()))
        };
        let defaults = Outbound::default();
        let outbound = Outbound {
            allow: raw.allow.iter().map(origin).collect::<Result<_, _>>()?,
            requests_max: raw.requests.unwrap_or(defaults.requests_max),
            concurrent_max: raw.concurrent.unwrap_or(defaults.concurrent_max),
            timeout: raw.timeout.unwrap_or(defaults.timeout),
            body_bytes_max: raw.body.map_or(defaults.body_bytes_max, |body| body.as_u64()),
            certificates: match &raw.certificates {
                None => defaults.certificates,
                Some(path) => {
                    let wrong =
                        |problem: &str| self.value(&key("certificates"), &quote(&path.display().to_string()), problem);
                    let pem =
                        fs::read(home.join(path)).map_err(|error| wrong(&format!("it cannot be read: {error}")))?;
                    if !pem.windows(PEM_BEGINS.len()).any(|bytes| bytes == PEM_BEGINS) {
                        return Err(wrong("there is no certificate in it; it has to be a file of the PEM format"));
                    }
                    pem.into()
                }
            },
        };
        for (name, is_zero) in [
            ("requests", outbound.requests_max == 0),
            ("concurrent", outbound.concurrent_max == 0),
            ("timeout", outbound.timeout.is_zero()),
        ] {
            if is_zero {
                return Err(self.value(
                    &key(name),
                    "0",
                    "no request could be sent; leave `outbound` out to allow none",
                ));
            }
        }
        Ok(outbound)
    }

    fn reuse(&self, i: usize, raw: &RawReuse) -> Result<Reuse, ManifestError> {
        let defaults = Reuse::default();
        let uses_max = raw.uses.unwrap_or(defaults.uses_max);
        if uses_max < 2 {
            let problem = "an instance that answers one request is not used again; leave `reuse` out";
            return Err(self.value(&format!("function[{i}].reuse.uses"), &uses_max.to_string(), problem));
        }
        Ok(Reuse { uses_max, idle_max: raw.idle.unwrap_or(defaults.idle_max) })
    }

    fn dir(&self, i: usize, home: &Path, raw: RawDir) -> Result<Preopen, ManifestError> {
        let host = home.join(&raw.host);
        if !host.is_dir() {
            let problem = format!("there is no folder {}; paths are relative to the manifest", host.display());
            let value = quote(&raw.host.display().to_string());
            return Err(self.value(&format!("function[{i}].dirs.host"), &value, &problem));
        }
        Ok(Preopen { host, guest: raw.guest, writable: raw.writable })
    }
}

fn quote(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves a manifest's text in a folder that has a module.
    fn parse(manifest: &str) -> Result<Deployment, ManifestError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.wasm"), b"\0asm\x01\0\0\0").unwrap();
        Deployment::parse(manifest, &dir.path().join(MANIFEST_NAME))
    }

    #[test]
    fn everything_but_name_and_module_has_a_default() {
        let deployment = parse("[[function]]\nname = \"a\"\nmodule = \"a.wasm\"").unwrap();
        let ServedFunction { spec, endpoint } = &deployment.functions[0];
        assert_eq!((endpoint.route.as_str(), endpoint.abi), ("/a", None));
        assert_eq!(spec.limits, GuestLimits::default());
        let server = &deployment.server;
        assert_eq!(server.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(server.tls, None);
        assert_eq!((server.artifact_memory_bytes, server.artifact_disk_bytes), (512 << 20, 4 << 30));
        assert_eq!(server.hedge_share.to_string(), "0.5");
        assert_eq!(server.compile_budget, CompileBudget::default());
    }

    #[test]
    fn sizes_and_durations_are_written_as_people_write_them() {
        let deployment = parse(
            "[server]\nartifact_memory = \"1GiB\"\nartifact_disk = 0\nhedge_share = 2\n\
             compile_timeout = \"2m\"\ncompile_memory = \"300MiB\"\n\
             [[function]]\nname = \"a\"\nmodule = \"a.wasm\"\n\
             limits = { timeout = \"1m 30s\", memory = \"64MiB\", body = \"1MB\", output = 10 }",
        )
        .unwrap();
        let ServedFunction { spec, endpoint } = &deployment.functions[0];
        assert_eq!(spec.limits.timeout, Duration::from_secs(90));
        assert_eq!(spec.limits.memory_bytes_max, 64 << 20);
        assert_eq!((endpoint.body_bytes_max, spec.limits.output_bytes_max), (1_000_000, 10));
        let server = &deployment.server;
        assert_eq!((server.artifact_memory_bytes, server.artifact_disk_bytes), (1 << 30, 0));
        assert_eq!(server.hedge_share.to_string(), "2");
        let budget = CompileBudget { time_max: Duration::from_mins(2), memory_bytes_max: 300 << 20 };
        assert_eq!(server.compile_budget, budget);
    }

    #[test]
    fn a_server_listens_in_several_places() {
        let server = parse(
            "[server]\nlisten = [\"[::1]:8080\", \"https://0.0.0.0:8443\", \"unix:remuda.sock\"]\n\
             tls = { certificate = \"chain.pem\", key = \"/key.pem\" }\n\
             [[function]]\nname = \"a\"\nmodule = \"a.wasm\"",
        )
        .unwrap()
        .server;
        let [http, https, Listen::Unix(path)] = &server.listen[..] else { panic!("{:?}", server.listen) };
        assert_eq!(
            (http.to_string().as_str(), https.to_string().as_str()),
            ("http://[::1]:8080", "https://0.0.0.0:8443")
        );
        // Paths are relative to the manifest.
        assert!(path.is_absolute() && path.ends_with("remuda.sock"), "{path:?}");
        let tls = server.tls.unwrap();
        assert_eq!((tls.certificate, tls.key), (path.with_file_name("chain.pem"), "/key.pem".into()));
    }

    #[test]
    fn a_bad_manifest_is_named_with_key_value_and_remedy() {
        let function = "[[function]]\nname = \"a\"\nmodule = \"a.wasm\"\n";
        for (manifest, expected) in [
            (String::new(), vec!["function", "add a [[function]]"]),
            ("[[function]]\nname = \"a\"".into(), vec!["missing field `module`"]),
            (format!("{function}rout = \"/a\""), vec!["unknown field `rout`", "`route`"]),
            (format!("{function}abi = \"grpc\""), vec!["grpc", "`stdio`, `cgi`, `http`"]),
            (format!("{function}route = \"a\""), vec!["function[0].route", "\"a\"", "/images/*"]),
            (format!("{function}{function}"), vec!["function[1].name", "names are unique"]),
            (
                format!("{function}[[function]]\nname = \"b\"\nroute = \"/a\"\nmodule = \"a.wasm\""),
                vec!["function[1].route", "has that route already"],
            ),
            (
                "[[function]]\nname = \"a\"\nmodule = \"b.wasm\"".into(),
                vec!["function[0].module", "\"b.wasm\"", "relative to the manifest"],
            ),
            (format!("{function}engines = []"), vec!["function[0].engines", "leave the key out"]),
            (format!("{function}limits = {{ timeout = \"5 parsecs\" }}"), vec!["timeout", "parsecs"]),
            (format!("{function}limits = {{ memory = \"lots\" }}"), vec!["memory", "lots"]),
            (
                format!("{function}dirs = [{{ host = \"no\", guest = \"/d\" }}]"),
                vec!["function[0].dirs.host", "no folder"],
            ),
            (format!("[server]\nworkers = 0\n{function}"), vec!["server.workers", "at least one"]),
            (
                format!("[server]\nhedge_share = -0.1\n{function}"),
                vec!["server.hedge_share = -0.1", "from 0 (no races) to 10"],
            ),
            (format!("[server]\nhedge_share = 11\n{function}"), vec!["server.hedge_share = 11", "to 10"]),
            (format!("[server]\nhedge_share = nan\n{function}"), vec!["server.hedge_share = NaN", "to 10"]),
            (
                format!("[server]\nlisten = \"here\"\n{function}"),
                vec!["server.listen = \"here\"", "an address with a port", "unix:/run/remuda.sock"],
            ),
            (format!("[server]\nlisten = 8080\n{function}"), vec!["listen", "a text, or a list of texts"]),
            (format!("[server]\nlisten = []\n{function}"), vec!["server.listen = []", "must listen somewhere"]),
            (
                format!("[server]\nlisten = [\"[::]:1\", \"http://[::]:1\"]\n{function}"),
                vec!["server.listen = \"http://[::]:1\"", "twice"],
            ),
            (
                format!("[server]\nlisten = \"https://[::]:1\"\n{function}"),
                vec!["server.listen = \"https://[::]:1\"", "needs server.tls"],
            ),
            (format!("[server]\ncompile_timeout = \"0s\"\n{function}"), vec!["server.compile_timeout", "in time"]),
            (format!("[server]\ncompile_memory = \"1MB\"\n{function}"), vec!["server.compile_memory", "32.0 MiB"]),
            (format!("{function}outbound = {{}}"), vec!["allow"]),
            (
                format!("{function}outbound = {{ allow = [\"example.com\"] }}"),
                vec!["function[0].outbound.allow", "https://api.example.com"],
            ),
            (
                format!("{function}outbound = {{ allow = [], requests = 0 }}"),
                vec!["function[0].outbound.requests", "leave `outbound` out"],
            ),
            (
                format!("{function}outbound = {{ allow = [], certificates = \"no.pem\" }}"),
                vec!["function[0].outbound.certificates", "cannot be read"],
            ),
            (
                format!("{function}outbound = {{ allow = [], certificates = \"a.wasm\" }}"),
                vec!["function[0].outbound.certificates", "PEM"],
            ),
            (format!("{function}reuse = {{ uses = 1 }}"), vec!["function[0].reuse.uses", "leave `reuse` out"]),
            (format!("{function}env = {{ \"A=B\" = \"c\" }}"), vec!["function[0].env", "no '='"]),
        ] {
            let error = parse(&manifest).expect_err(&manifest).to_string();
            for part in expected {
                assert!(error.contains(part), "{part:?} is not in the message for {manifest:?}:\n{error}");
            }
            assert!(error.contains(MANIFEST_NAME), "{error}");
        }
    }

    /// README shows the server's keys with their defaults, except for the number of threads.
    #[test]
    fn the_manifest_in_the_readme_is_one_and_shows_the_defaults() {
        let readme = include_str!("../../../README.md");
        let (_, rest) = readme.split_once("```toml\n").expect("README has a manifest");
        let (manifest, _) = rest.split_once("```").expect("it ends");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("canny.wasm"), b"\0asm\x01\0\0\0").unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let path = dir.path().join(MANIFEST_NAME);
        let shown = Deployment::parse(manifest, &path).unwrap();
        let defaults = Deployment::parse("[[function]]\nname = \"canny\"\nmodule = \"canny.wasm\"", &path).unwrap();
        assert!(shown.server.workers.is_some());
        assert_eq!(ServerSettings { workers: None, ..shown.server }, defaults.server);
        assert_eq!(shown.functions[0].endpoint.route, defaults.functions[0].endpoint.route);
    }

    #[test]
    fn a_missing_manifest_says_what_to_name() {
        let error = Deployment::read(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("name a remuda.toml"), "{error}");
    }
}
