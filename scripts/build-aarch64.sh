#!/bin/sh
# Builds remuda for 64-bit Arm (AArch64, Linux) on another machine, into
# target/aarch64-unknown-linux-gnu/release/remuda.
#
#     scripts/build-aarch64.sh [ARGUMENTS OF cargo build...]
#
# Without arguments, it is a release build.
#
# It needs a linker and C library for that processor (Debian's gcc-aarch64-linux-gnu and libc6-dev-arm64-cross), and Rust's
# standard library for it: by `rustup target add aarch64-unknown-linux-gnu`, or, where that cannot be had, Debian's packages
# rustc-web and libstd-rust-web-dev:arm64, with the compiler that they belong to. What is missing is installed if you are root;
# if that cannot be done, the exit code is 3. Run the result on such a machine, or here by qemu-aarch64
# (docs/microarchitecture.md).
set -eu

cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
linker=aarch64-linux-gnu-gcc
debians_rustc=/usr/bin/rustc

# Installs the packages, or says what is missing.
need() {
    what=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null && return
    fi
    echo "$what" >&2
    exit 3
}

has_library() {
    [ -d "$("$1" --print sysroot)/lib/rustlib/$target/lib" ]
}

if ! command -v "$linker" >/dev/null; then
    need "there is no $linker: install Debian's packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross" \
        gcc-aarch64-linux-gnu libc6-dev-arm64-cross
fi
if ! has_library rustc; then
    if ! { [ -x "$debians_rustc" ] && has_library "$debians_rustc"; }; then
        ! command -v dpkg >/dev/null || dpkg --add-architecture arm64 || true
        need "Rust's standard library for $target is missing: rustup target add $target" \
            rustc-web libstd-rust-web-dev:arm64
    fi
    export RUSTC="$debians_rustc"
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$linker"
[ $# -gt 0 ] || set -- --release
exec cargo build --target "$target" --package remuda "$@"
