//! Rows looked up by index, and the gradient of that.

/// `y[p] = weight[ids[p]]`, rows of `width` elements.
pub(crate) fn gather(weight: &[f32], ids: &[u32], width: usize, y: &mut [f32]) {
    for (&id, y) in ids.iter().zip(y.chunks_exact_mut(width)) {
        y.copy_from_slice(&weight[id as usize * width..][..width]);
    }
}

/// `dw[r] ← (dw[r] + dy[p₁]) + dy[p₂] + …` for the rows `first..` that `dw` holds, over the positions with `ids[p] = r` in rising order.
pub(crate) fn scatter_add(dy: &[f32], ids: &[u32], width: usize, first: usize, dw: &mut [f32]) {
    let rows = first..first + dw.len() / width;
    for (&id, dy) in ids.iter().zip(dy.chunks_exact(width)) {
        let row = id as usize;
        if rows.contains(&row) {
            let dw = &mut dw[(row - first) * width..][..width];
            dw.iter_mut().zip(dy).for_each(|(dw, dy)| *dw += dy);
        }
    }
}
