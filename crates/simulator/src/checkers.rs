//! Checks of what must hold in every run, whichever chooser decides. Nothing here knows how a simulation works: the
//! checkers see events, keep their own books and compare.

use std::collections::HashMap;

use remuda_model::EngineId;

/// Something that happens in a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A request has come.
    Arrived {
        /// The request.
        request: u32,
    },
    /// A request was sent away, because the queue was full or the policy's engine cannot run it.
    Rejected {
        /// The request.
        request: u32,
    },
    /// A request waits, because no worker is free.
    Queued {
        /// The request.
        request: u32,
        /// The function that is called.
        function: u32,
        /// The work that it is expected to be, in nanoseconds.
        cost_ns: u64,
    },
    /// A worker takes a request after it has waited.
    Dequeued {
        /// The request.
        request: u32,
    },
    /// A request is answered.
    Answered {
        /// The request.
        request: u32,
        /// The engine that answered it.
        engine: EngineId,
    },
    /// One more engine joins the race for a request's answer.
    Joined {
        /// The request.
        request: u32,
    },
    /// Time on a core has answered a request.
    Earned {
        /// The time, in nanoseconds.
        ns: u64,
    },
    /// Time on a core has answered nothing.
    Wasted {
        /// The time, in nanoseconds.
        ns: u64,
    },
    /// This many bytes of artifacts are kept now.
    Kept {
        /// Bytes in memory.
        memory_bytes: u64,
        /// Bytes on disk.
        disk_bytes: u64,
    },
}

/// The bounds that a run may not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The number of requests.
    pub requests: usize,
    /// The number of cores.
    pub cores: usize,
    /// Bytes of artifacts in memory.
    pub memory_bytes_max: u64,
    /// Bytes of artifacts on disk.
    pub disk_bytes_max: u64,
    /// The share of useful time that may be wasted.
    pub waste_share_max: f64,
    /// The time that may be wasted beside that share, in nanoseconds.
    pub waste_ns_free: u64,
}

/// The error if something happened that must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("after {now_ns} ns: {what}")]
pub struct Violation {
    /// The time at which it happened, in nanoseconds.
    pub now_ns: u64,
    /// A description in words.
    pub what: String,
}

/// The stage that a request has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unborn,
    Here,
    Waiting,
    Done,
}

/// A request that waits.
#[derive(Clone, Copy, Debug)]
struct Wait {
    function: u32,
    cost_ns: u64,
    /// The work that had left the queue when the request came, in nanoseconds.
    left_ns_before: u64,
    /// The work of its function that is before it, and its own, in nanoseconds.
    own_ns: u64,
    /// The number of functions that had something waiting when the request came.
    waiting_functions: u64,
    /// The number of times by then that a function has begun to have something waiting.
    begun_before: u64,
}

/// Books of everything that is promised.
#[derive(Clone, Debug)]
pub struct Checkers {
    bounds: Bounds,
    stages: Vec<Stage>,
    waits: HashMap<u32, Wait>,
    /// The work that waits in nanoseconds, and the number of its requests, by function.
    backlog_ns: HashMap<u32, (u64, u32)>,
    left_ns: u64,
    begun: u64,
    cost_ns_max: u64,
    earned_ns: u64,
    wasted_ns: u64,
    violation: Option<Violation>,
}

