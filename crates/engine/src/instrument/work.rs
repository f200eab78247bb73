//! How much work a function can have done since its last poll, along the worst path: an abstract interpretation of one
//! body in one pass, which takes the maximum where paths join.

use wasmparser::{Catch, Operator};

pub(super) struct Walk {
    here: State,
    frames: Vec<Frame>,
    head: u32,
}

/// The most work with which a point of the body can be reached.
#[derive(Clone, Copy, Default)]
pub(super) struct State {
    /// Work since the function's entry, on paths without a poll; `None` if there is no such path.
    from_entry: Option<u32>,
    /// Work since the last poll, on paths with a poll; `None` if there is no such path.
    from_poll: Option<u32>,
}

impl State {
    /// The most work on any path to here; `None` if this point cannot be reached.
    pub(super) fn work(self) -> Option<u32> {
        self.from_entry.max(self.from_poll)
    }

    /// Whether a path without a poll leads here.
    pub(super) fn unpolled(self) -> bool {
        self.from_entry.is_some()
    }

    fn worst(self, other: Self) -> Self {
        State { from_entry: self.from_entry.max(other.from_entry), from_poll: self.from_poll.max(other.from_poll) }
    }
}

struct Frame {
    kind: Kind,
    /// The worst state with which a jump reaches the end of this frame.
    at_end: State,
    /// The worst state seen anywhere in this frame: an exception may reach a handler with it.
    peak: State,
    /// The frames, counted from the outermost, to which the handlers of a `try_table` jump.
    handlers: Vec<usize>,
}

enum Kind {
    /// `block`, `try_table`, the function itself and the legacy `try`.
    Block,
    /// `loop`: a jump to it goes to its head, which polls.
    Loop,
    /// `if`, until its `else`, with the state in which the other arm begins.
    If { other_arm: State },
}

impl Walk {
    pub(super) fn start(work: u32) -> Self {
        let here = State { from_entry: Some(work), from_poll: None };
        let mut walk = Walk { here, frames: Vec::new(), head: work };
        walk.enter(Kind::Block, Vec::new());
        walk
    }

    pub(super) fn here(&self) -> State {
        self.here
    }

    /// The most work on any path from the entry to a first poll, or to the function's end if there is none.
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    pub(super) fn poll(&mut self) {
        self.here = State { from_entry: None, from_poll: self.here.work().map(|_| 0) };
    }

    /// Takes `operator`, which costs `weight`, into account.
    pub(super) fn step(&mut self, operator: &Operator<'_>, weight: u32) {
        let add = |work: u32| work.saturating_add(weight);
        self.here = State { from_entry: self.here.from_entry.map(add), from_poll: self.here.from_poll.map(add) };
        self.head = self.head.max(self.here.from_entry.unwrap_or(0));
        if let Some(frame) = self.frames.last_mut() {
            frame.peak = frame.peak.worst(self.here);
        }
        match operator {
            Operator::Block { .. } | Operator::Try { .. } => self.enter(Kind::Block, Vec::new()),
            Operator::Loop { .. } => self.enter(Kind::Loop, Vec::new()),
            Operator::If { .. } => self.enter(Kind::If { other_arm: self.here }, Vec::new()),
            Operator::TryTable { try_table } => {
                let handlers = try_table.catches.iter().filter_map(|catch| self.target(catch_label(catch))).collect();
                self.enter(Kind::Block, handlers);
            }
            Operator::Else => self.other_arm(),
            // A handler of the legacy `try` may be reached from any place in the body that throws.
            Operator::Catch { .. } | Operator::CatchAll => self.legacy_handler(),
            Operator::End | Operator::Delegate { .. } => self.leave(),
            Operator::Br { relative_depth } => {
                self.jump(*relative_depth);
                self.here = State::default();
            }
            Operator::BrTable { targets } => {
                for target in targets.targets().flatten().chain([targets.default()]) {
                    self.jump(target);
                }
                self.here = State::default();
            }
            Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. }
            | Operator::BrOnCastDescEq { relative_depth, .. }
            | Operator::BrOnCastDescEqFail { relative_depth, .. } => self.jump(*relative_depth),
            Operator::Resume { resume_table, .. }
            | Operator::ResumeThrow { resume_table, .. }
            | Operator::ResumeThrowRef { resume_table, .. } => {
                for handler in &resume_table.handlers {
                    if let wasmparser::Handle::OnLabel { label, .. } = handler {
                        self.jump(*label);
                    }
                }
            }
            Operator::Return
            | Operator::Unreachable
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::Rethrow { .. } => self.here = State::default(),
            _ => {}
        }
    }

    fn enter(&mut self, kind: Kind, handlers: Vec<usize>) {
        self.frames.push(Frame { kind, at_end: State::default(), peak: self.here, handlers });
    }

    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        for handler in &frame.handlers {
            self.arrive(*handler, frame.peak);
        }
        self.here = self.here.worst(frame.at_end);
        if let Kind::If { other_arm } = frame.kind {
            self.here = self.here.worst(other_arm);
        }
        if let Some(outer) = self.frames.last_mut() {
            outer.peak = outer.peak.worst(frame.peak);
        }
    }

    fn other_arm(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        if let Kind::If { other_arm } = frame.kind {
            frame.at_end = frame.at_end.worst(self.here);
            frame.kind = Kind::Block;
            self.here = other_arm;
        }
    }

    fn legacy_handler(&mut self) {
        let Some(frame) = self.frames.last_mut() else { return };
        frame.at_end = frame.at_end.worst(self.here);
        self.here = frame.peak;
    }

    fn jump(&mut self, relative_depth: u32) {
        if let Some(target) = self.target(relative_depth) {
            self.arrive(target, self.here);
        }
    }

    fn target(&self, relative_depth: u32) -> Option<usize> {
        self.frames.len().checked_sub(1)?.checked_sub(relative_depth as usize)
    }

    fn arrive(&mut self, target: usize, state: State) {
        if let Some(frame) = self.frames.get_mut(target)
            && !matches!(frame.kind, Kind::Loop)
        {
            frame.at_end = frame.at_end.worst(state);
        }
    }
}

fn catch_label(catch: &Catch) -> u32 {
    match catch {
        Catch::One { label, .. } | Catch::OneRef { label, .. } | Catch::All { label } | Catch::AllRef { label } => {
            *label
        }
    }
}
