//! Vectors in bytes: a search waits for memory, and these are a quarter of f32.
//!
//! A component is a whole number from −127 to 127 times the vector's scale. What rounding took away is kept as a number
//! per vector, so that a cosine of codes comes with a bound on its error: a scan that looks at the codes first and at the
//! f32 vectors only where the bound leaves a doubt finds exactly what a scan of the f32 vectors finds.

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;
/// Rows ahead that are fetched while one is scored.
const AHEAD: usize = 3;

/// Part of a code. Aligned, so that a row touches no more cache lines than it must.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line([i8; LINE]);

/// What a row's bytes do not say.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The component that 1 stands for.
    scale: f32,
    /// Euclidean length of what rounding took away, rounded up.
    error: f32,
    /// Of the bytes.
    sum: i32,
}

/// One vector's code.
#[derive(Clone, Copy)]
pub(super) struct Code<'a> {
    lines: &'a [Line],
    mark: Mark,
}

/// The codes of unit vectors, a row each.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    /// Lines of a row; the last is filled up with zeros.
    width: usize,
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

impl Codes {
    /// No rows, of vectors of `dimensions`.
    pub(super) fn new(dimensions: usize) -> Self {
        Self { width: dimensions.div_ceil(LINE).max(1), lines: Vec::new(), marks: Vec::new() }
    }

    /// One row.
    pub(super) fn of(vector: &[f32]) -> Self {
        let mut codes = Self::new(vector.len());
        codes.push(vector);
        codes
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// A row's code.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Code<'_> {
        Code { lines: &self.lines[row * self.width..(row + 1) * self.width], mark: self.marks[row] }
    }

    /// Whether two rows have the same bytes.
    pub(super) fn are_equal(&self, one: usize, other: usize) -> bool {
        self.marks[one].sum == self.marks[other].sum && self.row(one).lines == self.row(other).lines
    }

    /// Adds a row.
    pub(super) fn push(&mut self, vector: &[f32]) {
        let row = self.len();
        self.lines.resize((row + 1) * self.width, Line([0; LINE]));
        self.marks.push(Mark { scale: 0.0, error: 0.0, sum: 0 });
        self.set(row, vector);
    }

    /// Adds other rows.
    pub(super) fn append(&mut self, mut others: Self) {
        if self.marks.is_empty() {
            *self = others;
        } else {
            self.lines.append(&mut others.lines);
            self.marks.append(&mut others.marks);
        }
    }

    /// The rows numbered, in that order.
    pub(super) fn select(&self, rows: impl Iterator<Item = usize>) -> Self {
        let mut selected = Self { width: self.width, lines: Vec::new(), marks: Vec::new() };
        for row in rows {
            let code = self.row(row);
            selected.lines.extend_from_slice(code.lines);
            selected.marks.push(code.mark);
        }
        selected
    }

    /// Replaces a row.
    pub(super) fn set(&mut self, row: usize, vector: &[f32]) {
        let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let scale = largest / 127.0;
        // Only zero and what is nearly zero everywhere has no inverse, and unit vectors are neither.
        let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
        let (mut sum, mut squares) = (0, 0.0f64);
        let lines = &mut self.lines[row * self.width..(row + 1) * self.width];
        for (line, components) in lines.iter_mut().zip(vector.chunks(LINE)) {
            for (byte, &x) in line.0.iter_mut().zip(components) {
                let steps = x * inverse;
                // `round` is a call into the C library where the processor is not known to have an instruction for it.
                *byte = (steps + 0.5f32.copysign(steps)) as i8;
                sum += i32::from(*byte);
                squares += (f64::from(x) - f64::from(*byte) * f64::from(scale)).powi(2);
            }
        }
        let error = (squares.sqrt() as f32).next_up();
        self.marks[row] = Mark { scale, error, sum };
    }

    /// Moves the last row into the place of one that goes.
    pub(super) fn swap_remove(&mut self, row: usize) {
        let last = self.len() - 1;
        self.marks.swap_remove(row);
        self.lines.copy_within(last * self.width.., row * self.width);
        self.lines.truncate(last * self.width);
    }

