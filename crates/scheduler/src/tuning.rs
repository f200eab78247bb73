//! The numbers by which the scheduler decides, races and tiers up, in one place. Each has its meaning and unit, its
//! source, and what happens if it is wrong.
//!
//! *Chosen* means that the value was set by judgement and kept because tests, the simulator and `remuda characterize`
//! were content with it; nobody has measured how good other values are. Most were set on two cores of an AMD EPYC in
//! the cloud. None of them is a property of a machine that [`Calibration`](crate::Calibration) measures. The constants
//! of the statistics (windows, priors, classes of sizes, bins of idle times) stand beside the statistics.

use std::ops::RangeInclusive;
use std::time::Duration;

// Deciding: `policy`.

/// How lucky a request is assumed to be when the engine that can begin first is compared with the favourite: it may
/// begin if it would then answer first. In standard deviations of the logarithm.
///
/// Source: chosen. In a normal distribution, 7 of 100 requests are at least that lucky.
/// Nearer to 0, and requests begin on the favourite although a short one would have been answered before the favourite
/// is compiled; further away, and interpreters begin requests that they never answer.
pub const LUCK: f64 = -1.5;

/// How much sooner than the favourite an engine has to begin, to be allowed to. In nanoseconds.
///
/// Source: the cost of a race, which is the waking of another thread and a second instance; chosen at that order.
/// Smaller, and races begin that cannot gain what they cost; larger, and short requests wait for compilers.
pub const HEAD_START_NS: f64 = 250e3;

/// How unlucky a request has to be before we look again whether another engine would do better. In standard deviations
/// of the logarithm.
///
/// Source: chosen, as far from the middle as [`LUCK`].
/// Smaller, and requests are looked at that are about to end; larger, and requests that should be raced are raced late.
pub const BAD_LUCK: f64 = 1.5;

/// The least and the most time that a request is left alone before anybody looks at it. In nanoseconds.
///
/// Source: a race wakes two threads and puts a compiler beside the request, and a request that ends before the first
/// look costs nothing more. The least was 50, 100 and 250 us by turns; the value was kept that was best for short
/// guests on two cores.
/// Smaller, and short requests pay for races; larger, and long requests of unknown functions begin on their engine that
/// much later.
pub const LEAVE_ALONE_NS: RangeInclusive<f64> = 250e3..=1e6;

/// How long a request of which nothing is known is left alone, within [`LEAVE_ALONE_NS`]. As a share of the time that
/// the favourite takes to get ready.
///
/// Source: chosen (it was 0.02 before).
/// It only matters for modules whose compile takes between 8 and 33 ms: if it is wrong by a factor of two, their races
/// begin a fraction of a millisecond too early or too late.
pub const LEAVE_ALONE_SHARE: f64 = 0.03;

/// Requests whose execution should be over within this time are not looked at again. In nanoseconds.
///
/// Source: arming the clock for a look costs some microseconds, which a request of 20 us would feel; chosen so that the
/// look costs less than a hundredth of the requests for which it is kept.
/// Smaller, and short requests pay for a look that does nothing; larger, and a short request that runs away is not
/// raced.
pub const SHORT_NS: f64 = 500e3;

/// How many requests of a function must have been seen before [`SHORT_NS`] applies.
///
/// Source: chosen.
/// Smaller, and a function looks short after one lucky request; larger, and its first requests pay for looks.
pub const KNOWN_MIN: u64 = 3;

/// How much time a race must be expected to save if something is known of the function. In nanoseconds.
///
/// Source: a race costs about as much; chosen at that order.
/// Smaller, and races begin for gains that are noise; larger, and functions of a millisecond wait for their engine.
pub const RACE_GAIN_NS_MIN: f64 = 300e3;

