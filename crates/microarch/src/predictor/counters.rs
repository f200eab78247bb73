//! Tables of saturating counters.

/// Counters of some bits each, all 0 at first. A counter in the upper half of its range says "taken".
#[derive(Debug, Clone)]
pub(super) struct Counters {
    values: Box<[u8]>,
    max: u8,
}

impl Counters {
    /// `entries` is a power of two, and `bits` between 1 and 8.
    pub(super) fn new(entries: u32, bits: u32) -> Self {
        let max = u8::MAX >> (u8::BITS - bits);
        Self { values: vec![0; entries as usize].into(), max }
    }

    /// The bits of `index` that number an entry.
    #[inline]
    fn at(&self, index: u64) -> usize {
        // The mask leaves less than the number of entries, all of which are in memory.
        #[expect(clippy::cast_possible_truncation, reason = "an index into a table")]
        let at = index as usize & (self.values.len() - 1);
        at
    }

    /// Whether this counter says "taken".
    #[inline]
    pub(super) fn taken(&self, index: u64) -> bool {
        self.values[self.at(index)] > self.max / 2
    }

    /// Counts up for `true`, down for `false`, and stays within the range.
    #[inline]
    pub(super) fn train(&mut self, index: u64, up: bool) {
        self.train_if(true, index, up);
    }

    /// The same, but only if `learns`. What a branch does cannot be foreseen by the processor that runs this either, so
    /// that this is written to be compiled without branches.
    #[inline]
    pub(super) fn train_if(&mut self, learns: bool, index: u64, up: bool) {
        let at = self.at(index);
        let value = &mut self.values[at];
        #[expect(clippy::needless_bitwise_bool, reason = "no branches, as said above")]
        let (more, less) = (u8::from(up & learns & (*value < self.max)), u8::from(!up & learns & (*value > 0)));
        *value = *value + more - less;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_saturate_at_both_ends() {
        for bits in 1..=8 {
            let mut counters = Counters::new(2, bits);
            let max = (1_u32 << bits) - 1;
            assert!(!counters.taken(0));
            for step in 1..=max + 3 {
                counters.train(0, true);
                assert_eq!(counters.taken(0), step > max / 2, "{bits} bits, {step} up");
            }
            for step in 1..=max + 3 {
                counters.train(0, false);
                assert_eq!(counters.taken(0), step < max.div_ceil(2), "{bits} bits, {step} down");
            }
            assert!(!counters.taken(1), "the other entry has seen nothing");
        }
    }
}
