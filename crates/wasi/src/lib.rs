//! WASI previews 0 and 1 over a guest's memory as a slice of bytes: one implementation, so that a guest's output has
//! the same bytes on every engine.
//!
//! The functions themselves are those that wasmtime-wasi generates, which only need a [`wiggle::GuestMemory`]. This
//! crate adds a table of imports as data ([`IMPORTS`]), so that an adapter links all of them in a loop and knows none
//! by name. And it adds three promises: the guest's [`Interrupt`] cuts short a call that waits, captured output is
//! capped, and a hostile pointer gives an errno, never a trap.
//!
//! Components get WASI 0.2 (and 0.3, with the feature `p3`) from the same library, in the same world ([`ComponentWasi`]); their engine calls it directly.
//!
//! This crate knows of no engine: it gets memory and arguments, and returns an errno or a [`Stop`].
#![forbid(unsafe_code)]

mod component;
mod http;
mod imports;
mod outbound;
#[cfg(feature = "p3")]
mod p3;
mod poll;
mod stdin;
mod stdio;
#[cfg(test)]
mod tests;
mod touches;
mod wait;

use std::io;

use remuda_model::{
    Cause, EngineId, Gate, GuestContext, GuestOutput, HostStream, HttpAnswer, Interrupt, Preopen, Stdin,
};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiView as _};

pub use component::{ClientOutput, ComponentWasi, stop_of};
pub use http::{Exchange, PendingResponse};
pub use imports::{IMPORTS, Import, PREVIEW_0, PREVIEW_1, Type};
#[cfg(feature = "p3")]
pub use p3::{P3Exchange, ResponsePlace, Taken};
pub use touches::{Read, Span, TOO_MUCH, VECTOR_BYTES};

use touches::StringSizes;

/// The most bytes that the host copies for one call, as a bound on what a guest can make the host allocate.
const COPY_BYTES_PER_CALL_MAX: usize = 128 << 20;

/// The most files, directories and streams that one guest may hold open.
const HANDLES_MAX: usize = 1024;

/// The longest path, in bytes; Linux has the same limit. A longer path takes time to look at, and no file can have it.
const PATH_BYTES_MAX: u32 = 4096;

/// The most bytes of a `random_get` that are made at once.
const RANDOM_BYTES_AT_ONCE: usize = 1 << 20;

/// Why a WASI call does not go back to the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The guest called `proc_exit`.
    #[error("the guest exited with code {0}")]
    Exit(i32),
    /// The guest's interrupt was raised before or during the call.
    #[error("the guest was stopped from outside")]
    Interrupted(Cause),
    /// The guest wrote more to a captured stream than it may.
    #[error("the guest wrote more output than its limit")]
    OutputLimit,
    /// The call could not be carried out, and there is no errno for the reason.
    #[error("{0}")]
    Failed(String),
}

/// Why a guest's world could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A granted directory cannot be opened.
    #[error("cannot open directory {host:?} granted to the guest as {guest:?}: {reason}")]
    Preopen {
        /// The directory's path on the host.
        host: std::path::PathBuf,
        /// The directory's name for the guest.
        guest: String,
        /// The message of the operating system or the sandbox.
        reason: String,
    },
}

/// One guest's WASI state.
pub struct Wasi {
    ctx: WasiP1Ctx,
    args: StringSizes,
    env: StringSizes,
    streams: Streams,
    interrupt: Interrupt,
    /// The gate before the host's own standard input, if input that one guest has read is gone for all others.
    stdin_gate: Option<Gate>,
}

impl Wasi {
    /// Sets up the world that `context` describes, and nothing more.
    ///
    /// # Errors
    ///
    /// Returns an error if a directory of `context.preopens` cannot be opened.
    pub fn new(engine: EngineId, context: &GuestContext, interrupt: Interrupt) -> Result<Self, SetupError> {
        let (mut builder, streams) = world(engine, context, &interrupt)?;
        let mut ctx = builder.build_p1();
        ctx.ctx().table.set_max_capacity(HANDLES_MAX);
        let stdin_gate = context.gate.clone().filter(|_| matches!(context.stdin, Stdin::Inherit));
        let args = StringSizes::of(context.args.iter().map(String::len));
        // A variable is written as `name=value`.
        let env = StringSizes::of(context.env.iter().map(|(name, value)| name.len() + 1 + value.len()));
        Ok(Self { ctx, args, env, streams, interrupt, stdin_gate })
    }

