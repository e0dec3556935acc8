//! The lanes that vector code is written in: one trait over the registers of each instruction set.
//!
//! Every operation here is a single IEEE 754 operation, or one on bits, in each lane by itself: so whatever is written in terms
//! of it has the same bits on every instruction set, as long as it gives each result the same operations. Values come
//! from a token that only detection makes ([`Isa`](crate::Isa)), which is why the operations are safe to call.
//!
//! Vector code is a struct with its operands that implements [`Vectorized`]; `isa.vectorize(op)` compiles it for, and runs it
//! on, one instruction set. `run` and what it calls down to the lanes has to be `#[inline(always)]`: what is not inlined is
//! compiled without the instruction set, and slow. Closures cannot be marked so; where one would hold lanes, write a trait
//! with such a method.

use std::ops::{Add, Div, Mul, Sub};

/// A piece of work in lanes.
pub(crate) trait Vectorized {
    /// What it returns.
    type Output;
    /// Does it. `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A piece of work in tiles of R rows by V registers.
pub(crate) trait Tiled {
    /// Does it. `#[inline(always)]`.
    fn run<S: Simd, const R: usize, const V: usize>(self, simd: S);
}

/// An instruction set with registers of lanes.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A register of [`Simd::LANES`] f32.
    type F32: F32Lanes;
    /// A register of half as many f64.
    type F64: F64Lanes;
    /// How many f32 fit into a register.
    const LANES: usize;
    /// How many f64 do.
    const LANES_64: usize = Self::LANES / 2;
    /// How many registers there are.
    const REGISTERS: usize;

    /// Does a piece of work in a function of its own, compiled for this instruction set: an inner loop that is to have all the
    /// registers for itself.
    fn apart<O: Vectorized>(self, op: O) -> O::Output;
    /// Does work in tiles of the shape that fills the registers with independent chains.
    fn tiled<W: Tiled>(self, work: W);

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::F32;
    /// Asks for the memory around an element, which need not exist, ahead of its use.
    fn prefetch(self, values: &[f32], index: usize);
    /// The first lanes of `from`.
    ///
    /// # Panics
    /// When there are fewer. After `chunks_exact(S::LANES)` the compiler knows that there are not.
    fn load(self, from: &[f32]) -> Self::F32;
    /// `from` in the first lanes and `+0` in the others.
    ///
    /// # Panics
    /// When `from` has more than [`Simd::LANES`] elements.
    fn load_partial(self, from: &[f32]) -> Self::F32;
    /// `x` in every lane.
    fn splat64(self, x: f64) -> Self::F64;
    /// The first lanes of `from`, widened.
    ///
    /// # Panics
    /// When there are fewer than [`Simd::LANES_64`].
    fn widen(self, from: &[f32]) -> Self::F64;
    /// The first lanes of `from`.
    ///
    /// # Panics
    /// When there are fewer than [`Simd::LANES_64`].
    fn load64(self, from: &[f64]) -> Self::F64;
    /// `from`, widened, in the first lanes and `+0` in the others.
    ///
    /// # Panics
    /// When `from` has more than [`Simd::LANES_64`] elements.
    fn widen_partial(self, from: &[f32]) -> Self::F64;
    /// `from` in the first lanes and `+0` in the others.
    ///
    /// # Panics
    /// When `from` has more than [`Simd::LANES_64`] elements.
    fn load64_partial(self, from: &[f64]) -> Self::F64;

    /// Rows and columns that [`Simd::transpose`] takes.
    const BLOCK: usize;
    /// Element (i, j) of `from`, at `i · from_stride + j`, becomes element (j, i) of `to`, for i and j below [`Simd::BLOCK`].
    ///
    /// # Panics
    /// When a slice ends before its last element.
    fn transpose(self, from: &[f32], from_stride: usize, to: &mut [f32], to_stride: usize);
}

/// A register of f32.
pub(crate) trait F32Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// What a comparison gives.
    type Mask: Copy;

    /// `self · b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self > b ? self : b`; `b` where either is NaN.
    fn max(self, b: Self) -> Self;
    /// Where `self < b`; nowhere for NaN.
    fn lt(self, b: Self) -> Self::Mask;
    /// Where `self ≤ b`; nowhere for NaN.
    fn le(self, b: Self) -> Self::Mask;
    /// Where `self = b`; nowhere for NaN.
    fn eq(self, b: Self) -> Self::Mask;
    /// `a` where the mask is set, `b` elsewhere.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;
    /// Whether the mask is set anywhere.
    fn any(mask: Self::Mask) -> bool;
    /// Stores all lanes.
    ///
    /// # Panics
    /// When `to` has fewer elements.
    fn store(self, to: &mut [f32]);
    /// Stores the first lanes, as many as `to` has elements.
    ///
    /// # Panics
    /// When `to` has more elements than there are lanes.
    fn store_partial(self, to: &mut [f32]);
}

