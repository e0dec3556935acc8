//! Memory of the next head, asked for while one is worked on.

use ndarray::ArrayView2;

use crate::simd::{Simd, Vectorized};

/// Asks for the rows of a head, as long as they leave the second cache to the head before.
///
/// Heads that lie beside each other in a token have rows of a few lines far apart, which processors do not foresee.
pub(super) struct Ahead<'a>(pub(super) ArrayView2<'a, f32>);

impl Vectorized for Ahead<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const MOST: usize = 1 << 14;
        const LINE: usize = 16;
        if self.0.len() > MOST || self.0.is_standard_layout() {
            return;
        }
        for row in self.0.rows() {
            let Some(row) = row.to_slice() else { return };
            for element in (0..row.len()).step_by(LINE) {
                simd.prefetch(row, element);
            }
        }
    }
}