/// How long a compile that was never seen may take, as a multiple of what the module's size says, where nothing can run
/// meanwhile.
///
/// Source: measured: a CPython of 20 MB takes Cranelift 1.9 times as long as its size says.
/// Smaller, and a request waits for a compiler although a known engine would have answered by then; larger, and
/// requests stay on a slow engine for longer than they have to.
pub const COMPILE_DOUBT: f64 = 2.0;

/// The least factor by which an interpreter is slower than native code, for the policy `profile`.
///
/// Source: the factor is between 5 and 20 for real work in the paper's figure 5 and in our own tables; this is the
/// least of them, with a margin.
/// Smaller, and an interpreter is tried in vain once per function; larger, and an interpreter that would have been best
/// is never tried.
pub const INTERPRETER_SLOWDOWN_MIN: u64 = 3;

// Guessing: `profile` and `features`.

/// The least time that a compile under way is expected to take still: a share of all that it was expected to take.
///
/// Source: chosen; compiles on a shared machine are late by about that much.
/// Smaller, and requests wait for compilers that always seem about to be done; larger, and requests begin anew what was
/// nearly done.
pub const MAKING_UNSURE: f64 = 0.3;

/// How far two engines' speeds on one function may be from their usual ratio: the standard deviation of the logarithm
/// of that ratio.
///
/// Source: measured over the guests of the suite.
/// Smaller, and one engine's times say too much of another; larger, and engines are tried that should be slower by the
/// usual ratio.
pub const SIGMA_TRANSFER: f32 = 0.45;

/// The largest factor by which two engines' speeds differ from their usual ratio: if they seem to differ more, it is
/// the requests that differ.
///
/// Source: computed, e to the power of 2 x [`SIGMA_TRANSFER`].
/// If [`SIGMA_TRANSFER`] is wrong, this is wrong with it.
pub const ALIKE: f64 = 2.46;

/// After how many requests on an engine their times are believed, however far they are from what other engines' times
/// say.
///
/// Source: chosen; the median of nine hardly moves by one more.
/// Smaller, and chance makes a slow engine look fast; larger, and an engine that is an exception is believed late.
pub const SPEAK_FOR_THEMSELVES: f32 = 9.0;

/// How much more precise an engine's own observations have to be for those of other engines not to count. A factor
/// between precisions.
///
/// Source: computed: the others would have less than a hundredth of the weight in a mean, and leaving them out saves
/// two logarithms for each candidate of a decision.
/// Smaller, and estimates lose what is known from other engines; larger, and a decision takes longer.
pub const NEGLIGIBLE: f64 = 100.0;

/// How uncertain the execution time is of a module that nobody has run: the standard deviation of the logarithm.
///
/// Source: chosen: such a module may do next to nothing or compute for minutes, so a factor of twenty either way.
/// Smaller, and the first request of a function is decided by a guess as if that were knowledge; larger, and every
/// unknown function that may not race begins on the optimising engine.
pub const SIGMA_UNKNOWN: f32 = 3.0;

/// How long a short request that computes something takes on the fastest engine. In nanoseconds.
///
/// Source: chosen, at the short end of the suite's guests.
/// A value that is wrong by a factor of ten is within [`SIGMA_UNKNOWN`], and changes where functions that may not race
/// begin.
pub const EXECUTE_GUESS_NS: f64 = 30e3;

/// What a byte of input adds to [`EXECUTE_GUESS_NS`], in nanoseconds: parsing it, or a few operations on it.
///
/// Source: chosen.
/// If it is wrong: as [`EXECUTE_GUESS_NS`], for requests with much input.
pub const EXECUTE_GUESS_NS_PER_INPUT_BYTE: f64 = 5.0;

/// How long a byte of code takes where there are no loops and no recursion, so that each operation runs once. In
/// nanoseconds.
///
/// Source: chosen, at the order of one instruction.
/// Modules without loops are small: a value that is wrong by a factor of ten moves their guess by microseconds.
pub const STRAIGHT_LINE_NS_PER_CODE_BYTE: f64 = 1.0;

