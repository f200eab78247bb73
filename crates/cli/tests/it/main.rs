//! The real binary, driven from outside: its command line, and its server over HTTP.

mod calibrate;
mod engines;
mod examples;
mod guests;
mod http;
mod profile;
mod run;
mod serve;
mod support;
mod wasi;
