//! Causal self-attention.

use bitproof_kernels::{attention_grad_into, attention_into, Attention, AttentionOperands};
use ndarray::{s, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, ArrayViewMut5};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// Causal self-attention of many heads: `qkv` is (sequences, tokens, 3·width), where a row holds the queries, then the keys, then the
    /// values of every head, as a linear layer gives them; the result is (sequences, tokens, width). The scores are scaled by `1/√(width of a
    /// head)`, one f64 square root and quotient, rounded once to f32. (Vaswani et al. 2017; the order is that of [`attention_into`].)
    ///
    /// # Errors
    /// [`TapeError::Shape`] when `qkv` has other than three axes, or its last one is not three times a multiple of `heads`.
    pub fn causal_attention(&mut self, qkv: Var, heads: usize) -> Result<Var, TapeError> {
        let shape = self.shape(qkv);
        let fits = shape.len() == 3 && heads > 0 && shape[2] > 0 && shape[2].is_multiple_of(3 * heads);
        if !fits {
            let expected = "queries, keys and values of (sequences, tokens, 3 · heads · width)";
            return Err(TapeError::Shape { operation: "causal_attention", expected, got: shape.to_vec() });
        }
        let of = Heads { qkv, heads, sequences: shape[0], tokens: shape[1], width: shape[2] / (3 * heads) };
        let mut log_sums = self.buffer(of.sequences * heads * of.tokens);
        let shape = shape.with_columns(heads * of.width)?;
        let mut y = self.buffer(shape.elements());
        let [q, k, v] = of.split(self.value(qkv));
        attention_into(q, k, v, &of.attention(), of.joined_mut(&mut y), of.sums_mut(&mut log_sums))?;
        // What the way back needs lies on the tape, so that its memory is kept.
        let sums = Shape::new(&[of.sequences, heads, of.tokens])?;
        let log_sums = self.record_constant(sums, log_sums);
        let output = self.next();
        Ok(self.record(shape, y, &[qkv], CausalAttention { of, output, log_sums }))
    }
}

/// How the heads lie in a row.
#[derive(Clone, Copy)]
struct Heads {
    qkv: Var,
    heads: usize,
    sequences: usize,
    tokens: usize,
    width: usize,
}

impl Heads {
    fn attention(&self) -> Attention {
        Attention { causal: true, scale: (1.0 / (self.width as f64).sqrt()) as f32 }
    }

    /// Queries, keys and values as (sequences, heads, tokens, width).
    fn split<'a>(&self, qkv: &'a [f32]) -> [ArrayView4<'a, f32>; 3] {
        let shape = (self.sequences, self.tokens, 3, self.heads, self.width);
        let all = ndarray::ArrayView5::from_shape(shape, qkv).expect("a value fills its shape");
        [0, 1, 2].map(|part| all.slice_move(s![.., .., part, .., ..]).permuted_axes([0, 2, 1, 3]))
    }

    fn split_mut<'a>(&self, qkv: &'a mut [f32]) -> [ArrayViewMut4<'a, f32>; 3] {
        let shape = (self.sequences, self.tokens, 3, self.heads, self.width);
        let all = ArrayViewMut5::from_shape(shape, qkv).expect("a value fills its shape");
        let (q, kv) = all.split_at(ndarray::Axis(2), 1);
        let (k, v) = kv.split_at(ndarray::Axis(2), 1);
        [q, k, v].map(|part| part.index_axis_move(ndarray::Axis(2), 0).permuted_axes([0, 2, 1, 3]))
    }

    fn joined<'a>(&self, y: &'a [f32]) -> ArrayView4<'a, f32> {
        let shape = (self.sequences, self.tokens, self.heads, self.width);
        let all = ArrayView4::from_shape(shape, y).expect("a value fills its shape");
        all.permuted_axes([0, 2, 1, 3])
    }

    fn joined_mut<'a>(&self, y: &'a mut [f32]) -> ArrayViewMut4<'a, f32> {
        let shape = (self.sequences, self.tokens, self.heads, self.width);
        let all = ArrayViewMut4::from_shape(shape, y).expect("a value fills its shape");
        all.permuted_axes([0, 2, 1, 3])
    }

    fn sums<'a>(&self, sums: &'a [f32]) -> ArrayView3<'a, f32> {
        let shape = (self.sequences, self.heads, self.tokens);
        ArrayView3::from_shape(shape, sums).expect("a value fills its shape")
    }

    fn sums_mut<'a>(&self, sums: &'a mut [f32]) -> ArrayViewMut3<'a, f32> {
        let shape = (self.sequences, self.heads, self.tokens);
        ArrayViewMut3::from_shape(shape, sums).expect("a value fills its shape")
    }
}

struct CausalAttention {
    of: Heads,
    output: Var,
    log_sums: Var,
}

impl Operation for CausalAttention {
    fn name(&self) -> &'static str {
        "causal_attention"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let of = self.of;
        let qkv = values.get(of.qkv);
        gradients.fill(of.qkv, qkv.len(), |d| {
            let [q, k, v] = of.split(qkv);
            let (y, log_sums) = (of.joined(values.get(self.output)), of.sums(values.get(self.log_sums)));
            let operands = AttentionOperands { q, k, v, y, log_sums };
            let [dq, dk, dv] = of.split_mut(d);
            Ok(attention_grad_into(&operands, of.joined(&dy), &of.attention(), dq, dk, dv)?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}
