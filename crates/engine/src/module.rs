use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use remuda_model::{Entry, ModuleDigest, ModuleLimits, ValueType};
use serde::{Deserialize, Serialize};
use wasmparser::{
    AbstractHeapType, BlockType, CompositeInnerType, Encoding, ExternalKind, FuncToValidate, FuncValidatorAllocations,
    FunctionBody, HeapType, Operator, Parser, Payload, TypeRef, ValType, ValidPayload, Validator, ValidatorResources,
    WasmModuleResources as _,
};

use crate::osr::places::{self as points, Places};
use crate::select::Selects;
use crate::{Proposal, Proposals};

/// A module before any compiler has seen it: valid, within bounds, with its needs and its entry points known.
#[derive(Clone)]
pub struct Module {
    bytes: Bytes,
    digest: ModuleDigest,
    findings: Arc<Findings>,
    limits: ModuleLimits,
}

/// What [`Module::parse`] has found out about valid bytes. A host that keeps the findings, beside the bytes' digest and
/// the bounds, need not parse the bytes again: see [`Module::recall`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    needs: Proposals,
    /// What a component has beside its core modules; `None` for a core module.
    component: Option<Interfaces>,
    stats: ModuleStats,
    imports: Vec<Import>,
    functions: Vec<(String, FunctionType)>,
    exports_memory: bool,
    has_start: bool,
    selects: Vec<usize>,
    places: Places,
}

/// The names of what a component imports and exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Interfaces {
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Interfaces {
    fn exports_one_of(&self, wanted: [&str; 2]) -> bool {
        self.exports.iter().any(|name| wanted.iter().any(|wanted| is_of(name, wanted)))
    }
}

impl Findings {
    /// The places at which guests may leave the engine that they run on.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Counts the changes to what is found and how it is written down: findings of another version cannot be used.
    pub const VERSION: u32 = 6;
}

/// Numbers about a module that help to predict how long compiling and running it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleStats {
    /// The size of all function bodies together, in bytes.
    pub code_bytes: u64,
    /// The number of functions that the module defines.
    pub functions: u32,
    /// The number of loops in these functions.
    pub loops: u32,
    /// The number of memories that the module defines.
    pub memories: u32,
    /// The number of tables that the module defines.
    pub tables: u32,
    /// The largest number of `memory.grow` instructions in one function.
    pub memory_grows_per_function: u32,
    /// The largest product of locals and loops in one function. An optimizing compiler may treat every local separately
    /// in every loop, so that little code can be much work.
    pub locals_in_loops_per_function: u64,
    /// The number of `table.grow` instructions in all functions.
    pub table_grows: u32,
}

/// The type of a function, as detailed as a caller outside WebAssembly needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionType {
    /// The types of the parameters.
    pub params: Vec<ValueType>,
    /// The types of the results.
    pub results: Vec<ValueType>,
}

impl FunctionType {
    /// Whether the function takes nothing and returns nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.params.is_empty() && self.results.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Import {
    module: String,
    name: String,
    function: Option<FunctionType>,
}

/// Why Remuda does not accept some bytes as a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// The bytes are not WebAssembly at all.
    #[error(
        "not a WebAssembly module: it begins with {found:?}, a module begins with \"\\0asm\"; is this the right file?"
    )]
    NotWasm {
        /// The first bytes, as text.
        found: String,
    },
    /// The bytes are machine code that another program made of a module.
    #[error(
        "this is machine code that another program compiled (wasmtime compile, say), and Remuda only loads what it compiled itself; \
         give it the module that this was made of"
    )]
    Precompiled,
    /// The module is broken, or needs a proposal that no engine has.
    #[error("not a valid WebAssembly module: {reason} (at offset {offset:#x})")]
    Invalid {
        /// The validator's message.
        reason: String,
        /// Where the error is, as an offset into the module's bytes.
        offset: usize,
    },
    /// The module exceeds one of the bounds that are set for modules.
    #[error("the module is refused before compiling: {what} is {found}, and the limit is {limit}")]
    TooLarge {
        /// What is bounded, in words.
        what: String,
        /// How much of it the module has.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// The component imports an interface that the host does not provide.
    #[error(
        "the component imports {name}, which the host does not provide; it provides, of WASI 0.2 and 0.3, {}",
        INTERFACES.join(", ")
    )]
    UnknownInterface {
        /// The interface's name.
        name: String,
    },
    /// The module imports something that the host does not provide.
    #[error(
        "the module imports {module:?} {name:?}{expected}, which the host does not provide; it provides the functions of \
         wasi_snapshot_preview1 and wasi_unstable"
    )]
    UnknownImport {
        /// The import's module.
        module: String,
        /// The import's name.
        name: String,
        /// What is wrong with the import, if its name is known: it is no function, or one of another type.
        expected: String,
    },
}

