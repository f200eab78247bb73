//! The listening socket, and the server's orderly end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use remuda_host::Host;
use remuda_manifest::ServerSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::network::{Accepted, Network};
use crate::route::{Mounted, Routes};
use crate::serve::State;

/// The most connections at the same time; more of them wait in the operating system's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// The number of bodies that may be in memory beyond those that wait in the queue: they belong to requests that are
/// being read or answered.
const IN_FLIGHT_EXTRA: usize = 256;

/// The client's address of requests that are only rehearsed: no client has this address.
pub(crate) const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A socket that listens and a host that answers.
pub struct Server {
    listener: TcpListener,
    network: Network,
    /// A permit for each connection that may be open at the same time.
    connections: Arc<Semaphore>,
    state: Arc<State>,
}

/// The error of a server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or is not this machine's.
    #[error("cannot listen on {address}: {source}; name another address with --listen or server.listen")]
    Address {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The operating system has no threads left.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Server {
    /// Starts the network's threads, so many of them, and opens the socket. From here on clients can connect; they are
    /// answered by [`Server::run`].
    ///
    /// # Errors
    ///
    /// Returns an error if the address is taken or is not this machine's, or if threads cannot be started.
    pub async fn bind(
        host: Host,
        functions: impl IntoIterator<Item = Mounted>,
        settings: &ServerSettings,
        threads: usize,
    ) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Address { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let state = Arc::new(State {
            host,
            routes: Routes::new(functions),
            in_flight: Arc::new(Semaphore::new(settings.queue_max + IN_FLIGHT_EXTRA)),
            client_timeout: settings.client_timeout,
            local,
        });
        let network = Network::start(&state, threads).map_err(ServerError::Thread)?;
        Ok(Self { listener, network, connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)), state })
    }

    /// Answers a request of its own on each of the network's threads, over connections that nobody else can reach and
    /// without any function. So everything that these threads set up when they are first used is there before the first
    /// client comes.
    ///
    /// # Errors
    ///
    /// Returns an error if a connection cannot be made, for example because the machine has no loopback network. Clients
    /// are answered all the same.
    pub async fn rehearse(&self) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut clients = Vec::new();
        // Each thread has the fewest connections once.
        for _ in 0..self.network.threads() {
            let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
            let (client, (stream, from)) = (client?, accepted?);
            if from != client.local_addr()? {
                return Err(io::Error::other("somebody else was faster on a connection of the server's own"));
            }
            let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
            self.network.serve(Accepted { stream: stream.into_std()?, client: NOBODY, permit });
            clients.push(client);
        }
        for mut client in clients {
            client.write_all(b"GET / HTTP/1.1\r\nhost: nobody\r\nconnection: close\r\n\r\n").await?;
            client.read_to_end(&mut Vec::new()).await?;
        }
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
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.accept() => accepted,
            };
            self.network.serve(accepted);
        }
        drop(self.listener);
        let network = self.network;
        // The threads end when every request is answered.
        let _ = tokio::task::spawn_blocking(move || network.end()).await;
        let state = self.state;
        let counters = state.host.counters();
        tracing::info!(
            inline = counters.inline.get(),
            inline_overruns = counters.inline_overruns.get(),
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

    async fn accept(&self) -> Accepted {
        loop {
            let permit = Arc::clone(&self.connections).acquire_owned().await.expect("nobody closes this semaphore");
            let accepted = self.listener.accept().await.and_then(|(stream, client)| {
                // Answers are written whole, so there is nothing to wait for.
                let _ = stream.set_nodelay(true);
                Ok(Accepted { stream: stream.into_std()?, client, permit })
            });
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // The process is usually out of file handles: this gives connections time to end.
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}
