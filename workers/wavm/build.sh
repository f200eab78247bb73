#!/bin/sh
# Builds the worker that runs guests in WAVM.
#
#     workers/wavm/build.sh [DEST]
#
# DEST: where the program is put, with its name; without it, the program stays in the folder of the build, which is
# workers/wavm in the repository's target, or in $CARGO_TARGET_DIR.
#
# Needs cargo, Python 3, a C++ compiler, cmake and Debian's package llvm-14-dev. WAVM's source is in the crate wavm-sys.
# $JOBS says how many compilers run at once: two, if nothing is said.
set -eu

own=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$own/../.." && pwd)
build=${CARGO_TARGET_DIR:-$root/target}/workers/wavm
jobs=${JOBS:-2}

# The version of the crate that prepare.py is made for, and that of LLVM.
crate=0.1.0
llvm=14

for needed in cargo cmake c++ python3 "llvm-config-$llvm"; do
    command -v "$needed" >/dev/null || {
        echo "building WAVM needs $needed (Debian: apt-get install cmake g++ python3 llvm-$llvm-dev)" >&2
        exit 1
    }
done

# A package that has the crate as its only dependency, so that cargo brings it and checks it. It is never built.
mkdir -p "$build/crate/src"
: >"$build/crate/src/lib.rs"
cat >"$build/crate/Cargo.toml" <<END
[package]
name = "source-of-wavm"
version = "0.0.0"
edition = "2021"

[dependencies]
wavm-sys = "=$crate"

[workspace]
END
cargo fetch --quiet --manifest-path "$build/crate/Cargo.toml"
source=$(cargo metadata --offline --format-version 1 --manifest-path "$build/crate/Cargo.toml" | python3 -c '
import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "wavm-sys":
        print(os.path.join(os.path.dirname(package["manifest_path"]), "wavm"))
')

python3 "$own/prepare.py" "$source" "$build/source"
cmake -S "$own" -B "$build/build" -DWAVM_SOURCE="$build/source" -DCMAKE_BUILD_TYPE=Release \
    -DLLVM_DIR="$("llvm-config-$llvm" --cmakedir)" >"$build/cmake.log" 2>&1 || {
    cat "$build/cmake.log" >&2
    exit 1
}
cmake --build "$build/build" --target remuda-wavm --parallel "$jobs" >"$build/build.log" 2>&1 || {
    tail -n 40 "$build/build.log" >&2
    exit 1
}

# A program that runs keeps its file: the new one takes its name.
if [ $# -gt 0 ]; then
    mkdir -p "$(dirname "$1")"
    cp "$build/build/remuda-wavm" "$1.new"
    mv "$1.new" "$1"
fi
