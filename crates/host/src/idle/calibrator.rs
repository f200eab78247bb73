//! Calibrating the host by itself: on the first start, while no request runs. The measuring stands in
//! `learn::calibrate`.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use remuda_model::{Cause, Interrupt};

use crate::learn::calibrate::{CalibrateError, measure, save};
use crate::shared::Shared;

/// The time for which no request must have run before the calibration begins.
const IDLE_FIRST: Duration = Duration::from_secs(2);
/// The longest such time. Each time that a request came in between, the thread waits for twice the time, up to this. A
/// host that is never idle for that long stays with the estimates that are shipped.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// The niceness of the calibration: how far it stands back behind everything else.
const NICENESS: i32 = 15;

/// The thread that calibrates.
pub(crate) struct Calibrator {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Control {
    closed: Mutex<bool>,
    changed: Condvar,
    /// The interrupt of the measurement that is under way.
    interrupt: Mutex<Interrupt>,
}

impl Calibrator {
    /// Starts the thread. The calibration is installed in the host, and kept in `data_dir` if there is one.
    pub(crate) fn start(shared: &Arc<Shared>, data_dir: Option<PathBuf>) -> std::io::Result<Self> {
        let control = Arc::<Control>::default();
        let (theirs, shared) = (Arc::clone(&control), Arc::clone(shared));
        let thread = thread::Builder::new()
            .name("remuda-calibr".into())
            .spawn(move || theirs.calibrate(&shared, data_dir.as_deref()))?;
        Ok(Self { control, thread: Some(thread) })
    }
}

/// Stops the thread, and waits for the step that it is at.
impl Drop for Calibrator {
    fn drop(&mut self) {
        *self.control.closed.lock() = true;
        self.control.interrupt().raise(Cause::Cancelled);
        self.control.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Control {
    fn interrupt(&self) -> Interrupt {
        self.interrupt.lock().clone()
    }

    fn calibrate(&self, shared: &Shared, data_dir: Option<&std::path::Path>) {
        // Threads that this one starts inherit its niceness.
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
            tracing::warn!(%error, "calibrating runs at the priority of requests");
        }
        let scratch = data_dir.map_or_else(std::env::temp_dir, std::path::Path::to_owned);
        let mut idle = IDLE_FIRST;
        while self.wait_until_idle(shared, idle) {
            let interrupt = Interrupt::new();
            *self.interrupt.lock() = interrupt.clone();
            if *self.closed.lock() {
                return;
            }
            let lent = shared.cores.lend(&interrupt);
            let measured = measure(&shared.registry, &scratch, &interrupt, |_| {});
            drop(lent);
            match measured {
                Ok(calibration) => {
                    let kept = data_dir.map(|data_dir| save(data_dir, &shared.registry, &calibration));
                    if let Some(Err(error)) = kept {
                        tracing::warn!(%error, "cannot keep the calibration");
                    }
                    tracing::info!("the host was calibrated");
                    shared.install(calibration);
                    return;
                }
                Err(CalibrateError::Interrupted) => idle = (idle * 2).min(IDLE_MAX),
                Err(error) => {
                    tracing::warn!(%error, "cannot calibrate the host; estimates begin with what is shipped");
                    return;
                }
            }
        }
    }

    /// Waits until the host has had nothing to do for `idle`; returns `false` when the thread is to stop.
    fn wait_until_idle(&self, shared: &Shared, idle: Duration) -> bool {
        let mut closed = self.closed.lock();
        loop {
            if *closed {
                return false;
            }
            let before = shared.cores.begun();
            self.changed.wait_for(&mut closed, idle);
            let load = shared.cores.load();
            if !*closed && load.busy + load.waiting == 0 && shared.cores.begun() == before {
                return true;
            }
        }
    }
}
