//! The orders, one after the other.

use std::any::Any;
use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

use bytes::{Buf as _, BufMut as _};

use crate::connection::{put_bytes, take_text};
use crate::host::{self, HostFunction, Type, connection};
use crate::stop;

/// The version of the protocol.
const PROTOCOL: u32 = 2;

/// The name of an exported global that is not 0 once growth of the memory was refused.
const REFUSED: &str = "\0remuda refused";

pub(crate) mod order {
    pub(crate) const LINK: u8 = 1;
    pub(crate) const COMPILE: u8 = 2;
    pub(crate) const FORGET: u8 = 3;
    pub(crate) const INSTANTIATE: u8 = 4;
    pub(crate) const CALL: u8 = 5;
    pub(crate) const RETURN: u8 = 6;
    pub(crate) const DROP: u8 = 8;
    pub(crate) const SERIALIZE: u8 = 9;
    pub(crate) const LOAD: u8 = 10;
    pub(crate) const CODE: u8 = 11;
}

pub(crate) mod report {
    pub(crate) const HELLO: u8 = 64;
    pub(crate) const COMPILED: u8 = 65;
    pub(crate) const REFUSED: u8 = 66;
    pub(crate) const READY: u8 = 67;
    pub(crate) const IMPORT: u8 = 68;
    pub(crate) const RETURNED: u8 = 69;
    pub(crate) const ENDED: u8 = 70;
    pub(crate) const SERIALIZED: u8 = 71;
    pub(crate) const CODE: u8 = 72;
}

/// How a guest ended that did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The host has ended it within a call.
    Unwound = 0,
    /// It was stopped by a signal.
    Interrupted = 1,
    /// `unreachable`
    Unreachable = 2,
    /// A load, store or bulk operation outside the memory.
    MemoryOutOfBounds = 3,
    /// A table access outside a table.
    TableOutOfBounds = 4,
    /// Integer division or remainder by zero.
    DivisionByZero = 5,
    /// A quotient that has no representation.
    IntegerOverflow = 6,
    /// A float that no integer stands for.
    BadConversion = 7,
    /// An indirect call to a function of another type.
    BadSignature = 8,
    /// Calls nested too deeply.
    StackExhausted = 9,
    /// Another trap.
    OtherTrap = 10,
    /// The worker has no memory for the guest.
    OutOfMemory = 11,
    /// An indirect call through a null reference.
    CallToNull = 12,
}

/// Why an order about a guest did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The guest ended, with more words about it if there are any.
    Ended(End, String),
    /// No guest is to blame.
    Refused(String),
}

/// The memory that a module imports as `remuda` `memory`.
#[derive(Clone, Copy, Debug)]
pub struct MemoryType {
    /// The pages that it has at first.
    pub initial_pages: u32,
    /// The pages that it may grow to.
    pub maximum_pages: u32,
    /// Whether functions of the host get to see it.
    pub is_exported: bool,
}

/// An argument of an exported function.
#[derive(Clone, Copy, Debug)]
pub enum Integer {
    /// An `i32`'s bits.
    I32(u32),
    /// An `i64`'s bits.
    I64(u64),
}

/// The machine code of a module, to be looked at.
#[derive(Clone, Debug, Default)]
pub struct MachineCode {
    /// All code.
    pub text: Vec<u8>,
    /// The functions that the module defines: the index of each in the module, in ascending order, and where its code is.
    pub functions: Vec<(u32, Range<usize>)>,
}

/// An engine. Guests' code runs only within [`Runtime::instantiate`] and [`Runtime::call`].
pub trait Runtime {
    /// A compiled module.
    type Module;
    /// An instance, with all that it holds on to.
    type Instance;

    /// What the host is to know of the program, to see whether it will do.
    fn versions(&self) -> Vec<String>;

    /// Compiles a module on so many threads, each of which has to call [`block_signal`](crate::block_signal) unless it
    /// is the calling one.
    ///
    /// # Errors
    ///
    /// Returns the reason if the engine does not compile it.
    fn compile(&mut self, module: &[u8], threads: usize) -> Result<Self::Module, String>;

    /// The module's code as bytes.
    ///
    /// # Errors
    ///
    /// Returns the reason if the engine cannot do that.
    fn serialize(&mut self, module: &Self::Module) -> Result<Vec<u8>, String>;

    /// The module's machine code.
    ///
    /// # Errors
    ///
    /// Returns the reason if the engine cannot show it.
    fn machine_code(&mut self, module: &Self::Module) -> Result<MachineCode, String>;

    /// Makes a module of what [`Runtime::serialize`] gave.
    ///
    /// # Errors
    ///
    /// Returns the reason if the engine does not accept it.
    fn load(&mut self, artifact: &[u8]) -> Result<Self::Module, String>;

    /// Makes an instance. `functions` are those of the host; a module imports some of them.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest ended, or if there is no instance for another reason.
    fn instantiate(
        &mut self,
        module: &Self::Module,
        memory: Option<MemoryType>,
        functions: &'static [HostFunction],
    ) -> Result<Self::Instance, Failure>;

    /// Calls an exported function, and returns the bits of its results.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest ended in another way than by returning.
    fn call(&mut self, instance: &mut Self::Instance, name: &str, args: &[Integer]) -> Result<Vec<u64>, Failure>;

    /// The value of an exported global that is an `i32`.
    fn global(&mut self, instance: &mut Self::Instance, name: &str) -> Option<i32>;
}

