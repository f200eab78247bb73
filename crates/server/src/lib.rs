//! HTTP/1.1 and HTTP/2 in front of a [`Host`](remuda_host::Host): listen, route, admit, respond.
//!
//! This crate knows HTTP and functions, and no engine. Guests never run on its threads: a request is handed to the
//! host, and its answer is awaited.
#![forbid(unsafe_code)]

mod cgi;
mod listen;
mod respond;
mod route;
mod rules;
mod serve;

pub use listen::{Server, ServerError};
pub use route::Mounted;
