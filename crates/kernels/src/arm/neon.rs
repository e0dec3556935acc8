//! Lanes of NEON: 4 f32 or 2 f64 in a register.
//!
//! # Safety of every block in this file
//! NEON belongs to the base architecture of aarch64, so every processor that runs this code has it. Loads and stores check the
//! slice's length before they touch it.
#![expect(unsafe_code, reason = "the intrinsics of NEON cannot be reached from safe code")]

use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

use crate::simd::{F32Lanes, F64Lanes, Simd, Tiled, Vectorized};

/// The token.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// Runs a piece of work.
pub(crate) fn run<O: Vectorized>(op: O) -> O::Output {
    op.run(Neon(()))
}

/// Four f32.
#[derive(Clone, Copy)]
pub(crate) struct F32x4(float32x4_t);
/// Two f64.
#[derive(Clone, Copy)]
pub(crate) struct F64x2(float64x2_t);

impl Simd for Neon {
    type F32 = F32x4;
    type F64 = F64x2;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    #[inline(never)]
    fn apart<O: Vectorized>(self, op: O) -> O::Output {
        op.run(self)
    }
    #[inline(always)]
    fn tiled<W: Tiled>(self, work: W) {
        work.run::<Self, 8, 3>(self);
    }

    /// Stable Rust has no such instruction for aarch64; its processors see a row coming.
    #[inline(always)]
    fn prefetch(self, _: &[f32], _: usize) {}
    #[inline(always)]
    fn splat(self, x: f32) -> F32x4 {
        // SAFETY: no memory is touched.
        F32x4(unsafe { vdupq_n_f32(x) })
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> F32x4 {
        assert!(from.len() >= 4);
        // SAFETY: four elements are there.
        F32x4(unsafe { vld1q_f32(from.as_ptr()) })
    }
    #[inline(always)]
    fn load_partial(self, from: &[f32]) -> F32x4 {
        let mut lanes = [0.0; 4];
        lanes[..from.len()].copy_from_slice(from);
        self.load(&lanes)
    }
    #[inline(always)]
    fn splat64(self, x: f64) -> F64x2 {
        // SAFETY: no memory is touched.
        F64x2(unsafe { vdupq_n_f64(x) })
    }
    #[inline(always)]
    fn widen(self, from: &[f32]) -> F64x2 {
        assert!(from.len() >= 2);
        // SAFETY: two elements are there.
        F64x2(unsafe { vcvt_f64_f32(vld1_f32(from.as_ptr())) })
    }
    const BLOCK: usize = 4;
    #[inline(always)]
    fn transpose(self, from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize) {
        let (a, b) = (self.load(from), self.load(&from[from_stride..]));
        let (c, d) = (self.load(&from[2 * from_stride..]), self.load(&from[3 * from_stride..]));
        // SAFETY: no memory is touched.
        let columns = unsafe {
            let (even, odd) = (vtrnq_f32(a.0, b.0), vtrnq_f32(c.0, d.0));
            [
                vcombine_f32(vget_low_f32(even.0), vget_low_f32(odd.0)),
                vcombine_f32(vget_low_f32(even.1), vget_low_f32(odd.1)),
                vcombine_f32(vget_high_f32(even.0), vget_high_f32(odd.0)),
                vcombine_f32(vget_high_f32(even.1), vget_high_f32(odd.1)),
            ]
        };
        for (j, column) in columns.into_iter().enumerate() {
            F32x4(column).store(&mut to[j * to_stride..]);
        }
    }
    #[inline(always)]
    fn load64(self, from: &[f64]) -> F64x2 {
        assert!(from.len() >= 2);
        // SAFETY: two elements are there.
        F64x2(unsafe { vld1q_f64(from.as_ptr()) })
    }
    #[inline(always)]
    fn widen_partial(self, from: &[f32]) -> F64x2 {
        let mut lanes = [0.0; 2];
        lanes[..from.len()].copy_from_slice(from);
        self.widen(&lanes)
    }
    #[inline(always)]
    fn load64_partial(self, from: &[f64]) -> F64x2 {
        let mut lanes = [0.0; 2];
        lanes[..from.len()].copy_from_slice(from);
        self.load64(&lanes)
    }
}

macro_rules! operators {
    ($type:ident: $($operator:ident::$method:ident = $intrinsic:ident),*) => {$(
        impl $operator for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, b: Self) -> Self {
                // SAFETY: no memory is touched.
                $type(unsafe { $intrinsic(self.0, b.0) })
            }
        }
    )*};
}
operators!(F32x4: Add::add = vaddq_f32, Sub::sub = vsubq_f32, Mul::mul = vmulq_f32, Div::div = vdivq_f32);
operators!(F64x2: Add::add = vaddq_f64, Sub::sub = vsubq_f64, Mul::mul = vmulq_f64, Div::div = vdivq_f64);

