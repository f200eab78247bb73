//! Finds out the commit that this crate is built from, so that results can name it.

use std::process::Command;

fn main() {
    println!("cargo::rustc-env=REMUDA_COMMIT={}", commit().unwrap_or_else(|| "unknown".into()));
    // The answer may change with a commit, and with a change to the files that are built.
    println!("cargo::rerun-if-changed=..");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", "..", "../../Cargo.lock", "../../Cargo.toml"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}+changes") })
}

fn git(args: &[&str]) -> Option<String> {
    let out = Command::new("git").args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8(out.stdout).ok()?.trim().to_owned())
}