/// A register of f64, whose bits may also be looked at as u64.
pub(crate) trait F64Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// What a comparison gives.
    type Mask: Copy;
    /// How many lanes it has.
    const LANES: usize;

    /// `x` in every lane of a register like this one, so that functions of lanes need no token for their constants.
    fn fill(self, x: f64) -> Self;
    /// `bits` in every lane of a register like this one.
    #[inline(always)]
    fn fill_bits(self, bits: u64) -> Self {
        self.fill(f64::from_bits(bits))
    }
    /// `self · b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `c − self · b`, rounded once.
    fn neg_mul_add(self, b: Self, c: Self) -> Self;
    /// `(a, b)`, of which the compiler then computes neither without the other. Where two chains of operations are worth their
    /// registers only when they go on together, this keeps it from doing one after the other to save registers.
    #[inline(always)]
    fn tied(a: Self, b: Self) -> (Self, Self) {
        (a, b)
    }
    /// Itself, with its registers [tied](F64Lanes::tied).
    #[inline(always)]
    fn abreast(self) -> Self {
        self
    }
    /// `√self`, correctly rounded.
    fn sqrt(self) -> Self;
    /// `self < b ? self : b`; `b` where either is NaN.
    fn min(self, b: Self) -> Self;
    /// `self > b ? self : b`; `b` where either is NaN.
    fn max(self, b: Self) -> Self;
    /// The bits that both have.
    fn and(self, b: Self) -> Self;
    /// The bits that one of them has.
    fn or(self, b: Self) -> Self;
    /// The bits that just one of them has.
    fn xor(self, b: Self) -> Self;
    /// The bits as u64, added modulo 2⁶⁴.
    fn add_bits(self, b: Self) -> Self;
    /// The bits as u64, subtracted modulo 2⁶⁴.
    fn sub_bits(self, b: Self) -> Self;
    /// The bits, `N` places to the left.
    fn shift_left<const N: i32>(self) -> Self;
    /// The bits, `N` places to the right, zeros coming in.
    fn shift_right<const N: i32>(self) -> Self;
    /// The elements that the lowest four bits of each lane name.
    fn look_up(self, table: &[f64; 16]) -> Self;
    /// Column by column the rows that the lowest four bits of each lane name. The same table twice, so that each instruction
    /// set takes the form it is fast with.
    fn look_up_rows<const K: usize>(self, columns: &[[f64; 16]; K], rows: &[[f64; K]; 16]) -> [Self; K];
    /// Where `self < b`; nowhere for NaN.
    fn lt(self, b: Self) -> Self::Mask;
    /// Where `self = b`; nowhere for NaN.
    fn eq(self, b: Self) -> Self::Mask;
    /// Where the lowest bit is set.
    fn is_odd(self) -> Self::Mask;
    /// `a` where the mask is set, `b` elsewhere.
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self;
    /// Whether the mask is set anywhere.
    fn any(mask: Self::Mask) -> bool;
    /// Whether the mask is set everywhere.
    fn all(mask: Self::Mask) -> bool;
    /// Stores all lanes.
    ///
    /// # Panics
    /// When `to` has fewer elements.
    fn store64(self, to: &mut [f64]);
    /// Stores all lanes, each rounded to f32.
    ///
    /// # Panics
    /// When `to` has fewer elements.
    fn narrow(self, to: &mut [f32]);
    /// Stores the first lanes, as many as `to` has elements, each rounded to f32.
    ///
    /// # Panics
    /// When `to` has more elements than there are lanes.
    fn narrow_partial(self, to: &mut [f32]);
}

/// Two registers side by side. Long chains of operations that wait for each other go on in both at once.
#[derive(Clone, Copy)]
pub(crate) struct Pair<V>(pub(crate) V, pub(crate) V);

impl<V: F64Lanes> Pair<V> {
    /// `x` in every lane.
    #[inline(always)]
    pub(crate) fn splat<S: Simd<F64 = V>>(simd: S, x: f64) -> Self {
        Pair(simd.splat64(x), simd.splat64(x))
    }

    /// The first lanes of `from`, widened.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline(always)]
    pub(crate) fn widen<S: Simd<F64 = V>>(simd: S, from: &[f32]) -> Self {
        let (low, high) = from.split_at(V::LANES);
        Pair(simd.widen(low), simd.widen(high))
    }

    /// The first lanes of `from`.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline(always)]
    pub(crate) fn load<S: Simd<F64 = V>>(simd: S, from: &[f64]) -> Self {
        let (low, high) = from.split_at(V::LANES);
        Pair(simd.load64(low), simd.load64(high))
    }

    /// [`Pair::widen`] of the end of a row, with `+0` in the other lanes.
    #[inline(always)]
    pub(crate) fn widen_rest<S: Simd<F64 = V>>(simd: S, from: &[f32]) -> Self {
        let (low, high) = from.split_at(from.len().min(V::LANES));
        Pair(simd.widen_partial(low), simd.widen_partial(high))
    }

