//! The cost, on `wasmi.lazy`, of fuel in slices, by which its adapter stops guests, and of the guards that the adapter
//! puts before some `select`s against a wrong translation.

use std::time::{Duration, Instant};

use remuda_engine::{Module, testing};
use remuda_model::ModuleLimits;
use remuda_wasi::{IMPORTS, Import, Type, Wasi};
use wasmi::{
    Caller, CompilationMode, Config, Engine, Error, Extern, FuncType, Linker, ResumableCall, Store, Val, ValType,
};

use crate::world::{best_of, check, ratio, wasi_for};
use crate::{Guest, geometric_mean};

/// The fuel of one slice. The adapter's slices are shorter: 50,000 to 200,000.
const FUEL_SLICE: u64 = 500_000;

/// Prints a row for each guest: its best time without either, and with fuel or with guards as multiples of that; then
/// what the guards cost before a guest starts.
pub(crate) fn costs(rounds: usize, guests: &[(&Guest, Vec<u8>)]) {
    let modules: Vec<_> = guests
        .iter()
        .map(|(guest, wasm)| {
            (*guest, Module::parse(wasm.clone(), &ModuleLimits::default()).expect("a guest of ours is a module"))
        })
        .collect();
    println!("\n## wasmi.lazy, best of {rounds}\n");
    println!("| function | uninterruptible | fuel in slices | guarded selects |\n|---|---|---|---|");
    let candidates: Vec<_> =
        modules.iter().map(|(guest, module)| (*guest, Way::ALL.map(|way| Prepared::new(way, module)))).collect();
    let best = best_of::<_, { Way::ALL.len() }>(rounds, &candidates, |(guest, ways), way| ways[way].time(guest));
    for ((guest, _), [plain, fuel, guards]) in candidates.iter().zip(&best) {
        println!(
            "| {} | {:.1} ms | {:.2} | {:.2} |",
            guest.name,
            plain.as_secs_f64() * 1e3,
            ratio(*fuel, *plain),
            ratio(*guards, *plain)
        );
    }
    let mean = |way: usize| geometric_mean(&best.iter().map(|best| ratio(best[way], best[0])).collect::<Vec<_>>());
    println!("| geometric mean | | {:.2} | {:.2} |", mean(1), mean(2));
    starts(&modules);
}

/// Times the preparation that a guest waits for before it starts: translation is lazy, so that this is short, and
/// guards must not make it long.
fn starts(modules: &[(&Guest, Module)]) {
    const ROUNDS: usize = 500;
    println!("\n## wasmi.lazy, making a module ready, best of {ROUNDS}\n");
    println!("| function | bytes | guards | without guards, us | with guards |\n|---|---:|---:|---:|---:|");
    let engine = testing::wasmi::configured();
    let start = |(_, module): &(&Guest, Module), way: usize| {
        let begun = Instant::now();
        let ready = if way == 0 {
            wasmi::Module::new(&engine, &module.bytes()[..])
        } else {
            wasmi::Module::new(&engine, &testing::wasmi::rewritten(module)[..])
        };
        let took = begun.elapsed();
        ready.expect("a guest of ours is a module");
        took
    };
    let best = best_of::<_, 2>(ROUNDS, modules, start);
    for ((guest, module), [plain, guarded]) in modules.iter().zip(&best) {
        println!(
            "| {} | {} | {} | {:.0} | {:.2} |",
            guest.name,
            module.bytes().len(),
            testing::wasmi::guarded_selects(module),
            plain.as_secs_f64() * 1e6,
            ratio(*guarded, *plain)
        );
    }
    let ratios: Vec<_> = best.iter().map(|[plain, guarded]| ratio(*guarded, *plain)).collect();
    println!("| geometric mean | | | | {:.2} |", geometric_mean(&ratios));
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Fuel,
    Guards,
}

impl Way {
    const ALL: [Self; 3] = [Self::Plain, Self::Fuel, Self::Guards];
}

struct Prepared {
    way: Way,
    engine: Engine,
    module: wasmi::Module,
    linker: Linker<Wasi>,
}

impl Prepared {
    fn new(way: Way, module: &Module) -> Self {
        let mut config = Config::default();
        config.consume_fuel(way == Way::Fuel).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = if way == Way::Guards {
            wasmi::Module::new(&engine, &testing::wasmi::rewritten(module)[..])
        } else {
            wasmi::Module::new(&engine, &module.bytes()[..])
        };
        let mut linker = Linker::new(&engine);
        for import in IMPORTS {
            link(&mut linker, import);
        }
        Self { way, engine, module: module.expect("a guest of ours compiles"), linker }
    }

    fn time(&self, guest: &Guest) -> Duration {
        let mut store = Store::new(&self.engine, wasi_for(guest));
        if self.way == Way::Fuel {
            store.set_fuel(FUEL_SLICE).expect("fuel is on");
        }
        let instance = self.linker.instantiate_and_start(&mut store, &self.module).expect("every import is there");
        let start = instance.get_func(&store, "_start").expect("a command has _start");
        let begun = Instant::now();
        let mut call = start.call_resumable(&mut store, &[], &mut []);
        while let Ok(ResumableCall::OutOfFuel(paused)) = call {
            store.set_fuel(FUEL_SLICE.max(paused.required_fuel())).expect("fuel is on");
            call = paused.resume(&mut store, &mut []);
        }
        let took = begun.elapsed();
        check(guest, store.into_data());
        took
    }
}

fn link(linker: &mut Linker<Wasi>, import: &'static Import) {
    let value_type = |ty: &Type| match ty {
        Type::I32 => ValType::I32,
        Type::I64 => ValType::I64,
    };
    let ty = FuncType::new(import.params.iter().map(value_type), import.result.iter().map(value_type));
    let call = move |mut caller: Caller<'_, Wasi>, params: &[Val], results: &mut [Val]| {
        let args: Vec<u64> = params
            .iter()
            .map(|value| match value {
                Val::I32(n) => n.cast_unsigned().into(),
                Val::I64(n) => n.cast_unsigned(),
                _ => unreachable!("WASI has no other types"),
            })
            .collect();
        let memory = caller.get_export("memory").and_then(Extern::into_memory).expect("a command exports its memory");
        let (bytes, wasi) = memory.data_and_store_mut(&mut caller);
        // A stop means an exit here: nothing else stops these guests.
        let errno = (import.call)(wasi, bytes, &args).map_err(|stop| Error::new(stop.to_string()))?;
        if let Some(result) = results.first_mut() {
            *result = Val::I32(errno);
        }
        Ok(())
    };
    linker.func_new(import.module, import.name, ty, call).expect("every name is new");
}