    /// Carries out a call of the guest on its memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest has to stop: [`Stop`] says why.
    pub fn call(&mut self, import: &Import, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
        if let Some(gate) = &self.stdin_gate
            && may_read_stdin(import, args)
        {
            // Input that this guest reads is gone for all others, so only the winner of a race may read.
            gate.await_opening(|| self.interrupt.cause().is_some());
        }
        (import.call)(self, memory, args)
    }

    /// Says that the guest has ended. What it has written for a client is complete if it `has_succeeded`, and else broken
    /// off. This waits until the client has it.
    pub fn end_output(&self, has_succeeded: bool) {
        self.streams.stdout.end(has_succeeded);
    }

    /// Returns what the guest wrote to its captured streams, and how much it read of a file. Streams that were not
    /// captured are empty here.
    #[must_use]
    pub fn into_output(self) -> GuestOutput {
        self.streams.take_output()
    }

    /// Whether the guest was stopped for writing more than a captured stream may hold.
    #[must_use]
    pub fn output_limit_exceeded(&self) -> bool {
        self.streams.stdout.exceeded() || self.streams.stderr.exceeded()
    }
}

/// A guest's standard streams, on the host's side.
struct Streams {
    stdout: stdio::Output,
    stderr: stdio::Output,
    /// The host process's own standard input, if the guest reads from it.
    stdin: Option<stdin::Input>,
    /// The position at which the guest began to read, in bytes, if standard input is a file.
    stdin_began: u64,
}

impl Streams {
    fn take_output(&self) -> GuestOutput {
        let position = self.stdin.as_ref().and_then(stdin::Input::position);
        GuestOutput {
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            stdin_bytes_read: position.map_or(0, |position| position - self.stdin_began),
            answer: self.stdout.sent().map_or(HttpAnswer::None, |body_bytes| HttpAnswer::Streamed { body_bytes }),
        }
    }
}

/// The world that `context` describes, and nothing more; and its standard streams.
fn world(
    engine: EngineId,
    context: &GuestContext,
    interrupt: &Interrupt,
) -> Result<(WasiCtxBuilder, Streams), SetupError> {
    let gate = context.gate.clone().map(|gate| (gate, interrupt.clone()));
    let mut stdout = stdio::Output::new(context.stdout, HostStream::Stdout, gate.clone());
    // Of a guest that is given the request itself, standard output is no answer.
    if let Some(responder) = context.responder.as_ref().filter(|_| context.request.is_none()) {
        stdout.stream_to(responder, engine, interrupt);
    }
    let stderr = stdio::Output::new(context.stderr, HostStream::Stderr, gate);
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(&context.args)
        .envs(&context.env)
        .stdout(stdout.clone())
        .stderr(stderr.clone())
        .max_random_size(RANDOM_BYTES_AT_ONCE as u64)
        .allow_tcp(false)
        .allow_udp(false)
        // A guest has its thread to itself, so that file operations need no second one.
        .allow_blocking_current_thread(true);
    if let Stdin::Bytes(bytes) = &context.stdin {
        builder.stdin(wasmtime_wasi::p2::pipe::MemoryInputPipe::new(bytes.clone()));
    }
    let stdin = stdin::Input::new(&context.stdin, stdout.clone(), interrupt.clone());
    if let Some(stdin) = &stdin {
        builder.stdin(stdin.clone());
    }
    for preopen in &context.preopens {
        grant(&mut builder, preopen)?;
    }
    let stdin_began = stdin.as_ref().and_then(stdin::Input::position).unwrap_or(0);
    Ok((builder, Streams { stdout, stderr, stdin, stdin_began }))
}

/// Whether a call takes something from standard input, or makes it impossible to tell this by a call's descriptor.
fn may_read_stdin(import: &Import, args: &[u64]) -> bool {
    let is_stdin = args.first().is_some_and(|fd| *fd == 0);
    match import.name {
        "fd_read" | "fd_pread" => is_stdin,
        "fd_renumber" | "poll_oneoff" => true,
        _ => false,
    }
}

fn grant(builder: &mut WasiCtxBuilder, preopen: &Preopen) -> Result<(), SetupError> {
    let perms = if preopen.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    builder.preopened_dir(&preopen.host, &preopen.guest, perms).map_err(|error| SetupError::Preopen {
        host: preopen.host.clone(),
        guest: preopen.guest.clone(),
        reason: match error.downcast_ref::<io::Error>() {
            Some(io) => io.to_string(),
            None => error.to_string(),
        },
    })?;
    Ok(())
}