    /// [`Pair::load`] of the end of a row, with `+0` in the other lanes.
    #[inline(always)]
    pub(crate) fn load_rest<S: Simd<F64 = V>>(simd: S, from: &[f64]) -> Self {
        let (low, high) = from.split_at(from.len().min(V::LANES));
        Pair(simd.load64_partial(low), simd.load64_partial(high))
    }
}

/// As many lanes as a register of f32 has anywhere.
pub(crate) const MOST_LANES: usize = 16;

macro_rules! pairwise {
    ($($method:ident($($b:ident),*);)*) => {$(
        #[inline(always)]
        fn $method(self $(, $b: Self)*) -> Self {
            Pair(self.0.$method($($b.0),*), self.1.$method($($b.1),*))
        }
    )*};
}

macro_rules! pairwise_operator {
    ($($operator:ident::$method:ident),*) => {$(
        impl<V: F64Lanes> $operator for Pair<V> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, b: Self) -> Self {
                Pair(self.0.$method(b.0), self.1.$method(b.1))
            }
        }
    )*};
}
pairwise_operator!(Add::add, Sub::sub, Mul::mul, Div::div);

impl<V: F64Lanes> F64Lanes for Pair<V> {
    type Mask = (V::Mask, V::Mask);
    const LANES: usize = 2 * V::LANES;

    pairwise! {
        mul_add(b, c);
        neg_mul_add(b, c);
        sqrt();
        min(b);
        max(b);
        and(b);
        or(b);
        xor(b);
        add_bits(b);
        sub_bits(b);
    }
    #[inline(always)]
    fn tied(a: Self, b: Self) -> (Self, Self) {
        let (first, second) = V::tied(a.0, b.0);
        let (third, fourth) = V::tied(a.1, b.1);
        let (second, third) = V::tied(second, third);
        let (first, fourth) = V::tied(first, fourth);
        (Pair(first, third), Pair(second, fourth))
    }
    #[inline(always)]
    fn abreast(self) -> Self {
        let (low, high) = V::tied(self.0, self.1);
        Pair(low, high)
    }
    #[inline(always)]
    fn fill(self, x: f64) -> Self {
        Pair(self.0.fill(x), self.1.fill(x))
    }
    #[inline(always)]
    fn shift_left<const N: i32>(self) -> Self {
        Pair(self.0.shift_left::<N>(), self.1.shift_left::<N>())
    }
    #[inline(always)]
    fn shift_right<const N: i32>(self) -> Self {
        Pair(self.0.shift_right::<N>(), self.1.shift_right::<N>())
    }
    #[inline(always)]
    fn look_up(self, table: &[f64; 16]) -> Self {
        Pair(self.0.look_up(table), self.1.look_up(table))
    }
    #[inline(always)]
    fn look_up_rows<const K: usize>(self, columns: &[[f64; 16]; K], rows: &[[f64; K]; 16]) -> [Self; K] {
        let (a, b) = (self.0.look_up_rows(columns, rows), self.1.look_up_rows(columns, rows));
        let mut pairs = [self; K];
        for k in 0..K {
            pairs[k] = Pair(a[k], b[k]);
        }
        pairs
    }
    #[inline(always)]
    fn lt(self, b: Self) -> Self::Mask {
        (self.0.lt(b.0), self.1.lt(b.1))
    }
    #[inline(always)]
    fn eq(self, b: Self) -> Self::Mask {
        (self.0.eq(b.0), self.1.eq(b.1))
    }
    #[inline(always)]
    fn is_odd(self) -> Self::Mask {
        (self.0.is_odd(), self.1.is_odd())
    }
    #[inline(always)]
    fn select(mask: Self::Mask, a: Self, b: Self) -> Self {
        Pair(V::select(mask.0, a.0, b.0), V::select(mask.1, a.1, b.1))
    }
    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        V::any(mask.0) | V::any(mask.1)
    }
    #[inline(always)]
    fn all(mask: Self::Mask) -> bool {
        V::all(mask.0) & V::all(mask.1)
    }
    #[inline(always)]
    fn store64(self, to: &mut [f64]) {
        let (low, high) = to.split_at_mut(V::LANES);
        self.0.store64(low);
        self.1.store64(high);
    }
    #[inline(always)]
    fn narrow_partial(self, to: &mut [f32]) {
        let (low, high) = to.split_at_mut(to.len().min(V::LANES));
        self.0.narrow_partial(low);
        self.1.narrow_partial(high);
    }
    #[inline(always)]
    fn narrow(self, to: &mut [f32]) {
        let (low, high) = to.split_at_mut(V::LANES);
        self.0.narrow(low);
        self.1.narrow(high);
    }
}

#[cfg(test)]
mod tests;
