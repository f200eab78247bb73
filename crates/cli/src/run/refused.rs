//! Options of `wasmtime run` that Remuda knows but cannot carry out. Each is refused with a hint what to do instead;
//! options that change nothing here are accepted.

use clap::Args;

/// The refused options. They are hidden from help texts, and refused while the command line is parsed.
#[derive(Args)]
pub(crate) struct Refused {
    #[arg(long, hide = true, value_name = "NAME=MODULE", value_parser = refuse(
        "Remuda runs one module and links no other to it; make one of both beforehand, for example with wasm-merge"
    ))]
    preload: Vec<String>,

    #[arg(long, hide = true, value_name = "STRATEGY", value_parser = refuse(
        "Remuda does not profile guests; --explain says how long each phase took"
    ))]
    profile: Option<String>,

    #[arg(short = 'g', long, hide = true, value_name = "[ADDR:]PORT", value_parser = refuse(
        "Remuda has no debugger; run the module with another runtime to debug it"
    ))]
    gdbstub: Option<String>,

    #[arg(short = 'R', long, hide = true, value_name = "KEY[=VAL[,..]]", value_parser = refuse(
        "Remuda does not record executions"
    ))]
    record: Vec<String>,

    #[arg(long, hide = true, value_name = "TRIPLE", value_parser = this_machine)]
    target: Option<String>,

    /// Has no effect: what is not a module is refused with or without it.
    #[arg(long, hide = true)]
    allow_precompiled: bool,
}

fn refuse(why: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |_| Err(why.to_owned())
}

/// Accepts a target only if it is this machine: a module is run where it is compiled.
fn this_machine(triple: &str) -> Result<String, String> {
    let here = std::env::consts::ARCH;
    let mut parts = triple.split('-');
    if parts.next() == Some(here) && parts.any(|part| part == std::env::consts::OS) {
        return Ok(triple.to_owned());
    }
    Err(format!("a module is only compiled for the machine that runs it, which is {here}-{}", std::env::consts::OS))
}
