//! The WebAssembly side: a module's functions with their names, their loops and their operators.

use std::collections::HashMap;
use std::ops::Range;

use serde::Serialize;
use wasmparser::{Encoding, ExternalKind, FunctionBody, KnownCustom, Name, Operator, Parser, Payload, TypeRef};

/// What of a module is needed to name its functions and to find their loops.
#[derive(Debug)]
pub struct Source {
    bytes: Vec<u8>,
    imported_functions: u32,
    /// What the imported functions are called where they come from.
    imports: Vec<String>,
    /// The ranges of the functions' bodies in the module's bytes.
    bodies: Vec<Range<usize>>,
    /// For each function with a name, its names: that of the name section first, then those of exports.
    names: HashMap<u32, Vec<String>>,
}

/// A loop of WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceLoop {
    /// The offset of the operator `loop` in the module's bytes.
    pub start: u32,
    /// The offset of the loop's `end`.
    pub end: u32,
    /// The index of the loop right around this one.
    pub parent: Option<usize>,
    /// 1 for a loop in no other.
    pub depth: u32,
    /// Whether there is no other loop in it.
    pub is_innermost: bool,
    /// Whether anything jumps back to its head. If nothing does, compilers make no loop of it.
    pub repeats: bool,
}

/// An operator of WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceOperator {
    /// Its offset in the module's bytes.
    pub offset: u32,
    /// How many blocks it is in.
    pub nesting: u32,
    /// The operator as in the text format, without types of blocks.
    pub text: String,
    /// The innermost loop that it is in; a `loop` is in itself.
    #[serde(rename = "loop")]
    pub in_loop: Option<usize>,
}

/// The body of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFunction {
    /// Its loops, in the order of the code.
    pub loops: Vec<SourceLoop>,
    /// Its operators, in order.
    pub operators: Vec<SourceOperator>,
}

/// Why a function cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The bytes are no core module.
    #[error("the module cannot be read: {0}")]
    Malformed(String),
    /// A component has no functions of its own.
    #[error(
        "this is a component, which has no machine code of its own but that of the core modules in it; take one out \
         (`wasm-tools component unbundle`, say) and inspect that"
    )]
    Component,
    /// The module has no code.
    #[error("the module defines no functions, so there is no machine code")]
    NoFunctions,
    /// The function is an import.
    #[error(
        "function {index} is imported ({name}), so its code is the host's; the functions of the module itself have the \
         indices {first} to {last}"
    )]
    Imported {
        /// The function's index.
        index: u32,
        /// What it imports.
        name: String,
        /// The first function that the module defines.
        first: u32,
        /// The last function that the module defines.
        last: u32,
    },
    /// There is no such function.
    #[error("there is no function {index}; the functions of the module itself have the indices {first} to {last}")]
    OutOfRange {
        /// The index that was asked for.
        index: u32,
        /// The first function that the module defines.
        first: u32,
        /// The last function that the module defines.
        last: u32,
    },
    /// No function has this name.
    #[error("no function is named {name:?}; {hint}")]
    NoSuchName {
        /// The name that was asked for.
        name: String,
        /// What to do.
        hint: String,
    },
    /// Several functions have this name.
    #[error("{} functions are named {name:?}: give one of the indices {}", indices.len(), list(indices))]
    Ambiguous {
        /// The name that was asked for.
        name: String,
        /// The functions that have it.
        indices: Vec<u32>,
    },
}

fn list(indices: &[u32]) -> String {
    const SHOWN: usize = 10;
    let mut words: Vec<String> = indices.iter().take(SHOWN).map(u32::to_string).collect();
    if indices.len() > SHOWN {
        words.push("...".into());
    }
    words.join(", ")
}

