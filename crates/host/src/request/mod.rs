//! One request's way through the host: it is admitted, decided, attempted (alone, in a race, or moving between
//! engines), and concluded.

pub(crate) mod admit;
mod attempt;
mod conclude;
pub(crate) mod execute;
pub(crate) mod inline;
mod mover;
pub(crate) mod plan;
mod race;
pub(crate) mod reuse;
pub(crate) mod watchdog;
