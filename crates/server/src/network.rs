//! The threads that serve connections, one for each core. A connection stays on its thread, from its first byte to its
//! last: reading a request, running it if it is short, and answering need no other thread.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use remuda_host::InlineThread;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::timeout;
use tokio_util::either::Either;

use crate::entrance::Ends;
use crate::listener::Stream;
use crate::respond::Reply;
use crate::serve::State;

/// The most requests of one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 256;

/// The stack of a thread: short guests run on it, each with half a megabyte and the host's functions on top of it. Only
/// the part that is used takes memory.
const STACK_BYTES: usize = 8 << 20;

/// A connection that was accepted, on its way to its thread.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) ends: Ends,
    /// The connection's place among all that may be open.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What a thread is told.
enum Order {
    Serve(Accepted),
    /// There will be no further connection. Those that are open may bring one more request each, for so long.
    End(Duration),
}

/// The threads that serve connections.
pub(crate) struct Network {
    threads: Vec<Thread>,
}

struct Thread {
    orders: mpsc::UnboundedSender<Order>,
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
        if thread.orders.send(Order::Serve(accepted)).is_err() {
            // The thread has panicked, which has been reported. The client sees its connection closed.
            tracing::error!("a thread of the network is gone; its connections are lost");
        }
    }

    /// Has every request answered that has come, and ends the threads. A connection on which nothing has been asked for
    /// stays open for `linger`: its client may be about to send a request.
    pub(crate) fn end(self, linger: Duration) {
        for thread in &self.threads {
            // If the thread has panicked, that has been reported.
            let _ = thread.orders.send(Order::End(linger));
        }
        for Thread { thread, .. } in self.threads {
            let _ = thread.join();
        }
    }
}

impl Thread {
    fn start(state: &Arc<State>, i: usize) -> io::Result<Self> {
        let (orders, orders_to_come) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (state, counter) = (Arc::clone(state), Arc::clone(&connections));
        let run = move || runtime.block_on(serve(state, orders_to_come, counter));
        let thread = thread::Builder::new().name(format!("remuda-net-{i}")).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Self { orders, connections, thread })
    }
}

/// How far a thread has come on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Each answer is the last one on its connection.
    LastAnswers,
    /// Connections on which nothing is going on are closed.
    Closing,
}

/// Serves connections until no more will come and all have ended.
async fn serve(state: Arc<State>, mut orders: mpsc::UnboundedReceiver<Order>, connections: Arc<AtomicUsize>) {
    let protocol = Arc::new(protocol(&state));
    let inline = state.host.inline_thread().map(Arc::new);
    let (phase, _) = watch::channel(Phase::Serving);
    let is_ending = Arc::<AtomicBool>::default();
    // Each connection has a clone of `open`, so that `all_ended` says when there is none left.
    let (open, mut all_ended) = mpsc::channel::<Infallible>(1);
    // The orders end without a word only if the server panics.
    let mut linger = Duration::ZERO;
    while let Some(order) = orders.recv().await {
        let Accepted { stream, ends, permit } = match order {
            Order::Serve(accepted) => accepted,
            Order::End(time) => {
                linger = time;
                break;
            }
        };
        let counted = Counted(Arc::clone(&connections));
        let (state, inline, protocol) = (Arc::clone(&state), inline.clone(), Arc::clone(&protocol));
        let (phase, is_ending, open) = (phase.subscribe(), Arc::clone(&is_ending), open.clone());
        tokio::spawn(async move {
            let client = ends.client;
            let serving = Serving { state, ends, inline, is_ending, is_http2: Arc::default() };
            if let Err(error) = serving.connection(stream, &protocol, phase).await {
                tracing::debug!(%client, %error, "connection ended early");
            }
            drop((permit, counted, open));
        });
    }
    is_ending.store(true, Ordering::Relaxed);
    phase.send_replace(Phase::LastAnswers);
    drop(open);
    if tokio::time::timeout(linger, all_ended.recv()).await.is_err() {
        phase.send_replace(Phase::Closing);
        all_ended.recv().await;
    }
}

/// What a connection needs to answer requests.
struct Serving {
    state: Arc<State>,
    ends: Ends,
    inline: Option<Arc<InlineThread>>,
    /// Whether the server is about to end.
    is_ending: Arc<AtomicBool>,
    /// Whether the connection is known to be one of HTTP/2.
    is_http2: Arc<AtomicBool>,
}

impl Serving {
    /// Serves a connection to its end.
    async fn connection(
        self,
        stream: Stream,
        protocol: &auto::Builder<TokioExecutor>,
        mut phase: watch::Receiver<Phase>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let stream = match stream {
            Stream::Tcp(stream) => Either::Left(TcpStream::from_std(stream)?),
            Stream::Unix(stream) => Either::Right(UnixStream::from_std(stream)?),
        };
        let stream = match &self.ends.entrance.tls {
            None => Either::Left(stream),
            // A client may take as long for this as for a request.
            Some(tls) => {
                Either::Right(Box::new(timeout(self.state.client_timeout, tls.acceptor().accept(stream)).await??))
            }
        };
        let is_http2 = Arc::clone(&self.is_http2);
        let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), self.service()));
        loop {
            let changed = tokio::select! {
                ended = connection.as_mut() => return ended,
                changed = phase.changed() => changed,
            };
            let phase = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Closing };
            // A client of HTTP/2 is told at once that it is to send no further request, and loses none by it. To one of
            // HTTP/1.1 only an answer can say that.
            if phase == Phase::Closing || (phase == Phase::LastAnswers && is_http2.load(Ordering::Relaxed)) {
                connection.as_mut().graceful_shutdown();
            }
            if changed.is_err() || phase == Phase::Closing {
                return connection.await;
            }
        }
    }

    /// Answers a connection's requests.
    fn service(self) -> impl Service<Request<Incoming>, Response = Reply, Error = Infallible, Future: Send> {
        let serving = Arc::new(self);
        service_fn(move |request: Request<Incoming>| {
            let serving = Arc::clone(&serving);
            async move {
                let is_http2 = request.version() == Version::HTTP_2;
                if is_http2 {
                    serving.is_http2.store(true, Ordering::Relaxed);
                }
                let Serving { state, ends, inline, is_ending, .. } = &*serving;
                let mut reply = Arc::clone(state).serve(request, ends, inline.as_deref()).await;
                if !is_http2 && is_ending.load(Ordering::Relaxed) {
                    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(reply)
            }
        })
    }
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
