//! Shapes of convolutions.

use super::Conv2d;
use crate::error::KernelError;
use crate::spec::conv::Geometry;

type Shape = (usize, usize, usize, usize);

/// The extents of a convolution of `x` with `w` that gives `y`, if they fit.
pub(super) fn geometry(
    kernel: &'static str,
    conv: &Conv2d,
    x: Shape,
    w: Shape,
    y: Shape,
) -> Result<Geometry, KernelError> {
    let mismatch = |left_name, left: Vec<usize>, right_name, right: Shape, rule| {
        let right = vec![right.0, right.1, right.2, right.3];
        Err(KernelError::ShapeMismatch { kernel, left_name, left, right_name, right, rule })
    };
    if x.1 != w.1 {
        let left = vec![x.0, x.1, x.2, x.3];
        return mismatch("x", left, "weight", w, "the weight needs as many input channels (axis 1) as x");
    }
    let (mut output, mut strides) = ([0; 2], [0; 2]);
    for (axis, (length, window)) in [(x.2, w.2), (x.3, w.3)].into_iter().enumerate() {
        let (stride, padding) = (conv.stride[axis], conv.padding[axis]);
        let places = places(length, window, stride, padding);
        output[axis] = places.ok_or(KernelError::Window {
            kernel,
            axis: axis + 2,
            length,
            window,
            stride,
            padding,
            rule: "the window needs 1 ≤ window ≤ length + 2·padding and a stride of at least 1",
        })?;
        // A longer stride leaves the same single place, and would not fit into the isize of quotients.
        strides[axis] = stride.min(length + 2 * padding);
    }
    if y != (x.0, w.0, output[0], output[1]) {
        let shape = vec![x.0, w.0, output[0], output[1]];
        return mismatch("the convolution", shape, "y", y, "y needs the shape of the convolution");
    }
    Ok(Geometry {
        images: x.0,
        channels: x.1,
        outputs: w.0,
        input: [x.2, x.3],
        kernel: [w.2, w.3],
        output,
        stride: strides,
        padding: conv.padding,
    })
}

/// How many places a window has on an axis: `⌊(length + 2·padding − window) / stride⌋ + 1`. The padded length fits into isize.
pub(crate) fn places(length: usize, window: usize, stride: usize, padding: usize) -> Option<usize> {
    let padded = padding.checked_mul(2)?.checked_add(length)?;
    if window == 0 || stride == 0 || isize::try_from(padded).is_err() {
        return None;
    }
    Some(padded.checked_sub(window)? / stride + 1)
}

/// One element for each output channel.
pub(super) fn bias(
    kernel: &'static str,
    name: &'static str,
    length: usize,
    outputs: usize,
) -> Result<(), KernelError> {
    crate::error::same_length(kernel, (name, length), ("the axis of output channels", outputs))
}
