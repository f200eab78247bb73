//! The numbers that deciding, racing and tiering up go by, in one place: what each means and in which unit, where it comes
//! from, and what happens if it is wrong.
//!
//! *Chosen* means that it was set by judgement and kept because tests, the simulator and `remuda characterize` were content
//! with it; nobody has measured how good other values are. Most were set on two cores of an AMD EPYC in the cloud. None of
//! them is a fact of a machine that [`Calibration`](crate::Calibration) measures. What statistics go by (windows, priors,
//! classes of sizes, bins of idle times) stands beside the statistics.

use std::ops::RangeInclusive;
use std::time::Duration;

// Deciding: `policy`.

/// How lucky an engine has to be thought to beat the favourite, to be let begin. In standard deviations of the logarithm.
///
/// Source: chosen. It is 7 of 100 requests of a normal distribution.
/// Nearer to 0, and requests begin on the favourite where a shorter one would have been answered before it is compiled;
/// further away, and interpreters begin requests that they never answer.
pub const LUCK: f64 = -1.5;

/// How much sooner an engine has to begin than the favourite, to be let begin. In nanoseconds.
///
/// Source: what a race costs, which is the waking of another thread and a second instance; chosen at that order.
/// Smaller, and races begin that cannot gain what they cost; larger, and short requests wait for compilers.
pub const HEAD_START_NS: f64 = 250e3;

/// How unlucky a request has to be for us to look again whether another engine would do better. In standard deviations of
/// the logarithm.
///
/// Source: chosen, as far from the middle as [`LUCK`].
/// Smaller, and requests are looked at that are about to end; larger, and those that should be raced are raced late.
pub const BAD_LUCK: f64 = 1.5;

/// The least and the most time that a request is left alone. In nanoseconds.
///
/// Source: a race costs two threads' waking and the neighbourhood of a compiler, and a request that is done by then costs
/// nothing more. The least was 50, 100 and 250 us by turns, and ended at what was best for short guests on two cores.
/// Smaller, and short requests pay for races; larger, and long ones of unknown functions begin on their engine that much
/// later.
pub const LEAVE_ALONE_NS: RangeInclusive<f64> = 250e3..=1e6;

/// For how long a request of which nothing is known is left alone, within [`LEAVE_ALONE_NS`]. As a share of the favourite's
/// preparation.
///
/// Source: chosen (it was 0.02 before).
/// It only matters for modules whose compile takes between 8 and 33 ms; wrong by a factor of two, it moves the beginning of
/// their races by a fraction of a millisecond.
pub const LEAVE_ALONE_SHARE: f64 = 0.03;

/// Requests whose execution is over by then are not looked at again. In nanoseconds.
///
/// Source: arming the clock for a look costs some microseconds, which a request that takes 20 would feel; chosen so that
/// the look costs less than a hundredth where it is kept.
/// Smaller, and short requests pay for a look that does nothing; larger, and one of them that runs away is not raced.
pub const SHORT_NS: f64 = 500e3;

/// How many requests must have been seen for [`SHORT_NS`].
///
/// Source: chosen.
/// Smaller, and a function looks short after one lucky request; larger, and its first requests pay for looks.
pub const KNOWN_MIN: u64 = 3;

/// What a race must be expected to save if something is known of the function. In nanoseconds.
///
/// Source: a race costs about as much; chosen at that order.
/// Smaller, and races begin for gains that are noise; larger, and functions of a millisecond wait for their engine.
pub const RACE_GAIN_NS_MIN: f64 = 300e3;

/// What a compile may take that was never seen, as a multiple of what the module's size says, where nothing can run
/// meanwhile.
///
/// Source: measured: a CPython of 20 MB takes Cranelift 1.9 times as long as its size says.
/// Smaller, and a request waits for a compiler when an engine that is known would have answered by then; larger, and
/// requests stay on a slow engine for longer than they have to.
pub const COMPILE_DOUBT: f64 = 2.0;

/// The least by which an interpreter is slower than native code, for the policy `profile`. A factor.
///
/// Source: the paper's figure 5 and our own tables have it between 5 and 20 for real work; the least, with a margin.
/// Smaller, and an interpreter is tried in vain once per function; larger, and one that would have been best is never
/// tried.
pub const INTERPRETER_SLOWDOWN_MIN: u64 = 3;

