//! The requests that come to the host, and their times.

use remuda_scheduler::as_ns;
use std::collections::HashSet;

use rand::RngExt;
use rand_distr::{Distribution, Exp, Normal, Zipf};
use rand_pcg::Pcg64Mcg;

use crate::CostTable;

const S: f64 = 1e9;

/// Functions and their requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// The name, for people.
    pub name: String,
    /// The functions.
    pub functions: Vec<Function>,
    /// Their requests, in the order in which they come.
    pub arrivals: Vec<Arrival>,
    /// Whether each function's next request waits for the answer of the one before.
    pub is_closed: bool,
}

/// A function: its module, and what it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The module's number in the table.
    pub module: u32,
    /// Whether its requests have no side effects.
    pub may_race: bool,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// The time at which it comes, in nanoseconds from the beginning.
    pub at_ns: u64,
    /// The function's number.
    pub function: u32,
    /// The number of the module's case that it is like.
    pub case: u32,
    /// How many times the work of that case it is.
    pub work: f32,
}

/// A source of numbers that the seed determines.
pub(crate) fn random(seed: u64) -> Pcg64Mcg {
    Pcg64Mcg::new(u128::from(seed) << 64 | 0xcafe_f00d_d15e_a5e5)
}

impl Workload {
    /// Each case of each module, called `times` times, one request after the other; cases far apart from each other.
    #[must_use]
    pub fn calls(table: &CostTable, times: usize) -> Self {
        /// Longer than fifty calls of anything take.
        const APART_NS: u64 = 3_600_000_000_000;
        let mut workload = Self {
            name: if times == 1 { "one cold call".into() } else { format!("{times} calls") },
            is_closed: true,
            ..Self::default()
        };
        for (module, cases) in table.modules.iter().enumerate() {
            for case in 0..cases.cases.len() {
                let function = workload.add_function(module, true);
                let at_ns = u64::from(function) * APART_NS;
                let call = Arrival { at_ns, function, case: number(case), work: 1.0 };
                workload.arrivals.extend(std::iter::repeat_n(call, times));
            }
        }
        workload
    }

    /// `requests` that come at random, `per_s` of them a second on average; few functions get most of them.
    #[must_use]
    pub fn poisson(table: &CostTable, functions: usize, requests: usize, per_s: f64, seed: u64) -> Self {
        let mut random = random(seed);
        let mut workload = Self { name: format!("Poisson, {per_s} requests/s"), ..Self::default() };
        workload.add_functions(table, functions, &mut random);
        let popularity = zipf(functions);
        let idle = exponential(S / per_s.max(1e-9));
        let mut now_ns = 0.0;
        for _ in 0..requests {
            now_ns += idle.sample(&mut random);
            let function = as_number(popularity.sample(&mut random) - 1.0);
            workload.add_arrival(table, now_ns, function, &mut random);
        }
        workload
    }

    /// `requests` in bursts: a function is called about twenty times within a second, and then not for minutes.
    #[must_use]
    pub fn bursts(table: &CostTable, functions: usize, requests: usize, seed: u64) -> Self {
        let mut random = random(seed);
        let mut workload = Self { name: "bursts".into(), ..Self::default() };
        workload.add_functions(table, functions, &mut random);
        let (pause, gap) = (exponential(300.0 * S), exponential(0.05 * S));
        let mut left = requests;
        let mut next: Vec<f64> = (0..functions).map(|_| pause.sample(&mut random)).collect();
        while left > 0 && functions > 0 {
            for (function, next_ns) in (0..).zip(&mut next) {
                let burst = as_number(exponential(20.0).sample(&mut random).ceil()).max(1) as usize;
                let burst = burst.min(left);
                for _ in 0..burst {
                    workload.add_arrival(table, *next_ns, function, &mut random);
                    *next_ns += gap.sample(&mut random);
                }
                *next_ns += pause.sample(&mut random);
                left -= burst;
            }
        }
        workload.sorted()
    }

