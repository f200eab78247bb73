#!/usr/bin/env python3
"""Changes some crates, so that Lucet builds today, compiles without files, and runs on processors of today.

    prepare.py FOLDER

Puts into FOLDER copies of the crates with the changes, and patch.toml, which tells cargo to use these copies, and our own
crate instead of wabt. A change is a text that has to be there once: if it is not, this is another version, and nothing is
built of it.
"""

import json
import subprocess
import sys
from pathlib import Path

OWN = Path(__file__).resolve().parent
VERSIONS = [("cranelift-codegen", "0.51.0"), ("lucetc", "0.6.1"), ("raw-cpuid", "6.1.0"), ("raw-cpuid", "7.0.4")]

# (crate, file, text, what it becomes), and above each why.
CHANGES = [
    # Since Rust 1.80, boxed slices have an `into_iter` of their own, which gives up the elements: there, they are only
    # looked at.
    ("cranelift-codegen", "src/isa/x86/abi.rs", "*insts = insts\n                    .into_iter()",
     "*insts = insts\n                    .iter()"),
    # Cargo does not hide the warnings of packages that are not from a registry.
    ("cranelift-codegen", "src/lib.rs", "#![deny(missing_docs, trivial_numeric_casts, unused_extern_crates)]",
     "#![allow(warnings)]"),
    ("lucetc", "src/lib.rs", "#![deny(bare_trait_objects)]", "#![allow(warnings)]"),
    ("raw-cpuid", "src/lib.rs", '#![crate_type = "lib"]', "#![allow(warnings)]"),
    # What a processor says here is how many more lists of its features it has. Those of the time had none.
    ("raw-cpuid", "src/lib.rs", "            assert!(res.eax == 0);\n", ""),
    # A worker has no files to write an object file to.
    ("lucetc", "src/output.rs", "    pub fn write<P: AsRef<Path>>(&self, path: P) -> Result<(), Error> {\n        let _ =",
     "    pub fn emit(&self) -> Result<Vec<u8>, Error> {\n"
     "        self.artifact.emit().map_err(|source| Error::Failure(source, \"Write error\".to_owned()))\n"
     "    }\n\n"
     "    pub fn write<P: AsRef<Path>>(&self, path: P) -> Result<(), Error> {\n        let _ ="),
    ("lucetc", "src/lib.rs", "    pub fn object_file<P: AsRef<Path>>(&self, output: P) -> Result<(), Error> {\n",
     "    pub fn object_file<P: AsRef<Path>>(&self, output: P) -> Result<(), Error> {\n"
     "        std::fs::write(output, self.object()?)?;\n        Ok(())\n    }\n\n"
     "    pub fn object(&self) -> Result<Vec<u8>, Error> {\n"),
    ("lucetc", "src/lib.rs", "        obj.write(output.as_ref())?;\n\n        Ok(())\n", "        obj.emit()\n"),
]


def sources(folder):
    """Has cargo bring the crates and check them, and returns where they are, by their names and versions."""
    package = folder / "crates"
    (package / "src").mkdir(parents=True, exist_ok=True)
    (package / "src/lib.rs").write_text("")
    # lucetc cannot be brought without something in the place of wabt.
    (package / "Cargo.toml").write_text(
        "# Never built: for the sources of its dependencies.\n"
        '[package]\nname = "sources-of-lucet"\nversion = "0.0.0"\nedition = "2021"\n\n[dependencies]\n'
        + "".join(f'{own_name(crate, version)} = {{ package = "{crate}", version = "={version}" }}\n'
                  for crate, version in VERSIONS)
        + f"\n[patch.crates-io]\nwabt = {{ path = {json.dumps(str(OWN / 'wabt'))} }}\n\n[workspace]\n")
    manifest = ["--manifest-path", package / "Cargo.toml"]
    subprocess.run(["cargo", "fetch", "--quiet", *manifest], check=True)
    metadata = subprocess.run(["cargo", "metadata", "--offline", "--format-version", "1", *manifest], check=True,
                              stdout=subprocess.PIPE).stdout
    return {(found["name"], found["version"]): Path(found["manifest_path"]).parent
            for found in json.loads(metadata)["packages"] if (found["name"], found["version"]) in VERSIONS}


def own_name(crate, version):
    """A name for one version of a crate."""
    return f"{crate}-{version.replace('.', '-')}"


def copy(crate, original, target):
    """Copies a crate with its changes. Files that are as they were keep their time: cargo need not build them again."""
    changes = [change[1:] for change in CHANGES if change[0] == crate]
    for path in original.rglob("*"):
        if not path.is_file():
            continue
        name = path.relative_to(original)
        content = path.read_bytes()
        for file, old, new in changes:
            if str(name) == file:
                if content.count(old.encode()) != 1:
                    sys.exit(f"{crate}: {file} does not have {old!r} once: this is another version of it")
                content = content.replace(old.encode(), new.encode())
        if not (target / name).exists() or (target / name).read_bytes() != content:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
    for path in target.rglob("*"):
        if path.is_file() and not (original / path.relative_to(target)).exists():
            path.unlink()


def main():
    folder = Path(sys.argv[1]).resolve()
    lines = ["[patch.crates-io]", f"wabt = {{ path = {json.dumps(str(OWN / 'wabt'))} }}"]
    for (crate, version), original in sources(folder).items():
        target = folder / own_name(crate, version)
        copy(crate, original, target)
        lines.append(f'{own_name(crate, version)} = {{ package = "{crate}", path = {json.dumps(str(target))} }}')
    (folder / "patch.toml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