impl Checkers {
    /// Empty books.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            stages: vec![Stage::Unborn; bounds.requests],
            waits: HashMap::new(),
            backlog_ns: HashMap::new(),
            left_ns: 0,
            begun: 0,
            cost_ns_max: 0,
            earned_ns: 0,
            wasted_ns: 0,
            violation: None,
        }
    }

    /// Takes note of an event.
    pub fn see(&mut self, now_ns: u64, event: &Event) {
        let checked = match *event {
            Event::Arrived { request } => self.pass(request, &[Stage::Unborn], Stage::Here),
            Event::Rejected { request } => self.pass(request, &[Stage::Here], Stage::Done),
            Event::Answered { request, .. } => self.pass(request, &[Stage::Here], Stage::Done),
            Event::Queued { request, function, cost_ns } => {
                self.wait(request, function, cost_ns);
                self.pass(request, &[Stage::Here], Stage::Waiting)
            }
            Event::Dequeued { request } => {
                self.pass(request, &[Stage::Waiting], Stage::Here).and_then(|()| self.end_wait(request))
            }
            Event::Joined { request } => self.may_waste(request),
            Event::Earned { ns } => {
                self.earned_ns += ns;
                Ok(())
            }
            Event::Wasted { ns } => {
                self.wasted_ns += ns;
                Ok(())
            }
            Event::Kept { memory_bytes, disk_bytes } => self.keeps(memory_bytes, disk_bytes),
        };
        self.note(now_ns, checked);
    }

    /// Closes the books.
    ///
    /// # Errors
    ///
    /// Returns an error if something was promised and did not hold: the first such thing.
    pub fn finish(mut self, now_ns: u64, used_ns: f64) -> Result<(), Violation> {
        let open = self.stages.iter().position(|stage| *stage != Stage::Done);
        let none_lost = open.map_or(Ok(()), |request| {
            Err(format!("request {request} was lost: it is {:?} at the end", self.stages[request]))
        });
        self.note(now_ns, none_lost);
        let available_ns = now_ns as f64 * self.bounds.cores as f64;
        let within = if used_ns <= available_ns * 1.000_001 + 1_000.0 {
            Ok(())
        } else {
            Err(format!("{used_ns:.0} ns were used of {available_ns:.0}, which is all that the cores have"))
        };
        self.note(now_ns, within);
        self.violation.map_or(Ok(()), Err)
    }

    fn note(&mut self, now_ns: u64, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.violation.get_or_insert(Violation { now_ns, what });
        }
    }

    /// No lost request and no double answer: each goes from stage to stage, once.
    fn pass(&mut self, request: u32, from: &[Stage], to: Stage) -> Result<(), String> {
        let stage = self.stages.get_mut(request as usize).ok_or_else(|| format!("there is no request {request}"))?;
        if !from.contains(stage) {
            return Err(format!("request {request} cannot become {to:?}: it is {stage:?}"));
        }
        *stage = to;
        Ok(())
    }

    fn wait(&mut self, request: u32, function: u32, cost_ns: u64) {
        /// The least work that a request counts for.
        const COST_NS_MIN: u64 = 1_000;
        let cost_ns = cost_ns.max(COST_NS_MIN);
        self.cost_ns_max = self.cost_ns_max.max(cost_ns);
        let waiting_functions = self.backlog_ns.len() as u64;
        let (backlog_ns, count) = self.backlog_ns.entry(function).or_insert_with(|| {
            self.begun += 1;
            (0, 0)
        });
        *backlog_ns += cost_ns;
        *count += 1;
        let wait = Wait {
            function,
            cost_ns,
            left_ns_before: self.left_ns,
            own_ns: *backlog_ns,
            waiting_functions,
            begun_before: self.begun,
        };
        self.waits.insert(request, wait);
    }

    /// No starvation: while a request waits, no other function gets more done than what stood before it in its own
    /// line, give or take three of the most expensive requests.
    fn end_wait(&mut self, request: u32) -> Result<(), String> {
        let wait = self.waits.remove(&request).ok_or_else(|| format!("request {request} has not waited"))?;
        let before_ns = self.left_ns - wait.left_ns_before;
        self.left_ns += wait.cost_ns;
        if let Some((backlog_ns, count)) = self.backlog_ns.get_mut(&wait.function) {
            *backlog_ns -= wait.cost_ns;
            *count -= 1;
            if *count == 0 {
                self.backlog_ns.remove(&wait.function);
            }
        }
        let functions = wait.waiting_functions + 1 + (self.begun - wait.begun_before);
        let each_ns = wait.own_ns + 3 * self.cost_ns_max;
        if before_ns > functions.saturating_mul(each_ns) {
            return Err(format!(
                "request {request} was starved: {before_ns} ns of work of {functions} functions went before it, and {} ns \
                 of its own",
                wait.own_ns
            ));
        }
        Ok(())
    }

    /// No engine joins a race once the budget for waste is used up. Engines that race already may overdraw it.
    fn may_waste(&self, request: u32) -> Result<(), String> {
        let allowed_ns = self.bounds.waste_share_max * self.earned_ns as f64 + self.bounds.waste_ns_free as f64;
        if self.wasted_ns as f64 > allowed_ns || self.bounds.waste_share_max <= 0.0 {
            return Err(format!(
                "an engine joined the race for request {request} although {} ns of {allowed_ns:.0} were wasted",
                self.wasted_ns
            ));
        }
        Ok(())
    }

    fn keeps(&self, memory_bytes: u64, disk_bytes: u64) -> Result<(), String> {
        for (what, bytes, bytes_max) in
            [("memory", memory_bytes, self.bounds.memory_bytes_max), ("disk", disk_bytes, self.bounds.disk_bytes_max)]
        {
            if bytes > bytes_max {
                return Err(format!("{bytes} bytes are kept in {what}, where {bytes_max} may be"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINE: EngineId = EngineId::new("e");
    const BOUNDS: Bounds = Bounds {
        requests: 2,
        cores: 1,
        memory_bytes_max: 100,
        disk_bytes_max: 200,
        waste_share_max: 0.5,
        waste_ns_free: 10,
    };

    fn arrived(request: u32) -> Event {
        Event::Arrived { request }
    }

    fn answered(request: u32) -> Event {
        Event::Answered { request, engine: ENGINE }
    }

    fn queued(request: u32, function: u32) -> Event {
        Event::Queued { request, function, cost_ns: 1_000_000 }
    }

    fn dequeued(request: u32) -> Event {
        Event::Dequeued { request }
    }

    fn verdict(bounds: Bounds, events: &[Event], used_ns: f64) -> Result<(), Violation> {
        let mut checkers = Checkers::new(bounds);
        for (now_ns, event) in (0..).zip(events) {
            checkers.see(now_ns, event);
        }
        checkers.finish(events.len() as u64, used_ns)
    }

    #[test]
    fn a_good_history_passes() {
        let good = [
            arrived(0),
            Event::Joined { request: 0 },
            Event::Kept { memory_bytes: 100, disk_bytes: 200 },
            arrived(1),
            queued(1, 0),
            Event::Earned { ns: 5 },
            answered(0),
            dequeued(1),
            Event::Rejected { request: 1 },
        ];
        assert_eq!(verdict(BOUNDS, &good, 9.0), Ok(()));
    }

    #[test]
    fn broken_histories_do_not() {
        let all = [arrived(0), arrived(1), answered(0), answered(1)];
        let with = |more: &[Event]| [&all, more].concat();
        let broken: [(&str, Vec<Event>); 11] = [
            ("was lost", all[..3].to_vec()),
            ("was lost", vec![arrived(0), answered(0)]),
            ("was lost", vec![arrived(0), arrived(1), answered(0), queued(1, 0)]),
            ("cannot become Done", with(&[answered(1)])),
            ("cannot become Done", with(&[Event::Rejected { request: 0 }])),
            ("cannot become Here", with(&[arrived(0)])),
            ("cannot become Here", with(&[dequeued(0)])),
            ("there is no request", with(&[arrived(2)])),
            ("kept in memory", with(&[Event::Kept { memory_bytes: 101, disk_bytes: 0 }])),
            ("kept in disk", with(&[Event::Kept { memory_bytes: 0, disk_bytes: 201 }])),
            ("were wasted", with(&[Event::Earned { ns: 10 }, Event::Wasted { ns: 16 }, Event::Joined { request: 0 }])),
        ];
        for (what, events) in broken {
            let violation = verdict(BOUNDS, &events, 0.0).unwrap_err();
            assert!(violation.what.contains(what), "{violation} instead of {what}");
        }
        assert!(verdict(BOUNDS, &all, 1e6).unwrap_err().what.contains("all that the cores have"));
        let frugal = Bounds { waste_share_max: 0.0, ..BOUNDS };
        assert!(verdict(frugal, &with(&[Event::Joined { request: 0 }]), 0.0).is_err());
    }

    #[test]
    fn first_come_first_served_starves_and_is_found_out() {
        // A busy function's hundred requests, and one of another function that came last.
        let requests = 101;
        let bounds = Bounds { requests, ..BOUNDS };
        let count = u32::try_from(requests).unwrap();
        let events = |order: &mut dyn Iterator<Item = u32>| {
            let mut events: Vec<Event> = (0..count).map(arrived).collect();
            events.extend((0..count).map(|request| queued(request, u32::from(request == 100))));
            events.extend(order.flat_map(|request| [dequeued(request), answered(request)]));
            events
        };
        assert!(verdict(bounds, &events(&mut (0..count)), 0.0).unwrap_err().what.contains("starved"));
        let fair = events(&mut [0, 100].into_iter().chain(1..100));
        assert_eq!(verdict(bounds, &fair, 0.0), Ok(()));
    }
}
