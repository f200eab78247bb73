//! What Lucet's compiler uses of the crate wabt 0.9.2: reading WebAssembly's text format. The worker gets binary modules
//! only, so that this refuses everything.

use std::fmt;

/// Why a text is refused.
#[derive(Debug)]
pub struct Error(
    // Lucet takes the bytes of an error for those of its kind.
    #[expect(dead_code, reason = "Lucet reads it")] ErrorKind,
);

/// The kinds of errors that Lucet tells apart.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "Lucet's names")]
pub enum ErrorKind {
    Deserialize(String),
    Parse(String),
    ResolveNames(String),
    Validate(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebAssembly's text format is not read here")
    }
}

impl std::error::Error for Error {}

/// Refuses a text.
///
/// # Errors
///
/// Always returns an error.
pub fn wat2wasm<S: AsRef<[u8]>>(_: S) -> Result<Vec<u8>, Error> {
    Err(Error(ErrorKind::Parse(String::new())))
}
