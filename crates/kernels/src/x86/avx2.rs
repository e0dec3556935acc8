//! Lanes of AVX2 with FMA: 8 f32 or 4 f64 in a register.
//!
//! # Safety of every block in this file
//! Values of [`F32x8`] and [`F64x4`] come from the token [`Avx2`] or from one another, and the token comes from [`run`], which
//! asks for an [`Isa`] that detection made. So whoever holds a value runs on a processor with AVX2 and FMA. Loads and
//! stores check the slice's length before they touch it.
#![expect(unsafe_code, reason = "the intrinsics of AVX2 cannot be reached from safe code")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use crate::isa::{Isa, Path};
use crate::simd::{F32Lanes, F64Lanes, Simd, Tiled, Vectorized};

/// The token.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs a piece of work compiled for AVX2 and FMA.
///
/// # Panics
/// If `isa` is another one than `avx2`.
pub(crate) fn run<O: Vectorized>(isa: Isa, op: O) -> O::Output {
    assert_eq!(isa.path(), Path::Avx2, "the caller dispatches on the token");
    // SAFETY: a token of this value exists only if detection found all of these features on this processor.
    unsafe { compiled(op) }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn compiled<O: Vectorized>(op: O) -> O::Output {
    op.run(Avx2(()))
}

/// Eight f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(__m256);
/// Four f64.
#[derive(Clone, Copy)]
pub(crate) struct F64x4(__m256d);

impl Simd for Avx2 {
    type F32 = F32x8;
    type F64 = F64x4;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn apart<O: Vectorized>(self, op: O) -> O::Output {
        // SAFETY: the token.
        unsafe { compiled(op) }
    }
    #[inline(always)]
    fn tiled<W: Tiled>(self, work: W) {
        work.run::<Self, 6, 2>(self);
    }

    #[inline(always)]
    fn prefetch(self, values: &[f32], index: usize) {
        // SAFETY: the instruction is part of SSE; it takes any address and reads nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(index).cast()) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F32x8 {
        // SAFETY: the token; no memory is touched.
        F32x8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x8 {
        assert!(from.len() >= 8);
        // SAFETY: the token; eight elements are there.
        F32x8(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> F32x8 {
        // SAFETY: the token; the mask names no element beyond the slice, and what it does not name is not read.
        F32x8(unsafe { _mm256_maskload_ps(from.as_ptr(), first(from.len())) })
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> F64x4 {
        // SAFETY: the token; no memory is touched.
        F64x4(unsafe { _mm256_set1_pd(x) })
    }
    #[inline(always)]
    fn widen(self, from: &[f32]) -> F64x4 {
        assert!(from.len() >= 4);
        // SAFETY: the token; four elements are there.
        F64x4(unsafe { _mm256_cvtps_pd(_mm_loadu_ps(from.as_ptr())) })
    }
    const BLOCK: usize = 8;
    #[inline(always)]
    fn transpose(self, from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
        // SAFETY: the token.
        unsafe { transpose(from, from_stride, to, to_stride) }
    }
    #[inline(always)]
    fn load64(self, from: &[f64]) -> F64x4 {
        assert!(from.len() >= 4);
        // SAFETY: the token; four elements are there.
        F64x4(unsafe { _mm256_loadu_pd(from.as_ptr()) })
    }
    #[inline(always)]
    fn widen_partial(self, from: &[f32]) -> F64x4 {
        assert!(from.len() <= 4);
        let mask = first(from.len());
        // SAFETY: the token; the mask names no element beyond the slice, and what it does not name is not read.
        F64x4(unsafe { _mm256_cvtps_pd(_mm_maskload_ps(from.as_ptr(), _mm256_castsi256_si128(mask))) })
    }
    #[inline(always)]
    fn load64_partial(self, from: &[f64]) -> F64x4 {
        assert!(from.len() <= 4);
        let mask = first(from.len());
        // SAFETY: the token; the mask, widened, names no element beyond the slice, and what it does not name is not read.
        unsafe {
            let mask = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(mask));
            F64x4(_mm256_maskload_pd(from.as_ptr(), mask))
        }
    }
}

/// [`Simd::transpose`] of eight rows and columns.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
    assert!(from.len() >= 7 * from_stride + 8 && to.len() >= 7 * to_stride + 8);
    let mut low = [_mm256_setzero_ps(); 4];
    let mut high = [_mm256_setzero_ps(); 4];
    for i in 0..4 {
        // The upper half of each register has the row four further down.
        let (near, far) = (&from[i * from_stride..], &from[(i + 4) * from_stride..]);
        // SAFETY: eight elements are there in both rows, as asserted for the last of them.
        unsafe {
            low[i] = _mm256_insertf128_ps::<1>(
                _mm256_castps128_ps256(_mm_loadu_ps(near.as_ptr())),
                _mm_loadu_ps(far.as_ptr()),
            );
            high[i] = _mm256_insertf128_ps::<1>(
                _mm256_castps128_ps256(_mm_loadu_ps(near[4..].as_ptr())),
                _mm_loadu_ps(far[4..].as_ptr()),
            );
        }
    }
    for (half, [a, b, c, d]) in [low, high].into_iter().enumerate() {
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        let columns = [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xee>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
            _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
        ];
        for (j, column) in columns.into_iter().enumerate() {
            let to = &mut to[(4 * half + j) * to_stride..];
            // SAFETY: eight elements are there, as asserted for the last row.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), column) }
        }
    }
}

/// [`F64Lanes::tied`]: for all that the compiler knows, an instruction that changes both.
#[inline]
#[target_feature(enable = "avx2")]
fn tied(mut a: __m256d, mut b: __m256d) -> (__m256d, __m256d) {
    // SAFETY: there is no instruction, and both registers keep their values.
    unsafe {
        asm!("/* {} {} */", inout(ymm_reg) a, inout(ymm_reg) b, options(pure, nomem, nostack, preserves_flags));
    }
    (a, b)
}

/// A mask of the first `count` of eight lanes.
///
/// Only for whoever holds the token or a value.
#[inline(always)]
fn first(count: usize) -> __m256i {
    const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mask = &MASKS[8 - count..][..8];
    // SAFETY: the caller's token or value proves the features; eight elements are there.
    unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
}

macro_rules! operators {
    ($type:ident: $($operator:ident::$method:ident = $intrinsic:ident),*) => {$(
        impl $operator for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, b: Self) -> Self {
                // SAFETY: the values prove the features; no memory is touched.
                $type(unsafe { $intrinsic(self.0, b.0) })
            }
        }
    )*};
}
operators!(F32x8: Add::add = _mm256_add_ps, Sub::sub = _mm256_sub_ps, Mul::mul = _mm256_mul_ps, Div::div = _mm256_div_ps);
operators!(F64x4: Add::add = _mm256_add_pd, Sub::sub = _mm256_sub_pd, Mul::mul = _mm256_mul_pd, Div::div = _mm256_div_pd);

impl F32Lanes for F32x8 {
    type Mask = __m256;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F32x8(unsafe { _mm256_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn lt(self, b: Self) -> __m256 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn le(self, b: Self) -> __m256 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn eq(self, b: Self) -> __m256 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn select(mask: __m256, a: Self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F32x8(unsafe { _mm256_blendv_ps(b.0, a.0, mask) })
    }
    #[inline(always)]
    fn any(mask: __m256) -> bool {
        // SAFETY: a mask comes from values, which prove the features; no memory is touched.
        unsafe { _mm256_movemask_ps(mask) != 0 }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= 8);
        // SAFETY: the value proves the features; eight elements are there.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        // SAFETY: the value proves the features; the mask names no element beyond the slice, and no other is written.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), first(to.len()), self.0) }
    }
}

impl F64Lanes for F64x4 {
    type Mask = __m256d;
    const LANES: usize = 4;

    #[inline(always)]
    fn fill(self, x: f64) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        F64x4(unsafe { _mm256_set1_pd(x) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_fmadd_pd(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn neg_mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_fnmadd_pd(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn tied(a: Self, b: Self) -> (Self, Self) {
        // SAFETY: the values prove the features.
        let (a, b) = unsafe { tied(a.0, b.0) };
        (F64x4(a), F64x4(b))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        F64x4(unsafe { _mm256_sqrt_pd(self.0) })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_min_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_max_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn and(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_and_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn or(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_or_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn xor(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_xor_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn add_bits(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { real(_mm256_add_epi64(bits(self), bits(b))) }
    }
    #[inline(always)]
    fn sub_bits(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { real(_mm256_sub_epi64(bits(self), bits(b))) }
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        unsafe { real(_mm256_sll_epi64(bits(self), _mm_cvtsi32_si128(N))) }
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        unsafe { real(_mm256_srl_epi64(bits(self), _mm_cvtsi32_si128(N))) }
    }
    #[inline(always)]
    fn look_up(self, table: &[f64; 16]) -> Self {
        let found = self.low_nibbles().map(|at| table[at]);
        // SAFETY: the value proves the features; four elements are there.
        F64x4(unsafe { _mm256_loadu_pd(found.as_ptr()) })
    }
    /// Rows are loaded four elements at a time and transposed, which is far cheaper than an element at a time.
    #[inline(always)]
    fn look_up_rows<const K: usize>(self, _: &[[f64; 16]; K], rows: &[[f64; K]; 16]) -> [Self; K] {
        let [a, b, c, d] = self.low_nibbles().map(|at| &rows[at]);
        // SAFETY: the value proves the features; no memory is touched.
        let mut found = [F64x4(unsafe { _mm256_setzero_pd() }); K];
        let mut k = 0;
        while k + 4 <= K {
            let pair = |low: &[f64], high: &[f64]| {
                assert!(low.len() >= 2 && high.len() >= 2);
                // SAFETY: the value proves the features; two elements are there in each.
                unsafe {
                    let low = _mm256_castpd128_pd256(_mm_loadu_pd(low.as_ptr()));
                    _mm256_insertf128_pd::<1>(low, _mm_loadu_pd(high.as_ptr()))
                }
            };
            for half in [k, k + 2] {
                let (even, odd) = (pair(&a[half..], &c[half..]), pair(&b[half..], &d[half..]));
                // SAFETY: the values prove the features; no memory is touched.
                unsafe {
                    found[half] = F64x4(_mm256_unpacklo_pd(even, odd));
                    found[half + 1] = F64x4(_mm256_unpackhi_pd(even, odd));
                }
            }
            k += 4;
        }
        while k < K {
            // SAFETY: the value proves the features; no memory is touched.
            found[k] = F64x4(unsafe { _mm256_set_pd(d[k], c[k], b[k], a[k]) });
            k += 1;
        }
        found
    }
    #[inline(always)]
    fn lt(self, b: Self) -> __m256d {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm256_cmp_pd::<_CMP_LT_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn eq(self, b: Self) -> __m256d {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm256_cmp_pd::<_CMP_EQ_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn is_odd(self) -> __m256d {
        // A blend looks at the highest bit of each lane.
        self.shift_left::<63>().0
    }
    #[inline(always)]
    fn select(mask: __m256d, a: Self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x4(unsafe { _mm256_blendv_pd(b.0, a.0, mask) })
    }
    #[inline(always)]
    fn any(mask: __m256d) -> bool {
        // SAFETY: a mask comes from values, which prove the features; no memory is touched.
        unsafe { _mm256_movemask_pd(mask) != 0 }
    }
    #[inline(always)]
    fn all(mask: __m256d) -> bool {
        // SAFETY: a mask comes from values, which prove the features; no memory is touched.
        unsafe { _mm256_movemask_pd(mask) == 0b1111 }
    }
    #[inline(always)]
    fn store64(self, to: &mut [f64]) {
        assert!(to.len() >= 4);
        // SAFETY: the value proves the features; four elements are there.
        unsafe { _mm256_storeu_pd(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn narrow(self, to: &mut [f32]) {
        assert!(to.len() >= 4);
        // SAFETY: the value proves the features; four elements are there.
        unsafe { _mm_storeu_ps(to.as_mut_ptr(), _mm256_cvtpd_ps(self.0)) }
    }
    #[inline(always)]
    fn narrow_partial(self, to: &mut [f32]) {
        let mut lanes = [0.0; 4];
        self.narrow(&mut lanes);
        assert!(to.len() <= 4);
        to.iter_mut().zip(lanes).for_each(|(to, lane)| *to = lane);
    }
}

impl F64x4 {
    /// The lowest four bits of each lane.
    #[inline(always)]
    fn low_nibbles(self) -> [usize; 4] {
        // SAFETY: the value proves the features; no memory is touched.
        let lanes = unsafe {
            let (low, high) = (_mm256_castsi256_si128(bits(self)), _mm256_extracti128_si256::<1>(bits(self)));
            [
                _mm_cvtsi128_si64(low),
                _mm_extract_epi64::<1>(low),
                _mm_cvtsi128_si64(high),
                _mm_extract_epi64::<1>(high),
            ]
        };
        lanes.map(|lane| (lane & 15) as usize)
    }
}

#[inline(always)]
fn bits(x: F64x4) -> __m256i {
    // SAFETY: the value proves the features; it is read as other lanes.
    unsafe { _mm256_castpd_si256(x.0) }
}

/// Only for bits that came from a value.
#[inline(always)]
fn real(bits: __m256i) -> F64x4 {
    // SAFETY: the caller had a value, which proves the features; the register is read as other lanes.
    F64x4(unsafe { _mm256_castsi256_pd(bits) })
}
