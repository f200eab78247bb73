//! Wasmtime, with modules rewritten and engines configured as the adapter does it.

use remuda_engine::{FLAG_FIELD, FLAG_MODULE, Module, instrument, testing};
use remuda_model::EngineId;
use wasmtime::{
    AnyRef, Engine, Error, ExternRef, Instance, Linker, MemoryType, Rooted, SharedMemory, Store, V128, Val,
};

use super::{Fault, Room, WastEngine};
use crate::value::{Hierarchy, Value};

/// The most modules of a file that may use the pool, which they share with the files that run at the same time.
const POOLED_MODULES_MAX: usize = 50;

/// Both Wasmtime engines of the adapter: with a pool, and without.
pub(crate) struct Engines {
    pooled: Engine,
    on_demand: Engine,
}

impl Engines {
    pub(crate) fn new(id: EngineId) -> Self {
        let open = |pooled| testing::wasmtime::configured(id, pooled).expect("Wasmtime takes the configuration");
        Self { pooled: open(true), on_demand: open(false) }
    }

    /// Makes a world for one file, on the engine that the adapter would choose.
    pub(crate) fn open(&self, room: Room) -> Box<dyn WastEngine> {
        let pooled = !room.too_large_for_pool && room.modules <= POOLED_MODULES_MAX;
        let engine = if pooled { &self.pooled } else { &self.on_demand };
        let mut linker = Linker::new(engine);
        linker.allow_shadowing(true);
        let store = Store::new(engine, ());
        // One flag for all instances, which is never set.
        let flag = SharedMemory::new(engine, MemoryType::shared(1, 1)).expect("a page of shared memory");
        linker.define(&store, FLAG_MODULE, FLAG_FIELD, flag).expect("nobody else defines it");
        Box::new(Wasmtime { linker, store, instances: Vec::new() })
    }
}

struct Wasmtime {
    linker: Linker<()>,
    store: Store<()>,
    instances: Vec<Instance>,
}

impl WastEngine for Wasmtime {
    fn instantiate(&mut self, module: &Module) -> Result<usize, Fault> {
        let rewritten = instrument(module.bytes()).map_err(|error| Fault::Compile(format!("rewriting: {error}")))?;
        let compiled = wasmtime::Module::from_binary(self.store.engine(), &rewritten.bytes)
            .map_err(|error| Fault::Compile(format!("{error:#}")))?;
        let instance = self.linker.instantiate(&mut self.store, &compiled).map_err(|error| match fault(&error) {
            Fault::Other(words) => Fault::Link(words),
            trap => trap,
        })?;
        self.instances.push(instance);
        Ok(self.instances.len() - 1)
    }

    fn register(&mut self, instance: usize, name: &str) -> Result<(), Fault> {
        self.linker.instance(&mut self.store, name, self.instances[instance]).map_err(|error| fault(&error))?;
        Ok(())
    }

    fn invoke(&mut self, instance: usize, export: &str, args: &[Value]) -> Result<Vec<Value>, Fault> {
        let function = self.instances[instance]
            .get_func(&mut self.store, export)
            .ok_or_else(|| Fault::Other(format!("no function {export:?}")))?;
        let args: Result<Vec<Val>, Error> = args.iter().map(|arg| self.val(arg)).collect();
        let args = args.map_err(|error| fault(&error))?;
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function.call(&mut self.store, &args, &mut results).map_err(|error| fault(&error))?;
        let values: Result<Vec<Value>, Error> = results.iter().map(|result| self.value(result)).collect();
        values.map_err(|error| fault(&error))
    }

    fn global(&mut self, instance: usize, export: &str) -> Result<Value, Fault> {
        let global = self.instances[instance]
            .get_global(&mut self.store, export)
            .ok_or_else(|| Fault::Other(format!("no global {export:?}")))?;
        let val = global.get(&mut self.store);
        self.value(&val).map_err(|error| fault(&error))
    }
}

impl Wasmtime {
    fn val(&mut self, value: &Value) -> Result<Val, Error> {
        Ok(match value {
            Value::I32(n) => Val::I32(*n),
            Value::I64(n) => Val::I64(*n),
            Value::F32(bits) => Val::F32(*bits),
            Value::F64(bits) => Val::F64(*bits),
            Value::V128(bits) => Val::V128(V128::from(*bits)),
            Value::Null(Hierarchy::Func) => Val::FuncRef(None),
            Value::Null(Hierarchy::Extern) => Val::ExternRef(None),
            Value::Null(Hierarchy::Any) => Val::AnyRef(None),
            Value::Null(Hierarchy::Exception) => Val::ExnRef(None),
            Value::Extern(Some(n)) => Val::ExternRef(Some(ExternRef::new(&mut self.store, *n)?)),
            Value::Host(Some(n)) => {
                let reference = ExternRef::new(&mut self.store, *n)?;
                Val::AnyRef(Some(AnyRef::convert_extern(&mut self.store, reference)?))
            }
            other => panic!("the suite gives no argument like {other}"),
        })
    }

    fn value(&mut self, val: &Val) -> Result<Value, Error> {
        Ok(match val {
            Val::I32(n) => Value::I32(*n),
            Val::I64(n) => Value::I64(*n),
            Val::F32(bits) => Value::F32(*bits),
            Val::F64(bits) => Value::F64(*bits),
            Val::V128(bits) => Value::V128(bits.as_u128()),
            Val::FuncRef(None) => Value::Null(Hierarchy::Func),
            Val::FuncRef(Some(_)) => Value::Func,
            Val::ExternRef(None) => Value::Null(Hierarchy::Extern),
            Val::ExternRef(Some(reference)) => Value::Extern(self.number(*reference)?),
            Val::AnyRef(None) => Value::Null(Hierarchy::Any),
            Val::AnyRef(Some(reference)) => self.any(*reference)?,
            Val::ExnRef(None) => Value::Null(Hierarchy::Exception),
            Val::ExnRef(Some(_)) => Value::Exception,
            other => panic!("no proposal here has a value like {other:?}"),
        })
    }

    fn any(&mut self, reference: Rooted<AnyRef>) -> Result<Value, Error> {
        Ok(if reference.is_i31(&self.store)? {
            Value::I31
        } else if reference.is_struct(&self.store)? {
            Value::Struct
        } else if reference.is_array(&self.store)? {
            Value::Array
        } else {
            let reference = ExternRef::convert_any(&mut self.store, reference)?;
            Value::Host(self.number(reference)?)
        })
    }

    /// The number of a reference of the suite; a reference that came out of the guest has none.
    fn number(&self, reference: Rooted<ExternRef>) -> Result<Option<u32>, Error> {
        Ok(reference.data(&self.store)?.and_then(|data| data.downcast_ref::<u32>().copied()))
    }
}

fn fault(error: &Error) -> Fault {
    match testing::wasmtime::trap_kind(error) {
        Some(kind) => Fault::Trap { kind, words: format!("{error:#}") },
        None => Fault::Other(format!("{error:#}")),
    }
}
