use crate::sizes::Sized;
use crate::tuning::{EXECUTE_GUESS_NS, EXECUTE_GUESS_NS_PER_INPUT_BYTE, SIGMA_UNKNOWN, STRAIGHT_LINE_NS_PER_CODE_BYTE};

/// Figures of a module's bytes that tell how long compiling and running it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Bytes of all function bodies.
    pub code_bytes: u64,
    /// Functions that the module defines.
    pub functions: u32,
    /// Loops in these functions.
    pub loops: u32,
}

impl Features {
    /// Guesses how long a module that was never run takes on the fastest engine. The guess is as likely to be exceeded
    /// as not.
    pub(crate) fn execute_guess(&self, input_bytes: Option<u64>) -> Sized {
        let straight = self.code_bytes as f64 * STRAIGHT_LINE_NS_PER_CODE_BYTE;
        if self.loops == 0 {
            return Sized { ns: straight.min(EXECUTE_GUESS_NS), sigma: SIGMA_UNKNOWN, error: SIGMA_UNKNOWN };
        }
        let input = input_bytes.unwrap_or(0) as f64 * EXECUTE_GUESS_NS_PER_INPUT_BYTE;
        Sized { ns: EXECUTE_GUESS_NS + input, sigma: SIGMA_UNKNOWN, error: SIGMA_UNKNOWN }
    }
}
