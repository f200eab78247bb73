//! Figure 6: the same loop in the code of several compilers.

use remuda_code::{Architecture, disassemble};

use super::*;
use crate::row::HotCode;

const CLAIM: &str = "LLVM's code for the same loop is shorter than Cranelift's.";
const ARM_CLAIM: &str = "The gap between LLVM and Cranelift is smaller on Arm.";
/// The kernel whose loop is shown.
const SHOWN: &str = "gemm";
/// The hottest blocks of code are shown until they make up this share of all executed instructions.
const SHARE_SHOWN: f64 = 0.5;

pub(super) fn section(sets: &[Set<'_>]) -> Section {
    let mut section = Section {
        id: "fig6",
        title: "Figure 6: the same loop by several compilers".into(),
        lead: format!(
            "Machine code of the loop in which `{SHOWN}` spends its time, as each engine has it in memory: the hottest blocks of code, in \
             order of address, that together are at least half of all executed instructions. Native code is by the compiler that made the \
             modules, which is LLVM's; on x86-64 it is for any such processor, engines' code for one with AVX2. LLVM unrolls loops and makes several \
             copies of them, so look at executed instructions, not at the length of the listing. `remuda inspect` shows whole \
             functions, and counts each of the five weaknesses that the paper found in 2021's Cranelift (docs/inspect.md)."
        ),
        ..Section::default()
    };
    for set in sets {
        section.claims.extend(claim(set));
    }
    if section.claims.is_empty() {
        section.claims.push(missing("The paper", CLAIM, NOTHING));
    }
    section.claims.push(arm_claim(sets));
    for set in sets {
        section.parts.push(Part::Table(executed(set)));
        section.parts.extend(listing(set).map(Part::Table));
    }
    section
}

fn claim(set: &Set<'_>) -> Option<Claim> {
    let llvm = set.llvm()?;
    let kernels = set.kernels(&[BASELINE, llvm]);
    let ratios: Vec<f64> = kernels
        .iter()
        .filter_map(|kernel| {
            Some(set.one(kernel, BASELINE)?.instructions as f64 / set.one(kernel, llvm)?.instructions as f64)
        })
        .collect();
    let fewer = ratios.iter().filter(|ratio| **ratio > CLEARLY).count();
    let verdict = match fewer {
        _ if ratios.is_empty() => return None,
        0 => Verdict::Fails,
        all if all == ratios.len() => Verdict::Holds,
        _ => Verdict::InPart,
    };
    Some(Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: target_words(set.target).into(),
        verdict,
        finding: format!(
            "{llvm} executes clearly fewer instructions than {BASELINE} on {fewer} of {} kernels; {BASELINE} executes {} as many.",
            ratios.len(),
            span(&ratios)
        ),
    })
}

/// The gap is that between native code by LLVM and Cranelift's, which is known for both instruction sets.
fn arm_claim(sets: &[Set<'_>]) -> Claim {
    let gap =
        |target: &str| sets.iter().find(|set| set.target == target)?.ratio(BASELINE, NATIVE, |one| one.instructions);
    let (Some((here, kernels)), Some((arm, _))) = (gap("x86_64"), gap("aarch64")) else {
        let what = "The results do not have Cranelift's code and native code for both instruction sets.";
        return missing("The paper", ARM_CLAIM, what);
    };
    Claim {
        whose: "The paper",
        claim: ARM_CLAIM.into(),
        scope: "native code by the compiler that made the modules".into(),
        verdict: if arm * CLEARLY < here {
            Verdict::Holds
        } else if arm > here {
            Verdict::Fails
        } else {
            Verdict::Open
        },
        finding: format!(
            "{BASELINE} executes {} as many instructions as native code on x86-64, and {} on 64-bit Arm (geometric means over {kernels} \
             kernels).",
            ratio(here),
            ratio(arm)
        ),
    }
}

/// How much each engine's code executes.
fn executed(set: &Set<'_>) -> Table {
    let over = if set.engines.iter().any(|engine| engine == NATIVE) { NATIVE } else { BASELINE };
    let rows = set.engines.iter().map(|engine| {
        let shown = set.workloads(KERNELS).into_iter().find(|kernel| kernel.guest == SHOWN);
        let one = shown.and_then(|kernel| set.one(&kernel, engine));
        let mean = set.ratio(engine, over, |one| one.instructions);
        let cells = [
            one.map_or_else(|| "-".into(), |one| units::digits(one.instructions as f64 / 1e6)),
            one.map_or_else(|| "-".into(), |one| units::digits((one.loads + one.stores) as f64 / 1e6)),
            one.map_or_else(|| "-".into(), |one| units::digits(one.conditional_branches as f64 / 1e6)),
            mean.map_or_else(|| "-".into(), |(mean, kernels)| format!("{} ({kernels})", ratio(mean))),
        ];
        std::iter::once(Cell::new(engine)).chain(cells.into_iter().map(Cell::new)).collect()
    });
    let names = ["Engine".to_owned(), format!("{SHOWN}: M instructions"), "M accesses".into(), "M branches".into()];
    Table {
        caption: format!("{}: what is executed", target_words(set.target)),
        rows: rows.collect(),
        columns: names.into_iter().chain([format!("all kernels: instructions over {over} (kernels)")]).collect(),
        folded: false,
    }
}

/// The hottest code of each engine, side by side.
fn listing(set: &Set<'_>) -> Option<Table> {
    let kernel = set.workloads(KERNELS).into_iter().find(|kernel| kernel.guest == SHOWN)?;
    let architecture = Architecture::named(set.target)?;
    let mut engines = Vec::new();
    let mut lists: Vec<Vec<String>> = Vec::new();
    for engine in &set.engines {
        let Some(one) = set.one(&kernel, engine) else { continue };
        let lines: Vec<String> = hottest(one)
            .into_iter()
            .enumerate()
            .flat_map(|(index, block)| {
                let gap = (index > 0).then(|| "...".to_owned());
                let code = hex::decode(&block.code).unwrap_or_default();
                gap.into_iter().chain(disassemble(architecture, &code))
            })
            .collect();
        engines.push(engine.clone());
        lists.push(lines);
    }
    let length = lists.iter().map(Vec::len).max().filter(|length| *length > 0)?;
    let row = |at: usize| {
        let cells = lists.iter().map(|list| Cell::new(list.get(at).cloned().unwrap_or_default()));
        std::iter::once(Cell::new((at + 1).to_string())).chain(cells).collect()
    };
    Some(Table {
        caption: format!("{}: the hottest code of {SHOWN}", target_words(set.target)),
        columns: columns("", &engines),
        rows: (0..length).map(row).collect(),
        folded: true,
    })
}

/// The hottest blocks that make up [`SHARE_SHOWN`] of all that is executed, in order of address.
fn hottest(one: &Simulation) -> Vec<&HotCode> {
    let mut shown: Vec<&HotCode> = Vec::new();
    let mut executed = 0;
    for block in &one.hottest {
        if executed as f64 >= SHARE_SHOWN * one.instructions as f64 {
            break;
        }
        executed += block.executions * block.instructions;
        shown.push(block);
    }
    shown.sort_by_key(|block| block.start);
    shown
}
