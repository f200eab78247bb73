//! Components, on either of Wasmtime's compilers: commands of WASI 0.2, and handlers of HTTP requests (`wasi:http` 0.2).
//! With the feature `wasi-0.3` also those of 0.3 ([`p3`]).
//!
//! On Cranelift, a component with loops is rewritten so that its guests poll a flag, as core modules do; the flag's memory is
//! the component's own ([`instrument_component`]). Others, those that cannot be rewritten, and all on Winch, where it would gain
//! nothing, are stopped by Wasmtime's epochs, which make loops slower on Cranelift (docs/interruption.md). There is no clock: the epoch of
//! all components is advanced when a guest is interrupted, and every guest then looks whether it is meant.
//!
//! Functions of WASI 0.2 are asynchronous. A guest waits in them on its own thread, in a runtime that only this thread
//! has, until what it waits for has come or its interrupt is raised. A thread that is in a runtime already, because it
//! serves connections, must not wait: there a guest is given up as soon as it would ([`EngineError::WouldWait`]).

#[cfg(feature = "wasi-0.3")]
mod p3;

use std::cell::OnceCell;
use std::future::poll_fn;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::pin;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use remuda_model::{
    EngineId, Entry, Gate, GuestContext, GuestLimits, GuestOutput, HttpAnswer, HttpRequest, Interrupt, Listener,
    Responder, Waiting,
};
use remuda_wasi::{ClientOutput, ComponentWasi, Exchange, PendingResponse, Stop, stop_of};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::coop::unconstrained;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{
    InstanceAllocationStrategy, PoolConcurrencyLimitError, PoolingAllocationConfig, ResourceLimiter, Store, Strategy,
    UpdateDeadline,
};
#[cfg(feature = "wasmtime.cranelift")]
use wasmtime::{StoreContextMut, component::WasmList};
use wasmtime_wasi::p2::bindings::CommandIndices;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyIndices;
#[cfg(feature = "wasi-0.3")]
use wasmtime_wasi_http::p3::bindings::ServiceIndices;
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::{POOL_INSTANCES, config, end_of, get_or_start, pool};
use crate::adapter::guest::{Budget, End};
#[cfg(feature = "wasmtime.cranelift")]
use crate::instrument::{FLAG_IMPORT, instrument_component};
use crate::{
    Artifact, Called, EngineError, Idle, Instance, Instances, InstantiateError, Known, Module, StoredArtifact,
};

/// How many core instances, memories and tables a component in the pool has on the average, at most. One that has more
/// takes the places of several.
///
/// Source: a component made of a core module with the adapter for WASI preview 1 has four core instances, one memory
/// and two tables; with its flag, six and two memories. Less, and the pool is full sooner; more, and it reserves more addresses.
const POOL_CORES_PER_COMPONENT: u32 = 10;
const POOL_MEMORIES_PER_COMPONENT: u32 = 3;
const POOL_TABLES_PER_COMPONENT: u32 = 4;

/// The versions of WASI that have Wasmtime engines of their own: what 0.3 needs takes time that 0.2 need not spend.
#[derive(Clone, Copy)]
enum Version {
    P2,
    /// 0.3, and beside it 0.2: adapters for core modules import that.
    #[cfg(feature = "wasi-0.3")]
    P3,
}

/// How the guests of a Wasmtime engine are stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    /// By a flag that their rewritten code polls.
    #[cfg(feature = "wasmtime.cranelift")]
    Flag,
    Epoch,
}

/// What components of one kind need of a Wasmtime engine.
#[derive(Clone, Copy)]
struct Kind {
    version: Version,
    stopping: Stopping,
}

/// The Wasmtime engines for components.
pub(super) struct Components {
    p2: EnginesOfVersion,
    #[cfg(feature = "wasi-0.3")]
    p3: EnginesOfVersion,
}

impl Components {
    pub(super) fn new(known: &'static Known, strategy: Strategy, instances: Instances) -> Self {
        let engines = |version| EnginesOfVersion::new(known, strategy, version, instances);
        Self {
            p2: engines(Version::P2),
            #[cfg(feature = "wasi-0.3")]
            p3: engines(Version::P3),
        }
    }

