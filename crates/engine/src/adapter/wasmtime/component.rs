//! Components: commands of WASI 0.2, on either of Wasmtime's compilers.
//!
//! Core modules within components cannot import the memory that has the flag by which other guests are stopped: what
//! they import comes from components. So they are stopped by Wasmtime's epochs, which take more time
//! (docs/interruption.md). There is no clock: the epoch of all components is advanced when a guest is interrupted, and
//! every guest then looks whether it is meant.
//!
//! Functions of WASI 0.2 are asynchronous. A guest waits in them on its own thread, in a runtime that only this thread
//! has, until what it waits for has come or its interrupt is raised.

use std::cell::OnceCell;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, OnceLock};

use remuda_model::{Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Listener};
use remuda_wasi::{ComponentWasi, Stop, stop_of};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use wasmtime::component::{Component, Linker};
use wasmtime::{InstanceAllocationStrategy, ResourceLimiter, Store, Strategy, UpdateDeadline};
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::{config, end_of, get_or_start};
use crate::adapter::guest::{Budget, End};
use crate::{Artifact, Called, EngineError, Instance, InstantiateError, Known, Module, StoredArtifact};

/// The Wasmtime engine for components; it is started when it is first needed.
pub(super) struct Components {
    known: &'static Known,
    strategy: Strategy,
    host: OnceLock<Host>,
}

/// A Wasmtime engine with everything that a component may import.
struct Host {
    engine: wasmtime::Engine,
    linker: Linker<State>,
}

impl Components {
    pub(super) fn new(known: &'static Known, strategy: Strategy) -> Self {
        Self { known, strategy, host: OnceLock::new() }
    }

    fn host(&self) -> Result<&Host, EngineError> {
        get_or_start(self.known, &self.host, || {
            let mut config = config(self.known, self.strategy, InstanceAllocationStrategy::OnDemand);
            config.wasm_component_model(true).epoch_interruption(true);
            let engine = wasmtime::Engine::new(&config)?;
            let mut linker = Linker::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            Ok(Host { engine, linker })
        })
    }

    pub(super) fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        let host = self.host()?;
        Component::from_binary(&host.engine, module.bytes())
            .and_then(|component| self.artifact(host, component))
            .map_err(|error| EngineError::Compile { engine: self.known.id, reason: format!("{error:#}") })
    }

    pub(super) fn load(&self, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        let host = self.host()?;
        let failed = |reason: String| EngineError::Load { engine: self.known.id, reason };
        let mut bytes = vec![0; stored.artifact_bytes()];
        let file = stored.file().map_err(|error| failed(error.to_string()))?;
        file.read_exact_at(&mut bytes, 0).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the code that made the `StoredArtifact` vouched that its bytes came from `serialize` below.
        let component = unsafe { Component::deserialize(&host.engine, bytes) };
        component.and_then(|component| self.artifact(host, component)).map_err(|error| failed(format!("{error:#}")))
    }

    fn artifact(&self, host: &Host, component: Component) -> wasmtime::Result<Arc<dyn Artifact>> {
        let pre = CommandPre::new(host.linker.instantiate_pre(&component)?)?;
        Ok(Arc::new(ComponentArtifact { known: self.known, engine: host.engine.clone(), component, pre }))
    }
}

struct ComponentArtifact {
    known: &'static Known,
    engine: wasmtime::Engine,
    component: Component,
    pre: CommandPre<State>,
}

impl ComponentArtifact {
    fn internal(&self, reason: String) -> EngineError {
        EngineError::Internal { engine: self.known.id, reason }
    }
}