/// Why a module cannot be entered where a caller wants to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The module has no `_start` that can be called, so it is no WASI command.
    #[error("the module has no `_start`: it is no WASI command; call one of its exports instead: {}", list(exports))]
    NoStart {
        /// The exported functions, which could be called instead.
        exports: Vec<String>,
    },
    /// The component is no WASI command.
    #[error(
        "the component exports no {}: it is no command of WASI{}; it exports {}",
        RUN.join(" or "),
        serve_it(exports),
        list(exports)
    )]
    NoRun {
        /// What it exports.
        exports: Vec<String>,
    },
    /// The component does not answer HTTP requests.
    #[error(
        "the component exports no {}: it does not answer HTTP requests itself; it exports {}",
        HANDLER.join(" or "),
        list(exports)
    )]
    NoHandler {
        /// What it exports.
        exports: Vec<String>,
    },
    /// A core module does not answer HTTP requests.
    #[error(
        "only a component can export {}, and this is a core module; serve it with abi = \"stdio\" or \"cgi\"",
        HANDLER.join(" or ")
    )]
    NoComponent,
    /// The caller wants another entry to a component than that of a WASI command.
    #[error(
        "a component is entered at {} or {}, and its exports cannot be called by name",
        RUN.join(" or "),
        HANDLER.join(" or ")
    )]
    OnlyInterfaces,
    /// The module exports no function with this name.
    #[error("the module exports no function named {name:?}; it exports {}", list(exports))]
    NoSuchExport {
        /// The name that was asked for.
        name: String,
        /// The exported functions, which could be called instead.
        exports: Vec<String>,
    },
    /// The number of arguments is not that of the function's parameters.
    #[error("{name} takes {expected} arguments, and {given} are given")]
    Arity {
        /// The export's name.
        name: String,
        /// The number of its parameters.
        expected: usize,
        /// The number of arguments.
        given: usize,
    },
    /// An argument's type is not that of the parameter.
    #[error("argument {position} of {name} has the wrong type")]
    ArgumentType {
        /// The export's name.
        name: String,
        /// The position, counted from 1.
        position: usize,
    },
    /// The function has a parameter of a type of which callers outside WebAssembly have no values.
    #[error("parameter {position} of {name} is a {ty}, which can only be given from within WebAssembly")]
    NotCallable {
        /// The export's name.
        name: String,
        /// The position, counted from 1.
        position: usize,
        /// The parameter's type.
        ty: ValueType,
    },
    /// The module has a function that is to be called first (`_initialize`), but its type does not allow it.
    #[error(
        "the module's `_initialize` takes or returns values, and a function that is called before all others does not"
    )]
    Initialize,
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

impl Module {
    /// Validates a module, checks it against `limits`, and finds out what it needs.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a module that can be run here; the error says why.
    pub fn parse(bytes: impl Into<Bytes>, limits: &ModuleLimits) -> Result<Self, ModuleError> {
        let bytes = bytes.into();
        let digest = ModuleDigest::of(&bytes);
        Self::parse_digested(bytes, digest, limits)
    }

    /// Like [`Module::parse`], if the bytes' digest is known already.
    ///
    /// # Errors
    ///
    /// See [`Module::parse`].
    pub fn parse_digested(bytes: Bytes, digest: ModuleDigest, limits: &ModuleLimits) -> Result<Self, ModuleError> {
        let module = Self::parse_with_any_imports(bytes, digest, limits)?;
        module.check_imports()?;
        Ok(module)
    }

    /// Like [`Module::parse_digested`], but accepts any imports.
    pub(crate) fn parse_with_any_imports(
        bytes: Bytes,
        digest: ModuleDigest,
        limits: &ModuleLimits,
    ) -> Result<Self, ModuleError> {
        within("its size in bytes", bytes.len() as u64, limits.module_bytes_max)?;
        check_preamble(&bytes)?;
        let scan = Scan::run(&bytes, limits)?;
        let needs = needs(&bytes, scan.bodies);
        // Guests of components do not move.
        let places = match scan.component {
            None => scan.points.finish(scan.imported_functions, needs),
            Some(_) => Places::default(),
        };
        let findings = Arc::new(Findings {
            needs,
            component: scan.component,
            stats: scan.stats,
            imports: scan.imports,
            functions: scan.functions,
            exports_memory: scan.exports_memory,
            has_start: scan.has_start,
            selects: scan.selects.places,
            places,
        });
        Ok(Self { digest, findings, limits: *limits, bytes })
    }

    /// Makes a module that has been parsed before from its findings. The caller vouches that `findings` are what
    /// [`parse`](Self::parse) has found in these very bytes, in this version and within these limits, and that `digest`
    /// is the digest of these bytes. If not, engines are given modules that they were promised never to see, and their
    /// errors are less helpful.
    #[must_use]
    pub fn recall(bytes: Bytes, digest: ModuleDigest, findings: Findings, limits: &ModuleLimits) -> Self {
        Self { bytes, digest, findings: Arc::new(findings), limits: *limits }
    }

    /// Makes sure that the module is valid without some proposals, whatever the engines can do.
    ///
    /// # Errors
    ///
    /// Returns an error if the module needs one of them.
    pub fn check_without(&self, proposals: Proposals) -> Result<(), ModuleError> {
        let every: Proposals = Proposal::ALL.iter().copied().collect();
        let mut validator = Validator::new_with_features(every.without(proposals).features());
        validator.validate_all(&self.bytes).map(drop).map_err(|error| invalid(&error))
    }

    /// Returns the same module without points, so that its guests cannot move.
    pub(crate) fn without_points(&self) -> Self {
        let findings = Findings { places: Places::default(), ..(*self.findings).clone() };
        Self { findings: Arc::new(findings), ..self.clone() }
    }

    /// Whether the module is small enough for a part with all of its functions, so that a guest can move wherever it
    /// is.
    #[must_use]
    pub fn can_move_anywhere(&self) -> bool {
        self.has_points() && self.stats().code_bytes <= points::PART_BYTES_MAX as u64
    }

    /// About how many bytes of code a part has in which guests go on at these points, with the functions that are hot
    /// there. `None` if there can be no such part, or if no engine of this build makes parts.
    #[must_use]
    pub fn part_code_bytes(&self, points: &[crate::Point]) -> Option<u64> {
        #[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
        let bytes =
            crate::osr::part::code_bytes(self.bytes(), self.findings.places(), points).ok().map(|bytes| bytes as u64);
        #[cfg(not(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift")))]
        let bytes = {
            let _ = points;
            None
        };
        bytes
    }

    /// What was found out about the module.
    #[must_use]
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The bounds against which the module was checked.
    #[must_use]
    pub fn limits(&self) -> &ModuleLimits {
        &self.limits
    }

    /// The module in the binary format.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The SHA-256 of [`Module::bytes`].
    #[must_use]
    pub fn digest(&self) -> ModuleDigest {
        self.digest
    }

    /// The proposals without which an engine cannot run this module.
    #[must_use]
    pub fn needs(&self) -> Proposals {
        self.findings.needs
    }

    /// Numbers about the module's code.
    #[must_use]
    pub fn stats(&self) -> ModuleStats {
        self.findings.stats
    }

    /// Whether this is a component, and not a core module.
    #[must_use]
    pub fn is_component(&self) -> bool {
        self.findings.component.is_some()
    }

