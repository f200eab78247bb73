//! A server takes over the sockets of another one, which then answers what it has begun and ends. Clients notice nothing:
//! the sockets are the same, and what waits in their backlogs goes to whoever accepts it first.
//!
//! Each server has a control socket in the data directory, named after its process. A successor connects to it when it
//! is ready to serve, and the two exchange:
//!
//! 1. the successor sends a [`Question`];
//! 2. the server sends an [`Offer`], with its sockets as ancillary data (`SCM_RIGHTS`);
//! 3. the successor sends [`SERVING`] when it accepts connections; if it fails before that, nothing has happened.
//!
//! Messages are lines; the first two are JSON. Both sides check that the other one is of the same user.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remuda_manifest::Listen;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Interest};

use crate::listener::{ListenError, Listener, SocketFile, bind_unix};

/// The version of the messages. A server of another version is not taken over.
const VERSION: u32 = 1;

/// The successor's last word: it accepts connections.
const SERVING: &str = "serving\n";

/// The folder for control sockets in the data directory.
const FOLDER: &str = "serve";

/// The most sockets that are passed on: as many as the kernel takes in one message (`SCM_MAX_FD`).
const SOCKETS_MAX: usize = 253;

/// The most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How long one side waits for the other one's next message.
///
/// Source: chosen; both answer at once unless the machine is very busy. Less, and a take-over fails there; more, and a
/// successor that hangs keeps others from trying for that long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a successor asks for.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    version: u32,
}

/// What a server answers: its sockets' places as they were asked for, in the order of the sockets, or why it gives none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Offer {
    Listen(Vec<String>),
    Refused(String),
}

/// The error of a server that could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// There is no such server, or it is another user's.
    #[error(
        "there is no server to take over at {path:?}: {source}; --take-over wants the process id of a `remuda serve` \
         with the same data directory"
    )]
    NoServer {
        /// The server's control socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The server says no.
    #[error("the server with process id {pid} gives its sockets to no one: {reason}")]
    Refused {
        /// The server's process.
        pid: u32,
        /// Its words.
        reason: String,
    },
    /// The server did not do its part.
    #[error("the server with process id {pid} cannot be taken over: {source}; it goes on as if nothing had happened")]
    Failed {
        /// The server's process.
        pid: u32,
        /// The reason.
        source: io::Error,
    },
    /// A place where the other server did not listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A server's control socket.
pub struct Control {
    socket: tokio::net::UnixListener,
    /// Why the server's sockets are not given away; `None` if they are.
    refusal: Option<&'static str>,
    _file: SocketFile,
}

/// What a server has got from the one before it, which still serves.
pub struct Predecessor {
    pid: u32,
    control: UnixStream,
    sockets: Vec<(Listen, OwnedFd)>,
}

fn control_path(data_dir: &Path, pid: u32) -> PathBuf {
    data_dir.join(FOLDER).join(format!("{pid}.sock"))
}

fn is_our_user(uid: u32) -> bool {
    uid == rustix::process::geteuid().as_raw()
}

impl Control {
    /// Makes this process's control socket in a data directory. Servers that systemd has given their sockets give a
    /// refusal.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket cannot be made, for example because its path is longer than 107 bytes.
    pub fn open(data_dir: &Path, refusal: Option<&'static str>) -> io::Result<Self> {
        let path = control_path(data_dir, std::process::id());
        let folder = data_dir.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        let socket = bind_unix(&path)?;
        let file = SocketFile::find(&path).ok_or(io::ErrorKind::NotFound)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: tokio::net::UnixListener::from_std(socket)?, refusal, _file: file })
    }

    /// Waits until another process has taken over these sockets, and returns its id, if it can be known.
    pub(crate) async fn taken_over(&self, listeners: &[&Listener]) -> Option<i32> {
        loop {
            let taken = match self.socket.accept().await {
                Ok((stream, _)) => tokio::time::timeout(2 * PATIENCE, self.hand_over(stream, listeners)).await,
                Err(error) => {
                    tokio::time::sleep(PATIENCE).await;
                    Ok(Err(error))
                }
            };
            match taken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(pid) => return pid,
                Err(error) => tracing::warn!(%error, "the sockets were not taken over; this server goes on"),
            }
        }
    }

    async fn hand_over(&self, stream: tokio::net::UnixStream, listeners: &[&Listener]) -> io::Result<Option<i32>> {
        let peer = stream.peer_cred()?;
        if !is_our_user(peer.uid()) {
            return Err(io::Error::other("another user has asked for them"));
        }
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let question: Question = serde_json::from_str(&line)?;
        let offer = if question.version != VERSION {
            Offer::Refused(format!("it is of another version ({})", env!("CARGO_PKG_VERSION")))
        } else if let Some(refusal) = self.refusal {
            Offer::Refused(refusal.into())
        } else {
            Offer::Listen(listeners.iter().map(|listener| listener.asked().to_string()).collect())
        };
        let mut message = serde_json::to_vec(&offer)?;
        message.push(b'\n');
        let sockets: Vec<BorrowedFd<'_>> = match offer {
            Offer::Listen(_) => listeners.iter().map(|listener| listener.as_fd()).collect(),
            Offer::Refused(reason) => {
                send(stream.get_ref(), &message, &[]).await?;
                return Err(io::Error::other(reason));
            }
        };
        send(stream.get_ref(), &message, &sockets).await?;
        line.clear();
        stream.read_line(&mut line).await?;
        if line == SERVING { Ok(peer.pid()) } else { Err(io::Error::other("the successor has failed")) }
    }
}

