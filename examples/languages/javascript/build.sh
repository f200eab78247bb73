#!/bin/sh
# Builds ../javascript.wasm with componentize-js, which comes from npm. Needs Node.js 20 or newer.
set -eu
cd "$(dirname "$0")"
npm install --silent --no-audit --no-fund --no-package-lock
# The definitions of WASI come with jco. Those for HTTP are of version 0.2.12 there, and this componentize-js wants 0.2.10, which
# differs from it in the number alone as far as this world goes.
rm -rf wit
mkdir -p wit
cp -r node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12 wit/deps
printf 'package example:csv;\n\nworld server {\n    export wasi:http/incoming-handler@0.2.12;\n}\n' > wit/world.wit
find wit -name '*.wit' -exec sed -i 's/0\.2\.12/0.2.10/g' {} +
npx componentize-js app.js --wit "$PWD/wit" --world-name server -o ../javascript.wasm