impl From<wasmparser::Error> for SourceError {
    fn from(error: wasmparser::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl Source {
    /// Reads a module in the binary format. The module should be valid; of one that is not comes an error or a
    /// description of what could be read.
    ///
    /// # Errors
    ///
    /// [`SourceError::Component`], [`SourceError::Malformed`], or [`SourceError::NoFunctions`].
    pub fn of(bytes: &[u8]) -> Result<Self, SourceError> {
        let mut source = Self {
            bytes: bytes.to_vec(),
            imported_functions: 0,
            imports: Vec::new(),
            bodies: Vec::new(),
            names: HashMap::new(),
        };
        let mut imports = Vec::new();
        let mut exports = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding: Encoding::Component, .. } => return Err(SourceError::Component),
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if matches!(import.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                            imports.push(format!("{}.{}", import.module, import.name));
                        }
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if matches!(export.kind, ExternalKind::Func) {
                            exports.push((export.index, export.name.to_owned()));
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => source.bodies.push(body.range()),
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        source.read_names(names);
                    }
                }
                _ => {}
            }
        }
        source.imported_functions = u32::try_from(imports.len()).unwrap_or(u32::MAX);
        for (index, name) in (0..).zip(&imports) {
            source.names.entry(index).or_default().push(name.clone());
        }
        source.imports = imports;
        for (index, name) in exports {
            let names = source.names.entry(index).or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if source.bodies.is_empty() {
            return Err(SourceError::NoFunctions);
        }
        Ok(source)
    }

    /// Takes names as far as the section can be read: engines ignore a broken one, too.
    fn read_names(&mut self, names: wasmparser::NameSectionReader<'_>) {
        for section in names {
            let Ok(section) = section else { return };
            let Name::Function(functions) = section else { continue };
            for naming in functions {
                let Ok(naming) = naming else { return };
                self.names.entry(naming.index).or_default().push(naming.name.to_owned());
            }
        }
    }

    /// The indices of the functions that the module defines.
    #[must_use]
    pub fn functions(&self) -> Range<u32> {
        let count = u32::try_from(self.bodies.len()).unwrap_or(u32::MAX);
        self.imported_functions..self.imported_functions.saturating_add(count)
    }

    /// The name of a function, if it has one.
    #[must_use]
    pub fn name(&self, function: u32) -> Option<&str> {
        self.names.get(&function)?.first().map(String::as_str)
    }

    /// The range of a function's body in the module's bytes.
    #[must_use]
    pub fn body(&self, function: u32) -> Option<Range<usize>> {
        self.bodies.get(function.checked_sub(self.imported_functions)? as usize).cloned()
    }

    /// The function that somebody means by an index or a name.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such function, if it is imported, or if several have the name.
    pub fn find(&self, wanted: &str) -> Result<u32, SourceError> {
        let Range { start: first, end } = self.functions();
        let last = end.saturating_sub(1);
        let index = match wanted.parse::<u32>() {
            Ok(index) => index,
            Err(_) => self.named(wanted)?,
        };
        if index >= end {
            return Err(SourceError::OutOfRange { index, first, last });
        }
        if index < first {
            let name = self.imports.get(index as usize).cloned().unwrap_or_default();
            return Err(SourceError::Imported { index, name, first, last });
        }
        Ok(index)
    }

    fn named(&self, name: &str) -> Result<u32, SourceError> {
        let mut indices: Vec<u32> = self
            .names
            .iter()
            .filter(|(_, names)| names.iter().any(|has| has == name))
            .map(|(index, _)| *index)
            .collect();
        indices.sort_unstable();
        match *indices.as_slice() {
            [only] => Ok(only),
            [] => Err(SourceError::NoSuchName { name: name.to_owned(), hint: self.hint(name) }),
            _ => Err(SourceError::Ambiguous { name: name.to_owned(), indices }),
        }
    }

    fn hint(&self, name: &str) -> String {
        const SHOWN: usize = 8;
        let functions = self.functions();
        let mut similar: Vec<&str> = self
            .names
            .iter()
            .filter(|(index, _)| functions.contains(index))
            .flat_map(|(_, names)| names)
            .map(String::as_str)
            .filter(|has| has.contains(name))
            .collect();
        similar.sort_unstable();
        similar.dedup();
        let named = self.names.keys().filter(|index| functions.contains(index)).count();
        let range = format!("give an index from {} to {}", functions.start, functions.end.saturating_sub(1));
        match similar.len() {
            0 if named == 0 => format!("the module names no function (it is stripped): {range}"),
            0 => format!("{range}, or leave --function out for a list"),
            1..=SHOWN => format!("do you mean {}?", similar.join(" or ")),
            more => format!("{more} names contain it, {} among them", similar[..SHOWN].join(", ")),
        }
    }

    /// The number of a function's loops.
    pub(crate) fn loops(&self, function: u32) -> Result<usize, SourceError> {
        let range = self.body(function).unwrap_or_default();
        let body = FunctionBody::new(wasmparser::BinaryReader::new(&self.bytes[range.clone()], range.start));
        let mut operators = body.get_operators_reader()?;
        let mut loops = 0;
        while !operators.eof() {
            loops += usize::from(matches!(operators.read()?, Operator::Loop { .. }));
        }
        Ok(loops)
    }

    /// Reads the body of a function.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such body, or if it cannot be read.
    pub fn function(&self, function: u32) -> Result<SourceFunction, SourceError> {
        let Range { start: first, end } = self.functions();
        let out_of_range = SourceError::OutOfRange { index: function, first, last: end.saturating_sub(1) };
        let range = self.body(function).ok_or(out_of_range)?;
        let body = FunctionBody::new(wasmparser::BinaryReader::new(&self.bytes[range.clone()], range.start));
        let mut read = Reading::default();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let offset = u32::try_from(operators.original_position()).unwrap_or(u32::MAX);
            let operator = operators.read()?;
            read.take(offset, &operator);
        }
        for index in 0..read.found.loops.len() {
            if let Some(parent) = read.found.loops[index].parent {
                read.found.loops[parent].is_innermost = false;
            }
        }
        Ok(read.found)
    }
}

