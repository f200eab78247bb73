use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// A progress bar on the terminal. Without a terminal, it shows nothing.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(processes: usize) -> Self {
        let bar = ProgressBar::new(processes as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {prefix} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    pub(super) fn set_length(&self, processes: usize) {
        self.0.set_length(processes as u64);
    }

    /// Shows what is measured now, and how long everything that is left will take.
    pub(super) fn show(&self, what: &str, left: Duration) {
        if !left.is_zero() {
            self.0.set_prefix(format!("{} left", HumanDuration(left)));
        }
        self.0.set_message(what.to_owned());
    }

    pub(super) fn advance(&self) {
        self.0.inc(1);
    }

    /// Prints a line on standard error that the bar does not overwrite.
    pub(super) fn say(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