// Guessing: `profile` and `features`.

/// What a compile that is under way is expected to take still, at least: a share of all that it was expected to take.
///
/// Source: chosen; compiles on a shared machine are late by about that much.
/// Smaller, and requests wait for compilers that are always about to be done; larger, and they begin anew what was nearly
/// there.
pub const MAKING_UNSURE: f64 = 0.3;

/// How far two engines' speeds may be from their rule on one function: the standard deviation of the logarithm of their
/// ratio.
///
/// Source: measured over the guests of the suite.
/// Smaller, and what one engine did says too much of another; larger, and engines are tried that the rule says are slower.
pub const SIGMA_TRANSFER: f32 = 0.45;

/// Two engines' speeds are not further from their rule than this factor: else it is the requests that differ.
///
/// Source: computed, e to the power of 2 x [`SIGMA_TRANSFER`].
/// It moves with that one.
pub const ALIKE: f64 = 2.46;

/// How many requests on an engine speak for themselves, however far they are from what others say.
///
/// Source: chosen; the median of nine hardly moves by one more.
/// Smaller, and chance makes a slow engine look fast; larger, and an engine that is an exception is believed late.
pub const SPEAK_FOR_THEMSELVES: f32 = 9.0;

/// How much more precise an engine's own observations have to be for the others' not to count. A factor between precisions.
///
/// Source: computed: less than a hundredth of a mean, which saves two logarithms for each candidate of a decision.
/// Smaller, and estimates lose what others know; larger, and a decision takes longer.
pub const NEGLIGIBLE: f64 = 100.0;

/// How uncertain a module is that nobody has run: the standard deviation of the logarithm.
///
/// Source: chosen: such a module may do next to nothing or compute for minutes, so a factor of twenty either way.
/// Smaller, and the first request of a function goes by a guess as if that were knowledge; larger, and every unknown
/// function that may not race begins on the optimising engine.
pub const SIGMA_UNKNOWN: f32 = 3.0;

/// A short request that computes something, on the fastest engine. In nanoseconds.
///
/// Source: chosen, at the short end of the suite's guests.
/// Wrong by a factor of ten, it is within [`SIGMA_UNKNOWN`], and changes where functions that may not race begin.
pub const EXECUTE_GUESS_NS: f64 = 30e3;

/// What a byte of input adds to [`EXECUTE_GUESS_NS`], in nanoseconds: parsing it, or a few operations for each.
///
/// Source: chosen.
/// As [`EXECUTE_GUESS_NS`], for requests with much input.
pub const EXECUTE_GUESS_NS_PER_INPUT_BYTE: f64 = 5.0;

/// Without loops and calls back, each operation runs once: nanoseconds for each byte of code.
///
/// Source: chosen, at the order of one instruction.
/// Modules without loops are small; wrong by a factor of ten, it moves their guess by microseconds.
pub const STRAIGHT_LINE_NS_PER_CODE_BYTE: f64 = 1.0;

// Racing: `race` and `flight`.

/// How far into the tail an engine is made ready on an idle core, in multiples of the time that has passed.
///
/// Source: chosen. By Lindy's law a request that has run for t runs for 32 t with a probability of 3 %.
/// Smaller, and better engines join late; larger, and compilers begin for requests that are about to end.
pub const TAIL: f64 = 32.0;

/// How many standard deviations of what was expected the tail is away.
///
/// Source: chosen; one of ten requests is beyond it, for a normal distribution.
/// As [`TAIL`], of functions that are known.
pub const TAIL_DEVIATIONS: f64 = 1.3;

/// The tail is not more than this multiple of what was expected.
///
/// Source: chosen, so that a guess that is wrong does not call in every engine at once.
/// Smaller, and unknown requests are raced late; larger, and short ones have compilers beside them.
pub const TAIL_MAX: f64 = 200.0;

/// How much better an engine must be, in the usual case, to join where no core is idle. A factor.
///
/// Source: two on one core take twice as long, so that what is not twice as good loses by joining.
/// Smaller, and races slow down their own requests; larger, and requests stay where they are until a core is idle.
pub const DECISIVE: f64 = 2.0;