impl F32Lanes for F32x4 {
    type Mask = uint32x4_t;

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: no memory is touched.
        F32x4(unsafe { vfmaq_f32(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Self::select(b.lt(self), self, b)
    }
    #[inline(always)]
    fn lt(self, b: Self) -> uint32x4_t {
        // SAFETY: no memory is touched.
        unsafe { vcltq_f32(self.0, b.0) }
    }
    #[inline(always)]
    fn le(self, b: Self) -> uint32x4_t {
        // SAFETY: no memory is touched.
        unsafe { vcleq_f32(self.0, b.0) }
    }
    #[inline(always)]
    fn eq(self, b: Self) -> uint32x4_t {
        // SAFETY: no memory is touched.
        unsafe { vceqq_f32(self.0, b.0) }
    }
    #[inline(always)]
    fn select(mask: uint32x4_t, a: Self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        F32x4(unsafe { vbslq_f32(mask, a.0, b.0) })
    }
    #[inline(always)]
    fn any(mask: uint32x4_t) -> bool {
        // SAFETY: no memory is touched.
        unsafe { vmaxvq_u32(mask) != 0 }
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        assert!(to.len() >= 4);
        // SAFETY: four elements are there.
        unsafe { vst1q_f32(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_partial(self, to: &mut [f32]) {
        let mut lanes = [0.0; 4];
        self.store(&mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

impl F64Lanes for F64x2 {
    type Mask = uint64x2_t;
    const LANES: usize = 2;

    #[inline(always)]
    fn fill(self, x: f64) -> Self {
        // SAFETY: no memory is touched.
        F64x2(unsafe { vdupq_n_f64(x) })
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: no memory is touched.
        F64x2(unsafe { vfmaq_f64(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn neg_mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: no memory is touched.
        F64x2(unsafe { vfmsq_f64(c.0, self.0, b.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: no memory is touched.
        F64x2(unsafe { vsqrtq_f64(self.0) })
    }
    #[inline(always)]
    fn min(self, b: Self) -> Self {
        Self::select(self.lt(b), self, b)
    }
    #[inline(always)]
    fn max(self, b: Self) -> Self {
        Self::select(b.lt(self), self, b)
    }
    #[inline(always)]
    fn and(self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        real(unsafe { vandq_u64(bits(self), bits(b)) })
    }
    #[inline(always)]
    fn or(self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        real(unsafe { vorrq_u64(bits(self), bits(b)) })
    }
    #[inline(always)]
    fn xor(self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        real(unsafe { veorq_u64(bits(self), bits(b)) })
    }
    #[inline(always)]
    fn add_bits(self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        real(unsafe { vaddq_u64(bits(self), bits(b)) })
    }
    #[inline(always)]
    fn sub_bits(self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        real(unsafe { vsubq_u64(bits(self), bits(b)) })
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        // SAFETY: no memory is touched.
        real(unsafe { vshlq_u64(bits(self), vdupq_n_s64(N.into())) })
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        // SAFETY: no memory is touched. A negative count shifts to the right.
        real(unsafe { vshlq_u64(bits(self), vdupq_n_s64(-i64::from(N))) })
    }
    #[inline(always)]
    fn look_up(self, table: &[f64; 16]) -> Self {
        let found = self.lanes().map(|lane| table[(lane & 15) as usize]);
        // SAFETY: two elements are there.
        F64x2(unsafe { vld1q_f64(found.as_ptr()) })
    }
    #[inline(always)]
    fn look_up_rows<const K: usize>(self, _: &[[f64; 16]; K], rows: &[[f64; K]; 16]) -> [Self; K] {
        let [a, b] = self.lanes().map(|lane| &rows[(lane & 15) as usize]);
        // SAFETY: two elements are there.
        std::array::from_fn(|k| F64x2(unsafe { vld1q_f64([a[k], b[k]].as_ptr()) }))
    }
    #[inline(always)]
    fn lt(self, b: Self) -> uint64x2_t {
        // SAFETY: no memory is touched.
        unsafe { vcltq_f64(self.0, b.0) }
    }
    #[inline(always)]
    fn eq(self, b: Self) -> uint64x2_t {
        // SAFETY: no memory is touched.
        unsafe { vceqq_f64(self.0, b.0) }
    }
    #[inline(always)]
    fn is_odd(self) -> uint64x2_t {
        // SAFETY: no memory is touched.
        unsafe { vtstq_u64(bits(self), vdupq_n_u64(1)) }
    }
    #[inline(always)]
    fn select(mask: uint64x2_t, a: Self, b: Self) -> Self {
        // SAFETY: no memory is touched.
        F64x2(unsafe { vbslq_f64(mask, a.0, b.0) })
    }
    #[inline(always)]
    fn any(mask: uint64x2_t) -> bool {
        // SAFETY: no memory is touched.
        unsafe { vgetq_lane_u64::<0>(mask) | vgetq_lane_u64::<1>(mask) != 0 }
    }
    #[inline(always)]
    fn all(mask: uint64x2_t) -> bool {
        // SAFETY: no memory is touched.
        unsafe { vgetq_lane_u64::<0>(mask) & vgetq_lane_u64::<1>(mask) != 0 }
    }
    #[inline(always)]
    fn store64(self, to: &mut [f64]) {
        assert!(to.len() >= 2);
        // SAFETY: two elements are there.
        unsafe { vst1q_f64(to.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn narrow(self, to: &mut [f32]) {
        assert!(to.len() >= 2);
        // SAFETY: two elements are there.
        unsafe { vst1_f32(to.as_mut_ptr(), vcvt_f32_f64(self.0)) }
    }
    #[inline(always)]
    fn narrow_partial(self, to: &mut [f32]) {
        let mut lanes = [0.0; 2];
        self.narrow(&mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

impl F64x2 {
    #[inline(always)]
    fn lanes(self) -> [u64; 2] {
        // SAFETY: no memory is touched.
        unsafe { [vgetq_lane_u64::<0>(bits(self)), vgetq_lane_u64::<1>(bits(self))] }
    }
}

#[inline(always)]
fn bits(x: F64x2) -> uint64x2_t {
    // SAFETY: the register is read as other lanes.
    unsafe { vreinterpretq_u64_f64(x.0) }
}

#[inline(always)]
fn real(bits: uint64x2_t) -> F64x2 {
    // SAFETY: the register is read as other lanes.
    F64x2(unsafe { vreinterpretq_f64_u64(bits) })
}
