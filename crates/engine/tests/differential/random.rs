//! Deterministic numbers from a seed: `SplitMix64`, as in Steele, Lea and Flood, "Fast splittable pseudorandom number
//! generators" (OOPSLA 2014).

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Makes the seed from bytes (FNV-1a), so that the same bytes give the same numbers.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut n = self.0;
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(count).collect()
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let count = u64::try_from(from.len()).expect("a list in memory has a length");
        from[usize::try_from(self.next() % count).expect("less than the length")]
    }

    /// Bits for an integer argument: mostly edge cases.
    pub(crate) fn integer(&mut self) -> u64 {
        const EDGES: &[u64] = &[
            0,
            1,
            2,
            8,
            63,
            64,
            255,
            0xffff,
            0x1_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0x1_0000_0000,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
            u64::MAX,
        ];
        let next = self.next();
        if next & 3 == 0 { next >> 2 } else { self.pick(EDGES) }
    }

    pub(crate) fn f32_bits(&mut self) -> u32 {
        // Zeros, one, the largest and smallest numbers, infinities, quiet and signalling NaNs, and numbers around the
        // ends of the integers' ranges.
        const EDGES: &[u32] = &[
            0x0000_0000,
            0x8000_0000,
            0x3f80_0000,
            0x7f7f_ffff,
            0x0000_0001,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0xffa0_0001,
            0x4f00_0000,
            0xcf00_0001,
            0x5f80_0000,
        ];
        let bits = u32::try_from(self.next() >> 32).expect("32 bits are left");
        if bits & 3 == 0 { bits } else { self.pick(EDGES) }
    }

    pub(crate) fn f64_bits(&mut self) -> u64 {
        const EDGES: &[u64] = &[
            0x0000_0000_0000_0000,
            0x8000_0000_0000_0000,
            0x3ff0_0000_0000_0000,
            0x7fef_ffff_ffff_ffff,
            0x0000_0000_0000_0001,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            0x7ff8_0000_0000_0000,
            0xfff4_0000_0000_0001,
            0x41e0_0000_0000_0000,
            0xc1e0_0000_0020_0000,
            0x43f0_0000_0000_0000,
        ];
        let bits = self.next();
        if bits & 3 == 0 { bits } else { self.pick(EDGES) }
    }
}