// Racing: `race` and `flight`.

/// The duration in the tail for which engines are made ready on idle cores, in multiples of the time that the request
/// has run.
///
/// Source: chosen. By Lindy's law a request that has run for t runs for 32 t with a probability of 3 %.
/// Smaller, and better engines join late; larger, and compilers begin for requests that are about to end.
pub const TAIL: f64 = 32.0;

/// How many standard deviations the tail lies beyond what was expected.
///
/// Source: chosen; in a normal distribution, one of ten requests is beyond it.
/// If it is wrong: as [`TAIL`], for functions that are known.
pub const TAIL_DEVIATIONS: f64 = 1.3;

/// The largest multiple of what was expected at which the tail lies.
///
/// Source: chosen, so that a guess that is wrong does not call in every engine at once.
/// Smaller, and unknown requests are raced late; larger, and short ones have compilers beside them.
pub const TAIL_MAX: f64 = 200.0;

/// By which factor an engine must be better, in the usual case, to join where no core is idle.
///
/// Source: two racers on one core take twice as long, so that an engine that is not twice as good loses by joining.
/// Smaller, and races slow down their own requests; larger, and requests stay on their engine until a core is idle.
pub const DECISIVE: f64 = 2.0;

/// By which factor the usual ratio of two engines' speeds may be wrong while one of the two still counts as beaten,
/// where its core is wanted.
///
/// Source: chosen, at about half of [`SIGMA_TRANSFER`].
/// Smaller, and engines are stopped that would have won; larger, and better engines wait for a core.
pub const BEATEN_MARGIN: f64 = 1.3;

/// The same as [`BEATEN_MARGIN`], where the core of the beaten engine is not wanted.
///
/// Source: [`SIGMA_TRANSFER`], one standard deviation (it was 2 before).
/// Smaller, and engines are stopped that would have won; larger, and more is wasted.
pub const BEATEN_MARGIN_IDLE: f64 = 1.5;

/// Where its core is wanted, a racer has also lost if it would only win by ending within this much more work. A factor
/// of the work done.
///
/// Source: by Lindy's law a request ends that soon once in eight times, and little is saved then.
/// Smaller, and an interpreter that gets nowhere keeps the core that a compiler could have; larger, and it is stopped
/// just before it ends.
pub const NEARLY_DONE: f64 = 1.15;

/// How long the looker waits before it asks again which engines join and leave: a quarter of the time that has passed,
/// within these bounds. In nanoseconds.
///
/// Source: chosen; the least was 50 us before, and each look takes time on the core on which the looker wakes.
/// Smaller, and looks disturb the racers; larger, and engines join late, by a quarter of what has passed at most.
pub const WAIT_NS: RangeInclusive<u64> = 200_000..=20_000_000;

/// The most time between two looks at a flight, in nanoseconds, so that [`HOLD_NS`] is kept to within a tenth.
///
/// Source: computed from [`HOLD_NS`].
/// Larger, and output is held back for longer than is said.
pub const LOOK_EVERY_NS_MAX: u64 = HOLD_NS / 10;

/// The longest time for which output to the host's own streams, or a wish to read from them, is held back. In
/// nanoseconds.
///
/// Source: people begin to notice a delay after that (the customary figure of human-computer interaction).
/// Smaller, and races are decided by a guess although they would soon have been settled; larger, and a command looks
/// stuck.
pub const HOLD_NS: u64 = 100_000_000;

/// The same as [`HOLD_NS`] for output, as long as an engine gets ready that would overtake on a long request. In
/// nanoseconds.
///
/// Source: chosen, below what a command takes to compile a large module with an optimizing compiler before it writes
/// anything.
/// Smaller, and a long request stays on an interpreter for good because it has written something (sqlite3 of
/// Sightglass: 31 s instead of 5); larger, and a command that is stuck in its compiler looks stuck.
pub const HOLD_UNREADY_NS: u64 = 5_000_000_000;

