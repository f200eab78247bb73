//! Between requests: brings artifacts into memory for the next request, where the scheduler expects it.

use std::cmp::Reverse;

use remuda_model::ArtifactState;
use remuda_scheduler::PrewarmHow;
use remuda_scheduler::tuning::PREWARM_LOOK_AFTER_NS;

use super::{Simulation, engine_number};
use crate::cores::Class;

/// An artifact that was made ready for the next request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prewarmed {
    engine: usize,
    until_ns: u64,
}

impl Simulation<'_> {
    /// Takes note of an answer by `engine`, after which the next request may be expected. `was` is where the engine's
    /// artifact was when it began.
    pub(super) fn expect_next(&mut self, function: u32, engine: usize, was: ArtifactState) {
        let now_ns = self.now_ns;
        let state = &mut self.functions[function as usize];
        if let Some(prewarmed) = state.prewarmed.take() {
            let is_useful = was == ArtifactState::InMemory && engine == prewarmed.engine && now_ns < prewarmed.until_ns;
            self.count_prewarm(is_useful);
        }
        self.appoint(function, Some(now_ns.saturating_add(PREWARM_LOOK_AFTER_NS)));
    }

    /// Looks at what a function's next request will need.
    pub(super) fn keep_appointment(&mut self, function: u32) {
        let now_ns = self.now_ns;
        let state = &mut self.functions[function as usize];
        state.has_appointment = false;
        if let Some(prewarmed) = state.prewarmed.take_if(|prewarmed| prewarmed.until_ns <= now_ns) {
            self.count_prewarm(false);
            self.release_unused(function, prewarmed.engine);
        }
        self.find_candidates(function);
        let look = self.functions[function as usize].scheduler.prewarm(&self.candidates, &self.world(0));
        if let Some(prewarm) = look.todo {
            let engine = engine_number(self.table, prewarm.engine);
            let prewarmed = Prewarmed { engine, until_ns: prewarm.until_ns };
            let slot = &self.functions[function as usize].slots[engine];
            match prewarm.how {
                PrewarmHow::Load if slot.on_disk && !slot.in_memory && slot.making.is_none() => {
                    self.make(function, engine, Class::Ahead, None, Some(prewarmed));
                }
                PrewarmHow::Load | PrewarmHow::Keep => {}
                PrewarmHow::Compile(tier_up) => {
                    self.want(function, engine, tier_up.worth_ns);
                    self.functions[function as usize].prewarmed = Some(prewarmed);
                }
            }
        }
        self.appoint(function, look.again_at_ns);
    }

    fn appoint(&mut self, function: u32, at_ns: Option<u64>) {
        let state = &mut self.functions[function as usize];
        if let Some(at_ns) = at_ns.filter(|_| !state.has_appointment) {
            state.has_appointment = true;
            self.appointments.push(Reverse((at_ns, function)));
        }
    }

    fn release_unused(&mut self, function: u32, engine: usize) {
        let slot = &mut self.functions[function as usize].slots[engine];
        if slot.on_disk && slot.in_memory && self.store.release_unused((function, engine)) {
            slot.in_memory = false;
        }
    }

    fn count_prewarm(&mut self, is_useful: bool) {
        let counter = if is_useful { &mut self.totals.prewarms_useful } else { &mut self.totals.prewarms_wasted };
        *counter += 1;
    }
}