/// How wrong the rule about two engines' speeds may be for one of them to count as beaten, where its core is wanted. A
/// factor.
///
/// Source: chosen, at about half of [`SIGMA_TRANSFER`].
/// Smaller, and engines are stopped that would have won; larger, and better ones wait for their core.
pub const BEATEN_MARGIN: f64 = 1.3;

/// And where its core is not wanted.
///
/// Source: [`SIGMA_TRANSFER`], one standard deviation (it was 2 before).
/// Smaller, and engines are stopped that would have won; larger, and more is wasted.
pub const BEATEN_MARGIN_IDLE: f64 = 1.5;

/// Where its core is wanted, a racer that would only win if it ended within this much more work has lost, too. A factor of
/// the work done.
///
/// Source: by Lindy's law it does so once in eight times, and saves little then.
/// Smaller, and an interpreter that goes nowhere keeps the core that a compiler could have; larger, and it is stopped just
/// before it ends.
pub const NEARLY_DONE: f64 = 1.15;

/// How long to wait before asking again who joins and who leaves: a quarter of the time that has passed, within these
/// bounds. In nanoseconds.
///
/// Source: chosen; the least was 50 us before, and looking costs a core that it wakes on.
/// Smaller, and looking disturbs who is raced; larger, and engines join late, by a quarter of what has passed at most.
pub const WAIT_NS: RangeInclusive<u64> = 200_000..=20_000_000;

/// The most between two looks at a flight, in nanoseconds: so that [`HOLD_NS`] is kept to within a tenth.
///
/// Source: computed from [`HOLD_NS`].
/// Larger, and output is held back for longer than is said.
pub const LOOK_EVERY_NS_MAX: u64 = HOLD_NS / 10;

/// How long output to the host's own streams, or a wish to read from them, is held back at most. In nanoseconds.
///
/// Source: people begin to notice after that (the customary figure of human-computer interaction).
/// Smaller, and races are decided by a guess that would soon have been settled; larger, and a command looks stuck.
pub const HOLD_NS: u64 = 100_000_000;

/// The same for output, as long as an engine gets ready that would overtake a long request. In nanoseconds.
///
/// Source: chosen, below what a command takes to compile a large module with an optimizing compiler before it writes anything.
/// Smaller, and a long request stays on an interpreter for good because it has written something (sqlite3 of Sightglass: 31 s
/// instead of 5); larger, and a command that is stuck in its compiler looks stuck.
pub const HOLD_UNREADY_NS: u64 = 5_000_000_000;

/// Whoever is to look at a request so soon is sent at once, and waits. In nanoseconds.
///
/// Source: waking a thread takes long where all cores are busy by then: up to a time slice of Linux, some milliseconds.
/// Smaller, and looks come late on busy cores; larger, and a thread is woken for requests that end before it looks.
pub const EARLY_NS: u64 = 2_000_000;

/// What may be wasted before anything was earned, and the most that can be saved up. In nanoseconds on a core.
///
/// Source: chosen.
/// Smaller, and a host that has just started does not race; larger, and a wave of long unknown requests may keep all cores
/// busy in vain for longer.
pub const SAVED_NS_MAX: f64 = 10e9;

// Between requests: `tier_up` and `prewarm`.

/// How far ahead requests are counted on. In nanoseconds.
///
/// Source: chosen.
/// Smaller, and busy functions wait until they have lost what a compile costs; larger, and compiles are begun for bursts
/// that are over.
pub const HORIZON_NS: u64 = 10_000_000_000;

/// How many times its price an engine must be expected to gain within [`HORIZON_NS`] to be made ready at once, where every
/// core is wanted.
///
/// Source: chosen; the price is counted twice on a busy host already.
/// Smaller, and compiles slow down requests for what may not come; larger, and functions stay slow until they have lost
/// it all.
pub const EXPECTED_MARGIN_BUSY: f64 = 2.0;

/// And where the price is time on a core that nobody else wants: then being late costs more than having been wrong.
///
/// Source: chosen, by fifty calls of each guest on two cores.
/// Smaller, and more is compiled that is never run; larger, and the first calls of a function are slower.
pub const EXPECTED_MARGIN_IDLE: f64 = 0.5;