#[derive(Default)]
struct Reading {
    found: SourceFunction,
    /// For each open block, the loop that it is, if it is one.
    open: Vec<Option<usize>>,
    loops: Vec<usize>,
    /// The number of open blocks when control could last not come here; `None` if it can.
    dead_in: Option<usize>,
}

impl Reading {
    fn take(&mut self, offset: u32, operator: &Operator<'_>) {
        let nesting = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        match operator {
            Operator::Loop { .. } => {
                let index = self.found.loops.len();
                let parent = self.loops.last().copied();
                let depth = parent.map_or(1, |parent| self.found.loops[parent].depth + 1);
                self.found.loops.push(SourceLoop {
                    start: offset,
                    end: offset,
                    parent,
                    depth,
                    is_innermost: true,
                    repeats: false,
                });
                self.open.push(Some(index));
                self.loops.push(index);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } | Operator::Try { .. } => {
                self.open.push(None);
            }
            _ => {}
        }
        self.jumps(operator);
        let outdent = matches!(operator, Operator::End | Operator::Else | Operator::Catch { .. } | Operator::CatchAll);
        let in_loop = self.loops.last().copied();
        let nesting = if outdent { nesting.saturating_sub(1) } else { nesting };
        self.found.operators.push(SourceOperator { offset, nesting, text: text(operator), in_loop });
        match operator {
            Operator::End | Operator::Delegate { .. } => {
                if let Some(Some(closed)) = self.open.pop() {
                    self.found.loops[closed].end = offset;
                    self.loops.pop();
                }
                if self.dead_in.is_some_and(|open| open > self.open.len()) {
                    self.dead_in = None;
                }
            }
            Operator::Else if self.dead_in == Some(self.open.len()) => self.dead_in = None,
            Operator::Br { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef
                if self.dead_in.is_none() =>
            {
                self.dead_in = Some(self.open.len());
            }
            _ => {}
        }
    }

    /// Notes to which loops an operator jumps back.
    fn jumps(&mut self, operator: &Operator<'_>) {
        if self.dead_in.is_some() {
            return;
        }
        match operator {
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth }
            | Operator::BrOnCast { relative_depth, .. }
            | Operator::BrOnCastFail { relative_depth, .. } => self.jump(*relative_depth),
            Operator::BrTable { targets } => {
                for target in targets.targets().flatten().chain([targets.default()]) {
                    self.jump(target);
                }
            }
            _ => {}
        }
    }

