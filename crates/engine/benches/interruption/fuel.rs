//! What fuel in slices costs on `wasmi.lazy`, the way that its adapter stops guests.

use std::time::{Duration, Instant};

use remuda_model::{GuestContext, Interrupt, Sink, Stdin};
use remuda_wasi::{IMPORTS, Import, Type, Wasi};
use wasmi::{
    Caller, CompilationMode, Config, Engine, Error, Extern, FuncType, Linker, ResumableCall, Store, Val, ValType,
};

use crate::{Guest, geometric_mean};

/// As the adapter has it.
const FUEL_SLICE: u64 = 500_000;

/// Prints a row for each guest: the best time without any way to stop it, and with fuel as a multiple of that.
pub(crate) fn costs(rounds: usize, guests: &[(&Guest, Vec<u8>)]) {
    println!("\n## wasmi.lazy, best of {rounds}\n\n| function | uninterruptible | fuel in slices |\n|---|---|---|");
    let mut ratios = Vec::new();
    for (guest, wasm) in guests {
        let ways = [false, true].map(|metered| Prepared::new(metered, wasm));
        let mut best = [Duration::MAX; 2];
        for _ in 0..rounds {
            for (way, best) in ways.iter().zip(&mut best) {
                *best = way.time(guest).min(*best);
            }
        }
        let ratio = best[1].as_secs_f64() / best[0].as_secs_f64();
        println!("| {} | {:.1} ms | {ratio:.2} |", guest.name, best[0].as_secs_f64() * 1e3);
        ratios.push(ratio);
    }
    println!("| geometric mean | | {:.2} |", geometric_mean(&ratios));
}

struct Prepared {
    metered: bool,
    engine: Engine,
    module: wasmi::Module,
    linker: Linker<Wasi>,
}

impl Prepared {
    fn new(metered: bool, wasm: &[u8]) -> Self {
        let mut config = Config::default();
        config.consume_fuel(metered).compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = wasmi::Module::new(&engine, wasm).expect("a guest of ours compiles");
        let mut linker = Linker::new(&engine);
        for import in IMPORTS {
            link(&mut linker, import);
        }
        Self { metered, engine, module, linker }
    }

    fn time(&self, guest: &Guest) -> Duration {
        let context = GuestContext {
            args: [guest.name].iter().chain(guest.args).map(|arg| (*arg).to_owned()).collect(),
            stdin: Stdin::Bytes(vec![1; guest.stdin_bytes].into()),
            stdout: Sink::Capture { bytes_max: 1 << 20 },
            ..GuestContext::default()
        };
        let wasi = Wasi::new(&context, Interrupt::new()).expect("it asks for no folder");
        let mut store = Store::new(&self.engine, wasi);
        if self.metered {
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
        assert!(!store.into_data().into_output().stdout.is_empty(), "{} wrote nothing", guest.name);
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
        // A stop is an exit here: nothing else ends these guests.
        let errno = (import.call)(wasi, bytes, &args).map_err(|stop| Error::new(stop.to_string()))?;
        if let Some(result) = results.first_mut() {
            *result = Val::I32(errno);
        }
        Ok(())
    };
    linker.func_new(remuda_wasi::MODULE, import.name, ty, call).expect("every name is new");
}
