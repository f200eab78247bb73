//! The sockets on which a server listens: it opens them itself, or gets them from systemd or from a server that it
//! takes over from.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use remuda_manifest::Listen;
use rustix::net::{AddressFamily, listen, sockopt};

use crate::entrance::Client;

/// Connections that wait until the server accepts them.
///
/// Source: what the Rust standard library and most servers ask for; the kernel allows no more than `somaxconn`, 4096.
/// Less, and a burst of clients has to connect again; more costs nothing.
const BACKLOG: i32 = 4096;

/// The name that systemd gives to sockets whose clients speak TLS (`FileDescriptorName=` of a socket unit).
const ACTIVATED_TLS: &str = "https";

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The place as it was asked for.
    asked: Listen,
    /// The place as it is: with a real port, if any free one was asked for.
    place: Listen,
    socket: Socket,
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The file of a Unix socket, as long as it is this server's own. Dropping this removes it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Empty: the file is left to somebody else.
    path: PathBuf,
    /// The device and the number of the file on it: another server may have put another one in its place.
    identity: (u64, u64),
}

/// The connections that come to a socket.
pub(crate) enum Arrivals {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// This server's end of a connection, which never waits.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The error of a socket that does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or is not this machine's; or the file cannot be made.
    #[error("cannot listen on {listen}: {source}; name another place with --listen or server.listen")]
    Place {
        /// The place.
        listen: Listen,
        /// The reason.
        source: io::Error,
    },
    /// A socket that the process was started with is none that HTTP can be spoken over.
    #[error("cannot listen on socket {number} of LISTEN_FDS: {source}; a socket unit needs ListenStream=")]
    Activated {
        /// The number of the socket, from 0.
        number: usize,
        /// The reason.
        source: io::Error,
    },
}

impl Listener {
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// Returns an error if the address is taken or is not this machine's, or the socket's file cannot be made.
    pub fn bind(asked: &Listen) -> Result<Self, ListenError> {
        let bound = match asked {
            Listen::Http(address) | Listen::Https(address) => {
                bind_tcp(*address).and_then(|socket| Self::new(asked.clone(), Socket::Tcp(socket)))
            }
            Listen::Unix(path) => bind_unix(path).and_then(|socket| Self::new(asked.clone(), Socket::Unix(socket))),
        };
        bound.map_err(|source| ListenError::Place { listen: asked.clone(), source })
    }