/// If a request is to be looked at within this time, the looker is sent at once, and waits. In nanoseconds.
///
/// Source: waking a thread takes long where all cores are busy by then: up to a time slice of Linux, some milliseconds.
/// Smaller, and looks come late on busy cores; larger, and a thread is woken for requests that end before it looks.
pub const EARLY_NS: u64 = 2_000_000;

/// How much time may be wasted before any was earned, and the most that can be saved up. In nanoseconds on a core.
///
/// Source: chosen.
/// Smaller, and a host that has just started does not race; larger, and a wave of long unknown requests may keep all
/// cores busy in vain for longer.
pub const SAVED_NS_MAX: f64 = 10e9;

// Between requests: `tier_up` and `prewarm`.

/// How far ahead the scheduler counts on requests. In nanoseconds.
///
/// Source: chosen.
/// Smaller, and busy functions wait until they have lost what a compile costs; larger, and compiles are begun for
/// bursts that are over.
pub const HORIZON_NS: u64 = 10_000_000_000;

/// How many times its price an engine must be expected to gain within [`HORIZON_NS`] to be made ready at once, where
/// every core is wanted.
///
/// Source: chosen; on a busy host the price is counted twice already.
/// Smaller, and compiles slow down requests for a gain that may not come; larger, and functions stay slow until they
/// have lost the whole price.
pub const EXPECTED_MARGIN_BUSY: f64 = 2.0;

/// The same as [`EXPECTED_MARGIN_BUSY`], where the price is time on a core that nobody else wants: there, being late
/// costs more than being wrong.
///
/// Source: chosen, by fifty calls of each guest on two cores.
/// Smaller, and more code is compiled that is never run; larger, and the first calls of a function are slower.
pub const EXPECTED_MARGIN_IDLE: f64 = 0.5;

/// How much a request must lose on average for [`EXPECTED_MARGIN_IDLE`] to apply. In nanoseconds.
///
/// Source: most of a very short request is what a call costs anyway, on any engine, and short requests feel a compile
/// beside them; chosen at a few times the call of an empty function.
/// Smaller, and compiles disturb functions that gain nothing by them; larger, and short functions come to native code
/// late.
pub const IDLE_LOSS_NS_MIN: f64 = 50e3;

/// How much longer than later ones a function's first request takes, on any engine. In nanoseconds.
///
/// Source: memory that is touched for the first time, and functions that an interpreter translates; chosen at the order
/// that the suite's guests show.
/// Smaller, and what a first request takes longer counts as a loss although no engine would have saved it; larger, and
/// real losses are missed once.
pub const COLD_NS: f64 = 250e3;

/// The weight of a new request in the average of losses, between 0 and 1.
///
/// Source: chosen.
/// Smaller, and a function whose requests have got longer is noticed late; larger, and one odd request decides.
pub const MEAN_WEIGHT: f64 = 0.25;

/// How many runs of a module are counted on after a process with a single call; as many as it has had, if those are
/// more.
///
/// Source: chosen: what is run once from a command line is mostly run again, and a compile at the lowest priority takes
/// nothing from anybody but energy.
/// Smaller, and a module comes to its best engine later; larger, and more code is compiled that is never run.
pub const RUNS_AHEAD_MIN: u64 = 20;

/// How much the next run of a module that has only run once must gain for a process to be left behind that compiles. In
/// nanoseconds.
///
/// Source: starting that process holds up the one with the answer by 1.5 ms (measured), which nobody should feel after
/// a run of some milliseconds that may never be repeated; chosen at twenty times that.
/// Smaller, and short runs are held up; larger, and a module is on its best engine some runs later.
pub const FIRST_LOSS_NS_MIN: f64 = 30e6;

/// The least time between two looks at what a function's next request will need. In nanoseconds.
///
/// Source: a function that is called more often than that stays in memory by its use.
/// Smaller, and looking costs time; larger, and a function that is called every few seconds is loaded late.
pub const PREWARM_LOOK_AGAIN_NS: u64 = 1_000_000_000;