    pub(super) fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        self.engines_for(module).compile(module)
    }

    pub(super) fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        self.engines_for(module).load(module, stored)
    }

    #[cfg_attr(not(feature = "wasi-0.3"), expect(unused_variables, reason = "there is one version to choose from"))]
    fn engines_for(&self, module: &Module) -> &EnginesOfVersion {
        #[cfg(feature = "wasi-0.3")]
        if module.needs().contains(crate::Proposal::ComponentModelAsync) {
            return &self.p3;
        }
        &self.p2
    }
}

/// The Wasmtime engines for components of one version of WASI.
struct EnginesOfVersion {
    #[cfg(feature = "wasmtime.cranelift")]
    by_flag: Option<Engines>,
    by_epoch: Engines,
}

impl EnginesOfVersion {
    fn new(known: &'static Known, strategy: Strategy, version: Version, instances: Instances) -> Self {
        let engines = |stopping| Engines::new(known, strategy, Kind { version, stopping }, instances);
        Self {
            #[cfg(feature = "wasmtime.cranelift")]
            by_flag: (strategy == Strategy::Cranelift).then(|| engines(Stopping::Flag)),
            by_epoch: engines(Stopping::Epoch),
        }
    }

    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        #[cfg(feature = "wasmtime.cranelift")]
        if let Some(engines) = self.by_flag(module)
            && let Ok(bytes) = instrument_component(module.bytes(), module.bytes_max())
            && module.check_rewritten(&bytes).is_ok()
        {
            return engines.compile(&bytes);
        }
        self.by_epoch.compile(module.bytes())
    }

    fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        #[cfg(feature = "wasmtime.cranelift")]
        if let Some(engines) = self.by_flag(module)
            && let Ok(artifact) = engines.load(stored)
        {
            return Ok(artifact);
        }
        // Each of the two refuses what the other has made.
        self.by_epoch.load(stored)
    }

    /// The engines for components that poll a flag, if this may be one. Where there is no loop, epochs take no time to
    /// speak of, and the flag's memory takes some microseconds of each instantiation.
    #[cfg(feature = "wasmtime.cranelift")]
    fn by_flag(&self, module: &Module) -> Option<&Engines> {
        self.by_flag.as_ref().filter(|_| module.stats().loops > 0)
    }
}

/// The Wasmtime engines for components of one kind; each is started when it is first needed.
struct Engines {
    instances: Instances,
    /// Takes instances from a pool. `None` within if the machine has not the address space for it.
    pooled: OnceLock<Option<Host>>,
    /// For components that do not fit the pool, for instances that find it full, and for an engine without a pool.
    on_demand: Arc<OnDemand>,
}

/// The Wasmtime engine that allocates each instance on demand.
struct OnDemand {
    known: &'static Known,
    strategy: Strategy,
    kind: Kind,
    host: OnceLock<Host>,
}

impl OnDemand {
    fn new_host(&self, allocation: InstanceAllocationStrategy) -> wasmtime::Result<Host> {
        Host::new(self.known, self.strategy, self.kind, allocation)
    }

    fn host(&self) -> Result<&Host, EngineError> {
        get_or_start(self.known, &self.host, || self.new_host(InstanceAllocationStrategy::OnDemand))
    }
}

/// A Wasmtime engine with everything that a component may import.
#[derive(Clone)]
struct Host {
    engine: wasmtime::Engine,
    linker: Arc<Linker<State>>,
}

impl Host {
    fn new(
        known: &Known,
        strategy: Strategy,
        kind: Kind,
        allocation: InstanceAllocationStrategy,
    ) -> wasmtime::Result<Self> {
        let mut config = config(known, strategy, allocation);
        config.wasm_component_model(true).epoch_interruption(kind.stopping == Stopping::Epoch);
        match kind.version {
            Version::P2 => {}
            #[cfg(feature = "wasi-0.3")]
            Version::P3 => {
                config.concurrency_support(true).wasm_component_model_async(true);
            }
        }
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        match kind.version {
            Version::P2 => {}
            #[cfg(feature = "wasi-0.3")]
            Version::P3 => p3::add_to_linker(&mut linker)?,
        }
        #[cfg(feature = "wasmtime.cranelift")]
        if kind.stopping == Stopping::Flag {
            linker.root().func_wrap(FLAG_IMPORT, Flag::told)?;
        }
        Ok(Self { engine, linker: Arc::new(linker) })
    }
}

