#!/bin/sh
# Builds the worker that runs guests in Lucet.
#
#     workers/lucet/build.sh [DEST]
#
# DEST: where the program is put, with its name; without it, the program stays in the folder of the build, which is
# workers/lucet in the repository's target, or in $CARGO_TARGET_DIR.
#
# Needs cargo, Python 3 and a C compiler.
set -eu

own=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$own/../.." && pwd)
build=${CARGO_TARGET_DIR:-$root/target}/workers/lucet

for needed in cargo cc python3; do
    command -v "$needed" >/dev/null || {
        echo "building Lucet needs $needed (Debian: apt-get install cargo gcc python3)" >&2
        exit 1
    }
done

"$own/prepare.py" "$build"
cargo build --release --locked --quiet --manifest-path "$own/Cargo.toml" --target-dir "$build/target" \
    --config "$build/patch.toml"

# A program that runs keeps its file: the new one takes its name.
if [ $# -gt 0 ]; then
    mkdir -p "$(dirname "$1")"
    cp "$build/target/release/remuda-lucet" "$1.new"
    mv "$1.new" "$1"
fi
