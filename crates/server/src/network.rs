//! The threads that serve connections, one for each core. A connection stays on its thread, from its first byte to its
//! last: reading a request, running it if it is short, and answering need no other thread.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use remuda_host::InlineThread;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::respond::Reply;
use crate::serve::State;

/// The most requests of one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 256;

/// The stack of a thread: short guests run on it, each with half a megabyte and the host's functions on top of it. Only
/// the part that is used takes memory.
const STACK_BYTES: usize = 8 << 20;

/// A connection that was accepted, on its way to its thread.
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) client: SocketAddr,
    /// The connection's place among all that may be open.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The threads that serve connections.
pub(crate) struct Network {
    threads: Vec<Thread>,
}

struct Thread {
    accepted: mpsc::UnboundedSender<Accepted>,
    /// How many connections the thread has.
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// One of a thread's connections; dropping this makes room for another.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Network {
    /// Starts so many threads.
    pub(crate) fn start(state: &Arc<State>, threads: usize) -> io::Result<Self> {
        let threads = (0..threads).map(|i| Thread::start(state, i)).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// The number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Gives a connection to the thread that has the fewest.
    pub(crate) fn serve(&self, accepted: Accepted) {
        let thread = self.threads.iter().min_by_key(|thread| thread.connections.load(Ordering::Relaxed));
        let thread = thread.expect("a server has threads");
        thread.connections.fetch_add(1, Ordering::Relaxed);
        if thread.accepted.send(accepted).is_err() {
            // The thread has panicked, which has been reported. The client sees its connection closed.
            tracing::error!("a thread of the network is gone; its connections are lost");
        }
    }

    /// Has every request answered that has come, and ends the threads.
    pub(crate) fn end(self) {
        // A thread ends when nobody can send it a connection any more: all channels are closed before the first is joined.
        let threads: Vec<_> = self.threads.into_iter().map(|Thread { thread, .. }| thread).collect();
        for thread in threads {
            // If the thread has panicked, that has been reported.
            let _ = thread.join();
        }
    }
}

impl Thread {
    fn start(state: &Arc<State>, i: usize) -> io::Result<Self> {
        let (accepted, connections_to_come) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (state, counter) = (Arc::clone(state), Arc::clone(&connections));
        let run = move || runtime.block_on(serve(state, connections_to_come, counter));
        let thread = thread::Builder::new().name(format!("remuda-net-{i}")).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Self { accepted, connections, thread })
    }
}

/// Serves connections until no more will come and all have ended.
async fn serve(state: Arc<State>, mut accepted: mpsc::UnboundedReceiver<Accepted>, connections: Arc<AtomicUsize>) {
    let protocol = protocol(&state);
    let graceful = GracefulShutdown::new();
    let inline = state.host.inline_thread().map(Arc::new);
    while let Some(Accepted { stream, client, permit }) = accepted.recv().await {
        let counted = Counted(Arc::clone(&connections));
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%client, %error, "cannot serve a connection");
                continue;
            }
        };
        let service = service(&state, client, inline.as_ref());
        let connection = protocol.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%client, %error, "connection ended early");
            }
            drop((permit, counted));
        });
    }
    graceful.shutdown().await;
}

/// Answers one connection's requests.
fn service(
    state: &Arc<State>,
    client: SocketAddr,
    inline: Option<&Arc<InlineThread>>,
) -> impl Service<Request<Incoming>, Response = Reply, Error = Infallible, Future: Send> + use<> {
    let (state, inline) = (Arc::clone(state), inline.map(Arc::clone));
    service_fn(move |request| {
        let (state, inline) = (Arc::clone(&state), inline.clone());
        async move { Ok::<_, Infallible>(state.serve(request, client, inline.as_deref()).await) }
    })
}

/// HTTP/1.1, or HTTP/2 if a client begins with its preface.
fn protocol(state: &State) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol.http1().timer(TokioTimer::new()).header_read_timeout(state.client_timeout);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(state.client_timeout)
        .keep_alive_timeout(state.client_timeout);
    protocol
}
