//! The plugin in qemu, with programs that are compiled here. Where a tool is missing, a test says SKIPPED and what to install;
//! with `REMUDA_REQUIRE_TOOLS=1` it fails instead.

mod cachegrind;
mod errors;
mod exact;
mod told;
mod tools;
