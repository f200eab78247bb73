//! The spinner that a terminal shows while a run waits for a compiler.

use std::any::Any;
use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use remuda_host::CompileNotice;

/// Time before the spinner appears. A compile that is done by then is hardly noticed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two steps of the spinner, short enough to look alive.
const TICK: Duration = Duration::from_millis(100);

/// A spinner that appears once a compile takes long, and disappears when the compile ends.
struct Waiting {
    ended: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.ended = None;
        if let Some(thread) = self.thread.take() {
            // Waits, so that the spinner is gone before the guest writes anything.
            let _ = thread.join();
        }
    }
}

/// Shows on a terminal that a run waits for a compiler, until the returned value is dropped.
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

/// A spinner on standard error, with the time since the compile began.
fn spinner(message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style).with_elapsed(PATIENCE).with_message(message.to_owned())
}