/// The time from a function's request to the look at what the next one will need. In nanoseconds.
///
/// Source: right after a request there is nothing to do: the artifact that it ran on is in memory; and its answer, or
/// the next request, may want the core. Chosen.
/// Smaller, and looks disturb requests; larger, and a function that is called again sooner is not made ready.
pub const PREWARM_LOOK_AFTER_NS: u64 = 50_000_000;

/// About how long a request of a function that was never called keeps its thread, for the fair queue. In nanoseconds.
///
/// Source: chosen, in the middle of the suite's guests on a logarithmic scale.
/// If it is wrong by a factor, a new function's first request waits that much longer or less than its share.
pub const USUAL_NS: u64 = 1_000_000;

/// How many times as long as expected the preparation for an expected request may take and still be done in time.
///
/// Source: chosen.
/// Smaller, and artifacts come late; larger, and they take memory for longer.
pub const PREWARM_MARGIN: u64 = 2;

// Moving.

/// The least and the most time between two looks at a request whose guest moves, or has moved. Between these bounds it
/// is a sixteenth of the time that the request has taken.
///
/// Source: chosen; looking takes a microsecond. Smaller, and a core is woken for nothing; larger, and a guest that has
/// come back is in slow code that much longer.
pub const MOVING_LOOK: RangeInclusive<Duration> = Duration::from_micros(250)..=Duration::from_millis(10);

/// The least time over which it is judged in whose code a guest is, before it is moved again.
///
/// Source: chosen, as long as it takes to ask all points that the guest comes to. Smaller, and guests that come and go
/// are looked at for nothing; larger, and guests that have come to new code stay in slow code that much longer.
pub const MOVING_HOME_MIN: Duration = Duration::from_micros(500);

/// How long a request must have taken before its guest is helped to move where no core is idle.
///
/// Source: chosen, at several times what a one-pass compiler takes for a part. Smaller, and compilers take cores from
/// requests for guests that are about to end; larger, and long requests stay in slow code longer.
pub const MOVING_BUSY_MIN: Duration = Duration::from_millis(10);

/// How long a request must have taken before its whole module is compiled for it.
///
/// Source: measured: a request of 2.5 ms took 1 ms longer beside a compiler that began after 1 ms. Smaller, and short
/// requests feel the compiler; larger, and guests of long requests have somewhere to go that much later, on top of the
/// 10 to 30 ms that the compile takes.
pub const MOVING_WHOLE_MIN: Duration = Duration::from_millis(3);

/// How long a guest that could move may take to begin before its request is raced.
///
/// Source: chosen; an interpreter begins within a millisecond, unless its module is large. Smaller, and a second engine
/// compiles for a request that was about to move; larger, and a request that begins late is raced late.
pub const MOVING_BEGIN_MAX: Duration = Duration::from_millis(3);

/// After how many tries a guest has to be in parts for half of the time: if it is not, there is nothing more to try.
///
/// Source: chosen. The first tries are for loops that may be over when their part is ready. Fewer, and programs of a
/// few phases are given up; more, and cores work for programs that no part helps.
pub const MOVING_TRIES_FREE: usize = 6;

/// The same as [`MOVING_TRIES_FREE`], where the whole module is being made or is there, and where there will be none: a
/// part that is made meanwhile takes the core on which the whole is made, and a guest that parts do not help is raced.
///
/// Source: chosen: many programs fill their memory first, and then spend their time at one place. Fewer, and these wait
/// for the whole module; more, and programs of many short phases do.
pub const MOVING_TRIES_BESIDE_WHOLE: usize = 2;

/// How many tries to move the guest of one request there are at most: each takes a core for some milliseconds.
///
/// Source: chosen. Fewer, and long requests of many phases stay in slow code; more, and cores work for guests that no
/// part helps.
pub const MOVING_TRIES_MAX: usize = 24;

