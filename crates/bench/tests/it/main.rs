//! The instrument from outside: rows in, reports out.

mod page;
mod synthetic;
