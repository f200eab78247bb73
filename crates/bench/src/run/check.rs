//! Checks that the result of a call is the expected one. Only then does its time count.

use std::collections::HashMap;

use super::saying;
use crate::measure::{CallResult, Output};
use crate::plan::{Expected, Subject};

/// Checks results. It remembers the first result of each module for which no result is prescribed.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    first: HashMap<(String, String), (String, i32, Output)>,
}

impl Checker {
    /// Returns an error that says what is wrong.
    pub(crate) fn check(&mut self, subject: &Subject, engine: &str, result: &CallResult) -> Result<(), String> {
        let CallResult { ended, output, stderr } = result;
        let code = *ended.as_ref().map_err(|how| format!("it {how}{}", saying(stderr)))?;
        match &subject.expected {
            Expected::Exactly { exit_code, output: expected } => {
                compare(code, *exit_code, output, expected, stderr, "")
            }
            Expected::Anything => compare(code, 0, output, output, stderr, ""),
            Expected::TheSame => {
                let key = (subject.digest.clone(), subject.case.clone());
                let first = self.first.entry(key).or_insert_with(|| (engine.to_owned(), code, output.clone()));
                let (who, exit_code, expected) = first;
                let way_out = format!(
                    " that {who} wrote first; say what it must write with --expect, or --any-output if it differs each time"
                );
                compare(code, *exit_code, output, expected, stderr, &way_out)
            }
        }
    }
}

fn compare(
    code: i32,
    code_expected: i32,
    output: &Output,
    expected: &Output,
    stderr: &str,
    more: &str,
) -> Result<(), String> {
    if code != code_expected {
        return Err(format!("it exits with {code}, not with {code_expected}{}", saying(stderr)));
    }
    if output != expected {
        let show = |output: &Output| format!("{} bytes (SHA-256 {:.12})", output.bytes, output.digest);
        return Err(format!("wrong output: {}, not the {}{more}", show(output), show(expected)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::subject;

    fn result(ended: Result<i32, &str>, output: &[u8]) -> CallResult {
        CallResult { ended: ended.map_err(str::to_owned), output: Output::of(output), stderr: "oh\n".into() }
    }

    #[test]
    fn only_what_was_expected_counts() {
        let exactly = Expected::Exactly { exit_code: 3, output: Output::of(b"yes") };
        for (expected, result, complaint) in [
            (&exactly, result(Ok(3), b"yes"), None),
            (&exactly, result(Ok(3), b"no"), Some("wrong output: 2 bytes")),
            (&exactly, result(Ok(0), b"yes"), Some("it exits with 0, not with 3; it says \"oh\"")),
            (&exactly, result(Err("trapped: unreachable"), b"yes"), Some("it trapped: unreachable; it says")),
            (&Expected::Anything, result(Ok(0), b"whatever"), None),
            (&Expected::Anything, result(Ok(1), b"whatever"), Some("it exits with 1")),
        ] {
            let subject = subject(expected.clone());
            match (Checker::default().check(&subject, "mock", &result), complaint) {
                (Ok(()), None) => {}
                (Err(error), Some(complaint)) => assert!(error.contains(complaint), "{error}"),
                (other, _) => panic!("{result:?} gives {other:?}"),
            }
        }
    }

    #[test]
    fn without_an_expectation_all_must_agree_with_the_first() {
        let mut checker = Checker::default();
        let subject = subject(Expected::TheSame);
        checker.check(&subject, "a", &result(Ok(1), b"x")).unwrap();
        checker.check(&subject, "b", &result(Ok(1), b"x")).unwrap();
        let error = checker.check(&subject, "b", &result(Ok(1), b"y")).unwrap_err();
        assert!(error.contains("that a wrote first") && error.contains("--expect"), "{error}");
        checker.check(&subject, "b", &result(Ok(0), b"x")).unwrap_err();
    }
}
