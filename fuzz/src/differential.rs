//! Every engine must do the same with the same module. The generator and the comparison are those of
//! `crates/engine/tests/differential`, where what was found here becomes a regression test.

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
use remuda_engine::Proposal;

/// All engines on what all of them have; then the ones that have more, on what those have.
static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let groups = [
        Group::of(|_| true),
        Group::of(|known| known.capabilities.proposals.contains(Proposal::Simd)),
        Group::of(|known| known.capabilities.proposals.contains(Proposal::TailCall)),
    ];
    groups.into_iter().filter(|group| group.engines.len() > 1).collect()
});

/// Generates one module and runs it on the engines of one group.
///
/// # Panics
///
/// On a finding.
pub fn run(input: &[u8]) {
    let [choice, input @ ..] = input else { return };
    let group = &GROUPS[usize::from(*choice) % GROUPS.len()];
    let Some(subject) = generate::subject(input, group.proposals) else { return };
    if let Err(problem) = group.compare(&subject) {
        panic!("{}: {problem}", group.names());
    }
}