impl Engines {
    fn new(known: &'static Known, strategy: Strategy, kind: Kind, instances: Instances) -> Self {
        let on_demand = Arc::new(OnDemand { known, strategy, kind, host: OnceLock::new() });
        Self { instances, pooled: OnceLock::new(), on_demand }
    }

    /// The host that takes instances from a pool, if there is to be one.
    fn pooled(&self) -> Option<&Host> {
        match self.instances {
            Instances::Pooled => {
                let start = || self.on_demand.new_host(component_pool()).ok();
                self.pooled.get_or_init(start).as_ref()
            }
            Instances::OnDemand => None,
        }
    }

    fn compile(&self, component: &[u8]) -> Result<Arc<dyn Artifact>, EngineError> {
        let host = self.on_demand.host()?;
        let failed = |error| EngineError::Compile { engine: self.on_demand.known.id, reason: format!("{error:#}") };
        let component = Component::from_binary(&host.engine, component).map_err(failed)?;
        let artifact = if self.pooled().is_some() {
            component.serialize().and_then(|bytes| self.deserialize(&bytes))
        } else {
            ComponentArtifact::new(host, component, &self.on_demand)
        };
        Ok(Arc::new(artifact.map_err(failed)?))
    }

    fn load(&self, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        let failed = |reason: String| EngineError::Load { engine: self.on_demand.known.id, reason };
        let mut bytes = vec![0; stored.artifact_bytes()];
        let file = stored.file().map_err(|error| failed(error.to_string()))?;
        file.read_exact_at(&mut bytes, 0).map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(self.deserialize(&bytes).map_err(|error| failed(format!("{error:#}")))?))
    }

    /// Makes an artifact of the bytes of one, for the pool if it fits.
    fn deserialize(&self, bytes: &[u8]) -> wasmtime::Result<ComponentArtifact> {
        // SAFETY: the bytes come from `serialize`: either just now, or the code that made a `StoredArtifact` of them has
        // vouched for it.
        let deserialize = |host: &Host| unsafe { Component::deserialize(&host.engine, bytes) };
        if let Some(host) = self.pooled()
            && let Ok(component) = deserialize(host)
        {
            return ComponentArtifact::new(host, component, &self.on_demand);
        }
        let host = self.on_demand.host()?;
        ComponentArtifact::new(host, deserialize(host)?, &self.on_demand)
    }
}

fn component_pool() -> InstanceAllocationStrategy {
    let mut pool: PoolingAllocationConfig = pool();
    pool.total_component_instances(POOL_INSTANCES)
        .total_core_instances(POOL_INSTANCES * POOL_CORES_PER_COMPONENT)
        .total_memories(POOL_INSTANCES * POOL_MEMORIES_PER_COMPONENT)
        .total_tables(POOL_INSTANCES * POOL_TABLES_PER_COMPONENT)
        .total_stacks(POOL_INSTANCES);
    InstanceAllocationStrategy::Pooling(pool)
}

/// A component that can be instantiated, and the interfaces by which its instances are entered.
struct ComponentArtifact {
    engine: wasmtime::Engine,
    component: Component,
    pre: InstancePre<State>,
    command: Option<CommandIndices>,
    handler: Option<ProxyIndices>,
    #[cfg(feature = "wasi-0.3")]
    p3: p3::Entries,
    on_demand: Arc<OnDemand>,
    /// The same code for instances that find the pool full; made when the first one does.
    unpooled: OnceLock<Arc<ComponentArtifact>>,
}

impl ComponentArtifact {
    fn new(host: &Host, component: Component, on_demand: &Arc<OnDemand>) -> wasmtime::Result<Self> {
        let pre = host.linker.instantiate_pre(&component)?;
        // An interface of another type than its name promises is as good as none.
        let (command, handler) = (CommandIndices::new(&pre).ok(), ProxyIndices::new(&pre).ok());
        let has_entry = command.is_some() || handler.is_some();
        #[cfg(feature = "wasi-0.3")]
        let p3 = p3::Entries::new(&pre);
        #[cfg(feature = "wasi-0.3")]
        let has_entry = has_entry || !p3.is_empty();
        if !has_entry {
            CommandIndices::new(&pre)?;
        }
        Ok(Self {
            engine: host.engine.clone(),
            component,
            pre,
            command,
            handler,
            #[cfg(feature = "wasi-0.3")]
            p3,
            on_demand: Arc::clone(on_demand),
            unpooled: OnceLock::new(),
        })
    }

