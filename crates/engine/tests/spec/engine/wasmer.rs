//! Wasmer, with modules rewritten and stores made as the adapter does it.
//!
//! The adapter has an engine for each module. Here all modules of a file share a store, and so the engine that runs
//! them. Each module is compiled by an engine of its own and then loaded from its artifact, as the adapter loads one
//! after a restart.

use remuda_engine::{Module, testing};
use wasmer::{ExternRef, Imports, Instance, InstantiationError, LinkError, RuntimeError, Store};

use super::{Fault, WastEngine};
use crate::value::{Hierarchy, Value};

/// Makes a world for one file.
pub(crate) fn open() -> Box<dyn WastEngine> {
    Box::new(Wasmer { instances: Vec::new(), imports: Imports::new(), store: testing::wasmer::unlimited_store() })
}

/// The instances of one file. The store is dropped last: everything else points into it.
struct Wasmer {
    instances: Vec<Instance>,
    imports: Imports,
    store: Store,
}

impl WastEngine for Wasmer {
    fn instantiate(&mut self, module: &Module) -> Result<usize, Fault> {
        let compiled = testing::wasmer::compile_into(&self.store, module).map_err(Fault::Compile)?;
        let instance =
            Instance::new(&mut self.store, &compiled, &self.imports).map_err(|error| fault_of_instantiation(&error))?;
        testing::wasmer::lift_table_limit(&mut self.store);
        self.instances.push(instance);
        let instance = self.instances.len() - 1;
        if module.has_start() {
            self.invoke(instance, testing::wasmer::START, &[])?;
        }
        Ok(instance)
    }

    fn register(&mut self, instance: usize, name: &str) -> Result<(), Fault> {
        let exports = self.instances[instance].exports.iter();
        self.imports.register_namespace(name, exports.map(|(name, export)| (name.clone(), export.clone())));
        Ok(())
    }

    fn invoke(&mut self, instance: usize, export: &str, args: &[Value]) -> Result<Vec<Value>, Fault> {
        let function = self.instances[instance]
            .exports
            .get_function(export)
            .map_err(|error| Fault::Other(format!("{export:?}: {error}")))?
            .clone();
        let args: Vec<_> = args.iter().map(|arg| self.val(arg)).collect();
        let results = function.call(&mut self.store, &args).map_err(|error| fault(&error))?;
        Ok(results.iter().map(|result| self.value(result)).collect())
    }

    fn global(&mut self, instance: usize, export: &str) -> Result<Value, Fault> {
        let global = self.instances[instance]
            .exports
            .get_global(export)
            .map_err(|error| Fault::Other(format!("{export:?}: {error}")))?
            .clone();
        let val = global.get(&mut self.store);
        Ok(self.value(&val))
    }
}

impl Wasmer {
    fn val(&mut self, value: &Value) -> wasmer::Value {
        match value {
            Value::I32(n) => wasmer::Value::I32(*n),
            Value::I64(n) => wasmer::Value::I64(*n),
            Value::F32(bits) => wasmer::Value::F32(f32::from_bits(*bits)),
            Value::F64(bits) => wasmer::Value::F64(f64::from_bits(*bits)),
            Value::V128(bits) => wasmer::Value::V128(*bits),
            Value::Null(Hierarchy::Func) => wasmer::Value::FuncRef(None),
            Value::Null(Hierarchy::Extern) => wasmer::Value::ExternRef(None),
            Value::Extern(Some(n)) => wasmer::Value::ExternRef(Some(ExternRef::new(&mut self.store, *n))),
            other => panic!("no module for this engine takes an argument like {other}"),
        }
    }

    fn value(&self, val: &wasmer::Value) -> Value {
        match val {
            wasmer::Value::I32(n) => Value::I32(*n),
            wasmer::Value::I64(n) => Value::I64(*n),
            wasmer::Value::F32(n) => Value::F32(n.to_bits()),
            wasmer::Value::F64(n) => Value::F64(n.to_bits()),
            wasmer::Value::V128(n) => Value::V128(*n),
            wasmer::Value::FuncRef(None) => Value::Null(Hierarchy::Func),
            wasmer::Value::FuncRef(Some(_)) => Value::Func,
            wasmer::Value::ExternRef(None) => Value::Null(Hierarchy::Extern),
            wasmer::Value::ExternRef(Some(reference)) => Value::Extern(reference.downcast(&self.store).copied()),
            wasmer::Value::ExceptionRef(None) => Value::Null(Hierarchy::Exception),
            wasmer::Value::ExceptionRef(Some(_)) => Value::Exception,
        }
    }
}

fn fault(error: &RuntimeError) -> Fault {
    match testing::wasmer::trap_kind(error) {
        Some(kind) => Fault::Trap { kind, words: error.message() },
        None => Fault::Other(error.to_string()),
    }
}

fn fault_of_instantiation(error: &InstantiationError) -> Fault {
    match (testing::wasmer::trap_kind_of_instantiation(error), error) {
        (Some(kind), _) => Fault::Trap { kind, words: error.to_string() },
        (None, InstantiationError::Link(LinkError::Import(..))) => Fault::Link(error.to_string()),
        (None, _) => Fault::Other(error.to_string()),
    }
}