/// Carries out the host's orders until the host has gone.
pub fn serve<R: Runtime>(runtime: R) -> ! {
    stop::install();
    {
        let mut connection = connection();
        let out = connection.report.begin(report::HELLO);
        out.put_u32_le(PROTOCOL);
        for version in runtime.versions() {
            put_bytes(out, version.as_bytes());
        }
        connection.send();
    }
    let mut worker = Worker { runtime, modules: HashMap::new(), instance: None };
    loop {
        worker.carry_out_next();
    }
}

struct Worker<R: Runtime> {
    runtime: R,
    modules: HashMap<u32, R::Module>,
    instance: Option<R::Instance>,
}

impl<R: Runtime> Worker<R> {
    fn carry_out_next(&mut self) {
        let mut connection = connection();
        let (order, report) = connection.receive();
        let mut frame = order.rest;
        match order.kind {
            order::LINK => host::link(frame),
            order::COMPILE | order::LOAD => {
                let number = frame.get_u32_le();
                let made = guarded(|| match order.kind {
                    order::COMPILE => {
                        let threads = frame.get_u8().max(1);
                        self.runtime.compile(frame, threads.into())
                    }
                    _ => self.runtime.load(frame),
                });
                match made {
                    Ok(module) => {
                        self.modules.insert(number, module);
                        report.begin(report::COMPILED);
                    }
                    Err(reason) => put_bytes(report.begin(report::REFUSED), reason.as_bytes()),
                }
                connection.send();
                connection.shrink();
            }
            order::SERIALIZE => {
                let module = &self.modules[&frame.get_u32_le()];
                match guarded(|| self.runtime.serialize(module)) {
                    Ok(artifact) => report.begin(report::SERIALIZED).put_slice(&artifact),
                    Err(reason) => put_bytes(report.begin(report::REFUSED), reason.as_bytes()),
                }
                connection.send();
            }
            order::CODE => {
                let module = &self.modules[&frame.get_u32_le()];
                match guarded(|| self.runtime.machine_code(module)) {
                    Ok(code) => put_code(report.begin(report::CODE), &code),
                    Err(reason) => put_bytes(report.begin(report::REFUSED), reason.as_bytes()),
                }
                connection.send();
                connection.shrink();
            }
            order::FORGET => {
                self.modules.remove(&frame.get_u32_le());
            }
            order::INSTANTIATE => {
                let module = &self.modules[&frame.get_u32_le()];
                let (has_memory, is_exported) = (frame.get_u8() == 1, frame.get_u8() == 1);
                let memory =
                    MemoryType { is_exported, initial_pages: frame.get_u32_le(), maximum_pages: frame.get_u32_le() };
                drop(connection);
                let memory = has_memory.then_some(memory);
                let made = stop::in_guest(|| self.runtime.instantiate(module, memory, host::functions()));
                match made {
                    Ok(instance) => {
                        self.instance = Some(instance);
                        let mut connection = crate::host::connection();
                        connection.report.begin(report::READY);
                        connection.send();
                    }
                    Err(failure) => self.fail(failure),
                }
            }
            order::CALL => {
                let name = take_text(&mut frame);
                let args: Vec<Integer> = (0..frame.get_u16_le())
                    .map(|_| match (Type::take(&mut frame), frame.get_u64_le()) {
                        (Type::I32, bits) => Integer::I32(low_half(bits)),
                        (Type::I64, bits) => Integer::I64(bits),
                    })
                    .collect();
                drop(connection);
                let instance = self.instance.as_mut().expect("the host has made an instance");
                match stop::in_guest(|| self.runtime.call(instance, &name, &args)) {
                    Ok(values) => {
                        let refused = self.refused_growth();
                        let mut connection = crate::host::connection();
                        let out = connection.report.begin(report::RETURNED);
                        out.put_u8(refused);
                        out.put_u16_le(u16::try_from(values.len()).expect("a function has few results"));
                        for bits in values {
                            out.put_u64_le(bits);
                        }
                        connection.send();
                    }
                    Err(failure) => self.fail(failure),
                }
            }
            order::DROP => self.instance = None,
            _ => process::exit(1),
        }
    }

    /// Whether the guest was refused growth of its memory that its type allows.
    fn refused_growth(&mut self) -> u8 {
        let refused = self.instance.as_mut().and_then(|instance| self.runtime.global(instance, REFUSED));
        u8::from(refused.is_some_and(|refused| refused != 0))
    }

    fn fail(&mut self, failure: Failure) {
        let failure = if stop::was_stopped() { Failure::Ended(End::Interrupted, String::new()) } else { failure };
        let refused = self.refused_growth();
        let mut connection = connection();
        match failure {
            Failure::Ended(end, detail) => {
                let out = connection.report.begin(report::ENDED);
                out.put_u8(end as u8);
                out.put_u8(refused);
                put_bytes(out, detail.as_bytes());
            }
            Failure::Refused(reason) => put_bytes(connection.report.begin(report::REFUSED), reason.as_bytes()),
        }
        connection.send();
    }
}

/// Writes the number of functions, for each its index, its first byte and its length, and then all code.
fn put_code(out: &mut Vec<u8>, code: &MachineCode) {
    let short = |number: usize| u32::try_from(number).expect("a frame is not so long");
    out.put_u32_le(short(code.functions.len()));
    for (index, range) in &code.functions {
        out.put_u32_le(*index);
        out.put_u32_le(short(range.start));
        out.put_u32_le(short(range.len()));
    }
    out.put_slice(&code.text);
}

/// The bits of an `i32`: the upper half means nothing.
fn low_half(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).expect("32 bits are left")
}

/// Does `work`; an engine that panics counts as one that refuses.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(format!("it panicked: {}", words(&*panic))))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it does not say why")
}