impl Artifact for ComponentArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        self.component.serialize().map(Some).map_err(|error| self.internal(format!("{error:#}")))
    }

    fn memory_bytes(&self) -> u64 {
        let image = self.component.image_range();
        (image.end as usize - image.start as usize) as u64
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        let wasi = ComponentWasi::new(context, interrupt).map_err(|error| EngineError::Setup(error.to_string()))?;
        let state = State { wasi, budget: Budget::new(limits), interrupt: interrupt.clone() };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| state);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| match store.data().interrupt.cause() {
            Some(cause) => Err(wasmtime::Error::new(Stop::Interrupted(cause))),
            // Another guest is meant.
            None => Ok(UpdateDeadline::Continue(1)),
        });
        let engine = self.engine.clone();
        let listener = interrupt.listen(move || engine.increment_epoch());
        let instantiated = wait(interrupt, self.pre.instantiate_async(&mut store));
        match instantiated.map_err(|error| self.internal(error.to_string()))? {
            Ok(command) => Ok(Box::new(ComponentInstance { artifact: self, command, store, _listener: listener })),
            Err(error) => {
                let state = store.into_data();
                match end_of_call(error).or_else(|error| state.budget.refused.map(End::NotGranted).ok_or(error)) {
                    Ok(end) => {
                        let outcome = end.outcome(state.budget.refused, interrupt.cause());
                        Err(InstantiateError::Guest { outcome, output: state.wasi.into_output() })
                    }
                    Err(error) => Err(self.internal(format!("{error:#}")).into()),
                }
            }
        }
    }
}

/// What a store keeps for its guest.
struct State {
    wasi: ComponentWasi,
    budget: Budget,
    interrupt: Interrupt,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.view()
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.budget.grant_memory(current, desired, maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.budget.grant_table(current, desired, maximum))
    }

    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

struct ComponentInstance {
    artifact: Arc<ComponentArtifact>,
    command: Command,
    store: Store<State>,
    _listener: Listener,
}

impl Instance for ComponentInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        if *entry != Entry::Command {
            return Err(self.artifact.internal("a component is only entered as a command".into()));
        }
        let interrupt = self.store.data().interrupt.clone();
        let called = wait(&interrupt, self.command.wasi_cli_run().call_run(&mut self.store));
        let end = match called.map_err(|error| self.artifact.internal(error.to_string()))? {
            Ok(Ok(())) => End::Returned,
            Ok(Err(())) => End::Stopped(Stop::Exit(1)),
            // What is neither a trap nor an order to stop is a function of WASI that could not be carried out.
            Err(error) => end_of_call(error).unwrap_or_else(|error| End::Stopped(Stop::Failed(format!("{error:#}")))),
        };
        let refused = self.store.data().budget.refused;
        let outcome = end.outcome(refused, interrupt.cause());
        Ok(Called { outcome, values: Vec::new(), refused_growth: refused.is_some() })
    }

    fn into_output(self: Box<Self>) -> GuestOutput {
        self.store.into_data().wasi.into_output()
    }
}

/// How the guest ended according to an error. Returns the error if the engine itself failed.
fn end_of_call(error: wasmtime::Error) -> Result<End, wasmtime::Error> {
    match stop_of(&error) {
        Some(stop) => Ok(End::Stopped(stop)),
        None => end_of(&error).ok_or(error),
    }
}

/// Drives a guest on this thread until it ends. If its interrupt is raised while it waits, its call is dropped where it
/// is.
fn wait<T>(
    interrupt: &Interrupt,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> std::io::Result<wasmtime::Result<T>> {
    thread_local! {
        /// What this thread's guests wait in.
        static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
    }
    RUNTIME.with(|runtime| {
        let runtime = match runtime.get() {
            Some(runtime) => runtime,
            None => {
                let started = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.get_or_init(|| started)
            }
        };
        let raised = Arc::new(Notify::new());
        let bell = Arc::clone(&raised);
        let _listener = interrupt.listen(move || bell.notify_one());
        Ok(runtime.block_on(async {
            tokio::select! {
                biased;
                ended = guest => ended,
                () = raised.notified() => match interrupt.cause() {
                    Some(cause) => Err(wasmtime::Error::new(Stop::Interrupted(cause))),
                    None => Err(wasmtime::Error::msg("a wait ended with nobody having ended it")),
                },
            }
        }))
    })
}
