//! Wasmi, with modules rewritten and calls run in slices of fuel as the adapter does it.

use remuda_engine::{Module, testing};
use wasmi::errors::ErrorKind;
use wasmi::{Engine, Error, ExternRef, Instance, Linker, Nullable, ResumableCall, Store, V128, Val};

use super::{Fault, WastEngine};
use crate::value::{Hierarchy, Value};

/// The fuel of one slice: much less than the adapter gives, so that calls pause often.
const FUEL_SLICE: u64 = 1_000;

/// Makes a world for one file.
pub(crate) fn open(engine: &Engine) -> Box<dyn WastEngine> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    Box::new(Wasmi { linker, store: Store::new(engine, ()), instances: Vec::new() })
}

struct Wasmi {
    linker: Linker<()>,
    store: Store<()>,
    instances: Vec<Instance>,
}

impl WastEngine for Wasmi {
    fn instantiate(&mut self, module: &Module) -> Result<usize, Fault> {
        let compiled = wasmi::Module::new(self.store.engine(), &testing::wasmi::rewritten(module)[..])
            .map_err(|error| Fault::Compile(error.to_string()))?;
        self.store.set_fuel(u64::MAX).map_err(|error| fault(&error))?;
        let instance =
            self.linker.instantiate_and_start(&mut self.store, &compiled).map_err(|error| fault_of_linking(&error))?;
        self.instances.push(instance);
        let instance = self.instances.len() - 1;
        if module.has_start() {
            self.invoke(instance, testing::wasmi::START, &[])?;
        }
        Ok(instance)
    }

    fn register(&mut self, instance: usize, name: &str) -> Result<(), Fault> {
        let instance = self.instances[instance];
        self.linker.instance(&mut self.store, name, instance).map_err(|error| fault(&error))?;
        Ok(())
    }

    fn invoke(&mut self, instance: usize, export: &str, args: &[Value]) -> Result<Vec<Value>, Fault> {
        let args: Vec<Val> = args.iter().map(|arg| self.val(arg)).collect();
        let results = self.call(instance, export, &args)?;
        Ok(results.iter().map(|result| self.value(result)).collect())
    }

    fn global(&mut self, instance: usize, export: &str) -> Result<Value, Fault> {
        let global = self.instances[instance]
            .get_global(&self.store, export)
            .ok_or_else(|| Fault::Other(format!("no global {export:?}")))?;
        Ok(self.value(&global.get(&self.store)))
    }
}

impl Wasmi {
    fn call(&mut self, instance: usize, export: &str, args: &[Val]) -> Result<Vec<Val>, Fault> {
        let function = self.instances[instance]
            .get_func(&self.store, export)
            .ok_or_else(|| Fault::Other(format!("no function {export:?}")))?;
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let mut step = || -> Result<(), Error> {
            self.store.set_fuel(FUEL_SLICE)?;
            let mut call = function.call_resumable(&mut self.store, args, &mut results)?;
            loop {
                call = match call {
                    ResumableCall::Finished => return Ok(()),
                    ResumableCall::HostTrap(trapped) => return Err(trapped.into_host_error()),
                    ResumableCall::OutOfFuel(paused) => {
                        self.store.set_fuel(FUEL_SLICE.max(paused.required_fuel()))?;
                        paused.resume(&mut self.store, &mut results)?
                    }
                };
            }
        };
        step().map_err(|error| fault(&error))?;
        Ok(results)
    }

    fn val(&mut self, value: &Value) -> Val {
        match value {
            Value::I32(n) => Val::I32(*n),
            Value::I64(n) => Val::I64(*n),
            Value::F32(bits) => Val::F32(wasmi::F32::from_bits(*bits)),
            Value::F64(bits) => Val::F64(wasmi::F64::from_bits(*bits)),
            Value::V128(bits) => Val::V128(V128::from(*bits)),
            Value::Null(Hierarchy::Func) => Val::FuncRef(Nullable::Null),
            Value::Null(Hierarchy::Extern) => Val::ExternRef(Nullable::Null),
            Value::Extern(Some(n)) => Val::ExternRef(Nullable::Val(ExternRef::new(&mut self.store, *n))),
            other => panic!("no module for this engine takes an argument like {other}"),
        }
    }

    fn value(&self, val: &Val) -> Value {
        match val {
            Val::I32(n) => Value::I32(*n),
            Val::I64(n) => Value::I64(*n),
            Val::F32(n) => Value::F32(n.to_bits()),
            Val::F64(n) => Value::F64(n.to_bits()),
            Val::V128(n) => Value::V128(n.as_u128()),
            Val::FuncRef(Nullable::Null) => Value::Null(Hierarchy::Func),
            Val::FuncRef(Nullable::Val(_)) => Value::Func,
            Val::ExternRef(Nullable::Null) => Value::Null(Hierarchy::Extern),
            Val::ExternRef(Nullable::Val(reference)) => {
                Value::Extern(reference.data(&self.store).downcast_ref::<u32>().copied())
            }
        }
    }
}

fn fault(error: &Error) -> Fault {
    match testing::wasmi::trap_kind(error) {
        Some(kind) => Fault::Trap { kind, words: error.to_string() },
        None => Fault::Other(error.to_string()),
    }
}

fn fault_of_linking(error: &Error) -> Fault {
    match (fault(error), error.kind()) {
        (Fault::Other(words), ErrorKind::Linker(_) | ErrorKind::Instantiation(_)) => Fault::Link(words),
        (fault, _) => fault,
    }
}
