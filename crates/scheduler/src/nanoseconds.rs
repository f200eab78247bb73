/// A computed duration in whole nanoseconds.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and durations are not negative"
)]
pub fn as_ns(ns: f64) -> u64 {
    ns as u64
}
