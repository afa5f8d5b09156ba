//! Vectors of f32 for the tiles of [`super`]: what one register of a CPU's widest instructions holds.

#![expect(unsafe_code, reason = "vector instructions on raw pointers")]
#![expect(clippy::inline_always, reason = "code is compiled for an instruction set only where it is inlined")]

/// One register. The functions are inlined into code compiled for its instruction set, and may be called only there.
pub(super) trait Vector: Copy {
    /// Elements.
    const LANES: usize;

    fn splat(value: f32) -> Self;
    /// `self · factor + sum`.
    fn mul_add(self, factor: Self, sum: Self) -> Self;
    fn add(self, other: Self) -> Self;
    /// # Safety
    /// All elements can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` elements, then zeros.
    ///
    /// # Safety
    /// So many can be read; at most all of them are asked for.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// # Safety
    /// All elements can be written.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// So many can be written; at most all of them are.
    unsafe fn store_first(self, to: *mut f32, count: usize);
}

/// Four elements in plain Rust: SSE2, NEON, or whatever there is.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 4]);

impl Vector for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, sum: Self) -> Self {
        // Without a fused instruction `f32::mul_add` would be a call.
        let term = |lane: usize| {
            if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
                self.0[lane].mul_add(factor.0[lane], sum.0[lane])
            } else {
                self.0[lane] * factor.0[lane] + sum.0[lane]
            }
        };
        Self([term(0), term(1), term(2), term(3)])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; f32 arrays need no more than f32's alignment.
        Self(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's.
        Self(std::array::from_fn(|lane| if lane < count { unsafe { *from.add(lane) } } else { 0.0 }))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { *to.cast() = self.0 };
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        for (lane, value) in self.0.into_iter().take(count).enumerate() {
            // SAFETY: the caller's.
            unsafe { *to.add(lane) = value };
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::{
        __m256, __m256i, __m512, _mm256_add_ps, _mm256_cmpgt_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32,
        _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    /// Eight elements; AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256);

    /// Sixteen elements; AVX-512F.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    impl Vector for Avx2 {
        const LANES: usize = 8;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: called where the instruction set is there, as the trait asks.
            Self(unsafe { _mm256_set1_ps(value) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as in `splat`.
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            Self(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            // SAFETY: the caller's; masked elements are not read.
            Self(unsafe { _mm256_maskload_ps(from, first(count)) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { _mm256_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            // SAFETY: the caller's; masked elements are not written.
            unsafe { _mm256_maskstore_ps(to, first(count), self.0) };
        }
    }

    /// A mask of the first lanes.
    #[inline(always)]
    unsafe fn first(count: usize) -> __m256i {
        // SAFETY: as in `splat`.
        unsafe {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
        }
    }

    impl Vector for Avx512 {
        const LANES: usize = 16;

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm512_add_ps(self.0, other.0) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            Self(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> Self {
            // SAFETY: the caller's; masked elements are not read.
            Self(unsafe { _mm512_maskz_loadu_ps(0xffff >> (Self::LANES - count), from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { _mm512_storeu_ps(to, self.0) };
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, count: usize) {
            // SAFETY: the caller's; masked elements are not written.
            unsafe { _mm512_mask_storeu_ps(to, 0xffff >> (Self::LANES - count), self.0) };
        }
    }
}