    /// Whether the module has a start function, which runs while it is instantiated.
    #[must_use]
    pub fn has_start(&self) -> bool {
        self.findings.has_start
    }

    /// The points at which guests can leave an engine in the middle of their run, if the engine allows that.
    #[must_use]
    pub fn points(&self) -> Vec<crate::Point> {
        self.findings.places.iter().map(|(point, _)| point).collect()
    }

    /// Whether the module has any points.
    #[must_use]
    pub fn has_points(&self) -> bool {
        !self.findings.places.is_empty()
    }

    /// Whether the module exports a memory named `memory`, without which it cannot use WASI.
    #[must_use]
    pub fn exports_memory(&self) -> bool {
        self.findings.exports_memory
    }

    /// Whether the module is a WASI command: it exports a function `_start`, or, as a component, `wasi:cli/run`.
    #[must_use]
    pub fn is_command(&self) -> bool {
        match &self.findings.component {
            Some(component) => component.exports_one_of(RUN),
            None => self.function("_start").is_some(),
        }
    }

    /// Whether this is a component that answers HTTP requests: it exports `wasi:http/incoming-handler`, or, with WASI 0.3,
    /// `wasi:http/handler`.
    #[must_use]
    pub fn is_http_handler(&self) -> bool {
        self.findings.component.as_ref().is_some_and(|component| component.exports_one_of(HANDLER))
    }

    /// Whether the module is a WASI reactor: it exports a function `_initialize`, to be called before any other export.
    #[must_use]
    pub fn is_reactor(&self) -> bool {
        self.function("_initialize").is_some()
    }

    /// The function that is called if the caller names none: the export with an empty name, else `_start`.
    #[must_use]
    pub fn default_function(&self) -> Option<&str> {
        ["", "_start"].into_iter().find(|name| self.function(name).is_some())
    }

    /// Whether the module imports anything from the module with this name.
    #[must_use]
    pub fn imports_from(&self, module: &str) -> bool {
        self.findings.imports.iter().any(|import| import.module == module)
    }

