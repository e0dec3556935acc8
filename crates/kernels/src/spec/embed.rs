//! Rows looked up by index, and the gradient of that.

use ndarray::ArrayView2;

/// `y[p] = weight[ids[p]]`, for a table with columns.
pub(crate) fn gather(weight: ArrayView2<'_, f32>, ids: &[u32], y: &mut [f32]) {
    for (&id, y) in ids.iter().zip(y.chunks_exact_mut(weight.ncols())) {
        let row = weight.row(id as usize);
        match row.as_slice() {
            Some(row) => y.copy_from_slice(row),
            None => y.iter_mut().zip(row).for_each(|(y, &x)| *y = x),
        }
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
