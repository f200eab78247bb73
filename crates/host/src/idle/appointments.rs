//! The appointments of the prewarming thread: which function it has to look at, and when. What it does there stands in
//! `prewarm`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::cores::Cores;
use crate::function::Function;
use parking_lot::{Condvar, Mutex};

/// Functions that wait for the prewarming thread.
#[derive(Default)]
pub(crate) struct Appointments {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Functions that have just been deployed; those that gain most come first.
    starting: VecDeque<Weak<Function>>,
    /// Functions by the time of their next look, on the clock of the host's cores.
    looks: BTreeMap<(u64, u64), Weak<Function>>,
    /// A number that tells appointments at the same time apart.
    made: u64,
    is_at_work: bool,
    closed: bool,
}

/// The next thing that the prewarming thread does.
pub(crate) enum Next {
    /// Bring into memory what the function's first request will want.
    Start(Weak<Function>),
    /// Find out whether the function's next request is expected soon.
    Look(Weak<Function>),
}

impl Appointments {
    /// Has functions made ready that nobody has called yet, in this order. Returns when that is done, or after
    /// `patience`; the rest is then done while requests come.
    pub(crate) fn make_ready(&self, functions: impl IntoIterator<Item = Weak<Function>>, patience: Duration) {
        let began = Instant::now();
        let mut state = self.state.lock();
        state.starting.extend(functions);
        self.changed.notify_all();
        while !state.closed && (state.is_at_work || !state.starting.is_empty()) {
            let Some(left) = patience.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else {
                tracing::info!(functions = state.starting.len(), "functions are made ready while requests come");
                return;
            };
            self.changed.wait_for(&mut state, left);
        }
    }

    /// Makes an appointment to look at a function at `at_ns`, on the clock of the host's cores.
    pub(crate) fn look_at(&self, at_ns: u64, function: Weak<Function>) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.made += 1;
        let key = (at_ns, state.made);
        state.looks.insert(key, function);
        let is_next = state.looks.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(state);
        if is_next {
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to do; returns `None` when the appointments are closed.
    pub(crate) fn next(&self, cores: &Cores) -> Option<Next> {
        let mut state = self.state.lock();
        state.is_at_work = false;
        self.changed.notify_all();
        loop {
            if state.closed {
                return None;
            }
            if let Some(function) = state.starting.pop_front() {
                state.is_at_work = true;
                return Some(Next::Start(function));
            }
            let now_ns = cores.now_ns();
            let next_ns = state.looks.first_key_value().map(|((at_ns, _), _)| *at_ns);
            match next_ns {
                None => self.changed.wait(&mut state),
                Some(at_ns) if at_ns <= now_ns => {
                    let (_, function) = state.looks.pop_first()?;
                    state.is_at_work = true;
                    return Some(Next::Look(function));
                }
                Some(at_ns) => {
                    let wait = Duration::from_nanos(at_ns - now_ns);
                    self.changed.wait_for(&mut state, wait);
                }
            }
        }
    }

    /// Forgets all appointments, and makes no more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}