    /// The type of the exported function with this name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&FunctionType> {
        self.findings.functions.iter().find(|(export, _)| export == name).map(|(_, ty)| ty)
    }

    /// The `select`s that follow a comparison and need a guard (see [`crate::select`]), as offsets into
    /// [`Module::bytes`].
    #[cfg_attr(not(feature = "wasmi.lazy"), expect(dead_code, reason = "for one adapter"))]
    pub(crate) fn selects_on_zero(&self) -> &[usize] {
        &self.findings.selects
    }

    /// The most bytes that the module may have, also when an adapter has rewritten it.
    #[cfg(feature = "wasi")]
    pub(crate) fn bytes_max(&self) -> u64 {
        self.limits.module_bytes_max
    }

    /// Checks the module that an adapter made of this one against the same bounds: they are meant for the code that
    /// compilers see.
    #[cfg(feature = "wasi")]
    pub(crate) fn check_rewritten(&self, rewritten: &[u8]) -> Result<(), ModuleError> {
        let limits = &self.limits;
        within("its size in bytes, rewritten for the engine,", rewritten.len() as u64, limits.module_bytes_max)?;
        for payload in Parser::new(0).parse_all(rewritten) {
            if let Payload::CodeSectionEntry(body) = payload.map_err(|error| invalid(&error))? {
                let body_bytes = body.range().len() as u64;
                within("a function's size in bytes, rewritten for the engine,", body_bytes, limits.function_bytes_max)?;
            }
        }
        Ok(())
    }

    /// Makes sure that `entry` can be called, so that engines need not check it.
    ///
    /// # Errors
    ///
    /// Returns an error if `entry` cannot be called; it says why, and what could be called instead.
    pub fn check_entry(&self, entry: &Entry) -> Result<(), EntryError> {
        if let Some(component) = &self.findings.component {
            return match entry {
                Entry::Command if self.is_command() => Ok(()),
                Entry::Command => Err(EntryError::NoRun { exports: component.exports.clone() }),
                Entry::HttpHandler if self.is_http_handler() => Ok(()),
                Entry::HttpHandler => Err(EntryError::NoHandler { exports: component.exports.clone() }),
                Entry::Initialize | Entry::Export { .. } => Err(EntryError::OnlyInterfaces),
            };
        }
        let exports = || self.findings.functions.iter().map(|(name, _)| name.clone()).collect();
        if self.function("_initialize").is_some_and(|ty| !ty.is_plain()) {
            return Err(EntryError::Initialize);
        }
        match entry {
            Entry::Initialize => Ok(()),
            Entry::HttpHandler => Err(EntryError::NoComponent),
            Entry::Command => match self.function("_start") {
                Some(ty) if ty.is_plain() => Ok(()),
                _ => Err(EntryError::NoStart { exports: exports() }),
            },
            Entry::Export { name, args } => {
                let ty = self
                    .function(name)
                    .ok_or_else(|| EntryError::NoSuchExport { name: name.clone(), exports: exports() })?;
                if let Some(i) = ty.params.iter().position(|param| *param == ValueType::Reference) {
                    return Err(EntryError::NotCallable { name: name.clone(), position: i + 1, ty: ty.params[i] });
                }
                if ty.params.len() != args.len() {
                    return Err(EntryError::Arity { name: name.clone(), expected: ty.params.len(), given: args.len() });
                }
                let wrong = ty.params.iter().zip(args).position(|(param, arg)| *param != arg.ty());
                wrong.map_or(Ok(()), |i| Err(EntryError::ArgumentType { name: name.clone(), position: i + 1 }))
            }
        }
    }

    /// Makes sure that every import is a WASI function of the right type; or, of a component, an interface of WASI.
    fn check_imports(&self) -> Result<(), ModuleError> {
        if let Some(component) = &self.findings.component {
            let is_provided = |name: &&String| INTERFACES.iter().any(|interface| is_of(name, interface));
            return match component.imports.iter().find(|name| !is_provided(name)) {
                Some(name) => Err(ModuleError::UnknownInterface { name: name.clone() }),
                None => Ok(()),
            };
        }
        for import in &self.findings.imports {
            let provided = wasi_function(&import.module, &import.name);
            if provided.is_none() || provided != import.function {
                return Err(ModuleError::UnknownImport {
                    module: import.module.clone(),
                    name: import.name.clone(),
                    expected: match (&import.function, provided) {
                        (None, _) => " as something other than a function".into(),
                        (Some(_), Some(_)) => " with another type than WASI gives it".into(),
                        (Some(_), None) => String::new(),
                    },
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("digest", &self.digest)
            .field("needs", &self.findings.needs)
            .finish_non_exhaustive()
    }
}

/// The interfaces by which commands are entered.
const RUN: [&str; 2] = ["wasi:cli/run@0.2", "wasi:cli/run@0.3"];

/// The interfaces by which components are given HTTP requests.
const HANDLER: [&str; 2] = ["wasi:http/incoming-handler@0.2", "wasi:http/handler@0.3"];

/// The packages whose interfaces components may import, as they begin.
const INTERFACES: &[&str] =
    &["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random", "wasi:sockets"];

/// What to do with a component that cannot be run, if it can be served.
fn serve_it(exports: &[String]) -> &'static str {
    if exports.iter().any(|name| HANDLER.iter().any(|handler| is_of(name, handler))) {
        ", but answers HTTP requests (see `remuda serve`)"
    } else {
        ""
    }
}

/// Whether the name of an interface belongs to `wanted`: a package, or an interface with the first two numbers of its
/// version. Of a package, the interfaces of versions 0.2 and 0.3 do.
fn is_of(name: &str, wanted: &str) -> bool {
    let Some(rest) = name.strip_prefix(wanted) else { return false };
    if wanted.contains('@') {
        return rest.is_empty() || rest.starts_with('.');
    }
    rest.starts_with('/') && (is_of_version(rest, "0.2") || is_of_version(rest, "0.3"))
}

/// Whether the name of an interface has a version that begins with these two numbers.
fn is_of_version(name: &str, numbers: &str) -> bool {
    let version = name.split_once('@').and_then(|(_, version)| version.strip_prefix(numbers));
    version.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(feature = "wasi")]
fn wasi_function(module: &str, name: &str) -> Option<FunctionType> {
    let value_type = |ty: &remuda_wasi::Type| match ty {
        remuda_wasi::Type::I32 => ValueType::I32,
        remuda_wasi::Type::I64 => ValueType::I64,
    };
    let import = remuda_wasi::IMPORTS.iter().find(|import| import.module == module && import.name == name)?;
    Some(FunctionType {
        params: import.params.iter().map(value_type).collect(),
        results: import.result.iter().map(value_type).collect(),
    })
}

/// A build with no engine has no WASI either.
#[cfg(not(feature = "wasi"))]
fn wasi_function(_: &str, _: &str) -> Option<FunctionType> {
    None
}

/// The number of values that a block of this type takes from the operand stack.
fn params_of(resources: &ValidatorResources, ty: u32) -> usize {
    match resources.sub_type_at(ty).map(|ty| &ty.composite_type.inner) {
        Some(CompositeInnerType::Func(function)) => function.params().len(),
        _ => 0,
    }
}

fn within(what: &str, found: u64, limit: u64) -> Result<(), ModuleError> {
    if found > limit { Err(ModuleError::TooLarge { what: what.to_owned(), found, limit }) } else { Ok(()) }
}

/// Checks how the bytes begin, to say plainly what they are if they are no module.
fn check_preamble(bytes: &[u8]) -> Result<(), ModuleError> {
    match bytes {
        [0, b'a', b's', b'm', _, _, 0 | 1, 0, ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', ..] => Err(ModuleError::Precompiled),
        _ => Err(ModuleError::NotWasm { found: String::from_utf8_lossy(&bytes[..bytes.len().min(8)]).into_owned() }),
    }
}

fn invalid(error: &wasmparser::Error) -> ModuleError {
    ModuleError::Invalid { reason: error.message().to_owned(), offset: error.offset() }
}

/// What one pass over the module finds.
#[derive(Default)]
struct Scan {
    component: Option<Interfaces>,
    /// How many components and modules there are around the one that is being read.
    depth: usize,
    stats: ModuleStats,
    imports: Vec<Import>,
    functions: Vec<(String, FunctionType)>,
    exports_memory: bool,
    has_start: bool,
    /// The proposals that function bodies need, for their instructions and for the types that only they mention.
    bodies: Proposals,
    selects: Selects,
    points: points::Search,
    imported_functions: u32,
    allocations: FuncValidatorAllocations,
}

impl Scan {
    fn run(bytes: &[u8], limits: &ModuleLimits) -> Result<Self, ModuleError> {
        let every: Proposals = Proposal::ALL.iter().copied().collect();
        let mut validator = Validator::new_with_features(every.features());
        let mut scan = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| invalid(&error))?;
            // Bounds come first: a section that exceeds them is not even validated.
            scan.hold_against(&payload, limits)?;
            let valid = validator.payload(&payload).map_err(|error| invalid(&error))?;
            scan.collect_interfaces(&payload)?;
            match valid {
                ValidPayload::Func(function, body) => scan.function(function, &body, limits)?,
                ValidPayload::End(types) if scan.component.is_none() => scan.collect_exports(bytes, &types)?,
                _ => {}
            }
        }
        Ok(scan)
    }

    /// Notes whether this is a component, and what it imports and exports.
    fn collect_interfaces(&mut self, payload: &Payload<'_>) -> Result<(), ModuleError> {
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } if self.depth == 0 => {
                self.component = Some(Interfaces::default());
                self.bodies = self.bodies.union(Proposals::of(&[Proposal::ComponentModel]));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if self.depth == 0 => {
                for import in imports.clone() {
                    let name = import.map_err(|error| invalid(&error))?.name.name.to_owned();
                    self.collect_version(&name);
                    self.component.get_or_insert_default().imports.push(name);
                }
            }
            Payload::ComponentExportSection(exports) if self.depth == 0 => {
                for export in exports.clone() {
                    let name = export.map_err(|error| invalid(&error))?.name.name.to_owned();
                    self.collect_version(&name);
                    self.component.get_or_insert_default().exports.push(name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes what an interface's version needs: also those interfaces of WASI 0.3 that have no asynchronous functions come
    /// with the rest.
    fn collect_version(&mut self, interface: &str) {
        if interface.starts_with("wasi:") && is_of_version(interface, "0.3") {
            self.bodies = self.bodies.union(Proposals::of(&[Proposal::ComponentModelAsync]));
        }
    }

    fn hold_against(&mut self, payload: &Payload<'_>, limits: &ModuleLimits) -> Result<(), ModuleError> {
        match payload {
            Payload::TypeSection(types) => within("its number of types", types.count().into(), limits.types_max.into()),
            Payload::ImportSection(imports) => {
                let functions = imports
                    .clone()
                    .into_imports()
                    .filter(|import| import.as_ref().is_ok_and(|import| matches!(import.ty, TypeRef::Func(_))));
                self.imported_functions = u32::try_from(functions.count()).unwrap_or(u32::MAX);
                within("its number of imports", imports.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::FunctionSection(functions) => {
                self.stats.functions = self.stats.functions.saturating_add(functions.count());
                within("its number of functions", self.stats.functions.into(), limits.functions_max.into())
            }
            Payload::TableSection(tables) => {
                self.stats.tables = self.stats.tables.saturating_add(tables.count());
                within("its number of tables", self.stats.tables.into(), limits.memories_and_tables_max.into())
            }
            Payload::MemorySection(memories) => {
                // The validator does not tell shared memories and atomic instructions apart: both are valid with
                // threads.
                if memories.clone().into_iter().any(|memory| memory.is_ok_and(|memory| memory.shared)) {
                    self.bodies = self.bodies.union(Proposals::of(&[Proposal::Threads]));
                }
                self.stats.memories = self.stats.memories.saturating_add(memories.count());
                within("its number of memories", self.stats.memories.into(), limits.memories_and_tables_max.into())
            }
            Payload::GlobalSection(globals) => {
                for global in globals.clone().into_iter().filter(|_| self.component.is_none()) {
                    self.points.global(global.map_err(|error| invalid(&error))?.ty.content_type);
                }
                within("its number of globals", globals.count().into(), limits.globals_max.into())
            }
            Payload::ExportSection(exports) => {
                within("its number of exports", exports.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::ElementSection(elements) => {
                within("its number of element segments", elements.count().into(), limits.segments_max.into())
            }
            Payload::DataSection(data) => {
                within("its number of data segments", data.count().into(), limits.segments_max.into())
            }
            Payload::StartSection { .. } => {
                // A component's core modules are instantiated with it, and their start functions are its own concern.
                self.has_start = self.component.is_none();
                Ok(())
            }
            Payload::ComponentTypeSection(types) => {
                within("its number of types", types.count().into(), limits.types_max.into())
            }
            Payload::CoreTypeSection(types) => {
                within("its number of types", types.count().into(), limits.types_max.into())
            }
            Payload::ComponentImportSection(imports) => {
                within("its number of imports", imports.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::ComponentExportSection(exports) => {
                within("its number of exports", exports.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::ComponentAliasSection(aliases) => {
                within("its number of aliases", aliases.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::ComponentInstanceSection(instances) => {
                within("its number of instances", instances.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::InstanceSection(instances) => {
                within("its number of instances", instances.count().into(), limits.imports_and_exports_max.into())
            }
            Payload::ComponentCanonicalSection(functions) => {
                within("its number of functions", functions.count().into(), limits.functions_max.into())
            }
            Payload::CodeSectionEntry(body) => {
                let body_bytes = body.range().len() as u64;
                self.stats.code_bytes += body_bytes;
                within("a function's size in bytes", body_bytes, limits.function_bytes_max)
            }
            _ => Ok(()),
        }
    }

    fn function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        limits: &ModuleLimits,
    ) -> Result<(), ModuleError> {
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        let mut reader = body.get_binary_reader();
        validator.read_locals(&mut reader).map_err(|error| invalid(&error))?;
        within("a function's number of locals", validator.len_locals().into(), limits.locals_max.into())?;
        for local in body.get_locals_reader().map_err(|error| invalid(&error))? {
            let (_, ty) = local.map_err(|error| invalid(&error))?;
            self.bodies = self.bodies.union(proposals_of_type(ty));
        }
        let mut operators = body.get_operators_reader().map_err(|error| invalid(&error))?;
        let mut nesting = 0;
        let (loops_before, locals) = (self.stats.loops, validator.len_locals());
        let index = validator.index();
        let resources = validator.resources();
        let ty = resources.type_index_of_function(index).and_then(|ty| resources.sub_type_at(ty));
        let results = match ty.map(|ty| &ty.composite_type.inner) {
            Some(CompositeInnerType::Func(function)) => function.results(),
            _ => &[],
        };
        let local_type = |local| validator.get_local_type(local).unwrap_or(ValType::EXTERNREF);
        let finds_points = self.component.is_none();
        if finds_points {
            self.points.begin((0..locals).map(local_type), results);
        }
        let mut memory_grows = 0;
        self.selects.begin();
        while !operators.eof() {
            let offset = operators.original_position();
            let operator = operators.read().map_err(|error| invalid(&error))?;
            validator.op(offset, &operator).map_err(|error| invalid(&error))?;
            self.bodies = self.bodies.union(proposals_of(&operator));
            self.selects.next(offset, &operator);
            let params = match operator {
                Operator::Block { blockty: BlockType::FuncType(ty) }
                | Operator::Loop { blockty: BlockType::FuncType(ty) }
                | Operator::If { blockty: BlockType::FuncType(ty) } => params_of(validator.resources(), ty),
                _ => 0,
            };
            let (depth, height) = (validator.control_stack_height(), validator.operand_stack_height());
            let can_begin = params == 0 && height == 0;
            if finds_points {
                self.points.next(index, &operator, operators.original_position(), depth, params, can_begin);
            }
            match operator {
                Operator::Loop { .. } => self.stats.loops += 1,
                Operator::MemoryGrow { .. } => memory_grows += 1,
                Operator::TableGrow { .. } => self.stats.table_grows += 1,
                _ => {}
            }
            if let Operator::Loop { .. } | Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } =
                operator
            {
                nesting = nesting.max(validator.control_stack_height());
            }
        }
        operators.finish().map_err(|error| invalid(&error))?;
        if finds_points {
            self.points.end();
        }
        let locals_in_loops = u64::from(locals) * u64::from(self.stats.loops - loops_before);
        self.stats.locals_in_loops_per_function = self.stats.locals_in_loops_per_function.max(locals_in_loops);
        self.stats.memory_grows_per_function = self.stats.memory_grows_per_function.max(memory_grows);
        within("a function's nesting of blocks", nesting.into(), limits.nesting_max.into())?;
        self.allocations = validator.into_allocations();
        Ok(())
    }

    fn collect_exports(&mut self, bytes: &[u8], types: &wasmparser::types::Types) -> Result<(), ModuleError> {
        let types = types.as_ref();
        let function_type = |id: wasmparser::types::CoreTypeId| match &types[id].composite_type.inner {
            CompositeInnerType::Func(function) => Some(FunctionType {
                params: function.params().iter().copied().map(value_type).collect(),
                results: function.results().iter().copied().map(value_type).collect(),
            }),
            _ => None,
        };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| invalid(&error))? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(|error| invalid(&error))?;
                        self.imports.push(Import {
                            module: import.module.to_owned(),
                            name: import.name.to_owned(),
                            function: match import.ty {
                                TypeRef::Func(index) => function_type(types.core_type_at_in_module(index)),
                                _ => None,
                            },
                        });
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(|error| invalid(&error))?;
                        match export.kind {
                            ExternalKind::Func => {
                                if let Some(ty) = function_type(types.core_function_at(export.index)) {
                                    self.functions.push((export.name.to_owned(), ty));
                                }
                            }
                            ExternalKind::Memory => self.exports_memory |= export.name == "memory",
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn value_type(ty: ValType) -> ValueType {
    match ty {
        ValType::I32 => ValueType::I32,
        ValType::I64 => ValueType::I64,
        ValType::F32 => ValueType::F32,
        ValType::F64 => ValueType::F64,
        ValType::V128 => ValueType::V128,
        ValType::Ref(_) => ValueType::Reference,
    }
}

macro_rules! define_proposal_of {
    ($(@$group:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        /// The proposal that an instruction belongs to; `None` if that is WebAssembly 1.0, or a proposal that no engine
        /// here has.
        fn proposal_of(operator: &Operator<'_>) -> Option<Proposal> {
            match operator {
                $(Operator::$op { .. } => define_proposal_of!(@$group),)*
                _ => None,
            }
        }
    };
    (@sign_extension) => { Some(Proposal::SignExtension) };
    (@saturating_float_to_int) => { Some(Proposal::SaturatingFloatToInt) };
    (@bulk_memory) => { Some(Proposal::BulkMemory) };
    (@reference_types) => { Some(Proposal::ReferenceTypes) };
    (@tail_call) => { Some(Proposal::TailCall) };
    (@threads) => { Some(Proposal::Atomics) };
    (@simd) => { Some(Proposal::Simd) };
    (@relaxed_simd) => { Some(Proposal::RelaxedSimd) };
    (@exceptions) => { Some(Proposal::Exceptions) };
    (@function_references) => { Some(Proposal::FunctionReferences) };
    (@gc) => { Some(Proposal::Gc) };
    (@wide_arithmetic) => { Some(Proposal::WideArithmetic) };
    (@$other:ident) => { None };
}
wasmparser::for_each_operator!(define_proposal_of);

/// The proposals of an instruction and of the types that it mentions.
fn proposals_of(operator: &Operator<'_>) -> Proposals {
    let of_types = match operator {
        Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
            proposals_of_block(*blockty)
        }
        Operator::TryTable { try_table } => proposals_of_block(try_table.ty),
        Operator::TypedSelect { ty } => proposals_of_type(*ty),
        Operator::TypedSelectMulti { tys } => {
            tys.iter().fold(Proposals::default(), |all, ty| all.union(proposals_of_type(*ty)))
        }
        Operator::RefNull { hty } => proposals_of_heap_type(*hty),
        Operator::TableGrow { .. } => Proposals::of(&[Proposal::TableGrow]),
        _ => Proposals::default(),
    };
    of_types.union(proposal_of(operator).into_iter().collect())
}

fn proposals_of_block(ty: BlockType) -> Proposals {
    match ty {
        BlockType::Type(ty) => proposals_of_type(ty),
        BlockType::Empty => Proposals::default(),
        // The types that the function's type mentions are in the type section, and count there.
        BlockType::FuncType(_) => Proposals::of(&[Proposal::MultiValue]),
    }
}

fn proposals_of_type(ty: ValType) -> Proposals {
    match ty {
        ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64 => Proposals::default(),
        ValType::V128 => Proposals::of(&[Proposal::Simd]),
        ValType::Ref(ty) if ty.is_nullable() => proposals_of_heap_type(ty.heap_type()),
        ValType::Ref(ty) => proposals_of_heap_type(ty.heap_type()).with(&[Proposal::FunctionReferences]),
    }
}

fn proposals_of_heap_type(ty: HeapType) -> Proposals {
    use AbstractHeapType as Heap;
    let HeapType::Abstract { ty, .. } = ty else {
        return Proposals::of(&[Proposal::FunctionReferences]);
    };
    Proposals::of(match ty {
        Heap::Func => &[Proposal::ReferenceTypes],
        Heap::Extern => &[Proposal::Externref],
        Heap::Exn | Heap::NoExn => &[Proposal::Externref, Proposal::Exceptions],
        // Continuations are of a proposal that no engine here has: the validator refuses them.
        _ => &[Proposal::Externref, Proposal::Gc],
    })
}

/// The proposals that a valid module needs: those of its function bodies, and those without which its sections do not
/// validate.
///
/// Function bodies are not validated again: what a body can use without naming it (a second memory, say) shows in the
/// section that declares it.
fn needs(bytes: &[u8], bodies: Proposals) -> Proposals {
    if sections_validate(bytes, bodies) {
        return bodies;
    }
    let common = bodies.union(Proposals::BASE);
    let enough = if sections_validate(bytes, common) { common } else { Proposal::ALL.iter().copied().collect() };
    // Proposals are dropped one after the other, not each for itself: a typed reference is valid with
    // function-references and with gc, so that neither alone is necessary. Larger proposals come later in the list, and
    // are dropped first.
    let droppable = enough.without(bodies);
    Proposal::ALL.iter().rev().filter(|proposal| droppable.contains(**proposal)).fold(enough, |needs, proposal| {
        let fewer = needs.without(Proposals::of(&[*proposal]));
        if sections_validate(bytes, fewer) { fewer } else { needs }
    })
}

fn sections_validate(bytes: &[u8], proposals: Proposals) -> bool {
    let mut validator = Validator::new_with_features(proposals.features());
    Parser::new(0).parse_all(bytes).all(|payload| payload.is_ok_and(|payload| validator.payload(&payload).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Module, ModuleError> {
        Module::parse(wat::parse_str(text).expect("the test's text is WebAssembly"), &ModuleLimits::default())
    }

    #[test]
    fn needs_are_read_from_instructions_and_sections() {
        for (text, needed) in [
            ("(module (func (nop)))", None),
            ("(module (func (param i32) (result i32) (i32.extend8_s (local.get 0))))", Some(Proposal::SignExtension)),
            ("(module (func (drop (v128.const i64x2 0 0))))", Some(Proposal::Simd)),
            ("(module (memory 1) (memory 1))", Some(Proposal::MultiMemory)),
            ("(module (memory i64 1))", Some(Proposal::Memory64)),
            ("(module (func $f (return_call $f)))", Some(Proposal::TailCall)),
            ("(module (memory 1 1 shared))", Some(Proposal::Threads)),
            ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", Some(Proposal::Atomics)),
            ("(module (tag) (func (throw 0)))", Some(Proposal::Exceptions)),
            ("(module (global i32 (i32.add (i32.const 1) (i32.const 2))))", Some(Proposal::ExtendedConst)),
            ("(module (type (struct (field i32))))", Some(Proposal::Gc)),
            ("(module (func (try_table)))", Some(Proposal::Exceptions)),
            ("(module (func (local v128)))", Some(Proposal::Simd)),
            ("(module (func (local externref)))", Some(Proposal::Externref)),
            ("(module (table 1 externref))", Some(Proposal::Externref)),
            ("(module (func (drop (ref.null extern))))", Some(Proposal::Externref)),
            ("(module (func (local eqref)))", Some(Proposal::Gc)),
            ("(module (func (block (result (ref null 0)) (unreachable)) (drop)))", Some(Proposal::FunctionReferences)),
            ("(module (type (func)) (table 1 (ref null 0)))", Some(Proposal::FunctionReferences)),
            ("(module (table 1 funcref) (func (param funcref)))", Some(Proposal::ReferenceTypes)),
            ("(module (table 1 funcref) (table 1 funcref))", Some(Proposal::ReferenceTypes)),
            ("(module (func (result i32 i32) (i32.const 1) (i32.const 2)))", Some(Proposal::MultiValue)),
            ("(module (func (i32.const 1) (block (param i32) (drop))))", Some(Proposal::MultiValue)),
            ("(module (memory 1) (data \"passive\"))", Some(Proposal::BulkMemory)),
            ("(module (global (export \"g\") (mut i32) (i32.const 0)))", Some(Proposal::MutableGlobals)),
        ] {
            let module = parse(text).unwrap();
            match needed {
                None => assert!(module.needs().is_empty(), "{text}: {}", module.needs()),
                Some(proposal) => assert!(module.needs().contains(proposal), "{text}: {}", module.needs()),
            }
            // The module is valid with the proposals that it is said to need, function bodies included.
            let features = module.needs().union(Proposals::BASE).features();
            Validator::new_with_features(features).validate_all(module.bytes()).unwrap();
            assert!(!module.needs().contains(Proposal::WideArithmetic), "{text}: {}", module.needs());
        }
    }

    #[test]
    fn atomic_instructions_are_no_shared_memory_and_do_not_hide_one() {
        let load = "(func (drop (i32.atomic.load (i32.const 0))))";
        for (memory, shared) in [("(memory 1)", false), ("(memory 1 1 shared)", true)] {
            // With and without a proposal that only the sections show.
            for more in ["", "(table 1 externref)"] {
                let needs = parse(&format!("(module {memory} {more} {load})")).unwrap().needs();
                assert!(needs.contains(Proposal::Atomics), "{memory} {more}: {needs}");
                assert_eq!(needs.contains(Proposal::Threads), shared, "{memory} {more}: {needs}");
            }
        }
    }

    #[test]
    fn locals_in_loops_are_counted_function_by_function() {
        let module = parse(
            "(module (func (param i32) (local i64 i64) (loop) (loop (loop)))
                     (func (local i32) (loop (loop (loop (loop)))))
                     (func (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))",
        );
        let stats = module.unwrap().stats();
        assert_eq!((stats.loops, stats.locals_in_loops_per_function), (7, 9));
    }

    #[test]
    fn bounds_are_checked_before_anything_is_compiled() {
        let limits = ModuleLimits {
            functions_max: 2,
            locals_max: 3,
            nesting_max: 4,
            types_max: 3,
            function_bytes_max: 64,
            ..ModuleLimits::default()
        };
        for (text, what) in [
            ("(module (func) (func) (func))", "functions"),
            ("(module (func (local i32 i32 i32 i32)))", "locals"),
            ("(module (func (block (block (block (block))))))", "nesting"),
            (
                "(module (type (func)) (type (func (param i32))) (type (func (param i64))) (type (func (param f32))))",
                "types",
            ),
        ] {
            let error = Module::parse(wat::parse_str(text).unwrap(), &limits).unwrap_err();
            assert!(matches!(&error, ModuleError::TooLarge { .. }), "{text}: {error}");
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
        let long = format!("(module (func {}))", "(nop)".repeat(100));
        let error = Module::parse(wat::parse_str(long).unwrap(), &limits).unwrap_err();
        assert!(error.to_string().contains("a function's size"), "{error}");
    }

    #[test]
    fn components_are_known_by_their_interfaces() {
        let command = r#"(component
            (core module $m (func (export "f") (loop)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "f")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.3" (instance $cli)))"#;
        // The core function would have to return a discriminant.
        assert!(matches!(parse(command), Err(ModuleError::Invalid { .. })));
        let command = command.replace("(loop)", "(result i32) (loop) i32.const 0");
        let component = parse(&command).unwrap();
        assert!(component.is_component() && component.is_command() && !component.has_points());
        assert!(component.needs().contains(Proposal::ComponentModel));
        assert_eq!((component.stats().functions, component.stats().loops), (1, 1));
        assert_eq!(component.check_entry(&Entry::Command), Ok(()));
        assert_eq!(component.check_entry(&Entry::Initialize), Err(EntryError::OnlyInterfaces));
        for (name, is_provided) in [
            ("wasi:io/streams@0.2.3", true),
            ("wasi:io/streams@0.2", true),
            ("wasi:io/streams@0.20.0", false),
            ("wasi:io/streams@0.4.0", false),
            ("wasi:iot/streams@0.2.0", false),
            ("wasi:http/types@0.2.0", true),
            ("wasi:http/types@0.3.0", true),
            ("wasi:http/types@0.30.0", false),
            ("my:own/thing@0.2.0", false),
        ] {
            assert_eq!(INTERFACES.iter().any(|interface| is_of(name, interface)), is_provided, "{name}");
        }
        let error = parse(r#"(component (import "my:own/thing" (instance)))"#).unwrap_err();
        assert!(matches!(error, ModuleError::UnknownInterface { .. }), "{error}");
        let empty = parse("(component)").unwrap();
        assert!(matches!(empty.check_entry(&Entry::Command), Err(EntryError::NoRun { .. })));
        assert!(matches!(empty.check_entry(&Entry::HttpHandler), Err(EntryError::NoHandler { .. })));
        assert!(!component.is_http_handler());
        let handler = r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.12" (instance $i)))"#;
        let handler = parse(handler).unwrap();
        assert!(handler.is_http_handler() && !handler.is_command());
        assert_eq!(handler.check_entry(&Entry::HttpHandler), Ok(()));
        let error = handler.check_entry(&Entry::Command).unwrap_err().to_string();
        assert!(error.contains("remuda serve"), "{error}");
        // Bounds hold for all core modules together.
        let limits = ModuleLimits { functions_max: 3, ..ModuleLimits::default() };
        let twice = "(component (core module (func) (func)) (core module (func) (func)))";
        let error = Module::parse(wat::parse_str(twice).unwrap(), &limits).unwrap_err();
        assert!(matches!(error, ModuleError::TooLarge { found: 4, .. }), "{error}");
    }

    #[test]
    fn what_is_no_module_is_named() {
        let limits = ModuleLimits::default();
        assert!(matches!(Module::parse(&b""[..], &limits), Err(ModuleError::NotWasm { .. })));
        assert!(matches!(Module::parse(&b"#!/bin/sh"[..], &limits), Err(ModuleError::NotWasm { .. })));
        assert_eq!(Module::parse(&b"\x7fELF\x02\x01\x01"[..], &limits).unwrap_err(), ModuleError::Precompiled);
        let truncated = wat::parse_str("(module (func (drop (i32.const 1))))").unwrap();
        for end in 8..truncated.len() {
            match Module::parse(truncated[..end].to_vec(), &limits) {
                Err(ModuleError::Invalid { .. }) => {}
                // A cut between two sections leaves a smaller module, which may be valid.
                Ok(module) => assert_eq!(module.stats().code_bytes, 0),
                Err(other) => panic!("cut at {end}: {other}"),
            }
        }
    }

    #[test]
    fn imports_that_nobody_provides_are_refused_by_name() {
        let error = parse(r#"(module (import "env" "puts" (func (param i32))))"#).unwrap_err();
        assert!(error.to_string().contains("\"env\" \"puts\""), "{error}");
        let error = parse(r#"(module (import "wasi_snapshot_preview1" "fd_close" (memory 1)))"#).unwrap_err();
        assert!(error.to_string().contains("something other than a function"), "{error}");
    }

    #[test]
    fn entries_are_checked_with_a_way_out() {
        let module = parse(r#"(module (func (export "add") (param i32 i32) (result i32) (i32.const 0)))"#).unwrap();
        assert!(matches!(module.check_entry(&Entry::Command), Err(EntryError::NoStart { .. })));
        let call = |name: &str, args| Entry::Export { name: name.into(), args };
        let one = remuda_model::Value::I32(1);
        assert_eq!(module.check_entry(&call("add", vec![one, one])), Ok(()));
        assert!(matches!(module.check_entry(&call("add", vec![one])), Err(EntryError::Arity { .. })));
        assert!(matches!(module.check_entry(&call("sub", vec![])), Err(EntryError::NoSuchExport { .. })));
        assert_eq!(module.check_entry(&Entry::Initialize), Ok(()));
        assert_eq!(module.default_function(), None);
        let wrong = vec![one, remuda_model::Value::F64(1.0)];
        assert!(matches!(module.check_entry(&call("add", wrong)), Err(EntryError::ArgumentType { position: 2, .. })));
        let module =
            parse(r#"(module (func (export "_initialize") (param i32)) (func (export "_start")) (func (export "")))"#);
        let module = module.unwrap();
        assert_eq!(module.default_function(), Some(""));
        for entry in [Entry::Command, Entry::Initialize, call("_start", vec![])] {
            assert_eq!(module.check_entry(&entry), Err(EntryError::Initialize), "{entry:?}");
        }
        let module =
            parse(r#"(module (func (export "_start") (param i32 funcref) (result externref) unreachable))"#).unwrap();
        let error = module.check_entry(&call("_start", vec![one])).unwrap_err();
        assert!(matches!(error, EntryError::NotCallable { position: 2, .. }), "{error}");
    }
}
