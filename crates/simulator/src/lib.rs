//! Runs the production scheduler against measured costs, on a clock of its own.
//!
//! Everything that decides is the code that runs in the host: [`Scheduler`](remuda_scheduler::Scheduler),
//! [`Flight`](remuda_scheduler::flight::Flight), [`FairQueue`](remuda_scheduler::FairQueue),
//! [`CompileQueue`](remuda_scheduler::CompileQueue), [`WasteBudget`](remuda_scheduler::WasteBudget) and
//! [`GreedyDual`](remuda_scheduler::GreedyDual), with the [defaults](remuda_scheduler::Sizing) of the host. The rest is
//! modelled: cores that are shared by all that run on them, and engines that take as long as a [`CostTable`] says. A
//! [`Workload`] brings the requests. A seed and the inputs reproduce every run, bit for bit.
//!
//! [`simulate`] runs one policy; [`compare`] runs several and the oracle, against whose hindsight the regret of the
//! others is measured. Every event goes to the [`Checkers`], which stand apart and do not know how the event came
//! about.
#![forbid(unsafe_code)]

mod checkers;
mod cores;
mod cost_table;
mod oracle;
mod report;
mod results;
mod setup;
mod simulation;
mod store;
mod trace;
mod workload;

pub use checkers::{Bounds, Checkers, Event, Violation};
pub use cost_table::{CostTable, Engine, Module, ModuleCost, ModulePart, TableError};
pub use report::{Comparison, Report, compare};
pub use results::{ResultsError, read_results};
pub use setup::{Chooser, Setup};
pub use simulation::{Totals, simulate};
pub use trace::{TraceError, azure_2019, azure_2021};
pub use workload::{Arrival, Function, Workload};
