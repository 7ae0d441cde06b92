//! A series' points in a few bytes each: append at the end, forget at the front, read from the newest backwards.
//! A point of ordinary traffic takes about 12 bytes where the plain struct takes 128.
//!
//! One point is `gap · count · sum · n · (bucket, amount) × n · length`, numbers as LEB128; the gap is the time since
//! the point before, and the length in the last byte leads from a point's end to its start.

use super::sample::{BUCKETS, Sample};

/// Gap, count, sum, and a pair for each bucket; the length in the last byte fits it.
const MAX_POINT_BYTES: usize = 5 + 10 + 10 + 1 + BUCKETS * 6 + 1;
const _: () = assert!(MAX_POINT_BYTES <= 256);

#[derive(Clone, Debug, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    /// Where the oldest point that is still held starts.
    head: usize,
    /// Time of the newest point.
    newest: u32,
    /// Time of the oldest point; its own gap is not read.
    oldest: u32,
}

impl Packed {
    /// Appends a point; times rise from call to call.
    pub fn push(&mut self, time: u32, sample: &Sample) {
        if self.is_empty() {
            self.oldest = time;
            self.newest = time;
        }
        // A quarter more when full, not double: there are many of these, and their sum is bounded.
        if self.bytes.capacity() - self.bytes.len() < MAX_POINT_BYTES {
            self.bytes.reserve_exact(MAX_POINT_BYTES.max(self.bytes.len() / 4));
        }
        let start = self.bytes.len();
        write(&mut self.bytes, u64::from(time.saturating_sub(self.newest)));
        write(&mut self.bytes, sample.count);
        write(&mut self.bytes, sample.sum_us);
        self.bytes.push(sample.buckets.iter().filter(|&&n| n > 0).count() as u8);
        for (i, &n) in sample.buckets.iter().enumerate() {
            if n > 0 {
                self.bytes.push(i as u8);
                write(&mut self.bytes, u64::from(n));
            }
        }
        self.bytes.push((self.bytes.len() - start) as u8);
        self.newest = time;
    }

    /// Calls `f` with every point at or after `from`, newest first.
    pub fn newest_first(&self, from: u32, mut f: impl FnMut(u32, Sample)) {
        let (mut end, mut time) = (self.bytes.len(), self.newest);
        while end > self.head && time >= from {
            let start = end - 1 - usize::from(self.bytes[end - 1]);
            let mut reader = Reader(&self.bytes[start..end - 1]);
            let gap = reader.number() as u32;
            f(time, reader.sample());
            (end, time) = (start, time - gap.min(time));
        }
    }

    /// Forgets points before `time`.
    pub fn forget_before(&mut self, time: u32) {
        while !self.is_empty() && self.oldest < time {
            let mut reader = Reader(&self.bytes[self.head..]);
            reader.number();
            reader.sample();
            self.head = self.bytes.len() - reader.0.len() + 1;
            if self.is_empty() {
                *self = Packed::default();
                return;
            }
            let gap = Reader(&self.bytes[self.head..]).number() as u32;
            self.oldest += gap;
        }
        // Moving the rest down is paid for by the bytes that were forgotten.
        if self.head > 256 && self.head * 4 > self.bytes.len() {
            self.bytes.drain(..self.head);
            self.head = 0;
            self.bytes.shrink_to(self.bytes.len() * 5 / 4);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.bytes.len()
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

fn write(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().expect("points are only read where one was written");
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }

    fn sample(&mut self) -> Sample {
        let mut sample = Sample { count: self.number(), sum_us: self.number(), ..Sample::default() };
        for _ in 0..self.byte() {
            let bucket = usize::from(self.byte());
            sample.buckets[bucket] = self.number() as u32;
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> impl Strategy<Value = Sample> {
        let amounts = prop::collection::vec((0usize..25, prop_oneof![1u32..100, Just(u32::MAX)]), 0..6);
        (prop_oneof![0u64..1000, Just(u64::MAX)], any::<u64>(), amounts).prop_map(
            |(count, sum_us, amounts)| {
                let mut sample = Sample { count, sum_us, ..Sample::default() };
                for (i, n) in amounts {
                    sample.buckets[i] = n;
                }
                sample
            },
        )
    }

    proptest! {
        #[test]
        fn reads_back_what_was_pushed(points in prop::collection::vec((1u32..5000, sample()), 0..60), cut in 0u32..100_000, from in 0u32..100_000) {
            let (mut packed, mut plain, mut time) = (Packed::default(), Vec::new(), 1_000);
            for (gap, sample) in points {
                time += gap;
                packed.push(time, &sample);
                plain.push((time, sample));
                if time.is_multiple_of(3) {
                    packed.forget_before(cut);
                    plain.retain(|(time, _)| *time >= cut);
                }
            }
            let mut seen = Vec::new();
            packed.newest_first(from, |time, sample| seen.push((time, sample)));
            seen.reverse();
            plain.retain(|(time, _)| *time >= from);
            prop_assert_eq!(seen, plain);
        }
    }

    #[test]
    fn an_ordinary_point_is_small() {
        let mut packed = Packed::default();
        for time in 0..1000 {
            let mut sample = Sample { count: 24, sum_us: 300_000, ..Sample::default() };
            sample.buckets[5..8].copy_from_slice(&[12, 10, 2]);
            packed.push(time, &sample);
        }
        assert!(packed.bytes.len() <= 14 * 1000, "{}", packed.bytes.len());
    }
}