/// What a request must lose for [`EXPECTED_MARGIN_IDLE`]. In nanoseconds.
///
/// Source: of very short ones most is what a call costs anyway, on whatever engine, and their neighbourhood feels a compile;
/// chosen at a few times the call of an empty function.
/// Smaller, and compiles disturb functions that gain nothing by them; larger, and short functions are late on native code.
pub const IDLE_LOSS_NS_MIN: f64 = 50e3;

/// What a function's first request takes beyond later ones whoever runs it. In nanoseconds.
///
/// Source: memory that is touched for the first time, and functions that an interpreter translates; chosen at the order
/// that the suite's guests show.
/// Smaller, and a first request counts as a loss that no engine would have saved; larger, and real losses are missed once.
pub const COLD_NS: f64 = 250e3;

/// What a new request weighs in the average of losses, between 0 and 1.
///
/// Source: chosen.
/// Smaller, and a function whose requests have got longer is noticed late; larger, and one odd request decides.
pub const MEAN_WEIGHT: f64 = 0.25;

/// Runs of a module that are counted on after a single call of a process; more if it has had more.
///
/// Source: chosen: what is run once from a command line is mostly run again, and a compile at the lowest priority takes
/// nothing from anybody but energy.
/// Smaller, and a module comes to its best engine later; larger, and more is compiled that is never run.
pub const RUNS_AHEAD_MIN: u64 = 20;

/// What a module that has only run once must have lost for a process to be left behind. In nanoseconds.
///
/// Source: starting one holds the answer's process up by 1.5 ms (measured), which nobody should feel after a run of some
/// milliseconds that may never be repeated; chosen at twenty times that.
/// Smaller, and short runs are held up; larger, and a module is on its best engine some runs later.
pub const FIRST_LOSS_NS_MIN: f64 = 30e6;

/// The least time between two looks at what a function's next request will want. In nanoseconds.
///
/// Source: what is called more often than that stays in memory by its use.
/// Smaller, and looking costs time; larger, and what comes every few seconds is loaded late.
pub const PREWARM_LOOK_AGAIN_NS: u64 = 1_000_000_000;

/// The time from a function's request to the look at what the next one will want. In nanoseconds.
///
/// Source: right behind a request there is nothing to do: what it ran on is in memory; and its answer, or the next request,
/// may want the core. Chosen.
/// Smaller, and looks disturb requests; larger, and what is called again sooner is not made ready.
pub const PREWARM_LOOK_AFTER_NS: u64 = 50_000_000;

/// About how long a request of a function that was never called keeps its thread, for the fair queue. In nanoseconds.
///
/// Source: chosen, in the middle of the suite's guests on a logarithmic scale.
/// Wrong by a factor, and a new function's first request waits that much longer or less than its share.
pub const USUAL_NS: u64 = 1_000_000;

/// How many times as long as expected getting ready for an expected request may take and be done in time.
///
/// Source: chosen.
/// Smaller, and artifacts come late; larger, and they take memory for longer.
pub const PREWARM_MARGIN: u64 = 2;

// Moving.

/// The least and the most time after which somebody looks where a request is that is moving, or has moved; a sixteenth of
/// the time that it has taken, between them.
///
/// Source: chosen; looking takes a microsecond. Smaller, and a core is woken for nothing; larger, and a guest that has come
/// back is in slow code that much longer.
pub const MOVING_LOOK: RangeInclusive<Duration> = Duration::from_micros(250)..=Duration::from_millis(10);

/// How long a guest has to be back where it began before it is moved again.
///
/// Source: chosen, as long as asking all points that it comes to takes. Smaller, and guests that come and go are looked at
/// for nothing; larger, and those that have come to new code stay in slow code that much longer.
pub const MOVING_HOME_MIN: Duration = Duration::from_micros(500);

/// How long a request must have taken to be helped to move where no core is idle.
///
/// Source: chosen, at some times what a one-pass compiler takes for a part. Smaller, and compilers take cores from requests
/// for guests that are about to end; larger, and long requests stay in slow code longer.
pub const MOVING_BUSY_MIN: Duration = Duration::from_millis(10);

/// How long a request must have taken for its whole module to be compiled for it.
///
/// Source: measured: a request of 2.5 ms took 1 ms longer beside a compiler that began after one. Smaller, and short requests
/// feel it; larger, and long ones have somewhere to go that much later, of the 10 to 30 ms that the compile takes.
pub const MOVING_WHOLE_MIN: Duration = Duration::from_millis(3);

