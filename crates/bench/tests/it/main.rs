//! The instrument from outside: rows in, reports out.

mod compare;
mod page;
mod report;
mod statistics;
mod synthetic;