    /// Cosines of the numbered rows to a code.
    pub(super) fn cosines(&self, query: Code<'_>, rows: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(rows.len(), 0.0);
        for &row in rows.iter().take(AHEAD) {
            self.fetch(row as usize);
        }
        let row = |place: usize| {
            if let Some(&ahead) = rows.get(place + AHEAD) {
                self.fetch(ahead as usize);
            }
            rows[place] as usize
        };
        self.compute(query, row, out);
    }

    /// Cosines of the rows from `start` on to a unit vector, and how far each may be from the true one computed in f32.
    pub(super) fn bounded(&self, query: Code<'_>, start: usize, cosines: &mut [f32], errors: &mut [f32]) {
        self.compute(query, |place| start + place, cosines);
        // |x·y − x'·y'| ≤ |x|·|y − y'| + |x − x'|·|y'|, and no more than the sums' own rounding.
        let rounding = (self.width * LINE) as f32 * f32::EPSILON;
        let own = query.mark.error + 2.0 * rounding;
        for (error, mark) in errors.iter_mut().zip(&self.marks[start..]) {
            *error = own + (1.0 + own) * mark.error;
        }
    }

    /// `out[i]` is the cosine of a code and row `row(i)`; the same bits on every processor, for sums are of whole numbers.
    fn compute(&self, query: Code<'_>, row: impl Fn(usize) -> usize, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected;
            if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
                #[expect(unsafe_code, reason = "calls code compiled for AVX-512 VNNI")]
                // SAFETY: the processor has the features, checked on the line above.
                unsafe {
                    self.compute_vnni(query, row, out);
                }
                return;
            }
            if is_x86_feature_detected!("avx2") {
                #[expect(unsafe_code, reason = "calls code compiled for AVX2")]
                // SAFETY: the processor has the feature, checked on the line above.
                unsafe {
                    self.compute_avx2(query, row, out);
                }
                return;
            }
        }
        self.compute_portable(query, row, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn compute_vnni(&self, query: Code<'_>, row: impl Fn(usize) -> usize, out: &mut [f32]) {
        use std::arch::x86_64::{
            _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_reduce_add_epi32, _mm512_set1_epi8,
            _mm512_setzero_si512, _mm512_xor_si512,
        };
        #[expect(unsafe_code, reason = "loads from a pointer")]
        // SAFETY: a line has the size and the alignment of the register.
        let load = |line: &Line| unsafe { _mm512_load_si512(line.0.as_ptr().cast()) };
        // The instruction wants one side without signs: 128 is added to the row's bytes, and its share taken off the sum.
        let flip = _mm512_set1_epi8(i8::MIN);
        for (place, out) in out.iter_mut().enumerate() {
            let row = self.row(row(place));
            let mut sums = _mm512_setzero_si512();
            for (q, r) in query.lines.iter().zip(row.lines) {
                sums = _mm512_dpbusd_epi32(sums, _mm512_xor_si512(load(r), flip), load(q));
            }
            let dot = _mm512_reduce_add_epi32(sums) - 128 * query.mark.sum;
            *out = dot as f32 * (query.mark.scale * row.mark.scale);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn compute_avx2(&self, query: Code<'_>, row: impl Fn(usize) -> usize, out: &mut [f32]) {
        self.compute_portable(query, row, out);
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "must be compiled with its caller's instruction set")]
    fn compute_portable(&self, query: Code<'_>, row: impl Fn(usize) -> usize, out: &mut [f32]) {
        for (place, out) in out.iter_mut().enumerate() {
            let row = self.row(row(place));
            let mut dot = 0;
            for (q, r) in query.lines.iter().zip(row.lines) {
                dot += q.0.iter().zip(&r.0).map(|(&q, &r)| i32::from(q) * i32::from(r)).sum::<i32>();
            }
            *out = dot as f32 * (query.mark.scale * row.mark.scale);
        }
    }

    /// Asks the processor for a row that will be needed soon.
    #[inline]
    fn fetch(&self, row: usize) {
        #[cfg(target_arch = "x86_64")]
        for line in &self.lines[row * self.width..(row + 1) * self.width] {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            #[expect(unsafe_code, reason = "no safe name for this instruction")]
            // SAFETY: every x86-64 processor has it, and it reads nothing.
            unsafe {
                _mm_prefetch(line.0.as_ptr(), _MM_HINT_T0);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::kernel;
    use crate::vector::unit;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const DIMENSIONS: [usize; 8] = [1, 2, 63, 64, 65, 192, 384, 401];

    fn random(rng: &mut ChaCha8Rng, dimensions: usize) -> Vec<f32> {
        unit(&(0..dimensions).map(|_| rng.random::<f32>() - 0.5).collect::<Vec<_>>(), dimensions).unwrap()
    }

    fn codes(rng: &mut ChaCha8Rng, dimensions: usize, rows: usize) -> (Codes, Vec<Vec<f32>>) {
        let mut codes = Codes::new(dimensions);
        let vectors: Vec<_> = (0..rows).map(|_| random(rng, dimensions)).collect();
        for vector in &vectors {
            codes.push(vector);
        }
        (codes, vectors)
    }

    /// In f64, where no sum of so few is rounded.
    fn definition(a: Code<'_>, b: Code<'_>) -> f32 {
        let bytes = |code: Code<'_>| -> Vec<f64> {
            code.lines.iter().flat_map(|line| line.0).map(f64::from).collect()
        };
        let dot: f64 = bytes(a).iter().zip(bytes(b)).map(|(a, b)| a * b).sum();
        dot as f32 * (a.mark.scale * b.mark.scale)
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for dimensions in DIMENSIONS {
            let (codes, _) = codes(&mut rng, dimensions, 9);
            // The largest sum there is: every component at the end of its range, of either sign.
            let mut extremes = Codes::of(&vec![1.0; dimensions]);
            extremes.push(&vec![-1.0; dimensions]);
            for (query, rows) in
                [(codes.row(4), &codes), (extremes.row(0), &extremes), (extremes.row(1), &extremes)]
            {
                let expected: Vec<u32> =
                    (0..rows.len()).map(|row| definition(query, rows.row(row)).to_bits()).collect();
                let each = |row: usize| row;
                let check = |level: &str, compute: &dyn Fn(&mut [f32])| {
                    let mut out = vec![f32::NAN; rows.len()];
                    compute(&mut out);
                    let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                    assert_eq!(bits, expected, "{level}, {dimensions} dimensions");
                };
                check("chosen", &|out| rows.compute(query, each, out));
                check("portable", &|out| rows.compute_portable(query, each, out));
                #[cfg(target_arch = "x86_64")]
                {
                    #![expect(unsafe_code, reason = "calls code compiled for what the processor may lack")]
                    if std::arch::is_x86_feature_detected!("avx2") {
                        // SAFETY: the processor has the feature, checked on the line above.
                        check("AVX2", &|out| unsafe { rows.compute_avx2(query, each, out) });
                    }
                    if std::arch::is_x86_feature_detected!("avx512bw")
                        && std::arch::is_x86_feature_detected!("avx512vnni")
                    {
                        // SAFETY: the processor has the features, checked on the line above.
                        check("AVX-512 VNNI", &|out| unsafe { rows.compute_vnni(query, each, out) });
                    }
                }
                let all: Vec<u32> = (0..rows.len() as u32).collect();
                let mut gathered = Vec::new();
                rows.cosines(query, &all, &mut gathered);
                check("gathered", &|out| out.copy_from_slice(&gathered));
            }
        }
    }

    #[test]
    fn no_cosine_is_farther_than_its_bound_and_bounds_are_close() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for dimensions in DIMENSIONS {
            let (codes, vectors) = codes(&mut rng, dimensions, 300);
            for query in &vectors[..20] {
                let (mut cosines, mut errors) = (vec![f32::NAN; 299], vec![f32::NAN; 299]);
                codes.bounded(Codes::of(query).row(0), 1, &mut cosines, &mut errors);
                for (vector, (cosine, error)) in vectors[1..].iter().zip(cosines.iter().zip(errors)) {
                    let difference = (cosine - kernel::cosine(query, vector)).abs();
                    assert!(
                        difference <= error && error < 0.02,
                        "{difference} {error}, {dimensions} dimensions"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_that_move_are_the_rows_that_were_pushed() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut moved, vectors) = codes(&mut rng, 70, 6);
        moved.swap_remove(1);
        moved.set(2, &vectors[1]);
        moved.append(moved.select([3, 0].into_iter()));
        moved.swap_remove(moved.len() - 1);
        let mut pushed = Codes::new(70);
        for row in [0, 5, 1, 3, 4, 3] {
            pushed.push(&vectors[row]);
        }
        assert_eq!(format!("{moved:?}"), format!("{pushed:?}"));
    }
}
