//! Causal attention, forward and backward.

use bitproof_kernels::{attention_grad_into, attention_into, Attention, AttentionOperands};
use ndarray::{Array3, Array4};

use super::case::{pieces, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, ATTENTION_HEADS, ATTENTION_STEPS};

pub(super) fn run(harness: &Harness<'_>, peak: f64, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for steps in ATTENTION_STEPS {
        both_ways(harness, steps, peak, emit)?;
    }
    Ok(())
}

fn both_ways(
    harness: &Harness<'_>,
    steps: usize,
    peak: f64,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let (heads, width) = ATTENTION_HEADS;
    let shape = (1, heads, steps, width);
    let [q, k, v, dy] =
        [b"queries ", b"keys    ", b"values  ", b"gradient"].map(|name| inputs::tensor(shape, name));
    let attention = Attention { causal: true, scale: 1.0 / (width as f32).sqrt() };
    // Of each product of a pass: a multiplication and an addition for each pair of a query and a key that it sees.
    let operations = (heads * width * steps * (steps + 1)) as u64;
    let case = |name: &str, products: u64| {
        Case::new(format!("{name}/{heads}x{steps}x{width}"), products * operations, "flop")
            .asking(name, &[1, heads, steps, width])
            .of_peak(peak)
    };
    let forward = |(y, log_sums): &mut (Array4<f32>, Array3<f32>)| {
        attention_into(q.view(), k.view(), v.view(), &attention, y.view_mut(), log_sums.view_mut())
            .expect("the shapes fit");
    };
    let mut state = (Array4::zeros(shape), Array3::zeros((1, heads, steps)));
    forward(&mut state);
    let (y, log_sums) = state.clone();
    let result = |(y, log_sums): &mut (Array4<f32>, Array3<f32>)| pieces(y.iter().chain(&*log_sums));
    case("attention", 2).measure(harness, state, forward, result, emit)?;
    let operands =
        AttentionOperands { q: q.view(), k: k.view(), v: v.view(), y: y.view(), log_sums: log_sums.view() };
    let backward = |[dq, dk, dv]: &mut [Array4<f32>; 3]| {
        let (dq, dk, dv) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        attention_grad_into(&operands, dy.view(), &attention, dq, dk, dv).expect("the shapes fit");
    };
    let gradients = [(); 3].map(|()| Array4::zeros(shape));
    case("attention_grad", 5).measure(
        harness,
        gradients,
        backward,
        |gradients| pieces(gradients.iter().flatten()),
        emit,
    )
}
