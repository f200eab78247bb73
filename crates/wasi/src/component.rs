//! WASI 0.2 and 0.3, for components. The functions are wasmtime-wasi's own, and the engine links them; here is the world that they
//! work on: the same as a core module's.

use remuda_model::{EngineId, GuestContext, GuestOutput, Interrupt};
use wasmtime_wasi::{I32Exit, ResourceTable, WasiCtx, WasiCtxView};

use crate::http::Http;
use crate::imports::stop_within;
use crate::stdio::Output;
use crate::{HANDLES_MAX, SetupError, Stop, Streams, world};

/// One component's WASI state.
pub struct ComponentWasi {
    ctx: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) http: Http,
    streams: Streams,
}

impl ComponentWasi {
    /// Sets up the world that `context` describes, and nothing more.
    ///
    /// # Errors
    ///
    /// Returns an error if a directory of `context.preopens` cannot be opened.
    pub fn new(engine: EngineId, context: &GuestContext, interrupt: &Interrupt) -> Result<Self, SetupError> {
        let (mut builder, streams) = world(engine, context, interrupt)?;
        Ok(Self { ctx: builder.build(), table: table(), http: Http::new(context.outbound.as_ref()), streams })
    }

    /// What the functions of WASI work on.
    pub fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }

    /// The standard output of a command, as far as it is for a client.
    #[must_use]
    pub fn client_output(&self) -> Option<ClientOutput> {
        self.streams.stdout.may_stream().then(|| ClientOutput(self.streams.stdout.clone()))
    }

    /// Takes what the guest has written to its captured streams, and how much it has read of a file.
    #[must_use]
    pub fn take_output(&self) -> GuestOutput {
        self.streams.take_output()
    }

    /// As [`Wasi::output_limit_exceeded`](crate::Wasi::output_limit_exceeded).
    #[must_use]
    pub fn output_limit_exceeded(&self) -> bool {
        self.streams.stdout.exceeded() || self.streams.stderr.exceeded()
    }

    /// Whether nothing is under way of the requests that the guest has sent. They go on in the runtime of its thread.
    #[must_use]
    pub fn sends_nothing(&self) -> bool {
        self.http.sends_nothing()
    }

    /// Gives the guest what it may send for another request.
    pub fn renew(&mut self, context: &GuestContext) {
        self.http = Http::new(context.outbound.as_ref());
    }
}

/// What a command writes for a client.
pub struct ClientOutput(Output);

impl ClientOutput {
    /// Sends what the guest has written so far, before it waits for something.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest has to stop.
    pub fn send(&self) -> Result<(), Stop> {
        self.0.send_captured()
    }

    /// As [`Wasi::end_output`](crate::Wasi::end_output).
    pub fn end(&self, has_succeeded: bool) {
        self.0.end(has_succeeded);
    }
}

/// A table for everything that a guest may hold open.
pub(crate) fn table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES_MAX);
    table
}

/// Why a guest has to stop, if an error that ended its call says so: it has exited, has written too much, or was
/// interrupted while it waited for input. `None` for all other errors.
#[must_use]
pub fn stop_of(error: &wiggle::error::Error) -> Option<Stop> {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Some(Stop::Exit(*code));
    }
    stop_within(error)
}