async fn send(stream: &tokio::net::UnixStream, message: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut left = message;
    let mut sockets = Some(sockets).filter(|sockets| !sockets.is_empty());
    while !left.is_empty() {
        let write = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if let Some(sockets) = sockets
                && !ancillary.push(SendAncillaryMessage::ScmRights(sockets))
            {
                return Err(io::Error::other(format!("there are more than {SOCKETS_MAX} sockets")));
            }
            Ok(sendmsg(stream, &[IoSlice::new(left)], &mut ancillary, SendFlags::NOSIGNAL)?)
        };
        let sent = stream.async_io(Interest::WRITABLE, write).await?;
        left = &left[sent..];
        // They have gone with the first bytes.
        sockets = None;
    }
    Ok(())
}

impl Predecessor {
    /// Asks a server for its sockets. It serves on until [`Predecessor::serve_in_its_place`].
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such server for this data directory, or if it does not give its sockets.
    pub fn ask(data_dir: &Path, pid: u32) -> Result<Self, TakeOverError> {
        let path = control_path(data_dir, pid);
        let connect = || {
            let control = UnixStream::connect(&path)?;
            if !is_our_user(sockopt::socket_peercred(&control)?.uid.as_raw()) {
                return Err(io::Error::other("it is another user's"));
            }
            Ok(control)
        };
        let control = connect().map_err(|source| TakeOverError::NoServer { path: path.clone(), source })?;
        let failed = |source: io::Error| TakeOverError::Failed { pid, source };
        let (offer, sockets) = exchange(&control).map_err(failed)?;
        let places = match offer {
            Offer::Listen(places) => places,
            Offer::Refused(reason) => return Err(TakeOverError::Refused { pid, reason }),
        };
        if places.len() != sockets.len() {
            return Err(failed(io::Error::other("it has sent another number of sockets than of places")));
        }
        let places = places.iter().map(|place| place.parse().map_err(|_| failed(io::Error::other("it has no place"))));
        let places = places.collect::<Result<Vec<Listen>, _>>()?;
        Ok(Self { pid, control, sockets: places.into_iter().zip(sockets).collect() })
    }

    /// A socket for each place: the other server's, if it listens there, and else a new one.
    ///
    /// # Errors
    ///
    /// Returns an error if a new socket cannot be opened.
    pub fn listen(&mut self, places: &[Listen]) -> Result<Vec<Listener>, TakeOverError> {
        let mut listen = |place: &Listen| {
            let Some(i) = self.sockets.iter().position(|(theirs, _)| theirs == place) else {
                return Ok(Listener::bind(place)?);
            };
            let (place, socket) = self.sockets.swap_remove(i);
            Listener::inherited(place, socket).map_err(|source| TakeOverError::Failed { pid: self.pid, source })
        };
        places.iter().map(&mut listen).collect()
    }

    /// Tells the other server that this one accepts connections now, so that it may end.
    ///
    /// # Errors
    ///
    /// Returns an error if it cannot be told. Then both serve.
    pub fn serve_in_its_place(mut self) -> Result<(), TakeOverError> {
        let told = self.control.write_all(SERVING.as_bytes());
        told.map_err(|source| TakeOverError::Failed { pid: self.pid, source })
    }
}

/// Sends the question, and receives the offer.
fn exchange(mut control: &UnixStream) -> io::Result<(Offer, Vec<OwnedFd>)> {
    control.set_read_timeout(Some(PATIENCE))?;
    control.set_write_timeout(Some(PATIENCE))?;
    let mut question = serde_json::to_vec(&Question { version: VERSION })?;
    question.push(b'\n');
    control.write_all(&question)?;
    let (mut message, mut sockets) = (Vec::new(), Vec::new());
    while !message.ends_with(b"\n") {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let received =
            recvmsg(control, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if received == 0 || message.len() > MESSAGE_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        message.extend_from_slice(&bytes[..received]);
        for rights in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = rights {
                sockets.extend(rights);
            }
        }
    }
    Ok((serde_json::from_slice(&message)?, sockets))
}
