//! Transposition in blocks that stay in registers and the first cache.

/// `to[column·to_stride + row] = from[row·from_stride + column]` for `rows` rows of `columns` columns.
pub(crate) fn transpose(
    (from, from_stride): (&[f32], usize),
    (rows, columns): (usize, usize),
    (to, to_stride): (&mut [f32], usize),
) {
    const BLOCK: usize = 8;
    let (whole_rows, whole_columns) = (rows / BLOCK * BLOCK, columns / BLOCK * BLOCK);
    for top in (0..whole_rows).step_by(BLOCK) {
        for left in (0..whole_columns).step_by(BLOCK) {
            let mut block = [[0.0; BLOCK]; BLOCK];
            for (row, block) in block.iter_mut().enumerate() {
                block.copy_from_slice(&from[(top + row) * from_stride + left..][..BLOCK]);
            }
            for column in 0..BLOCK {
                let to: &mut [f32] = &mut to[(left + column) * to_stride + top..][..BLOCK];
                for row in 0..BLOCK {
                    to[row] = block[row][column];
                }
            }
        }
    }
    for row in 0..rows {
        let from = &from[row * from_stride..][..columns];
        let first = if row < whole_rows { whole_columns } else { 0 };
        for (column, &from) in from.iter().enumerate().skip(first) {
            to[column * to_stride + row] = from;
        }
    }
}
