//! Making a subject from bytes: a module that every engine of a group can run, and the calls to make.
//!
//! wasm-smith generates the module. NaNs are canonical, and a global with fuel bounds loops and recursion, so that the
//! module ends and has one right answer. Some modules get imports ([`imported`]). [`appended`] adds exports that show
//! the module's whole state.

use arbitrary::{Result, Unstructured};
use remuda_engine::{Proposal, Proposals};
use remuda_model::{Entry, ModuleLimits};
use wasm_smith::{Config, MemoryOffsetChoices, Module};

use super::random::Random;
use super::{appended, imported};

/// The number of loop turns and calls that one entry may take. With more, recursion would be deeper, and engines have
/// stacks of different depth.
pub(crate) const FUEL: u32 = 500;
/// The most memory of a module, in bytes: all of it is hashed after each call.
const MEMORY_BYTES_MAX: u64 = 256 << 10;
const TABLE_ELEMENTS_MAX: u64 = 200;

/// A module and the calls to make.
pub(crate) struct Subject {
    pub(crate) module: remuda_engine::Module,
    /// The calls, to be made one after the other on one instance.
    pub(crate) calls: Vec<Entry>,
}

/// Makes the subject for `bytes`; `None` if no module comes of them.
pub(crate) fn subject(bytes: &[u8], proposals: Proposals) -> Option<Subject> {
    let mut input = Unstructured::new(bytes);
    let config = config(&mut input, proposals).ok()?;
    let mut module = Module::new(config, &mut input).ok()?;
    let fuel_global = module.ensure_termination(FUEL).ok()?;
    let mut random = Random::of(bytes);
    let mut module = module.to_bytes();
    if random.next().is_multiple_of(4) {
        module = imported::with_wasi(&module, &mut random);
    }
    let sees_tables = proposals.contains(Proposal::ReferenceTypes);
    let (module, calls) = appended::with_exports(&module, fuel_global, sees_tables, &mut random)?;
    let module = remuda_engine::Module::parse(module, &ModuleLimits::default()).expect("Remuda takes what is valid");
    let more = module.needs().without(proposals);
    // wasm-smith makes `externref` and `table.grow` wherever it makes `funcref`, and some engines have only the latter.
    if more.contains(Proposal::Externref) || more.contains(Proposal::TableGrow) {
        return None;
    }
    assert!(more.is_empty(), "the module is said to need {more}, which was not used to generate it");
    Some(Subject { module, calls })
}

/// The bytes that a seed stands for.
pub(crate) fn bytes_of(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let count = random.pick(&[256, 1024, 2048, 4096, 8192]);
    random.bytes(count)
}

/// Chooses a configuration for each module (swarm testing), so that features which are rare overall are common in some
/// modules.
fn config(input: &mut Unstructured<'_>, proposals: Proposals) -> Result<Config> {
    let has = |proposal| proposals.contains(proposal);
    Ok(Config {
        allow_floats: input.ratio(3, 4)?,
        allow_start_export: input.ratio(1, 4)?,
        canonicalize_nans: true,
        // Generated code soon traps; without traps it gets further.
        disallow_traps: input.ratio(2, 3)?,
        max_data_segments: 4,
        max_element_segments: 6,
        max_elements: 20,
        max_exports: 4,
        max_funcs: input.int_in_range(2..=12)?,
        max_globals: 10,
        max_imports: 0,
        max_instructions: input.int_in_range(10..=400)?,
        max_memories: if has(Proposal::MultiMemory) { 3 } else { 1 },
        max_memory32_bytes: MEMORY_BYTES_MAX,
        max_memory64_bytes: MEMORY_BYTES_MAX.into(),
        max_table_elements: TABLE_ELEMENTS_MAX,
        max_tables: if has(Proposal::ReferenceTypes) { 3 } else { 1 },
        max_tags: 0,
        max_type_size: 100,
        max_types: 20,
        memory_max_size_required: input.ratio(1, 2)?,
        memory_offset_choices: MemoryOffsetChoices(90, 9, 1),
        min_funcs: 1,
        min_globals: 1,
        min_memories: u32::from(input.ratio(3, 4)?),
        min_types: 1,
        table_max_size_required: input.ratio(1, 2)?,

        bulk_memory_enabled: has(Proposal::BulkMemory),
        custom_page_sizes_enabled: has(Proposal::CustomPageSizes),
        exceptions_enabled: false,
        extended_const_enabled: has(Proposal::ExtendedConst),
        gc_enabled: false,
        memory64_enabled: has(Proposal::Memory64),
        multi_value_enabled: has(Proposal::MultiValue),
        reference_types_enabled: has(Proposal::ReferenceTypes) && input.ratio(1, 2)?,
        // The results of relaxed SIMD may differ between engines by design.
        relaxed_simd_enabled: false,
        saturating_float_to_int_enabled: has(Proposal::SaturatingFloatToInt),
        sign_extension_ops_enabled: has(Proposal::SignExtension),
        simd_enabled: has(Proposal::Simd),
        tail_call_enabled: has(Proposal::TailCall),
        threads_enabled: false,
        wide_arithmetic_enabled: has(Proposal::WideArithmetic),
        ..Config::default()
    })
}