    /// Functions and requests as Shahrad et al. found them on Azure Functions in 2019 (Serverless in the Wild, USENIX
    /// ATC 2020), from what they published of the distributions:
    ///
    /// - 45 % of the functions are called at most once an hour, and 81 % at most once a minute: a log-normal
    ///   distribution of rates, cut to eight orders of magnitude;
    /// - mean durations are log-normal, with a mean of -0.38 and a standard deviation of 2.36 (of the logarithm of
    ///   seconds); of them, `computing_share` is computing;
    /// - 55 % of the functions, and 36 % of the requests, are of HTTP triggers and come at random; of the others, half
    ///   come at fixed times and half in bursts.
    #[must_use]
    pub fn azure_like(table: &CostTable, functions: usize, requests: usize, computing_share: f64, seed: u64) -> Self {
        const DAY_S: f64 = 86_400.0;
        const HTTP_FUNCTIONS: f64 = 0.55;
        const HTTP_REQUESTS: f64 = 0.36;
        let mut random = random(seed);
        let mut workload = Self { name: "Azure Functions' marginals".into(), ..Self::default() };
        // The 45th and the 81st percentile of a normal distribution are 0.126 below and 0.878 above its mean.
        let (hourly, minutely) = (24_f64.log10(), 1_440_f64.log10());
        let deviation = (minutely - hourly) / (0.878 + 0.126);
        // The logarithms of: calls a day, seconds, and how far one call's time is from another's.
        let rate = normal(hourly + 0.126 * deviation, deviation);
        let (duration, spread) = (normal(-0.38, 2.36), normal(0.0, 0.3));

        let mut plans = Vec::new();
        for _ in 0..functions {
            let module = random.random_range(0..table.modules.len());
            let function = workload.add_function(module, true);
            let per_day = 10_f64.powf(rate.sample(&mut random).clamp(-1.0, 7.0));
            let pattern = match random.random::<f64>() {
                p if p < HTTP_FUNCTIONS => Pattern::Random,
                p if p < HTTP_FUNCTIONS.midpoint(1.0) => Pattern::Fixed,
                _ => Pattern::Bursts,
            };
            let run_s = duration.sample(&mut random).exp().min(600.0) * computing_share;
            plans.push(Plan { function, module, idle_ns: DAY_S / per_day * S, pattern, run_ns: run_s * S });
        }
        let total = |of_http: bool, plans: &[Plan]| -> f64 {
            let chosen = plans.iter().filter(|plan| (plan.pattern == Pattern::Random) == of_http);
            chosen.map(|plan| 1.0 / plan.idle_ns).sum()
        };
        let correction = total(true, &plans) * (1.0 - HTTP_REQUESTS) / HTTP_REQUESTS / total(false, &plans).max(1e-300);
        for plan in plans.iter_mut().filter(|plan| plan.pattern != Pattern::Random && correction > 0.0) {
            plan.idle_ns /= correction;
        }
        let end_ns = requests as f64 / (total(true, &plans) + total(false, &plans)).max(1e-300);
        for plan in &plans {
            for at_ns in plan.times(end_ns, &mut random) {
                let run_ns = plan.run_ns * spread.sample(&mut random).exp();
                workload.add_run(table, at_ns, plan.function, plan.module, run_ns);
            }
        }
        workload.sorted()
    }

    /// Adds a function; returns its number.
    pub(crate) fn add_function(&mut self, module: usize, may_race: bool) -> u32 {
        self.functions.push(Function { module: number(module), may_race });
        number(self.functions.len() - 1)
    }

    fn add_functions(&mut self, table: &CostTable, functions: usize, random: &mut Pcg64Mcg) {
        for _ in 0..functions {
            self.add_function(random.random_range(0..table.modules.len()), true);
        }
    }

    /// Adds a request like one of its module's cases: like any of them if the cases differ in the size of their input,
    /// as requests of a function do; always like the same one if they differ in their arguments, which belong to the
    /// function.
    fn add_arrival(&mut self, table: &CostTable, at_ns: f64, function: u32, random: &mut Pcg64Mcg) {
        let module = &table.modules[self.functions[function as usize].module as usize];
        let sizes: HashSet<Option<u64>> = module.cases.iter().map(|case| case.input_bytes).collect();
        let case = if sizes.len() == module.cases.len() {
            random.random_range(0..module.cases.len())
        } else {
            function as usize % module.cases.len()
        };
        let work = random.random_range(0.8..1.25);
        self.arrivals.push(Arrival { at_ns: as_ns(at_ns), function, case: number(case), work });
    }