/// How often in a row the search for a guest's place may be in vain while the guest is where it began.
///
/// Source: chosen. A guest whose memory grows comes to no point for some milliseconds. Fewer, and such a guest is
/// raced; more, and a guest that waits for something, or that cannot leave the loop that it is in, is raced late.
pub const MOVING_IN_VAIN_MAX: usize = 3;

/// The share of its time that a guest may be in slower code without anything being done about it.
///
/// Source: chosen. Smaller, and compilers work for what hardly matters; larger, and guests that come and go, a
/// microsecond in a part and as long where they began, stay like that.
pub const MOVING_SHARE_MIN: f64 = 0.25;

/// The share of the whole module's code from which on a hot part is not made, if the whole is being made anyway.
///
/// Source: chosen. Smaller, and guests wait for the whole in slow code; larger, and the whole is late for nothing.
pub const MOVING_WHOLE_SHARE_MIN: f64 = 0.33;

/// How long the best compiler may take for a part's code, as a multiple of the time that the guest has been in the
/// other compiler's code since that code was ready.
///
/// Source: chosen: a guest that has been somewhere for a while will most likely stay for as long again, and the more
/// frequent half of its points accounts for most of that. Smaller, and guests stay in unoptimised code longer; larger,
/// and the compiler is still busy with one place when the guest has come to the next.
pub const MOVING_BETTER_PER_STAY: f64 = 2.0;

/// How much longer a request must have taken before its guest is looked at once more for the best compiler, if a look
/// was in vain. A factor.
///
/// Source: chosen. Smaller, and a core is woken for nothing; larger, and a guest stays in unoptimised code that much
/// longer.
pub const MOVING_BEST_AGAIN: f64 = 1.25;

/// How long after the first look a guest that is where it began is looked at once more, before a part is made for its
/// place: a place that the guest has left by then is not worth a part.
///
/// Source: measured: whole processes of 48 guests took 5 % less time (geometric mean) with it, the same for 0.3, 0.7
/// and 1.2 ms, and 3 % more for 2 ms. Many programs first fill or copy memory for a millisecond, and a part takes 3 ms.
/// Smaller, and parts are made for places that guests pass; larger, and all parts are later.
pub const MOVING_CONFIRM: Duration = Duration::from_micros(300);

/// How many places a guest may have passed before a part is made for its place without a second look.
///
/// Source: chosen. Fewer, and parts are made for places that guests pass; more, and a guest that is nowhere for long is
/// looked at that often, which takes a tenth of its time, before it is helped.
pub const MOVING_PASSED_MAX: usize = 16;

/// How long a guest that was offered the whole module may stay where it began before it is raced.
///
/// Source: chosen: several times as long as a guest that asks seldom, because it asked in vain, takes to ask again.
/// Smaller, and guests are raced that are about to leave; larger, and those that never do are raced that much later.
pub const MOVING_SETTLE_MAX: Duration = Duration::from_millis(10);

// Requests that run on the thread that brings them.

/// The longest time, from the instance to the end of the call, of a request that the thread that brings it runs itself.
/// In nanoseconds, in a bad case: see [`INLINE_DEVIATIONS`].
///
/// Source: chosen, at ten times what handing a request to another thread and back costs (9 us, measured).
/// Smaller, and short requests pay for being handed over; larger, and other connections of the same thread wait for a
/// guest although a core may be idle.
pub const INLINE_NS_MAX: f64 = 100e3;

/// How bad a case has to fit into [`INLINE_NS_MAX`]. In standard deviations of the logarithm: 99 of 100 requests of a
/// normal distribution are shorter.
///
/// Source: the normal distribution.
/// Smaller, and guests have to be stopped that overrun; larger, and functions whose times vary are handed over.
pub const INLINE_DEVIATIONS: f64 = 2.326;
