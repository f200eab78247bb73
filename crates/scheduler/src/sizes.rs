//! How long a function runs, depending on the size of its input.

use crate::Estimate;

const CLASSES_MAX: usize = SizeModel::CLASSES_MAX as usize;
/// How much less sure an estimate is for each doubling between the observed size and the size in question.
const SIGMA_PER_DOUBLING: f32 = 0.15;

/// Estimates by size of the input: one for each power of two that was observed, and straight lines between them on
/// logarithmic scales, as work grows with a power of the size.
///
/// Beyond the observed sizes the nearest line goes on, with a growth between constant and cubic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SizeModel {
    /// The classes, in ascending order of size.
    classes: Vec<Class>,
    /// The estimate from all requests, those whose size was not known beforehand included.
    any: Estimate,
}

#[derive(Clone, Debug, PartialEq)]
struct Class {
    /// The number of bits of the size.
    bits: u32,
    /// A typical size of this class, as a natural logarithm: a moving average of the logarithms of the sizes seen.
    size_ln: f64,
    estimate: Estimate,
}

/// A duration read off a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sized {
    /// The duration, in nanoseconds.
    pub ns: f64,
    /// Standard deviation of the logarithm: how far one request may be from `ns`.
    pub sigma: f32,
    /// Standard error of the logarithm: how far the usual request may be from `ns`.
    pub error: f32,
}

impl SizeModel {
    /// The number of size classes that are kept apart at most; with one estimate each they stay small enough to be copied
    /// with a profile.
    pub const CLASSES_MAX: u32 = 12;

    /// The class of an input of so many bytes: the number of bits of its size.
    #[must_use]
    pub fn class_of(bytes: u64) -> u32 {
        u64::BITS - bytes.leading_zeros()
    }

    /// Takes one more observation into account.
    pub fn observe(&mut self, input_bytes: Option<u64>, ns: u64) {
        self.any.observe(ns);
        let Some(bytes) = input_bytes else { return };
        let bits = Self::class_of(bytes);
        let size_ln = logarithm(bytes);
        match self.classes.binary_search_by_key(&bits, |class| class.bits) {
            Ok(at) => {
                let class = &mut self.classes[at];
                class.size_ln += (size_ln - class.size_ln) / 8.0;
                class.estimate.observe(ns);
            }
            Err(at) if self.classes.len() < CLASSES_MAX => {
                let mut estimate = Estimate::default();
                estimate.observe(ns);
                self.classes.insert(at, Class { bits, size_ln, estimate });
            }
            // No class can be added: the neighbouring one takes the observation.
            Err(at) => self.classes[at.min(CLASSES_MAX - 1)].estimate.observe(ns),
        }
    }

    /// The number of observations so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.any.count()
    }

    /// The expected duration for a size, or `None` if nothing was observed.
    #[must_use]
    pub fn predict(&self, input_bytes: Option<u64>) -> Option<Sized> {
        match (input_bytes, self.classes.as_slice()) {
            (Some(_), [only]) => {
                let distance = distance(only, input_bytes?);
                Sized::of(&only.estimate, distance)
            }
            (Some(bytes), [_, _, ..]) => self.interpolate(bytes),
            _ => Sized::of(&self.any, 0.0),
        }
    }

    fn interpolate(&self, bytes: u64) -> Option<Sized> {
        let x = logarithm(bytes);
        let above = self.classes.partition_point(|class| class.size_ln <= x).clamp(1, self.classes.len() - 1);
        let (low, high) = (&self.classes[above - 1], &self.classes[above]);
        let (low_ln, high_ln) = ((low.estimate.ns()?.max(1) as f64).ln(), (high.estimate.ns()?.max(1) as f64).ln());
        let slope = (high_ln - low_ln) / (high.size_ln - low.size_ln).max(f64::EPSILON);
        let (near, near_ln) =
            if (x - low.size_ln).abs() <= (high.size_ln - x).abs() { (low, low_ln) } else { (high, high_ln) };
        let between = (low.size_ln..=high.size_ln).contains(&x);
        let slope = if between { slope } else { slope.clamp(0.0, 3.0) };
        let ns = (near_ln + slope * (x - near.size_ln)).exp();
        Some(Sized { ns, ..Sized::of(&near.estimate, distance(near, bytes))? })
    }
}

impl Sized {
    /// An observation, made less certain by its distance in size.
    fn of(estimate: &Estimate, distance: f32) -> Option<Self> {
        let (sigma, error) = (estimate.sigma()?, estimate.error()?);
        Some(Self { ns: estimate.ns()? as f64, sigma: sigma + distance, error: error + distance })
    }
}

fn logarithm(bytes: u64) -> f64 {
    ((bytes as f64) + 1.0).ln()
}

fn distance(class: &Class, bytes: u64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 64 doublings")]
    let doublings = ((logarithm(bytes) - class.size_ln).abs() / std::f64::consts::LN_2) as f32;
    // Within a class the distance counts as 0.
    (doublings - 0.5).max(0.0) * SIGMA_PER_DOUBLING
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(sizes: &[u64]) -> SizeModel {
        let mut model = SizeModel::default();
        for size in sizes {
            for _ in 0..3 {
                model.observe(Some(*size), 1_000 + 10 * size);
            }
        }
        model
    }

    fn predict(model: &SizeModel, size: u64) -> f64 {
        model.predict(Some(size)).unwrap().ns
    }

    #[test]
    fn between_sizes_time_follows_a_power_of_the_size() {
        let model = linear(&[1_000, 100_000]);
        let expected = 1_000.0 + 10.0 * 10_000.0;
        let predicted = predict(&model, 10_000);
        assert!((predicted / expected - 1.0).abs() < 0.15, "{predicted} instead of {expected}");
    }

    #[test]
    fn beyond_the_sizes_seen_the_line_goes_on_with_less_certainty() {
        let model = linear(&[10_000, 100_000]);
        let expected = 1_000.0 + 10.0 * 1e6;
        let far = model.predict(Some(1_000_000)).unwrap();
        assert!((far.ns / expected - 1.0).abs() < 0.2, "{} instead of {expected}", far.ns);
        assert!(far.sigma > model.predict(Some(100_000)).unwrap().sigma);
        // Noise must not make larger inputs look cheaper.
        let mut falling = SizeModel::default();
        falling.observe(Some(1_000), 200);
        falling.observe(Some(2_000), 100);
        assert!(predict(&falling, 1_000_000) >= 100.0);
    }

    #[test]
    fn unknown_sizes_get_what_is_usual() {
        let model = linear(&[1_000]);
        assert!((model.predict(None).unwrap().ns - 11_000.0).abs() < 0.5);
        assert_eq!(SizeModel::default().predict(Some(1)), None);
    }

    #[test]
    fn there_are_never_too_many_classes() {
        let mut model = SizeModel::default();
        for bits in 0..64 {
            model.observe(Some(1 << bits), 1 << bits);
        }
        assert_eq!(model.classes.len(), CLASSES_MAX);
        assert_eq!(model.count(), 64);
        assert!(predict(&model, u64::MAX).is_finite());
    }
}