    fn id(&self) -> EngineId {
        self.on_demand.known.id
    }

    fn internal(&self, error: &wasmtime::Error) -> EngineError {
        EngineError::Internal { engine: self.id(), reason: format!("{error:#}") }
    }

    /// Returns this artifact for the Wasmtime engine without a pool.
    fn unpooled(&self) -> Result<Arc<Self>, EngineError> {
        if let Some(unpooled) = self.unpooled.get() {
            return Ok(Arc::clone(unpooled));
        }
        let host = self.on_demand.host()?;
        let bytes = self.component.serialize().map_err(|error| self.internal(&error))?;
        // SAFETY: these are the bytes that `serialize` has just returned.
        let component = unsafe { Component::deserialize(&host.engine, bytes) };
        let unpooled = component.and_then(|component| Self::new(host, component, &self.on_demand));
        let unpooled = Arc::new(unpooled.map_err(|error| self.internal(&error))?);
        Ok(Arc::clone(self.unpooled.get_or_init(|| unpooled)))
    }
}

impl Artifact for ComponentArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        self.component.serialize().map(Some).map_err(|error| self.internal(&error))
    }

    fn memory_bytes(&self) -> u64 {
        let image = self.component.image_range();
        let image_bytes = (image.end as usize - image.start as usize) as u64;
        image_bytes + self.unpooled.get().map_or(0, |unpooled| unpooled.memory_bytes())
    }

    fn code_addresses(&self) -> Option<Range<usize>> {
        // The image has what the code reads beside the code itself.
        let image = self.component.image_range();
        Some(image.start as usize..image.end as usize)
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        let wasi = ComponentWasi::new(self.id(), context, interrupt);
        let wasi = wasi.map_err(|error| EngineError::Setup(error.to_string()))?;
        let Self { engine, pre, .. } = &*self;
        let mut budget = Budget::new(limits);
        let flag = match self.on_demand.kind.stopping {
            #[cfg(feature = "wasmtime.cranelift")]
            Stopping::Flag => {
                budget.add_memory(FLAG_MEMORY_BYTES);
                Some(Flag::default())
            }
            Stopping::Epoch => None,
        };
        let state = State { wasi, budget, interrupt: interrupt.clone(), flag };
        let mut store = Store::new(engine, state);
        store.limiter(|state| state);
        if store.data().flag.is_none() {
            store.epoch_deadline_callback(|store| match store.data().interrupt.cause() {
                Some(cause) => Err(wasmtime::Error::new(Stop::Interrupted(cause))),
                // Another guest is meant.
                None => Ok(UpdateDeadline::Continue(1)),
            });
        }
        let listener = listen(&mut store, interrupt);
        match wait(self.id(), interrupt, None, pre.instantiate_async(&mut store))? {
            Ok(instance) => {
                let body_bytes_max = limits.output_bytes_max;
                Ok(Box::new(ComponentInstance::new(self, instance, store, context, body_bytes_max, listener)))
            }
            // Nothing that the guest has done so far can be seen by anybody: a component calls nobody while it is
            // instantiated.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                drop((listener, store));
                self.unpooled()?.instantiate(context, limits, interrupt)
            }
            Err(error) => {
                drop(listener);
                let state = store.into_data();
                match end_of_call(error).or_else(|error| state.budget.refused.map(End::NotGranted).ok_or(error)) {
                    Ok(end) => {
                        let outcome = end.outcome(state.budget.refused, interrupt.cause());
                        Err(InstantiateError::Guest { outcome, output: Box::new(state.wasi.take_output()) })
                    }
                    Err(error) => Err(self.internal(&error).into()),
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
    /// The flag that the guest polls, if it polls one.
    flag: Option<Flag>,
}

/// The bytes of the memory in which the flag is. The guest's limit is for what it has besides.
#[cfg(feature = "wasmtime.cranelift")]
const FLAG_MEMORY_BYTES: u64 = 64 << 10;

/// Where a guest's flag is: a byte of a memory of its instance; null until the instance has told.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicPtr<u8>>);

impl Flag {
    /// Takes note of where a guest's flag is.
    #[cfg(feature = "wasmtime.cranelift")]
    #[expect(clippy::needless_pass_by_value, reason = "Wasmtime hands over arguments like this")]
    fn told(store: StoreContextMut<'_, State>, (flag,): (WasmList<u8>,)) -> wasmtime::Result<()> {
        let at = flag.as_le_slice(&store).as_ptr().cast_mut();
        let State { flag, interrupt, .. } = store.data();
        if let Some(flag) = flag {
            flag.0.store(at, Ordering::SeqCst);
        }
        // Whoever raised it before that could not set the flag.
        match interrupt.cause() {
            Some(cause) => Err(wasmtime::Error::new(Stop::Interrupted(cause))),
            None => Ok(()),
        }
    }

    /// Stops the guest.
    ///
    /// # Safety
    ///
    /// The store of the guest's instance still exists.
    unsafe fn set(&self) {
        let at = self.0.load(Ordering::SeqCst);
        if !at.is_null() {
            // SAFETY: `at` is the first byte of a memory of one page that can neither grow nor move, and lives as long as
            // its store: the caller says that this still exists. Nobody has a reference to the byte: it is only read by
            // the guest's code, by atomic loads.
            unsafe { AtomicU8::from_ptr(at) }.store(1, Ordering::SeqCst);
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.view()
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.wasi.http_view()
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
    /// Before the store, which has to exist as long as this.
    _listener: Listener,
    artifact: Arc<ComponentArtifact>,
    instance: wasmtime::component::Instance,
    store: Store<State>,
    request: Option<Arc<HttpRequest>>,
    responder: Option<Responder>,
    /// Shut as long as another guest may answer the request.
    gate: Option<Gate>,
    response: Option<PendingResponse>,
    /// The most bytes of a response's body.
    body_bytes_max: u64,
    /// Whether the guest has answered its request, and has left nothing open that belongs to this thread.
    is_reusable: bool,
}

impl ComponentInstance {
    fn new(
        artifact: Arc<ComponentArtifact>,
        instance: wasmtime::component::Instance,
        store: Store<State>,
        context: &GuestContext,
        body_bytes_max: u64,
        listener: Listener,
    ) -> Self {
        Self {
            _listener: listener,
            artifact,
            instance,
            store,
            request: context.request.clone(),
            responder: context.responder.clone(),
            gate: context.gate.clone(),
            response: None,
            body_bytes_max,
            is_reusable: false,
        }
    }
}

impl Instance for ComponentInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        let artifact = Arc::clone(&self.artifact);
        let interrupt = self.store.data().interrupt.clone();
        let output = self.store.data().wasi.client_output();
        let called = wait(artifact.id(), &interrupt, output.as_ref(), self.enter(entry, may_wait()))?;
        // What is neither a trap nor an order to stop is a function of WASI that could not be carried out.
        let end = called.unwrap_or_else(|error| {
            end_of_call(error).unwrap_or_else(|error| End::Stopped(Stop::Failed(error.root_cause().to_string())))
        });
        // With WASI 0.3, a guest is told so by an error, and may go on.
        let end = if self.store.data().wasi.output_limit_exceeded() { End::Stopped(Stop::OutputLimit) } else { end };
        let refused = self.store.data().budget.refused;
        let outcome = end.outcome(refused, interrupt.cause());
        if let Some(output) = output {
            output.end(outcome.is_success());
        }
        Ok(Called { outcome, values: Vec::new(), refused_growth: refused.is_some() })
    }

    fn into_output(self: Box<Self>) -> GuestOutput {
        self.into_idle().0
    }

    fn into_idle(mut self: Box<Self>) -> (GuestOutput, Option<Box<dyn Idle>>) {
        let answer = self.response.take().map_or(HttpAnswer::None, PendingResponse::into_answer);
        let output = GuestOutput { answer, ..self.store.data().wasi.take_output() };
        if !self.is_reusable {
            return (output, None);
        }
        let Self { _listener: listener, artifact, instance, store, body_bytes_max, .. } = *self;
        drop(listener);
        (output, Some(Box::new(IdleComponent { artifact, instance, store, body_bytes_max })))
    }
}

/// An instance that has answered a request, and could answer another one.
struct IdleComponent {
    artifact: Arc<ComponentArtifact>,
    instance: wasmtime::component::Instance,
    store: Store<State>,
    body_bytes_max: u64,
}

impl Idle for IdleComponent {
    fn wake(self: Box<Self>, context: &GuestContext, interrupt: &Interrupt) -> Box<dyn Instance> {
        let Self { artifact, instance, mut store, body_bytes_max } = *self;
        let state = store.data_mut();
        state.interrupt = interrupt.clone();
        state.wasi.renew(context);
        // What was refused before is not this request's concern.
        state.budget.refused = None;
        let listener = listen(&mut store, interrupt);
        Box::new(ComponentInstance::new(artifact, instance, store, context, body_bytes_max, listener))
    }
}

/// Has a guest stop when it is interrupted. The store has to exist as long as what this returns.
fn listen(store: &mut Store<State>, interrupt: &Interrupt) -> Listener {
    if let Some(flag) = store.data().flag.clone() {
        // SAFETY: the listener is dropped before the store.
        return interrupt.listen(move || unsafe { flag.set() });
    }
    store.set_epoch_deadline(1);
    let engine = store.engine().clone();
    // All guests of the engine look whether they are meant.
    interrupt.listen(move || engine.increment_epoch())
}

impl ComponentInstance {
    async fn enter(&mut self, entry: &Entry, may_wait: bool) -> wasmtime::Result<End> {
        let artifact = Arc::clone(&self.artifact);
        match (entry, &*artifact) {
            #[cfg(feature = "wasi-0.3")]
            (Entry::Command, ComponentArtifact { p3: p3::Entries { command: Some(command), .. }, .. }) => {
                Ok(end_of_command(p3::run(command, &mut self.store, &self.instance).await?))
            }
            #[cfg(feature = "wasi-0.3")]
            (Entry::HttpHandler, ComponentArtifact { p3: p3::Entries { handler: Some(service), .. }, .. }) => {
                self.answer_request(Handler::P3(service), may_wait).await
            }
            (Entry::Command, ComponentArtifact { command: Some(command), .. }) => {
                let command = command.load(&mut self.store, &self.instance)?;
                Ok(end_of_command(command.wasi_cli_run().call_run(&mut self.store).await?))
            }
            (Entry::HttpHandler, ComponentArtifact { handler: Some(handler), .. }) => {
                self.answer_request(Handler::P2(handler), may_wait).await
            }
            _ => wasmtime::bail!("the component has no such entry"),
        }
    }

    /// Has the guest answer its request. The response counts as soon as it is complete, however the guest ends.
    async fn answer_request(&mut self, handler: Handler<'_>, may_wait: bool) -> wasmtime::Result<End> {
        let Self { artifact, instance, store, request, responder, gate, response, body_bytes_max, is_reusable, .. } =
            self;
        let request = request.as_ref().ok_or_else(|| wasmtime::format_err!("there is no request to answer"))?;
        let interrupt = store.data().interrupt.clone();
        let responder = responder.as_ref().filter(|_| may_wait);
        let way = Way { engine: artifact.id(), responder, gate: gate.as_ref(), interrupt: &interrupt };
        let (called, response) = match handler {
            Handler::P2(handler) => {
                let Exchange { request, outparam, response: pending } =
                    store.data_mut().wasi.exchange(request, *body_bytes_max)?;
                let response = response.insert(pending);
                let handler = handler.load(&mut *store, instance)?;
                let handler = handler.wasi_http_incoming_handler();
                (way.follow(handler.call_handle(&mut *store, request, outparam), response).await, response)
            }
            #[cfg(feature = "wasi-0.3")]
            Handler::P3(service) => {
                let (exchange, pending) = store.data_mut().wasi.p3_exchange(request, *body_bytes_max)?;
                let response = response.insert(pending);
                (way.follow(p3::answer(service, store, instance, exchange), response).await, response)
            }
        };
        if let Err(error) = called {
            // What the guest has finished by itself counts, and nothing else.
            if response.settle() && interrupt.cause().is_none() {
                poll_fn(|cx| response.poll(cx)).await?;
            }
            return Err(error);
        }
        // The rest is there.
        response.keep_all();
        if let Poll::Ready(ended) = response.poll(&mut Context::from_waker(Waker::noop())) {
            ended?;
            *is_reusable = store.data().wasi.sends_nothing();
            return Ok(End::Returned);
        }
        store.data_mut().wasi.close_all();
        poll_fn(|cx| response.poll(cx)).await?;
        Ok(End::Returned)
    }
}

/// The interface by which a guest is given a request.
enum Handler<'a> {
    P2(&'a ProxyIndices),
    #[cfg(feature = "wasi-0.3")]
    P3(&'a ServiceIndices),
}

/// The way of a response to its client.
struct Way<'a> {
    engine: EngineId,
    /// Whom to send it to while the guest still writes it, if that is possible.
    responder: Option<&'a Responder>,
    /// Shut as long as another guest may answer the request.
    gate: Option<&'a Gate>,
    interrupt: &'a Interrupt,
}

impl Way<'_> {
    /// Follows a guest's call to its end. Where that is possible, the response is sent while the guest still writes it, from
    /// when the guest waits for something or has written much.
    async fn follow(
        &self,
        call: impl Future<Output = wasmtime::Result<()>>,
        response: &mut PendingResponse,
    ) -> wasmtime::Result<()> {
        if self.responder.is_some() {
            response.keep_little();
        }
        let mut call = pin!(call);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(called) = call.as_mut().poll(cx) {
                    return Poll::Ready(called);
                }
                let steps = response.steps();
                if let Poll::Ready(Err(stop)) = response.poll(cx) {
                    return Poll::Ready(Err(wasmtime::Error::new(stop)));
                }
                if response.steps() == steps || response.is_long() {
                    // The guest waits, and not for this; or it has to wait for the client from now on.
                    let Some(responder) = self.responder.filter(|_| response.has_begun()) else { return Poll::Pending };
                    if let Some(gate) = self.gate {
                        gate.await_opening(|| self.interrupt.cause().is_some());
                    }
                    if let Some(cause) = self.interrupt.cause() {
                        return Poll::Ready(Err(wasmtime::Error::new(Stop::Interrupted(cause))));
                    }
                    response.send(self.engine, responder);
                }
            }
        })
        .await
    }
}