    /// Adds a request that takes `run_ns` on the fastest engine.
    pub(crate) fn add_run(&mut self, table: &CostTable, at_ns: f64, function: u32, module: usize, run_ns: f64) {
        let module = &table.modules[module];
        let case = module.longest_case();
        let usual_ns = module.execute_ns_min(&module.cases[case]) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a ratio of durations")]
        let work = (run_ns / usual_ns).max(1e-9) as f32;
        self.arrivals.push(Arrival { at_ns: as_ns(at_ns), function, case: number(case), work });
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.arrivals.sort_by_key(|arrival| arrival.at_ns);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    Random,
    Fixed,
    Bursts,
}

struct Plan {
    function: u32,
    module: usize,
    idle_ns: f64,
    pattern: Pattern,
    run_ns: f64,
}

impl Plan {
    /// The times at which requests come, until `end_ns`.
    fn times(&self, end_ns: f64, random: &mut Pcg64Mcg) -> Vec<f64> {
        /// The mean number of requests of a burst.
        const BURST: f64 = 10.0;
        /// How many times closer requests are within a burst than on average.
        const CLOSER: f64 = 100.0;
        let exponential = exponential(self.idle_ns);
        let mut times = Vec::new();
        let mut now_ns = match self.pattern {
            Pattern::Fixed => random.random::<f64>() * self.idle_ns,
            Pattern::Random | Pattern::Bursts => exponential.sample(random),
        };
        while now_ns < end_ns {
            times.push(now_ns);
            now_ns += match self.pattern {
                Pattern::Random => exponential.sample(random),
                Pattern::Fixed => self.idle_ns,
                Pattern::Bursts if random.random::<f64>() < 1.0 / BURST => exponential.sample(random) * BURST,
                Pattern::Bursts => exponential.sample(random) / CLOSER,
            };
        }
        times
    }
}

fn exponential(mean: f64) -> Exp<f64> {
    Exp::new(1.0 / mean.max(1e-9)).expect("a rate is positive")
}

fn normal(mean: f64, deviation: f64) -> Normal<f64> {
    Normal::new(mean, deviation).expect("a deviation is finite")
}

/// The popularity of functions: the more requests a function gets, the fewer functions get as many.
fn zipf(functions: usize) -> Zipf<f64> {
    Zipf::new(functions.max(1) as f64, 1.0).expect("there is a function")
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
fn as_number(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_as_large_as_asked_for_in_order_and_reproducible() {
        let table = CostTable::built_in();
        let makers: [(&str, &dyn Fn(u64) -> Workload, std::ops::Range<usize>); 3] = [
            ("poisson", &|seed| Workload::poisson(&table, 50, 5_000, 100.0, seed), 5_000..5_001),
            ("bursts", &|seed| Workload::bursts(&table, 50, 5_000, seed), 5_000..5_001),
            ("azure", &|seed| Workload::azure_like(&table, 500, 5_000, 0.1, seed), 3_500..6_500),
        ];
        for (name, make, size) in makers {
            let workload = make(7);
            assert!(size.contains(&workload.arrivals.len()), "{name}: {}", workload.arrivals.len());
            assert!(workload.arrivals.is_sorted_by_key(|arrival| arrival.at_ns), "{name}");
            assert_eq!(workload, make(7), "{name}");
            assert_ne!(workload, make(8), "{name}");
        }
    }

    #[test]
    fn the_marginals_are_the_published_ones() {
        let table = CostTable::built_in();
        let workload = Workload::azure_like(&table, 20_000, 300_000, 1.0, 1);
        let end_ns = workload.arrivals.last().unwrap().at_ns as f64;
        let mut counts = vec![0_u32; workload.functions.len()];
        for arrival in &workload.arrivals {
            counts[arrival.function as usize] += 1;
        }
        let busy = counts.iter().filter(|count| f64::from(**count) > end_ns / (60.0 * S)).count();
        let share = busy as f64 / counts.len() as f64;
        assert!((0.12..0.30).contains(&share), "{share} of the functions are called more than once a minute");
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let of_busiest: u32 = counts[..counts.len() / 5].iter().sum();
        assert!(f64::from(of_busiest) > 0.95 * workload.arrivals.len() as f64, "few functions get most requests");
    }
}