    fn jump(&mut self, relative_depth: u32) {
        let block = self.open.len().checked_sub(1).and_then(|last| last.checked_sub(relative_depth as usize));
        if let Some(Some(index)) = block.and_then(|block| self.open.get(block)) {
            self.found.loops[*index].repeats = true;
        }
    }
}

/// The operator in the words of the text format, with its immediates.
fn text(operator: &Operator<'_>) -> String {
    macro_rules! text {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match operator {
                $( Operator::$op $({ $($arg),* })? => {
                    #[allow(unused_mut)]
                    let mut text = name(stringify!($visit));
                    $($( text.push_str(&immediate(stringify!($arg), &format!("{:?}", $arg))); )*)?
                    text
                } )*
                _ => "an unknown operator".to_owned(),
            }
        };
    }
    wasmparser::for_each_operator!(text)
}

/// The text format's name of an operator, from that of the method that visits it.
fn name(visit: &str) -> String {
    /// Names that begin with one of these have a point behind it.
    const DOTTED: [&str; 22] = [
        "i32", "i64", "f32", "f64", "v128", "i8x16", "i16x8", "i32x4", "i64x2", "f32x4", "f64x2", "local", "global",
        "memory", "table", "ref", "data", "elem", "struct", "array", "any", "extern",
    ];
    let name = visit.strip_prefix("visit_").unwrap_or(visit);
    match name {
        "typed_select" | "typed_select_multi" => return "select".to_owned(),
        _ => {}
    }
    let Some((first, rest)) = name.split_once('_') else { return name.to_owned() };
    if !DOTTED.contains(&first) {
        return name.to_owned();
    }
    // i32.atomic.rmw8.add_u
    let rest = match rest.strip_prefix("atomic_") {
        Some(rest) if rest.starts_with("rmw") => format!("atomic.{}", rest.replacen('_', ".", 1)),
        Some(rest) => format!("atomic.{rest}"),
        None => rest.to_owned(),
    };
    format!("{first}.{rest}")
}

/// An immediate as the text format has it; what only the binary format needs is left out.
fn immediate(field: &str, debug: &str) -> String {
    let digits = |text: &str| text.chars().filter(|c| c.is_ascii_digit() || *c == '-').collect::<String>();
    match field {
        "blockty" | "try_table" | "ty" | "tys" | "hty" | "lanes" => String::new(),
        "memarg" => {
            let part =
                |name: &str| debug.split(name).nth(1).map(|rest| rest.split([',', ' ', '}']).next().unwrap_or(""));
            let value = |name| part(name).filter(|value| !value.is_empty() && *value != "0");
            let offset = value("offset: ").map(|offset| format!(" offset={offset}")).unwrap_or_default();
            let memory = value("memory: ").map(|memory| format!(" memory={memory}")).unwrap_or_default();
            format!("{memory}{offset}")
        }
        "targets" => " ...".to_owned(),
        "value" if debug.starts_with("Ieee") => format!(" {}", float(debug, &digits)),
        "table_index" | "mem" | "table" | "src_mem" | "dst_mem" if debug == "0" => String::new(),
        _ => format!(" {debug}"),
    }
}

