//! Hindsight, as the yardstick: what a chooser would do that knows every cost and every request to come.
//!
//! The oracle does exactly this. A request runs, alone, on the engine that would answer it first if it had a core to
//! itself, given what is in memory, on disk or in the making at this moment, and the true costs. And with each request,
//! an engine is made ready in the background: the one that saves the function's later requests the most time over what
//! will be ready anyway, if it saves any and a core is idle, or more than its compile takes if none is. The oracle uses
//! the same cores, workers, compilers and budgets as the others, waits in the same queues, and wastes nothing on races,
//! as it knows which engine would win.
//!
//! The oracle is not a lower bound: it decides request by request, so that under load, where one request's gain is
//! another's wait, a policy may now and then do better.

use crate::{CostTable, Workload};

/// The requests to come, function by function.
pub(crate) struct Oracle {
    functions: Vec<Future>,
    is_closed: bool,
}

/// The requests of a function.
#[derive(Default)]
struct Future {
    at_ns: Vec<u64>,
    /// For each engine, and each request, the time that this request and all after it take, in nanoseconds.
    rest_ns: Vec<Vec<f64>>,
}

/// An engine in the oracle's eyes.
pub(crate) struct Option_ {
    /// The time until it is ready, in nanoseconds; `None` for an engine that cannot run the function.
    pub(crate) ready_ns: Option<f64>,
    /// Whether it is ready, or will be without a further decision.
    pub(crate) is_coming: bool,
}

impl Oracle {
    pub(crate) fn new(table: &CostTable, workload: &Workload) -> Self {
        let mut functions: Vec<Future> = workload.functions.iter().map(|_| Future::default()).collect();
        for future in &mut functions {
            future.rest_ns = vec![Vec::new(); table.engines.len()];
        }
        for arrival in &workload.arrivals {
            let future = &mut functions[arrival.function as usize];
            future.at_ns.push(arrival.at_ns);
            for (engine, rest_ns) in future.rest_ns.iter_mut().enumerate() {
                rest_ns.push(run_ns(table, workload, arrival, engine).unwrap_or(0.0));
            }
        }
        for rest_ns in functions.iter_mut().flat_map(|future| &mut future.rest_ns) {
            let mut sum = 0.0;
            for ns in rest_ns.iter_mut().rev() {
                sum += *ns;
                *ns = sum;
            }
        }
        Self { functions, is_closed: workload.is_closed }
    }

    /// The engine to be made ready in the background, beside `chosen` for the request `nth` of `function`, and what
    /// that saves in nanoseconds.
    pub(crate) fn tier_up(
        &self,
        function: u32,
        nth: usize,
        chosen: usize,
        options: &[Option_],
        now_ns: u64,
        is_idle: bool,
    ) -> Option<(usize, f64)> {
        let future = &self.functions[function as usize];
        let rest = |engine: usize, from: usize| future.rest_ns[engine].get(from).copied().unwrap_or(0.0);
        let gains = options.iter().enumerate().filter_map(|(engine, option)| {
            let price_ns = option.ready_ns.filter(|_| !option.is_coming && engine != chosen)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "durations are not negative")]
            let ready_at_ns = now_ns + price_ns as u64;
            let from = if self.is_closed {
                nth + 1
            } else {
                future.at_ns.partition_point(|at_ns| *at_ns < ready_at_ns).max(nth + 1)
            };
            let anyway = |other: &usize| *other == chosen || options[*other].is_coming;
            let without_ns =
                (0..options.len()).filter(anyway).map(|other| rest(other, from)).fold(f64::INFINITY, f64::min);
            let gain_ns = without_ns - rest(engine, from);
            (gain_ns > if is_idle { 0.0 } else { price_ns }).then_some((engine, gain_ns))
        });
        gains.max_by(|(_, a), (_, b)| a.total_cmp(b))
    }
}

/// How long a request takes on an engine that is ready, in nanoseconds; `None` if the engine cannot run it.
pub(crate) fn run_ns(table: &CostTable, workload: &Workload, arrival: &crate::Arrival, engine: usize) -> Option<f64> {
    let module = &table.modules[workload.functions[arrival.function as usize].module as usize];
    let cost = module.engines[engine]?;
    let execute_ns = module.cases[arrival.case as usize].execute_ns[engine] as f64 * f64::from(arrival.work);
    Some(cost.instantiate_ns as f64 + execute_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(ready_ns: f64, is_coming: bool) -> Option_ {
        Option_ { ready_ns: Some(ready_ns), is_coming }
    }

    #[test]
    fn what_future_requests_will_pay_back_is_compiled() {
        let table = CostTable::from_json(
            br#"{"schema":1,"source":"s","engines":[{"id":"slow","tier":"interpreter"},{"id":"fast","tier":"optimizing"}],
            "modules":[{"name":"m","code_bytes":1,"functions":1,"loops":0,"engines":{
            "slow":{"compile_ns":0,"instantiate_ns":0,"artifact_bytes":1},
            "fast":{"compile_ns":100,"instantiate_ns":0,"artifact_bytes":1}},
            "cases":[{"name":"c","execute_ns":{"slow":50,"fast":10}}]}]}"#,
        )
        .unwrap();
        let mut workload = Workload::default();
        workload.add_function(0, true);
        for at_ns in [0, 200, 400, 600] {
            workload.arrivals.push(crate::Arrival { at_ns, function: 0, case: 0, work: 1.0 });
        }
        let oracle = Oracle::new(&table, &workload);
        let tier_up = |nth, now_ns, is_idle| {
            let options = [option(0.0, true), option(100.0, false)];
            oracle.tier_up(0, nth, 0, &options, now_ns, is_idle).map(|(engine, _)| engine)
        };
        assert_eq!(tier_up(0, 0, false), Some(1), "three requests save 120");
        assert_eq!(tier_up(1, 200, false), None, "two save 80");
        assert_eq!(tier_up(1, 200, true), Some(1), "which an idle core has to give");
        assert_eq!(tier_up(3, 600, true), None, "nobody comes any more");
        assert_eq!(tier_up(2, 550, true), None, "it would be too late");
    }
}
