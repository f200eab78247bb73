//! The machine code of the engines, in the words of the analysis.

use std::ops::Range;

use remuda_code::Architecture;
use remuda_code::comparison::NotShown;
use remuda_code::function::{self, Code, Flag, Origin};
use remuda_code::wasm::{Source, SourceError, SourceFunction};
use remuda_engine::{CodeOrigin, Form, Known, MachineCode, Module, Registry};
use remuda_model::Tier;

/// What one engine made of a module.
pub(crate) struct Listing {
    pub(crate) engine: &'static Known,
    pub(crate) version: String,
    architecture: Architecture,
    code: MachineCode,
    /// The functions' places, sorted by where they begin, to find the names of those that are called.
    places: Vec<(Range<usize>, u32)>,
}

/// One function of a listing.
pub(crate) struct FunctionCode<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) origins: Option<Vec<(u32, Origin)>>,
    start: usize,
}

impl Listing {
    /// Has an engine compile the module.
    ///
    /// # Errors
    ///
    /// Returns the reason if the engine has no machine code to show.
    pub(crate) fn of(
        registry: &Registry,
        engine: &'static Known,
        module: &Module,
        form: Form,
    ) -> Result<Self, NotShown> {
        let not_shown = |reason: String| NotShown { engine: engine.id.to_string(), reason };
        if let Some(reason) = has_none(engine) {
            return Err(not_shown(reason));
        }
        let missing = module.needs().without(engine.capabilities.proposals);
        if !missing.is_empty() {
            return Err(not_shown(format!("it cannot run this module, which needs {missing}")));
        }
        let opened = registry.open(engine.id).map_err(|error| not_shown(error.to_string()))?;
        let code = opened.machine_code(module, form).map_err(|error| not_shown(error.to_string()))?;
        let code = code.ok_or_else(|| not_shown("its program hands over no machine code".to_owned()))?;
        let Some(architecture) = Architecture::named(code.architecture) else {
            return Err(not_shown(format!("there is no decoder for {}", code.architecture)));
        };
        let mut places: Vec<_> = code.functions.iter().map(|(index, range)| (range.clone(), *index)).collect();
        places.sort_unstable_by_key(|(range, _)| range.start);
        Ok(Self { engine, version: registry.version(engine), architecture, code, places })
    }

    /// The code of a function; `None` if the engine made none of it.
    pub(crate) fn function(&self, index: u32) -> Option<FunctionCode<'_>> {
        // Engines give the functions in the order of their indices.
        let at = self.code.functions.binary_search_by_key(&index, |(function, _)| *function).ok()?;
        let range = self.code.functions[at].1.clone();
        let bytes = self.code.text.get(range.clone())?;
        let origins = self.code.origins.as_ref().map(|origins| {
            let first = origins.partition_point(|(at, _)| (*at as usize) < range.start);
            let within = origins[first..].iter().take_while(|(at, _)| (*at as usize) < range.end);
            within.map(|(at, from)| (at - u32::try_from(range.start).unwrap_or(*at), origin(*from))).collect()
        });
        Some(FunctionCode { bytes, origins, start: range.start })
    }

    /// The name of the function that begins at a distance from the beginning of another one.
    pub(crate) fn callee(&self, source: &Source, function: &FunctionCode<'_>, distance: i64) -> Option<String> {
        let start = usize::try_from(i64::try_from(function.start).ok()?.checked_add(distance)?).ok()?;
        let at = self.places.binary_search_by_key(&start, |(range, _)| range.start).ok()?;
        let index = self.places[at].1;
        Some(source.name(index).map_or_else(|| format!("function {index}"), str::to_owned))
    }

    /// The function as the analysis takes it.
    pub(crate) fn code<'a>(
        &self,
        function: &'a FunctionCode<'_>,
        callee: &'a dyn Fn(i64) -> Option<String>,
    ) -> Code<'a> {
        Code {
            architecture: self.architecture,
            bytes: function.bytes,
            origins: function.origins.as_deref(),
            flag: self.code.flag.map(|(register, displacement)| Flag { register, displacement }),
            callee,
        }
    }

    /// Reads all functions, in the order of their indices.
    ///
    /// # Errors
    ///
    /// Returns an error if the body of a function cannot be read.
    pub(crate) fn read_all<'a>(
        &'a self,
        source: &'a Source,
    ) -> impl Iterator<Item = Result<function::Function, SourceError>> + 'a {
        source.functions().map(|index| {
            let body: SourceFunction = source.function(index)?;
            let code = self.function(index);
            let empty = FunctionCode { bytes: &[], origins: None, start: 0 };
            let code = code.as_ref().unwrap_or(&empty);
            Ok(function::read(&self.code(code, &|_| None), &body))
        })
    }
}

/// Why an engine has no machine code that could be shown, if that is known beforehand.
fn has_none(engine: &Known) -> Option<String> {
    if !engine.runs_wasm() {
        Some("it runs no WebAssembly".to_owned())
    } else if engine.capabilities.tier == Tier::Interpreter {
        Some("it interprets, and makes no machine code".to_owned())
    } else {
        None
    }
}

fn origin(origin: CodeOrigin) -> Origin {
    match origin {
        CodeOrigin::Operator(offset) => Origin::Operator(offset),
        CodeOrigin::Poll(offset) => Origin::Poll(offset),
        CodeOrigin::None => Origin::None,
    }
}
