//! Reading modules from files, in the binary format or as text.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// Reads a module from a file, in the binary format or as text.
///
/// # Errors
///
/// Returns an error if the file cannot be read, or if it is text that is no WebAssembly.
pub fn read_module(path: &Path) -> Result<Bytes, ReadModuleError> {
    let read = fs::read(path).map_err(|error| ReadModuleError { path: path.to_owned(), reason: error.to_string() });
    decode_module(read?, path)
}

/// Turns a module that was read from `path` into the binary format.
///
/// # Errors
///
/// Returns an error if the module is text that is no WebAssembly.
pub fn decode_module(bytes: Vec<u8>, path: &Path) -> Result<Bytes, ReadModuleError> {
    // A module as text begins with a parenthesis or a comment.
    let begins_like_text = matches!(bytes.trim_ascii_start().first(), Some(b'(' | b';'));
    let is_text = path.extension().is_some_and(|extension| extension == "wat") && !bytes.starts_with(b"\0asm");
    if !is_text && !begins_like_text {
        return Ok(bytes.into());
    }
    let binary = wat::parse_bytes(&bytes)
        .map_err(|error| ReadModuleError { path: path.to_owned(), reason: error.to_string() })?;
    Ok(Bytes::copy_from_slice(&binary))
}

/// The error of a module's file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the module {path:?}: {reason}")]
pub struct ReadModuleError {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}
