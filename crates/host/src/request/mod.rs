//! One request's way through the host: it is admitted, decided, attempted (alone, in a race, or moving between
//! engines), and concluded.

pub(crate) mod admit;
mod attempt;
mod conclude;
pub(crate) mod execute;
mod mover;
mod race;
