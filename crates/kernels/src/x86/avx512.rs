//! Lanes of AVX-512: 16 f32 or 8 f64 in a register.
//!
//! # Safety of every block in this file
//! Values of [`F32x16`] and [`F64x8`] come from the token [`Avx512`] or from one another, and the token comes from [`run`], which
//! asks for an [`Isa`] that detection made. So whoever holds a value runs on a processor with AVX-512 F, DQ, BW and VL, AVX2 and
//! FMA. Loads and stores check the slice's length before they touch it.
#![expect(unsafe_code, reason = "the intrinsics of AVX-512 cannot be reached from safe code")]

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use crate::isa::{Isa, Path};
use crate::simd::{F32Lanes, F64Lanes, Simd, Tiled, Vectorized};

/// The token.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// Runs a piece of work compiled for AVX-512.
///
/// # Panics
/// If `isa` is another one than `avx512`.
pub(crate) fn run<O: Vectorized>(isa: Isa, op: O) -> O::Output {
    assert_eq!(isa.path(), Path::Avx512, "the caller dispatches on the token");
    // SAFETY: a token of this value exists only if detection found all of these features on this processor.
    unsafe { compiled(op) }
}

#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
fn compiled<O: Vectorized>(op: O) -> O::Output {
    op.run(Avx512(()))
}

/// Sixteen f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m512);
/// Eight f64.
#[derive(Clone, Copy)]
pub(crate) struct F64x8(__m512d);

impl Simd for Avx512 {
    type F32 = F32x16;
    type F64 = F64x8;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn apart<O: Vectorized>(self, op: O) -> O::Output {
        // SAFETY: the token.
        unsafe { compiled(op) }
    }
    #[inline(always)]
    fn tiled<W: Tiled>(self, work: W) {
        work.run::<Self, 8, 3>(self);
    }

