//! Components of WASI 0.3. Their functions are asynchronous: a guest has tasks, which Wasmtime's event loop of the guest's
//! store lets run in turn, and which may go on after the guest has answered.

use std::future::poll_fn;

use remuda_wasi::{P3Exchange, ResponsePlace, Taken};
use wasmtime::Store;
use wasmtime::component::{Accessor, Instance, InstancePre, Linker};
use wasmtime_wasi::p3::bindings::{Command, CommandIndices};
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::{Service, ServiceIndices};

use super::State;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)
}

/// The interfaces of WASI 0.3 by which a component's instances are entered.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) command: Option<CommandIndices>,
    pub(super) handler: Option<ServiceIndices>,
}

impl Entries {
    /// An interface of another type than its name promises is as good as none.
    pub(super) fn new(pre: &InstancePre<State>) -> Self {
        Self { command: CommandIndices::new(pre).ok(), handler: ServiceIndices::new(pre).ok() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.command.is_none() && self.handler.is_none()
    }
}

/// Runs a command to the end of its last task. Returns whether it says that it has succeeded.
pub(super) async fn run(
    command: &CommandIndices,
    store: &mut Store<State>,
    instance: &Instance,
) -> wasmtime::Result<Result<(), ()>> {
    let command: Command = command.load(&mut *store, instance)?;
    let ended = store.run_concurrent(async |accessor: &Accessor<State>| {
        let result = command.wasi_cli_run().call_run(accessor).await?;
        end_of_tasks(accessor).await;
        Ok(result)
    });
    ended.await?
}

/// Has a guest answer a request, until its response has been taken and its last task has ended.
pub(super) async fn answer(
    service: &ServiceIndices,
    store: &mut Store<State>,
    instance: &Instance,
    exchange: P3Exchange,
) -> wasmtime::Result<()> {
    let service: Service = service.load(&mut *store, instance)?;
    let P3Exchange { request, response } = exchange;
    let ended = store.run_concurrent(async |accessor: &Accessor<State>| {
        let taken = fill(&service, accessor, request, response).await?;
        // Also a body that flows through while no task of the guest is left needs the event loop.
        taken.await;
        end_of_tasks(accessor).await;
        Ok(())
    });
    ended.await?
}

async fn fill(
    service: &Service,
    accessor: &Accessor<State>,
    request: Request,
    place: ResponsePlace,
) -> wasmtime::Result<Taken> {
    let answer = service.handle(accessor, request).await?;
    accessor.with(|store| place.fill(answer, store))
}

/// Waits until no task of the guest is left.
async fn end_of_tasks(accessor: &Accessor<State>) {
    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
}
