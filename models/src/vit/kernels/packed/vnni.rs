//! Tiles of integer products: AVX-512 VNNI multiplies the four bytes or two words of a lane by those of another and adds
//! all of it to a lane of sums.

#![expect(unsafe_code, reason = "vector instructions on raw pointers")]

use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_si512,
};

/// Sums of a vector.
pub(super) const LANES: usize = 16;
/// Bytes of a lane.
const LANE: usize = 4;

/// What a lane holds.
pub(super) trait Lanes {
    /// # Safety
    /// The CPU has AVX-512 VNNI.
    unsafe fn multiply_add(sums: __m512i, x: __m512i, weights: __m512i) -> __m512i;
}

/// Four u8 of x, four i8 of weights.
pub(super) struct Bytes;

impl Lanes for Bytes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply_add(sums: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sums, x, weights)
    }
}

/// Two i16 of each.
pub(super) struct Words;

impl Lanes for Words {
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn multiply_add(sums: __m512i, x: __m512i, weights: __m512i) -> __m512i {
        _mm512_dpwssd_epi32(sums, x, weights)
    }
}

/// The sums of rows of x, `stride` bytes apart, with a panel of so many vectors' columns, over `depth` lanes. The panel
/// holds, for each lane of depth, that lane of every column.
///
/// # Safety
/// The CPU has AVX-512 VNNI; rows and panel can be read.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn sums<L: Lanes, const ROWS: usize, const VECTORS: usize>(
    x: *const u8,
    stride: usize,
    panel: *const u8,
    depth: usize,
) -> [[__m512i; VECTORS]; ROWS] {
    let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
    for lane in 0..depth {
        let mut weights = [_mm512_setzero_si512(); VECTORS];
        for (vector, weights) in weights.iter_mut().enumerate() {
            let place = (lane * VECTORS + vector) * LANES * LANE;
            // SAFETY: the caller's.
            *weights = unsafe { _mm512_loadu_si512(panel.add(place).cast()) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's.
            let x = unsafe { x.add(row * stride + lane * LANE).cast::<i32>().read_unaligned() };
            let x = _mm512_set1_epi32(x);
            for (sum, &weights) in sums.iter_mut().zip(&weights) {
                // SAFETY: the caller's.
                *sum = unsafe { L::multiply_add(*sum, x, weights) };
            }
        }
    }
    sums
}
