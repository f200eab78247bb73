//! Every engine must do the same with the same module, and so must a guest that moves from one engine to another while
//! it runs. The generator and the comparison come from `crates/engine/tests/differential`, where findings of this
//! target become regression tests.

#[path = "../../crates/engine/tests/differential/appended.rs"]
mod appended;
#[path = "../../crates/engine/tests/differential/compare.rs"]
mod compare;
#[path = "../../crates/engine/tests/differential/generate.rs"]
mod generate;
#[path = "../../crates/engine/tests/differential/imported.rs"]
mod imported;
#[path = "../../crates/engine/tests/differential/random.rs"]
mod random;

use std::sync::LazyLock;

use compare::Group;
use remuda_engine::{Extent, Proposal};

/// The groups of engines that are compared: all engines on the proposals that all of them have; then the engines with
/// SIMD, and those with tail calls, on the proposals that these have.
static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let groups = [
        Group::of(|_| true),
        Group::of(|known| known.capabilities.proposals.contains(Proposal::Simd)),
        Group::of(|known| known.capabilities.proposals.contains(Proposal::TailCall)),
    ];
    groups.into_iter().filter(|group| group.engines.len() > 1).collect()
});

/// The engine whose guests can move, and the engines that they move to.
static MOVING: LazyLock<Option<Group>> = LazyLock::new(Group::moving);

/// Generates one module and runs it on the engines of one group, or moves its guest from engine to engine.
///
/// # Panics
///
/// Panics on a finding.
pub fn run(input: &[u8]) {
    let [choice, input @ ..] = input else { return };
    // Every second input lets the guest move, if the engines of this build can.
    if let (128.., Some(group)) = (*choice, &*MOVING) {
        let Some(subject) = generate::subject(input, group.proposals) else { return };
        if !subject.module.has_points() {
            return;
        }
        let extent = if choice & 64 == 0 { Extent::Hot } else { Extent::Whole };
        if let Err(problem) = group.compare_moved(&subject, u64::from(choice & 63), extent) {
            panic!("{} ({extent:?}): {problem}", group.names());
        }
        return;
    }
    let group = &GROUPS[usize::from(*choice) % GROUPS.len()];
    let Some(subject) = generate::subject(input, group.proposals) else { return };
    if let Err(problem) = group.compare(&subject) {
        panic!("{}: {problem}", group.names());
    }
}
