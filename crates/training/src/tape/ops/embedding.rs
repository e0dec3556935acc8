//! Rows of a table, by number.

use bitproof_kernels::{embedding_grad_into, embedding_into};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl<'p> Tape<'p> {
    /// `y[p] = weight[ids[p]]`: `weight` is (V, W), the result is `shape` with W after it, and `shape` has as many elements as there are ids.
    /// Backwards each row's gradient is one chain over the positions that name it, in rising order.
    ///
    /// # Errors
    /// [`TapeError`] when an id is not below V or the shapes do not fit.
    pub fn embedding(&mut self, weight: Var, ids: &'p [u32], shape: &[usize]) -> Result<Var, TapeError> {
        let table = self.shape(weight);
        if table.len() != 2 {
            let (operation, expected) = ("embedding", "a weight of (V, W)");
            return Err(TapeError::Shape { operation, expected, got: table.to_vec() });
        }
        let shape = Shape::new(&[shape, &[table[1]]].concat())?;
        if shape.rows() != ids.len() {
            return Err(TapeError::Elements { expected: shape.rows(), got: ids.len() });
        }
        let mut y = self.buffer(shape.elements());
        embedding_into(self.values().matrix(weight), ids, shape.as_matrix_mut(&mut y))?;
        Ok(self.record(shape, y, &[weight], Embedding { weight, ids, shape }))
    }
}

struct Embedding<'p> {
    weight: Var,
    ids: &'p [u32],
    shape: Shape,
}

impl Operation for Embedding<'_> {
    fn name(&self) -> &'static str {
        "embedding"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let table = values.shape(self.weight);
        gradients.fill(self.weight, table.elements(), |dw| {
            dw.fill(0.0);
            Ok(embedding_grad_into(self.shape.as_matrix(&dy), self.ids, table.as_matrix_mut(dw))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}