fn end_of_command(result: Result<(), ()>) -> End {
    match result {
        Ok(()) => End::Returned,
        Err(()) => End::Stopped(Stop::Exit(1)),
    }
}

/// How the guest ended according to an error. Returns the error if the engine itself failed.
fn end_of_call(error: wasmtime::Error) -> Result<End, wasmtime::Error> {
    match stop_of(&error) {
        Some(stop) => Ok(End::Stopped(stop)),
        None => end_of(&error).ok_or(error),
    }
}

/// Whether this thread may wait for something: it serves no connections.
fn may_wait() -> bool {
    Handle::try_current().is_err()
}

/// Drives a guest on this thread until it ends. If its interrupt is raised while it waits, its call is dropped where it
/// is; if this thread must not wait, the call is dropped at once. Before a guest waits, a client gets what the guest has written
/// for it.
fn wait<T>(
    engine: EngineId,
    interrupt: &Interrupt,
    output: Option<&ClientOutput>,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> Result<wasmtime::Result<T>, EngineError> {
    thread_local! {
        /// What this thread's guests wait in.
        static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
    }
    let mut guest = pin!(guest);
    if !may_wait() {
        // Tokio would have a task that does much wait for others now and then.
        return match pin!(unconstrained(guest)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => Ok(ended),
            Poll::Pending => Err(EngineError::WouldWait { engine }),
        };
    }
    RUNTIME.with(|runtime| {
        let runtime = match runtime.get() {
            Some(runtime) => runtime,
            None => {
                let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let started = started.map_err(|error| EngineError::Internal { engine, reason: error.to_string() })?;
                runtime.get_or_init(|| started)
            }
        };
        let raised = Arc::new(Notify::new());
        let bell = Arc::clone(&raised);
        let _listener = interrupt.listen(move || bell.notify_one());
        let mut waiting = None;
        let guest = poll_fn(|cx| {
            waiting = None;
            let ended = guest.as_mut().poll(cx);
            if ended.is_pending() {
                if let Some(Err(stop)) = output.map(ClientOutput::send) {
                    return Poll::Ready(Err(wasmtime::Error::new(stop)));
                }
                waiting = Some(Waiting::begin(interrupt));
            }
            ended
        });
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
