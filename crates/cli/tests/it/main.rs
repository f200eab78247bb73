//! The real binary, driven from outside: its command line, and its server over HTTP.

mod cache;
mod engines;
mod examples;
mod guests;
mod http;
mod race;
mod run;
mod serve;
mod support;
mod wasi;
