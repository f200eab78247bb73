use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A gate between a guest that may still lose a race and the host process's own streams.
///
/// While the gate is shut, the guest's output is held back, and the guest waits if it wants to read. When this guest
/// has won the race, the gate opens: the output that was held back goes out, in order, and from then on everything
/// passes. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_open: bool,
    held: Vec<(HostStream, Vec<u8>)>,
    held_bytes: usize,
    is_awaited: bool,
}

/// One of the host process's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How many bytes a guest may write before it has to wait for the gate to open.
const HELD_BYTES_MAX: usize = 16 << 20;
/// How often a guest that waits here checks whether it has to stop.
const ASK_EVERY: Duration = Duration::from_millis(5);

impl Gate {
    /// Holds back `bytes` that a guest writes, and returns true; or returns false if they may pass, since the gate is
    /// open. A guest that has written much waits here until the gate opens or `must_stop` says that it has to stop, in
    /// which case the bytes count as written.
    pub fn holds(&self, stream: HostStream, bytes: &[u8], must_stop: impl Fn() -> bool) -> bool {
        let mut state = self.0.state.lock();
        while !state.is_open && state.held_bytes >= HELD_BYTES_MAX && !must_stop() {
            self.0.changed.wait_for(&mut state, ASK_EVERY);
        }
        if state.is_open {
            return false;
        }
        state.held_bytes += bytes.len();
        match state.held.last_mut() {
            Some((last, held)) if *last == stream => held.extend_from_slice(bytes),
            _ => state.held.push((stream, bytes.to_vec())),
        }
        true
    }

    /// Waits until the guest may do what only one of those that race may do, such as reading from the host's own input; or
    /// until it has to stop.
    pub fn await_opening(&self, must_stop: impl Fn() -> bool) {
        let mut state = self.0.state.lock();
        state.is_awaited = true;
        while !state.is_open && !must_stop() {
            self.0.changed.wait_for(&mut state, ASK_EVERY);
        }
    }

    /// Whether output is held back, or the guest waits to read: a user may be waiting for the gate to open.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let state = self.0.state.lock();
        !state.is_open && (state.is_awaited || state.held_bytes > 0)
    }

    /// Whether the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.state.lock().is_open
    }

    /// Whether the guest cannot go on until the gate opens.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        let state = self.0.state.lock();
        !state.is_open && (state.is_awaited || state.held_bytes >= HELD_BYTES_MAX)
    }

    /// Opens the gate: `write` gets the output that was held back, and everything after that passes.
    pub fn open(&self, mut write: impl FnMut(HostStream, &[u8])) {
        let mut state = self.0.state.lock();
        // The output is written under the lock, so that no later output overtakes it.
        for (stream, bytes) in std::mem::take(&mut state.held) {
            write(stream, &bytes);
        }
        state.held_bytes = 0;
        state.is_open = true;
        drop(state);
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("Gate")
            .field("is_open", &state.is_open)
            .field("held_bytes", &state.held_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(gate: &Gate) -> Vec<(HostStream, Vec<u8>)> {
        let mut written = Vec::new();
        gate.open(|stream, bytes| written.push((stream, bytes.to_vec())));
        written
    }

    #[test]
    fn what_was_held_back_goes_out_once_and_in_order() {
        let gate = Gate::default();
        assert!(!gate.is_wanted());
        for (stream, bytes) in [
            (HostStream::Stdout, b"a"),
            (HostStream::Stdout, b"b"),
            (HostStream::Stderr, b"c"),
            (HostStream::Stdout, b"d"),
        ] {
            assert!(gate.holds(stream, bytes, || false));
        }
        assert!(gate.is_wanted() && !gate.is_needed());
        let expected = vec![
            (HostStream::Stdout, b"ab".to_vec()),
            (HostStream::Stderr, b"c".to_vec()),
            (HostStream::Stdout, b"d".to_vec()),
        ];
        assert_eq!(opened(&gate), expected);
        assert!(!gate.holds(HostStream::Stdout, b"e", || false));
        assert_eq!(opened(&gate), []);
    }

    #[test]
    fn who_is_awaited_waits_for_the_gate_or_for_its_end() {
        let gate = Gate::default();
        gate.await_opening(|| true);
        assert!(gate.is_needed());
        let reader = {
            let gate = gate.clone();
            std::thread::spawn(move || gate.await_opening(|| false))
        };
        opened(&gate);
        reader.join().unwrap();
        assert!(!gate.is_needed());
    }

    #[test]
    fn who_writes_too_much_waits() {
        let gate = Gate::default();
        assert!(gate.holds(HostStream::Stdout, &vec![0; HELD_BYTES_MAX], || false));
        assert!(gate.is_needed());
        assert!(gate.holds(HostStream::Stdout, b"more", || true), "told to stop, it goes on to its end");
    }
}
