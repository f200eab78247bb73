//! HTTP/1.1 and HTTP/2 in front of a [`Host`](remuda_host::Host): listen, route, admit, respond.
//!
//! This crate knows HTTP and functions, and no engine. Its threads offer each request to the host, which runs short ones
//! at once, on the same thread; all others are submitted, and their answers awaited.
#![forbid(unsafe_code)]

mod body;
mod cgi;
mod entrance;
mod listen;
mod listener;
mod network;
mod respond;
mod route;
mod rules;
mod serve;
mod takeover;
mod tls;
mod wasi_http;

pub use listen::{Server, ServerError};
pub use listener::{ListenError, Listener};
pub use route::Mounted;
pub use takeover::{Control, Predecessor, TakeOverError};
pub use tls::{Tls, TlsError};
