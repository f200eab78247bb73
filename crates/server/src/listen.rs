//! The server: it accepts connections, until it is told to end, or another process takes over its sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use remuda_host::Host;
use remuda_manifest::{Listen, ServerSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::entrance::{Client, Ends, Entrance};
use crate::listener::{Arrivals, Listener, Stream};
use crate::network::{Accepted, Network};
use crate::route::{Mounted, Routes};
use crate::serve::State;
use crate::takeover::Control;
use crate::tls::Tls;

/// The most connections at the same time; more of them wait in the operating system's backlog.
const CONNECTIONS_MAX: usize = 4096;
/// The number of bodies that may be in memory beyond those that wait in the queue: they belong to requests that are
/// being read or answered.
const IN_FLIGHT_EXTRA: usize = 256;

/// How long idle connections stay open when the server is told to end: a request may be on its way.
///
/// Source: chosen, longer than a way through a network and shorter than anybody minds. Less, and clients of HTTP/1.1 whose
/// request crosses the end of their connection have to send it again; more, and a server with idle clients ends later.
const LINGER: Duration = Duration::from_millis(250);

/// Sockets that listen and a host that answers.
pub struct Server {
    doors: Vec<Arc<Door>>,
    network: Arc<Network>,
    /// A permit for each connection that may be open at the same time.
    connections: Arc<Semaphore>,
    state: Arc<State>,
}

/// The error of a server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The operating system has no threads left.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The operating system does not tell when connections come.
    #[error("cannot wait for connections: {0}")]
    Wait(io::Error),
    /// There is no certificate for a place where clients speak TLS.
    #[error(
        "{listen} is for TLS, and there is no certificate: set server.tls = {{ certificate = \"chain.pem\", key = \"key.pem\" }}"
    )]
    NoCertificate {
        /// The place.
        listen: Listen,
    },
}

impl Server {
    /// Starts the network's threads, so many of them. Clients can connect already; they are answered by [`Server::run`].
    ///
    /// # Errors
    ///
    /// Returns an error if threads cannot be started, or if there is a socket for TLS without a certificate.
    pub fn new(
        host: Host,
        functions: impl IntoIterator<Item = Mounted>,
        settings: &ServerSettings,
        listeners: Vec<Listener>,
        tls: Option<&Arc<Tls>>,
        threads: usize,
    ) -> Result<Self, ServerError> {
        if let (Some(listener), None) = (listeners.iter().find(|listener| listener.is_tls()), tls) {
            return Err(ServerError::NoCertificate { listen: listener.place().clone() });
        }
        let state = Arc::new(State {
            host,
            routes: Routes::new(functions),
            in_flight: Arc::new(Semaphore::new(settings.queue_max + IN_FLIGHT_EXTRA)),
            client_timeout: settings.client_timeout,
        });
        let network = Arc::new(Network::start(&state, threads).map_err(ServerError::Thread)?);
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let door = |listener: Listener| {
            let tls = tls.filter(|_| listener.is_tls()).cloned();
            let entrance = Arc::new(Entrance { address: listener.address(), tls });
            let arrivals = listener.arrivals()?;
            Ok(Arc::new(Door {
                listener,
                arrivals,
                entrance,
                network: Arc::clone(&network),
                connections: Arc::clone(&connections),
            }))
        };
        let doors = listeners.into_iter().map(door).collect::<io::Result<_>>().map_err(ServerError::Wait)?;
        Ok(Self { doors, network, connections, state })
    }

    /// Answers a request of its own on each of the network's threads, over connections that nobody else can reach and
    /// without any function. So everything that these threads set up when they are first used is there before the first
    /// client comes.
    ///
    /// # Errors
    ///
    /// Returns an error if a connection cannot be made. Clients are answered all the same.
    pub async fn rehearse(&self) -> io::Result<()> {
        let mut clients = Vec::new();
        // Each thread has the fewest connections once.
        for _ in 0..self.network.threads() {
            let (client, stream) = UnixStream::pair()?;
            let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
            let ends = Ends { client: Client::Nobody, entrance: Arc::default() };
            self.network.serve(Accepted { stream: Stream::Unix(stream.into_std()?), ends, permit });
            clients.push(client);
        }
        for mut client in clients {
            client.write_all(b"GET / HTTP/1.1\r\nhost: nobody\r\nconnection: close\r\n\r\n").await?;
            client.read_to_end(&mut Vec::new()).await?;
        }
        Ok(())
    }

    /// The places where the server listens; ports are the real ones, even if 0 was asked for.
    pub fn places(&self) -> impl Iterator<Item = &Listen> {
        self.doors.iter().map(|door| door.listener.place())
    }

    /// The functions that are served, by their routes.
    #[must_use]
    pub fn functions(&self) -> Vec<&Mounted> {
        self.state.routes.list()
    }

    /// Answers requests until `stop` resolves or another process has taken over the sockets, which it asks for by
    /// `control`. Then it takes no new connection, answers every request that has come, and returns.
    pub async fn run(self, stop: impl Future<Output = ()>, control: Option<Control>) {
        let mut accepting = JoinSet::new();
        for door in &self.doors {
            accepting.spawn(Arc::clone(door).accept_all());
        }
        let taken_over = async {
            let listeners: Vec<_> = self.doors.iter().map(|door| &door.listener).collect();
            match &control {
                Some(control) => control.taken_over(&listeners).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            () = stop => End::Told,
            by = taken_over => End::TakenOver { by },
        };
        accepting.shutdown().await;
        drop(control);
        self.wind_up(&end).await;
    }

    /// Answers every request that has come, and ends.
    async fn wind_up(self, end: &End) {
        let linger = match end {
            // The server is in nobody's way, so it gives idle clients all the time that they always have.
            End::TakenOver { by } => {
                tracing::info!(by, "another process serves from here on; answering every request that has come");
                self.state.client_timeout
            }
            End::Told => LINGER,
        };
        for door in self.doors {
            let mut door = Arc::into_inner(door).expect("nobody accepts connections any more");
            match end {
                // What has connected before the end is served.
                End::Told => door.accept_what_waits(),
                End::TakenOver { .. } => door.listener.leave_file(),
            }
        }
        let network = Arc::into_inner(self.network).expect("every door is closed");
        // The threads end when every request is answered.
        let _ = tokio::task::spawn_blocking(move || network.end(linger)).await;
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
}

/// Why a server ends.
enum End {
    Told,
    TakenOver {
        /// The process that serves now, if it is known.
        by: Option<i32>,
    },
}

/// One of a server's sockets, and what it takes to serve what comes in.
struct Door {
    listener: Listener,
    arrivals: Arrivals,
    entrance: Arc<Entrance>,
    network: Arc<Network>,
    connections: Arc<Semaphore>,
}

impl Door {
    /// Accepts connections until somebody drops this.
    async fn accept_all(self: Arc<Self>) {
        loop {
            let permit = Arc::clone(&self.connections).acquire_owned().await.expect("nobody closes this semaphore");
            match self.arrivals.next().await {
                Ok(accepted) => self.serve(accepted, permit),
                Err(error) => {
                    // The process is usually out of file handles: this gives connections time to end.
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    /// Accepts the connections that wait in the socket's backlog, as far as there is room for them.
    fn accept_what_waits(&self) {
        while let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned()
            && let Ok(accepted) = self.listener.accept()
        {
            self.serve(accepted, permit);
        }
    }

    fn serve(&self, (stream, client): (Stream, Client), permit: OwnedSemaphorePermit) {
        let ends = Ends { client, entrance: Arc::clone(&self.entrance) };
        self.network.serve(Accepted { stream, ends, permit });
    }
}
