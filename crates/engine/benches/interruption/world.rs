//! The guests' world on the engines that get it from `remuda_wasi`, and how several ways to run a guest are timed.

use std::time::Duration;

use remuda_model::{GuestContext, Interrupt, Sink, Stdin};
use remuda_wasi::Wasi;

use crate::Guest;

pub(crate) fn wasi_for(guest: &Guest) -> Wasi {
    let context = GuestContext {
        args: [guest.name].iter().chain(guest.args).map(|arg| (*arg).to_owned()).collect(),
        stdin: Stdin::Bytes(vec![1; guest.stdin_bytes].into()),
        stdout: Sink::Capture { bytes_max: 1 << 20 },
        ..GuestContext::default()
    };
    Wasi::new(remuda_model::EngineId::new("none"), &context, Interrupt::new()).expect("it asks for no folder")
}

/// Makes sure that a guest has written its output, and so has run to its end.
pub(crate) fn check(guest: &Guest, wasi: Wasi) {
    assert!(!wasi.into_output().stdout.is_empty(), "{} wrote nothing", guest.name);
}

/// The best time of each way of each candidate. A round runs all of them, so that a disturbance affects all.
pub(crate) fn best_of<C, const WAYS: usize>(
    rounds: usize,
    candidates: &[C],
    time: impl Fn(&C, usize) -> Duration,
) -> Vec<[Duration; WAYS]> {
    let mut best = vec![[Duration::MAX; WAYS]; candidates.len()];
    for _ in 0..rounds {
        for (candidate, best) in candidates.iter().zip(&mut best) {
            for (way, best) in best.iter_mut().enumerate() {
                *best = time(candidate, way).min(*best);
            }
        }
    }
    best
}

pub(crate) fn ratio(time: Duration, reference: Duration) -> f64 {
    time.as_secs_f64() / reference.as_secs_f64()
}