/// A floating-point constant, which the parser gives as bits.
fn float(debug: &str, digits: &dyn Fn(&str) -> String) -> String {
    let bits = debug.split_once('(').map(|(_, bits)| digits(bits)).unwrap_or_default();
    if debug.starts_with("Ieee32") {
        bits.parse().map(|bits| f32::from_bits(bits).to_string().to_lowercase()).unwrap_or_default()
    } else {
        bits.parse().map(|bits| f64::from_bits(bits).to_string().to_lowercase()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<Source, SourceError> {
        Source::of(&wat::parse_str(text).expect("a module"))
    }

    #[test]
    fn operators_are_named_as_in_the_text_format() {
        let text = "(module (memory 1 1 shared) (func $f (param i32) (result i32)
            i32.const 3 i32.const -4 i32.atomic.rmw8.add_u
            f64.const 1.5 drop local.get 0 i32.load offset=8 i32.add
            i32.trunc_sat_f64_s drop br_if 0 return unreachable call $f call_indirect memory.grow ref.null func)
            (table 1 funcref) (type (func)))";
        let Ok(bytes) = wat::parse_str(text) else { panic!("no module") };
        let source = Source::of(&bytes).unwrap();
        let function = source.function(0).unwrap();
        let words: Vec<&str> = function.operators.iter().map(|operator| operator.text.as_str()).collect();
        assert_eq!(
            words[..8],
            [
                "i32.const 3",
                "i32.const -4",
                "i32.atomic.rmw8.add_u",
                "f64.const 1.5",
                "drop",
                "local.get 0",
                "i32.load offset=8",
                "i32.add",
            ]
        );
        assert_eq!(words[8..14], ["i32.trunc_sat_f64_s", "drop", "br_if 0", "return", "unreachable", "call 0"]);
        assert_eq!(words[15], "memory.grow");
    }

    #[test]
    fn loops_nest_and_say_whether_they_repeat() {
        let text = "(module (func (param i32)
            loop $a loop $b (br_if $b (local.get 0)) end (br_if $a (local.get 0)) end
            loop $c end
            loop $d unreachable br $d end))";
        let loops = source(text).unwrap().function(0).unwrap().loops;
        let found: Vec<_> = loops.iter().map(|it| (it.parent, it.depth, it.is_innermost, it.repeats)).collect();
        assert_eq!(
            found,
            [(None, 1, false, true), (Some(0), 2, true, true), (None, 1, true, false), (None, 1, true, false),]
        );
        assert!(loops[0].start < loops[1].start && loops[1].end < loops[0].end);
    }

    #[test]
    fn functions_are_found_by_index_and_by_name() {
        let text = r#"(module (import "host" "f" (func)) (func $one) (func $two (export "out")))"#;
        let found = source(text).unwrap();
        assert_eq!(found.functions(), 1..3);
        assert_eq!(found.find("one"), Ok(1));
        assert_eq!(found.find("out"), Ok(2));
        assert_eq!(found.find("2"), Ok(2));
        for (wanted, words) in [
            ("0", "function 0 is imported (host.f)"),
            ("host.f", "function 0 is imported (host.f)"),
            ("3", "there is no function 3; the functions of the module itself have the indices 1 to 2"),
            ("ou", "do you mean out?"),
            ("three", "give an index from 1 to 2, or leave --function out"),
            ("-1", "no function is named \"-1\""),
            ("", "names contain it"),
        ] {
            let said = found.find(wanted).unwrap_err().to_string();
            assert!(said.contains(words) || wanted.is_empty(), "{wanted}: {said}");
        }
    }

    #[test]
    fn a_name_that_two_functions_have_is_no_answer() {
        // The name section may name two functions alike; an export may have the name of another function.
        let text = r#"(module (func $f) (func (export "f")))"#;
        let error = source(text).unwrap().find("f").unwrap_err();
        assert_eq!(error, SourceError::Ambiguous { name: "f".into(), indices: vec![0, 1] });
        assert!(error.to_string().contains("give one of the indices 0, 1"), "{error}");
    }

    #[test]
    fn what_has_no_code_is_refused() {
        assert_eq!(source("(module)").unwrap_err(), SourceError::NoFunctions);
        assert_eq!(source("(component)").unwrap_err(), SourceError::Component);
        assert!(matches!(Source::of(b"\0asm\x01\0\0\0\x0a"), Err(SourceError::Malformed(_))));
        let stripped = Source::of(&wat::parse_str("(module (func))").unwrap()).unwrap();
        assert!(stripped.find("main").unwrap_err().to_string().contains("it is stripped"));
    }
}
