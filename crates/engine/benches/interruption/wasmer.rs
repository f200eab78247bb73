//! The cost of the flag on `wasmer.singlepass`: the same module as it is, and as the adapter rewrites it.

use std::time::{Duration, Instant};

use remuda_engine::{Module, testing};
use remuda_model::ModuleLimits;
use remuda_wasi::{IMPORTS, Import, Type, Wasi};
use wasmer::{
    Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Instance, Memory, RuntimeError, Store, Value,
};

use crate::world::{best_of, check, ratio, wasi_for};
use crate::{Guest, geometric_mean};

/// Prints a row for each guest: the best time without any way to stop the guest, and with the flag as a multiple of
/// that.
pub(crate) fn costs(rounds: usize, guests: &[(&Guest, Vec<u8>)]) {
    println!("\n## wasmer.singlepass, best of {rounds}\n");
    println!("| function | uninterruptible | flag | code | compile |\n|---|---|---|---|---|");
    let candidates: Vec<_> = guests
        .iter()
        .map(|(guest, wasm)| {
            let module = Module::parse(wasm.clone(), &ModuleLimits::default()).expect("a guest of ours is a module");
            (*guest, [false, true].map(|stoppable| Prepared::new(stoppable, &module)))
        })
        .collect();
    let best = best_of::<_, 2>(rounds, &candidates, |(guest, ways), way| ways[way].time(guest));
    let mut ratios = Vec::new();
    for ((guest, [never, flag]), best) in candidates.iter().zip(best) {
        ratios.push(ratio(best[1], best[0]));
        println!(
            "| {} | {:.1} ms | {:.2} | {:.2} | {:.2} |",
            guest.name,
            best[0].as_secs_f64() * 1e3,
            ratio(best[1], best[0]),
            flag.code_bytes() as f64 / never.code_bytes() as f64,
            ratio(flag.compile, never.compile),
        );
    }
    println!("| geometric mean | | {:.2} | | |", geometric_mean(&ratios));
}

/// A compiled module. Fields are dropped in their order here: a module must not outlive its engine.
struct Prepared {
    module: wasmer::Module,
    engine: wasmer::Engine,
    compile: Duration,
}

impl Prepared {
    fn new(stoppable: bool, module: &Module) -> Self {
        let compile = || {
            // Each module has an engine of its own.
            let engine = testing::wasmer::unlimited_engine(module);
            let begun = Instant::now();
            let compiled = if stoppable {
                wasmer::Module::new(&engine, testing::wasmer::rewritten(module))
            } else {
                wasmer::Module::new(&engine, module.bytes())
            };
            let compile = begun.elapsed();
            Prepared { module: compiled.expect("a guest of ours compiles"), engine, compile }
        };
        (0..5).map(|_| compile()).min_by_key(|prepared| prepared.compile).expect("five are not none")
    }

    fn code_bytes(&self) -> usize {
        let extents = self.module.sys_artifact().and_then(wasmer::sys::Artifact::finished_function_extents);
        extents.iter().flatten().map(|(_, extent)| extent.length).sum()
    }

    fn time(&self, guest: &Guest) -> Duration {
        let mut store = Store::new(self.engine.clone());
        let env = FunctionEnv::new(&mut store, State { wasi: Some(wasi_for(guest)), memory: None });
        let imports: Vec<Extern> =
            self.module.imports().map(|import| link(&mut store, &env, import.name()).into()).collect();
        let instance = Instance::new_by_index(&mut store, &self.module, &imports).expect("every import is there");
        env.as_mut(&mut store).memory = instance.exports.get_memory("memory").ok().cloned();
        let start = instance.exports.get_function("_start").expect("a command has _start");
        let begun = Instant::now();
        // A guest may end by `proc_exit`, which is an error here. Whether it has run is checked by its output.
        let _ended = start.call(&mut store, &[]);
        let took = begun.elapsed();
        check(guest, env.as_mut(&mut store).wasi.take().expect("nobody else takes it"));
        took
    }
}

struct State {
    wasi: Option<Wasi>,
    memory: Option<Memory>,
}

fn link(store: &mut Store, env: &FunctionEnv<State>, name: &str) -> Function {
    let import = IMPORTS.iter().find(|import| import.name == name).expect("guests import WASI alone");
    let value_type = |ty: &Type| match ty {
        Type::I32 => wasmer::Type::I32,
        Type::I64 => wasmer::Type::I64,
    };
    let params: Vec<_> = import.params.iter().map(value_type).collect();
    let results: Vec<_> = import.result.iter().map(value_type).collect();
    Function::new_with_env(store, env, FunctionType::new(params, results), move |env, values| call(env, import, values))
}

fn call(mut env: FunctionEnvMut<'_, State>, import: &Import, values: &[Value]) -> Result<Vec<Value>, RuntimeError> {
    let args: Vec<u64> = values
        .iter()
        .map(|value| match value {
            Value::I32(n) => n.cast_unsigned().into(),
            Value::I64(n) => n.cast_unsigned(),
            _ => unreachable!("WASI has no other types"),
        })
        .collect();
    let (state, store) = env.data_and_store_mut();
    let view = state.memory.as_ref().expect("a command exports its memory").view(&store);
    // SAFETY: the store is lent to this call, so that no code of the guest runs until the call is done, and no other
    // thread has the memory.
    let bytes = unsafe { view.data_unchecked_mut() };
    let wasi = state.wasi.as_mut().expect("it is taken after the call");
    let errno = (import.call)(wasi, bytes, &args).map_err(|stop| RuntimeError::new(stop.to_string()))?;
    Ok(import.result.map(|_| Value::I32(errno)).into_iter().collect())
}
