//! Ids and chance, both from one seed.

use std::sync::Arc;

/// A splitmix64 generator: small, fast, the same everywhere.
#[derive(Debug, Clone)]
pub struct Mint(u64);

impl Mint {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit`, both included.
    pub fn up_to(&mut self, limit: u64) -> u64 {
        if limit == u64::MAX { self.next() } else { self.next() % (limit + 1) }
    }

    /// `i-0…` or `iip-assoc-0…`: a prefix and 17 hexadecimal digits, the first of which is 0 as in every sample.
    pub fn hex17(&mut self, prefix: &str) -> Arc<str> {
        format!("{prefix}0{:016x}", self.next()).into()
    }

    /// `AIPA…`, `AROA…`: a prefix and 17 letters or digits.
    pub fn unique_id(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.letters(17))
    }

    pub fn letters(&mut self, count: usize) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        (0..count).map(|_| char::from(ALPHABET[(self.next() % 32) as usize])).collect()
    }

    pub fn shuffle<T>(&mut self, rows: &mut [T]) {
        for end in (1..rows.len()).rev() {
            let other = self.up_to(end as u64) as usize;
            rows.swap(end, other);
        }
    }
}

impl super::World {
    /// The id of a request, in the form AWS uses.
    pub fn request_id(&mut self) -> String {
        let (high, low) = (self.mint.next(), self.mint.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            high & 0xffff,
            (high >> 16) & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        )
    }
}
