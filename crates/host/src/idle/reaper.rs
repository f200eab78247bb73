use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::function::Function;

/// How often the host looks for instances that have been idle for too long.
///
/// Source: chosen. More often, and a core is woken that often for nothing; less often, and their memory is freed later.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread that drops instances which have been idle for too long; it runs from when there is a function with such
/// instances. Dropping this ends the thread.
#[derive(Default)]
pub(crate) struct Reaper {
    shared: Arc<Functions>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Functions {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Default)]
struct State {
    functions: Vec<Weak<Function>>,
    is_closed: bool,
}

impl Reaper {
    /// Looks after a function's idle instances from now on.
    pub(crate) fn watch(&self, function: &Arc<Function>) -> std::io::Result<()> {
        let Some(_) = function.spec.reuse else { return Ok(()) };
        self.shared.state.lock().functions.push(Arc::downgrade(function));
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            *thread = Some(thread::Builder::new().name("remuda-reaper".into()).spawn(move || shared.look())?);
        }
        Ok(())
    }
}

impl Functions {
    fn look(&self) {
        let mut state = self.state.lock();
        while !state.is_closed {
            self.closed.wait_for(&mut state, LOOK_EVERY);
            state.functions.retain(|function| function.strong_count() > 0);
            for function in state.functions.iter().filter_map(Weak::upgrade) {
                let Some(reuse) = function.spec.reuse else { continue };
                for engine in &function.engines {
                    engine.idle.drop_idle(reuse.idle_max);
                }
            }
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.closed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A panic there has been reported.
            let _ = thread.join();
        }
    }
}