/// How long a guest that could move is waited for to begin, before its request is raced.
///
/// Source: chosen; an interpreter begins within a millisecond, unless its module is large. Smaller, and a second engine
/// compiles for a request that was about to move; larger, and what begins late is raced late.
pub const MOVING_BEGIN_MAX: Duration = Duration::from_millis(3);

/// Tries after which a guest has to be away for half of the time: else there is nothing more to try.
///
/// Source: chosen. The first ones are for loops that may be over when their part is ready. Fewer, and programs of a few phases
/// are given up; more, and cores work for programs that no part helps.
pub const MOVING_TRIES_FREE: usize = 6;

/// The same, where the whole module is being made or there, and where there will be none: who makes a part meanwhile takes the
/// core of who makes the whole, and a guest that parts do not help is raced.
///
/// Source: chosen: many programs fill their memory first, and then have one place where the time goes by. Fewer, and these wait
/// for the whole module; more, and programs of many short phases do.
pub const MOVING_TRIES_BESIDE_WHOLE: usize = 2;

/// How often one request is tried to be moved, at most: each time takes a core for some milliseconds.
///
/// Source: chosen. Fewer, and long requests of many phases stay in slow code; more, and cores work for what no part helps.
pub const MOVING_TRIES_MAX: usize = 24;

/// How often in a row it may be in vain to look for where a guest is that is where it began.
///
/// Source: chosen. A guest whose memory grows comes to no point for some milliseconds. Fewer, and such a one is raced; more, and
/// one that waits for something, or that cannot leave the loop that it is in, is raced late.
pub const MOVING_IN_VAIN_MAX: usize = 3;

/// The share of its time that a guest may be in slower code without anybody minding.
///
/// Source: chosen. Smaller, and compilers work for what hardly matters; larger, and guests that come and go, a microsecond in a
/// part and as much where they began, stay like that.
pub const MOVING_SHARE_MIN: f64 = 0.25;

/// From which share of the whole module's code on a hot part is not made if the whole is being made anyway.
///
/// Source: chosen. Smaller, and guests wait for the whole in slow code; larger, and the whole is late for nothing.
pub const MOVING_WHOLE_SHARE_MIN: f64 = 0.33;

/// How long the best compiler may take for a part's code, as a multiple of the time that the guest has been in the other
/// compiler's code since that was ready.
///
/// Source: chosen: a guest that has been somewhere for a while will most likely stay for as long again, and half of the most
/// frequent points are most of that. Smaller, and guests stay in unoptimised code longer; larger, and the compiler is busy with
/// one place when the guest has come to the next.
pub const MOVING_BETTER_PER_STAY: f64 = 2.0;

/// How much longer a request has to have taken before it is looked at once more for the best compiler, if it was in vain. A
/// factor.
///
/// Source: chosen. Smaller, and a core is woken for nothing; larger, and a guest stays in unoptimised code that much longer.
pub const MOVING_BEST_AGAIN: f64 = 1.25;

/// After which time a guest that is where it began is looked at once more before a part is made for the place: what it has left
/// by then is not worth one.
///
/// Source: measured: whole processes of 48 guests took 5 % less time (geometric mean) with it, the same for 0.3, 0.7 and 1.2 ms,
/// and 3 % more for 2 ms. Many programs first fill or copy memory for a millisecond, and a part takes 3. Smaller, and parts are
/// made for places that guests pass; larger, and all parts are later.
pub const MOVING_CONFIRM: Duration = Duration::from_micros(300);

/// How often a guest may have passed a place before it is taken as it comes.
///
/// Source: chosen. Fewer, and parts are made for places that guests pass; more, and one that is nowhere for long is looked at
/// that often, which takes a tenth of its time, before it is helped.
pub const MOVING_PASSED_MAX: usize = 16;

/// How long a guest that was offered the whole module may stay where it is before it is raced.
///
/// Source: chosen: some times what a guest takes that asks seldom because it asked in vain. Smaller, and guests are raced that
/// are about to leave; larger, and those that never do are raced that much later.
pub const MOVING_SETTLE_MAX: Duration = Duration::from_millis(10);
