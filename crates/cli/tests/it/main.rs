//! Tests of the real binary from outside: its command line, and its server over HTTP.

mod ahead;
mod cache;
mod calibrate;
mod chaos;
mod characterize;
mod compile;
mod documents;
mod engines;
mod examples;
mod guests;
mod http;
mod http_rules;
mod inspect;
mod microarch;
mod outbound;
mod profile;
mod race;
mod report;
mod run;
mod serve;
mod sockets;
mod streaming;
mod support;
mod wasi;
mod wasi_http;
mod workers;
