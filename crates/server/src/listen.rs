//! The listening socket, its connections, and their orderly end.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use remuda_host::Host;
use remuda_manifest::ServerSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::respond::Reply;
use crate::route::{Mounted, Routes};
use crate::serve::State;

/// The most connections at the same time; more of them wait in the operating system's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// The most requests of one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 256;
/// The number of bodies that may be in memory beyond those that wait in the queue: they belong to requests that are
/// being read or answered.
const IN_FLIGHT_EXTRA: usize = 256;

/// The client's address of requests that are only rehearsed: no client has this address.
pub(crate) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A socket that listens and a host that answers.
pub struct Server {
    listener: TcpListener,
    state: Arc<State>,
}

/// The error of a server that cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; name another address with --listen or server.listen")]
pub struct ServerError {
    /// The address.
    pub address: SocketAddr,
    /// The reason.
    pub source: io::Error,
}

impl Server {
    /// Opens the socket. From here on clients can connect; they are answered by [`Server::run`].
    ///
    /// # Errors
    ///
    /// Returns an error if the address is taken, or is not this machine's.
    pub async fn bind(
        host: Host,
        functions: impl IntoIterator<Item = Mounted>,
        settings: &ServerSettings,
    ) -> Result<Self, ServerError> {
        let failed = |source| ServerError { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            host,
            routes: Routes::new(functions),
            in_flight: Semaphore::new(settings.queue_max + IN_FLIGHT_EXTRA),
            client_timeout: settings.client_timeout,
            local,
        });
        Ok(Self { listener, state })
    }

    /// Answers a request of its own, over a connection that nobody else can reach and without any function. So
    /// everything that the network's threads set up when they are first used is there before the first client comes.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection cannot be made, for example because the machine has no loopback network.
    /// Clients are answered all the same.
    pub async fn rehearse(&self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
        let (mut client, (stream, from)) = (client?, accepted?);
        if from != client.local_addr()? {
            return Err(io::Error::other("somebody else was faster on a connection of the server's own"));
        }
        let protocol = protocol(self.state.client_timeout);
        let connection = protocol.serve_connection(TokioIo::new(stream), service(&self.state, NOBODY)).into_owned();
        let connection = tokio::spawn(connection);
        client.write_all(b"GET / HTTP/1.1\r\nhost: nobody\r\nconnection: close\r\n\r\n").await?;
        client.read_to_end(&mut Vec::new()).await?;
        // The connection has answered, and it does not matter how it ended.
        let _ = connection.await;
        Ok(())
    }

    /// The address on which the server listens; the port is the real one, even if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.state.local
    }

    /// The functions that are served, by their routes.
    #[must_use]
    pub fn functions(&self) -> Vec<&Mounted> {
        self.state.routes.list()
    }

    /// Answers requests until `stop` resolves, then takes no new connection, answers every request that has come, and
    /// returns.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let graceful = GracefulShutdown::new();
        let protocol = protocol(self.state.client_timeout);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&self.listener, &connections) => accepted,
            };
            let (stream, client, permit) = accepted;
            let service = service(&self.state, client);
            let connection = protocol.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%client, %error, "connection ended early");
                }
                drop(permit);
            });
        }
        drop(self.listener);
        graceful.shutdown().await;
        let state = self.state;
        let counters = state.host.counters();
        tracing::info!(
            races = counters.races.get(),
            moved = counters.moved.get(),
            races_overtaken = counters.races_overtaken.get(),
            compiles_background = counters.compiles_background.get(),
            compiles_failed = counters.compiles_failed.get(),
            prewarms_useful = counters.prewarms_useful.get(),
            prewarms_wasted = counters.prewarms_wasted.get(),
            "what was done for answers to come sooner"
        );
        // The threads that run guests are joined when the host is dropped, which must not block the network's.
        let _ = tokio::task::spawn_blocking(move || drop(state)).await;
    }
}

/// Answers one connection's requests.
fn service(
    state: &Arc<State>,
    client: SocketAddr,
) -> impl Service<Request<Incoming>, Response = Reply, Error = Infallible, Future: Send> + use<> {
    let state = Arc::clone(state);
    service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(state.serve(request, client).await) }
    })
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let permit = Arc::clone(connections).acquire_owned().await.expect("nobody closes this semaphore");
        match listener.accept().await {
            Ok((stream, client)) => {
                // Answers are written whole, so there is nothing to wait for.
                let _ = stream.set_nodelay(true);
                return (stream, client, permit);
            }
            Err(error) => {
                // The process is usually out of file handles: this gives connections time to end.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// HTTP/1.1, or HTTP/2 if a client begins with its preface.
fn protocol(client_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol.http1().timer(TokioTimer::new()).header_read_timeout(client_timeout);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(client_timeout)
        .keep_alive_timeout(client_timeout);
    protocol
}