    #[inline(always)]
    fn prefetch(self, values: &[f32], index: usize) {
        // SAFETY: the instruction is part of SSE; it takes any address and reads nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(index).cast()) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        // SAFETY: the token; no memory is touched.
        F32x16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x16 {
        assert!(from.len() >= 16);
        // SAFETY: the token; sixteen elements are there.
        F32x16(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> F32x16 {
        // SAFETY: the token; the mask names no element beyond the slice, and what it does not name is not read.
        F32x16(unsafe { _mm512_maskz_loadu_ps(first(from.len()), from.as_ptr()) })
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> F64x8 {
        // SAFETY: the token; no memory is touched.
        F64x8(unsafe { _mm512_set1_pd(x) })
    }
    #[inline(always)]
    fn widen(self, from: &[f32]) -> F64x8 {
        assert!(from.len() >= 8);
        // SAFETY: the token; eight elements are there.
        F64x8(unsafe { _mm512_cvtps_pd(_mm256_loadu_ps(from.as_ptr())) })
    }
    const BLOCK: usize = 8;
    #[inline(always)]
    fn transpose(self, from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
        // SAFETY: the token, which includes AVX2.
        unsafe { super::avx2::transpose(from, from_stride, to, to_stride) }
    }
    #[inline(always)]
    fn load64(self, from: &[f64]) -> F64x8 {
        assert!(from.len() >= 8);
        // SAFETY: the token; eight elements are there.
        F64x8(unsafe { _mm512_loadu_pd(from.as_ptr()) })
    }
    #[inline(always)]
    fn widen_partial(self, from: &[f32]) -> F64x8 {
        // SAFETY: the token; the mask names no element beyond the slice, and what it does not name is not read.
        F64x8(unsafe { _mm512_cvtps_pd(_mm256_maskz_loadu_ps(first64(from.len()), from.as_ptr())) })
    }
    #[inline(always)]
    fn load64_partial(self, from: &[f64]) -> F64x8 {
        // SAFETY: the token; the mask names no element beyond the slice, and what it does not name is not read.
        F64x8(unsafe { _mm512_maskz_loadu_pd(first64(from.len()), from.as_ptr()) })
    }
}

/// A mask of the first `count` of sixteen lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    assert!(count <= 16);
    ((1u32 << count) - 1) as __mmask16
}

/// A mask of the first `count` of eight lanes.
#[inline(always)]
fn first64(count: usize) -> __mmask8 {
    assert!(count <= 8);
    ((1u32 << count) - 1) as __mmask8
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
operators!(F32x16: Add::add = _mm512_add_ps, Sub::sub = _mm512_sub_ps, Mul::mul = _mm512_mul_ps, Div::div = _mm512_div_ps);
operators!(F64x8: Add::add = _mm512_add_pd, Sub::sub = _mm512_sub_pd, Mul::mul = _mm512_mul_pd, Div::div = _mm512_div_pd);

impl F32Lanes for F32x16 {
    type Mask = __mmask16;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F32x16(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn lt(self, b: Self) -> __mmask16 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn le(self, b: Self) -> __mmask16 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn eq(self, b: Self) -> __mmask16 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn select(mask: __mmask16, a: Self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F32x16(unsafe { _mm512_mask_blend_ps(mask, b.0, a.0) })
    }
    #[inline(always)]
    fn any(mask: __mmask16) -> bool {
        mask != 0
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= 16);
        // SAFETY: the value proves the features; sixteen elements are there.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        // SAFETY: the value proves the features; the mask names no element beyond the slice, and no other is written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), self.0) }
    }
}

impl F64Lanes for F64x8 {
    type Mask = __mmask8;
    const LANES: usize = 8;

    #[inline(always)]
    fn fill(self, x: f64) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        F64x8(unsafe { _mm512_set1_pd(x) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_fmadd_pd(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn neg_mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_fnmadd_pd(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        F64x8(unsafe { _mm512_sqrt_pd(self.0) })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_min_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_max_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn and(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_and_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn or(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_or_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn xor(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_xor_pd(self.0, b.0) })
    }
    #[inline(always)]
    fn add_bits(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { real(_mm512_add_epi64(bits(self), bits(b))) }
    }
    #[inline(always)]
    fn sub_bits(self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { real(_mm512_sub_epi64(bits(self), bits(b))) }
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        unsafe { real(_mm512_sll_epi64(bits(self), _mm_cvtsi32_si128(N))) }
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: the value proves the features; no memory is touched.
        unsafe { real(_mm512_srl_epi64(bits(self), _mm_cvtsi32_si128(N))) }
    }
    #[inline(always)]
    fn look_up(self, table: &[f64; 16]) -> Self {
        // SAFETY: the value proves the features; the table has two registers of eight, of which the permutation takes by the
        // lowest four bits of each lane.
        unsafe {
            let (low, high) = (_mm512_loadu_pd(table.as_ptr()), _mm512_loadu_pd(table[8..].as_ptr()));
            F64x8(_mm512_permutex2var_pd(low, bits(self), high))
        }
    }
    #[inline(always)]
    fn look_up_rows<const K: usize>(self, columns: &[[f64; 16]; K], _: &[[f64; K]; 16]) -> [Self; K] {
        std::array::from_fn(|k| self.look_up(&columns[k]))
    }
    #[inline(always)]
    fn lt(self, b: Self) -> __mmask8 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn eq(self, b: Self) -> __mmask8 {
        // SAFETY: the values prove the features; no memory is touched.
        unsafe { _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn is_odd(self) -> __mmask8 {
        // SAFETY: the value proves the features; no memory is touched.
        unsafe { _mm512_test_epi64_mask(bits(self), _mm512_set1_epi64(1)) }
    }
    #[inline(always)]
    fn select(mask: __mmask8, a: Self, b: Self) -> Self {
        // SAFETY: the values prove the features; no memory is touched.
        F64x8(unsafe { _mm512_mask_blend_pd(mask, b.0, a.0) })
    }
    #[inline(always)]
    fn any(mask: __mmask8) -> bool {
        mask != 0
    }
    #[inline(always)]
    fn all(mask: __mmask8) -> bool {
        mask == u8::MAX
    }
    #[inline(always)]
    fn store64(self, to: &mut [f64]) {
        assert!(to.len() >= 8);
        // SAFETY: the value proves the features; eight elements are there.
        unsafe { _mm512_storeu_pd(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn narrow(self, to: &mut [f32]) {
        assert!(to.len() >= 8);
        // SAFETY: the value proves the features; eight elements are there.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm512_cvtpd_ps(self.0)) }
    }
    #[inline(always)]
    fn narrow_partial(self, to: &mut [f32]) {
        // SAFETY: the value proves the features; the mask names no element beyond the slice, and no other is written.
        unsafe { _mm256_mask_storeu_ps(to.as_mut_ptr(), first64(to.len()), _mm512_cvtpd_ps(self.0)) }
    }
}

#[inline(always)]
fn bits(x: F64x8) -> __m512i {
    // SAFETY: the value proves the features; it is read as other lanes.
    unsafe { _mm512_castpd_si512(x.0) }
}

/// Only for bits that came from a value.
#[inline(always)]
fn real(bits: __m512i) -> F64x8 {
    // SAFETY: the caller had a value, which proves the features; the register is read as other lanes.
    F64x8(unsafe { _mm512_castsi512_pd(bits) })
}
