//! Chains of fused multiply-adds whose operands are found by tables of offsets: small matrix products of any layout, and
//! convolutions without copies of their taps. One thread, no allocation.

use crate::isa::Isa;
use crate::simd::{F32Lanes, Simd, Vectorized};
use crate::spec::fma::{fused, Fma, Fused};

/// `c[r·stride + q] ← fma(a[rows[r] + steps[k]], b[depths[k] + q], c[r·stride + q])` for `k` in rising order, for every row `r`
/// and every `q` below `columns`.
pub(crate) struct Chains<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) rows: &'a [usize],
    pub(crate) steps: &'a [usize],
    pub(crate) b: &'a [f32],
    pub(crate) depths: &'a [usize],
    pub(crate) c: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) columns: usize,
}

impl Chains<'_> {
    /// Continues the chains that `c` holds. `steps` and `depths` are equally long.
    ///
    /// # Panics
    /// When a table names an element that its operand does not have.
    pub(crate) fn advance(self, isa: Isa) {
        debug_assert_eq!(self.steps.len(), self.depths.len());
        if self.steps.is_empty() || self.columns == 0 {
            return;
        }
        if let Err(op) = isa.vectorize(self) {
            fused(op);
        }
    }
}

impl Fused for Chains<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        for (row, c) in self.rows.iter().zip(self.c.chunks_mut(self.stride)) {
            for (step, depth) in self.steps.iter().zip(self.depths) {
                let (a, b) = (self.a[row + step], &self.b[*depth..][..self.columns]);
                c.iter_mut().zip(b).for_each(|(c, &b)| *c = F::fma(a, b, *c));
            }
        }
    }
}

impl Vectorized for Chains<'_> {
    type Output = ();

    /// Columns in strips of as many registers as leave room for some rows; the last ones one register at a time.
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let span = 1 + self.steps.iter().copied().max().unwrap_or(0);
        let mut column = 0;
        if S::REGISTERS >= 32 {
            while self.columns - column >= 4 * S::LANES {
                strip::<S, 6, 4, false>(simd, &mut self, span, column, S::LANES);
                column += 4 * S::LANES;
            }
        }
        while self.columns - column >= 2 * S::LANES {
            strip::<S, 6, 2, false>(simd, &mut self, span, column, S::LANES);
            column += 2 * S::LANES;
        }
        if self.columns - column >= S::LANES {
            strip::<S, 8, 1, false>(simd, &mut self, span, column, S::LANES);
            column += S::LANES;
        }
        if self.columns > column {
            let lanes = self.columns - column;
            strip::<S, 8, 1, true>(simd, &mut self, span, column, lanes);
        }
    }
}

/// All rows of V registers of columns, R rows at a time.
#[inline(always)]
fn strip<S: Simd, const R: usize, const V: usize, const PARTIAL: bool>(
    simd: S,
    op: &mut Chains<'_>,
    span: usize,
    column: usize,
    lanes: usize,
) {
    let rows = op.rows.len();
    let mut row = 0;
    // One register to a row leaves few chains: then the last rows are shared out so that none goes alone.
    while rows - row >= R && (V > 1 || rows - row != R + 1) {
        tile::<S, R, V, PARTIAL>(simd, op, span, row, column, lanes);
        row += R;
    }
    if V == 1 && rows - row == R + 1 {
        tile::<S, 5, V, PARTIAL>(simd, op, span, row, column, lanes);
        row += 5;
    }
    while rows - row >= 4 {
        tile::<S, 4, V, PARTIAL>(simd, op, span, row, column, lanes);
        row += 4;
    }
    while rows - row >= 2 {
        tile::<S, 2, V, PARTIAL>(simd, op, span, row, column, lanes);
        row += 2;
    }
    if rows > row {
        tile::<S, 1, V, PARTIAL>(simd, op, span, row, column, lanes);
    }
}

/// R rows of V registers, held for all of `k`. A partial tile has one register, of which `lanes` count.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize, const PARTIAL: bool>(
    simd: S,
    op: &mut Chains<'_>,
    span: usize,
    row: usize,
    column: usize,
    lanes: usize,
) {
    let width = if PARTIAL { lanes } else { V * S::LANES };
    let mut chains = [[simd.splat(0.0); V]; R];
    for (r, chains) in chains.iter_mut().enumerate() {
        let c = &op.c[(row + r) * op.stride + column..][..width];
        for (v, chain) in chains.iter_mut().enumerate() {
            *chain = if PARTIAL { simd.load_partial(c) } else { simd.load(&c[v * S::LANES..]) };
        }
    }
    // Equally long, so that one check covers all rows.
    let a: [&[f32]; R] = std::array::from_fn(|r| &op.a[op.rows[row + r]..][..span]);
    for (&step, &depth) in op.steps.iter().zip(op.depths) {
        let b = &op.b[depth + column..][..width];
        let mut registers = [simd.splat(0.0); V];
        for (v, register) in registers.iter_mut().enumerate() {
            *register = if PARTIAL { simd.load_partial(b) } else { simd.load(&b[v * S::LANES..]) };
        }
        for r in 0..R {
            let a = simd.splat(a[r][step]);
            for v in 0..V {
                chains[r][v] = a.mul_add(registers[v], chains[r][v]);
            }
        }
    }
    for (r, chains) in chains.iter().enumerate() {
        let c = &mut op.c[(row + r) * op.stride + column..][..width];
        for (v, chain) in chains.iter().enumerate() {
            if PARTIAL {
                chain.store_partial(c);
            } else {
                chain.store(&mut c[v * S::LANES..]);
            }
        }
    }
}
