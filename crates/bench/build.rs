//! Finds out which commit this is built from, so that results can say so.

use std::process::Command;

fn main() {
    println!("cargo::rustc-env=REMUDA_COMMIT={}", commit().unwrap_or_else(|| "unknown".into()));
    // What may change the answer: a commit, and a change to what is built.
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
