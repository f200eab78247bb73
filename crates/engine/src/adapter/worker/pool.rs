//! The workers of one kind: those that have no guest wait here for the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::process::{Launch, Nursery, Started, Worker};
use super::protocol::ModuleNumber;
use crate::Instances;

/// The most workers at once, with guests and without. A host runs as many guests at a time as it has threads for
/// them, so that this bound only matters if instances are made and kept.
const WORKERS_MAX: usize = 512;

pub(super) struct Pool {
    nursery: Arc<Nursery>,
    idle: Mutex<Vec<Worker>>,
    /// A process that is started before anybody needs it, so that the next guest that finds no idle worker does not wait
    /// for one to start. There is none before one worker has turned out to be too few: starting it takes 40 ms of CPU
    /// time, which guests may need.
    spare: Mutex<Option<Started>>,
    instances: Instances,
    /// The most workers that wait here: one for each core. More would not help guests to begin sooner, as a core has
    /// only one at a time.
    idle_max: usize,
    workers: AtomicUsize,
    modules: AtomicU32,
}

/// A worker that belongs to whoever holds this.
pub(super) struct Lease {
    worker: Option<Worker>,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn open(launch: Launch, instances: Instances) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            nursery: Arc::new(Nursery::open(launch)?),
            spare: Mutex::default(),
            instances,
            idle: Mutex::default(),
            idle_max: std::thread::available_parallelism().map_or(1, usize::from),
            workers: AtomicUsize::new(0),
            modules: AtomicU32::new(0),
        }))
    }

    /// A number that no other module has.
    pub(super) fn number(&self) -> ModuleNumber {
        ModuleNumber(self.modules.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns an idle worker, if possible one that has compiled `module`.
    pub(super) fn idle(self: &Arc<Self>, module: ModuleNumber) -> Option<Lease> {
        let mut idle = self.idle.lock();
        let at = idle.iter().rposition(|worker| worker.has(module)).or(idle.len().checked_sub(1))?;
        Some(Lease { worker: Some(idle.remove(at)), pool: Arc::clone(self) })
    }

    /// Starts a worker.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<Lease> {
        let workers = self.workers.fetch_add(1, Ordering::Relaxed);
        if workers >= WORKERS_MAX {
            self.workers.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other(format!("{WORKERS_MAX} workers are the most, and all have guests")));
        }
        let next = (workers > 0 && self.instances == Instances::Pooled).then(|| self.nursery.ask());
        let spare = std::mem::replace(&mut *self.spare.lock(), next);
        // The spare one may have ended while nobody looked.
        let started = spare.and_then(|spare| Worker::await_hello(&spare, &self.nursery).ok());
        match started.map_or_else(|| Worker::await_hello(&self.nursery.ask(), &self.nursery), Ok) {
            Ok(worker) => Ok(Lease { worker: Some(worker), pool: Arc::clone(self) }),
            Err(error) => {
                self.workers.fetch_sub(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }
}

impl Lease {
    pub(super) fn worker(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("a lease has its worker until it ends")
    }

    /// Ends the lease of a worker that waits for orders.
    pub(super) fn give_back(mut self) {
        let Some(worker) = self.worker.take() else { return };
        let mut idle = self.pool.idle.lock();
        if idle.len() < self.pool.idle_max {
            idle.push(worker);
            return;
        }
        drop(idle);
        self.pool.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    /// Ends the worker: it may be in any state.
    fn drop(&mut self) {
        if self.worker.take().is_some() {
            self.pool.workers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
