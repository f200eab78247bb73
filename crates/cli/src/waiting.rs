//! What a terminal shows while somebody waits for a compiler.

use std::any::Any;
use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use remuda_host::CompileNotice;

/// How long nothing is shown: a compile that is done by then was hardly felt.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks of the spinner: often enough to seem alive.
const TICK: Duration = Duration::from_millis(100);

/// A spinner, once a compile takes long; it goes when the compile ends.
struct Waiting {
    ended: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            // Before the guest writes anything, the spinner is gone.
            let _ = thread.join();
        }
    }
}

/// Shows on a terminal that a compile is waited for, until what is returned is dropped.
pub(crate) fn announce(notice: &CompileNotice) -> Box<dyn Any> {
    if !std::io::stderr().is_terminal() {
        return Box::new(());
    }
    let message = format!("compiling {} of code with {}", ByteSize::b(notice.code_bytes), notice.engine);
    let (ended, has_ended) = channel::<()>();
    let spin = move || {
        if has_ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let spinner = spinner(&message);
        while has_ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            spinner.tick();
        }
        spinner.finish_and_clear();
    };
    let thread = thread::Builder::new().name("remuda-progress".into()).spawn(spin);
    Box::new(Waiting { ended: Some(ended), thread: thread.ok() })
}

/// A spinner on standard error, with the time since its beginning.
fn spinner(message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style).with_elapsed(PATIENCE).with_message(message.to_owned())
}