    /// The sockets that systemd, or what else speaks its protocol, has started this process with. To be called once,
    /// before there is a second thread: it removes the variables that tell of them.
    ///
    /// # Errors
    ///
    /// Returns an error if one of them is of another kind.
    pub fn activated() -> Result<Vec<Self>, ListenError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut inherited = ListenFd::from_env();
        (0..inherited.len())
            .map(|number| {
                let is_tls = names.next() == Some(ACTIVATED_TLS);
                activated(&mut inherited, number, is_tls).map_err(|source| ListenError::Activated { number, source })
            })
            .collect()
    }

    /// A socket of another server, which listens already.
    pub(crate) fn inherited(asked: Listen, socket: OwnedFd) -> io::Result<Self> {
        let socket = if sockopt::socket_domain(&socket)? == AddressFamily::UNIX {
            Socket::Unix(socket.into())
        } else {
            Socket::Tcp(socket.into())
        };
        Self::new(asked, socket)
    }

    fn new(asked: Listen, socket: Socket) -> io::Result<Self> {
        let place = match (&asked, &socket) {
            (Listen::Http(_), Socket::Tcp(socket)) => Listen::Http(socket.local_addr()?),
            (Listen::Https(_), Socket::Tcp(socket)) => Listen::Https(socket.local_addr()?),
            (Listen::Unix(path), Socket::Unix(_)) => Listen::Unix(path.clone()),
            (Listen::Http(_) | Listen::Https(_), Socket::Unix(_)) | (Listen::Unix(_), Socket::Tcp(_)) => {
                return Err(io::Error::other("the socket is of another family"));
            }
        };
        let file = match &asked {
            Listen::Unix(path) => SocketFile::find(path),
            Listen::Http(_) | Listen::Https(_) => None,
        };
        match &socket {
            Socket::Tcp(socket) => socket.set_nonblocking(true)?,
            Socket::Unix(socket) => socket.set_nonblocking(true)?,
        }
        Ok(Self { asked, place, socket, file })
    }

    /// The place where it listens; the port is the real one, even if 0 was asked for.
    #[must_use]
    pub fn place(&self) -> &Listen {
        &self.place
    }

    /// The place as it was asked for.
    pub(crate) fn asked(&self) -> &Listen {
        &self.asked
    }

    /// The address; `None` for a Unix socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Listen::Http(address) | Listen::Https(address) => Some(address),
            Listen::Unix(_) => None,
        }
    }

    /// Whether clients speak TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.place, Listen::Https(_))
    }

    /// A connection that has come, if there is one. This never waits.
    pub(crate) fn accept(&self) -> io::Result<(Stream, Client)> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, client) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::tcp(stream, client))
            }
            Socket::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(stream), Client::Unix))
            }
        }
    }

    /// The connections that come, for a task to wait for.
    pub(crate) fn arrivals(&self) -> io::Result<Arrivals> {
        Ok(match &self.socket {
            Socket::Tcp(socket) => Arrivals::Tcp(tokio::net::TcpListener::from_std(socket.try_clone()?)?),
            Socket::Unix(socket) => Arrivals::Unix(tokio::net::UnixListener::from_std(socket.try_clone()?)?),
        })
    }

    /// Leaves the socket's file to another process, which listens there now.
    pub(crate) fn leave_file(&mut self) {
        if let Some(file) = self.file.take() {
            file.leave();
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Stream {
    fn tcp(stream: TcpStream, client: SocketAddr) -> (Self, Client) {
        // Answers are written whole, so there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        (Self::Tcp(stream), Client::Tcp(client))
    }
}

impl Arrivals {
    /// The next connection.
    pub(crate) async fn next(&self) -> io::Result<(Stream, Client)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, client) = socket.accept().await?;
                Ok(Stream::tcp(stream.into_std()?, client))
            }
            Self::Unix(socket) => Ok((Stream::Unix(socket.accept().await?.0.into_std()?), Client::Unix)),
        }
    }
}

impl SocketFile {
    /// The file at this path, if it is a file of any kind.
    pub(crate) fn find(path: &Path) -> Option<Self> {
        Some(Self { path: path.to_owned(), identity: identity(path)? })
    }

    fn leave(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Binds a Unix socket. A file of a server that is gone makes room; one of a server that lives does not.
pub(crate) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let bound = UnixListener::bind(path).or_else(|error| {
        let is_refused =
            || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if error.kind() != io::ErrorKind::AddrInUse || !is_refused() {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        UnixListener::bind(path)
    })?;
    listen(&bound, BACKLOG)?;
    Ok(bound)
}

fn activated(inherited: &mut ListenFd, number: usize, is_tls: bool) -> io::Result<Listener> {
    let none = || io::Error::other("there is no such socket");
    if let Ok(socket) = inherited.take_tcp_listener(number) {
        let socket = socket.ok_or_else(none)?;
        let address = socket.local_addr()?;
        let asked = if is_tls { Listen::Https(address) } else { Listen::Http(address) };
        return Listener::new(asked, Socket::Tcp(socket));
    }
    let socket = inherited.take_unix_listener(number)?.ok_or_else(none)?;
    let path = socket.local_addr()?.as_pathname().map_or_else(PathBuf::new, Path::to_owned);
    let mut listener = Listener::new(Listen::Unix(path), Socket::Unix(socket))?;
    // The file belongs to who has made it, and is there for the next server.
    listener.leave_file();
    Ok(listener)
}
