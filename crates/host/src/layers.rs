//! A test that no two files of this crate import each other, directly or by way of others. A file and the parts that it is
//! split into count as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that only hold files; all others belong to the file of their name.
const FOLDERS: [&str; 4] = ["artifact", "idle", "learn", "request"];

/// Every file of the crate without tests, by the path of its module: `request::race`.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut folders) = (BTreeMap::<String, String>::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                let (code, _) = source.split_once("#[cfg(test)]\nmod ").unwrap_or((&source, ""));
                files.entry(unit(path.strip_prefix(&root).unwrap())).or_default().push_str(code);
            }
        }
    }
    // What only declares and exports modules.
    files.retain(|name, _| name != "lib" && !FOLDERS.contains(&name.as_str()));
    files
}

/// The file that this one is a part of, as a path of a module.
fn unit(path: &Path) -> String {
    let parts: Vec<String> =
        PathBuf::from(path).with_extension("").iter().map(|part| part.display().to_string()).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| *part != "mod").collect();
    let length = if FOLDERS.contains(&parts[0]) { 2 } else { 1 };
    parts[..parts.len().min(length)].join("::")
}

/// The files that `code` names by a path from the crate's root, or from the folder that it is in.
fn imports(name: &str, code: &str, files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let folder = name.split_once("::").map(|(folder, _)| folder);
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for (other, _) in files.iter().filter(|(other, _)| *other != name) {
        let last = other.rsplit("::").next().unwrap();
        let mut ways = vec![format!("crate::{other}")];
        if let Some((other_folder, _)) = other.split_once("::") {
            ways.push(format!("crate::{other_folder}::{{"));
            if folder == Some(other_folder) {
                ways.extend([format!("super::{last}"), "super::{".to_owned()]);
            }
        }
        let is_named = |way: &String| {
            code.match_indices(way.as_str()).any(|(at, _)| {
                let rest = &code[at + way.len()..];
                if way.ends_with('{') {
                    let list = rest.split(';').next().unwrap();
                    return list.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == last);
                }
                rest.starts_with(|c: char| !c.is_alphanumeric() && c != '_')
            })
        };
        if ways.iter().any(is_named) {
            found.insert(other.clone());
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = files();
    let mut imports: BTreeMap<&str, BTreeSet<String>> =
        files.iter().map(|(name, code)| (name.as_str(), imports(name, code, &files))).collect();
    assert!(files.len() > 30 && imports.values().map(BTreeSet::len).sum::<usize>() > 100, "{imports:#?}");
    // Files that import nothing that is left are in no circle.
    loop {
        let free: Vec<&str> = imports
            .iter()
            .filter(|(_, others)| others.iter().all(|other| !imports.contains_key(other.as_str())))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        imports.retain(|name, _| !free.contains(name));
    }
    for others in imports.values_mut() {
        others.retain(|other| files.contains_key(other));
    }
    assert!(imports.is_empty(), "these files are in a circle of imports, or use one that is: {imports:#?}");
}
