//! Tests of the instrument from outside: records go in, reports come out.

mod compare;
mod page;
mod report;
mod statistics;
mod synthetic;
