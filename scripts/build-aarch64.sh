#!/bin/sh
# Builds remuda for 64-bit Arm (AArch64, Linux) on another machine, into
# target/aarch64-unknown-linux-gnu/release/remuda.
#
#     scripts/build-aarch64.sh [ARGUMENTS OF cargo build...]
#
# It needs a linker and C library for that processor (Debian's gcc-aarch64-linux-gnu and libc6-dev-arm64-cross), and Rust's
# standard library for it: by `rustup target add aarch64-unknown-linux-gnu`, or, where that cannot be had, Debian's packages
# rustc-web and libstd-rust-web-dev:arm64, with the compiler that they belong to. What is missing is installed if you are root.
# Run the result on such a machine, or here by: qemu-aarch64 -L /usr/aarch64-linux-gnu target/.../remuda
set -eu

cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
linker=aarch64-linux-gnu-gcc
debians_rustc=/usr/bin/rustc

can_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

has_library() {
    [ -d "$("$1" --print sysroot)/lib/rustlib/$target/lib" ]
}

if ! command -v "$linker" >/dev/null; then
    can_install || { echo "there is no $linker: install Debian's packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2; exit 1; }
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null
fi
if ! has_library rustc; then
    if ! { [ -x "$debians_rustc" ] && has_library "$debians_rustc"; }; then
        can_install || { echo "Rust's standard library for $target is missing: rustup target add $target" >&2; exit 1; }
        dpkg --add-architecture arm64
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends rustc-web libstd-rust-web-dev:arm64 >/dev/null
    fi
    export RUSTC="$debians_rustc"
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$linker"
exec cargo build --release --target "$target" --package remuda "$@"
