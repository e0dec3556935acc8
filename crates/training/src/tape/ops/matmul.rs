//! Products of matrices.

use bitproof_kernels::{batched_matmul_into, Start};
use ndarray::{ArrayView3, ArrayViewMut3};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

/// Which of two matrices is transposed before they are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// `a · b`: (M, K) and (K, N).
    Nn,
    /// `a · bᵀ`: (M, K) and (N, K).
    Nt,
    /// `aᵀ · b`: (K, M) and (K, N).
    Tn,
}

impl Tape<'_> {
    /// The product of two matrices, (M, N): each element is one chain of fused multiply-adds over K in rising order from `+0`, as
    /// [`bitproof_kernels::matmul_into`] says.
    ///
    /// Backwards `db` comes before `da`. [`Product::Nn`]: `db = aᵀ dy`, `da = dy bᵀ`; [`Product::Nt`]: `db = dyᵀ a`, `da = dy b`;
    /// [`Product::Tn`]: `db = a dy`, `da = b dyᵀ`. Each element is again one such chain.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when an operand has other than two axes or they do not fit.
    pub fn matmul(&mut self, a: Var, b: Var, product: Product) -> Result<Var, TapeError> {
        let of = |var| {
            let shape = self.shape(var);
            let [rows, columns] = shape[..] else { return Err(refused("matmul", &shape)) };
            Ok([1, rows, columns])
        };
        let matrices = Matrices { a, b, of_a: of(a)?, of_b: of(b)?, product };
        let [_, rows, columns] = matrices.result("matmul")?;
        self.product("matmul", matrices, Shape::new(&[rows, columns])?)
    }

    /// [`Tape::matmul`] for each of P pairs of matrices: `a` and `b` have P before their two axes, and so has the result.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when an operand has other than three axes or they do not fit.
    pub fn batched_matmul(&mut self, a: Var, b: Var, product: Product) -> Result<Var, TapeError> {
        let of = |var| {
            let shape = self.shape(var);
            shape[..].try_into().map_err(|_| refused("batched_matmul", &shape))
        };
        let matrices = Matrices { a, b, of_a: of(a)?, of_b: of(b)?, product };
        let shape = Shape::new(&matrices.result("batched_matmul")?)?;
        self.product("batched_matmul", matrices, shape)
    }

    fn product(&mut self, name: &'static str, of: Matrices, shape: Shape) -> Result<Var, TapeError> {
        let mut y = self.buffer(shape.elements());
        let (a, b) = of.operands(&self.values());
        let (left, right) = match of.product {
            Product::Nn => (a, b),
            Product::Nt => (a, transposed(b)),
            Product::Tn => (transposed(a), b),
        };
        batched_matmul_into(left, right, Start::Zero, view_mut(of.result(name)?, &mut y))?;
        Ok(self.record(shape, y, &[of.a, of.b], MatrixProduct { name, of }))
    }
}

fn refused(operation: &'static str, got: &[usize]) -> TapeError {
    TapeError::Shape { operation, expected: "matrices whose inner axes are equally long", got: got.to_vec() }
}

/// Two operands with the axes of each: products, rows, columns.
struct Matrices {
    a: Var,
    b: Var,
    of_a: [usize; 3],
    of_b: [usize; 3],
    product: Product,
}

impl Matrices {
    fn result(&self, operation: &'static str) -> Result<[usize; 3], TapeError> {
        let ([products, a0, a1], [as_many, b0, b1]) = (self.of_a, self.of_b);
        let (rows, inner, as_long, columns) = match self.product {
            Product::Nn => (a0, a1, b0, b1),
            Product::Nt => (a0, a1, b1, b0),
            Product::Tn => (a1, a0, b0, b1),
        };
        if products == as_many && inner == as_long {
            Ok([products, rows, columns])
        } else {
            Err(refused(operation, &[self.of_a, self.of_b].concat()))
        }
    }

    fn operands<'t>(&self, values: &Values<'t, '_>) -> (ArrayView3<'t, f32>, ArrayView3<'t, f32>) {
        (view(self.of_a, values.get(self.a)), view(self.of_b, values.get(self.b)))
    }
}

fn view(axes: [usize; 3], elements: &[f32]) -> ArrayView3<'_, f32> {
    ArrayView3::from_shape(axes, elements).expect("a value fills its shape")
}

fn view_mut(axes: [usize; 3], elements: &mut [f32]) -> ArrayViewMut3<'_, f32> {
    ArrayViewMut3::from_shape(axes, elements).expect("a value fills its shape")
}

fn transposed(matrices: ArrayView3<'_, f32>) -> ArrayView3<'_, f32> {
    matrices.permuted_axes([0, 2, 1])
}

struct MatrixProduct {
    name: &'static str,
    of: Matrices,
}

impl Operation for MatrixProduct {
    fn name(&self) -> &'static str {
        self.name
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let of = &self.of;
        let (a, b) = of.operands(values);
        let g = view(of.result(self.name)?, &dy);
        let (of_b, of_a) = match of.product {
            Product::Nn => ((transposed(a), g), (g, transposed(b))),
            Product::Nt => ((transposed(g), a), (g, b)),
            Product::Tn => ((a, g), (b, transposed(g))),
        };
        for (var, axes, (left, right)) in [(of.b, of.of_b, of_b), (of.a, of.of_a, of_a)] {
            gradients.fill(var, axes.iter().product(), |d| {
                Ok(batched_matmul_into(left, right, Start::Zero, view_mut(axes, d))?)
            })?;
        }
        gradients.give_back(dy);
        Ok(())
    }
}
