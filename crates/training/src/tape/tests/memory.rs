//! What a pass keeps for the next one.

use bitproof_kernels::{Conv2d, Pool2d};

use super::{uniform, Buffers, Input, Shape, Tape};

/// A pass over so many images: convolution, pooling, norm, softmax, and a value with several consumers.
fn pass(buffers: &mut Buffers, images: usize) {
    let inputs: [Input; 6] = [
        uniform(1, &[images, 1, 6, 6], -1.0, 1.0),
        uniform(2, &[2, 1, 3, 3], -1.0, 1.0),
        uniform(3, &[2], -1.0, 1.0),
        uniform(4, &[3, 8], -1.0, 1.0),
        uniform(5, &[8], 0.5, 1.5),
        uniform(6, &[8], -1.0, 1.0),
    ];
    let mut gradients: Vec<Vec<f32>> = inputs.iter().map(|input| vec![0.0; input.values.len()]).collect();
    let labels: Vec<u32> = (0..images as u32).map(|image| image % 3).collect();
    let mut tape = Tape::new(buffers);
    let mut of = Vec::new();
    for (index, (input, gradient)) in inputs.iter().zip(&mut gradients).enumerate() {
        let shape = Shape::new(&input.shape).unwrap();
        of.push(match index {
            0 => tape.constant(shape, &input.values).unwrap(),
            _ => tape.variable(shape, &input.values, gradient).unwrap(),
        });
    }
    let y = tape.conv2d(of[0], of[1], of[2], Conv2d::default()).unwrap();
    let relu = tape.relu(y).unwrap();
    let y = tape.add(y, relu).unwrap();
    let pool = Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] };
    let y = tape.max_pool2d(y, pool).unwrap();
    let y = tape.reshape(y, Shape::new(&[images, 8]).unwrap()).unwrap();
    let y = tape.layer_norm(y, of[4], of[5], 1e-5).unwrap();
    let y = tape.softmax(y).unwrap();
    let logits = tape.linear(y, of[3], None).unwrap();
    let losses = tape.cross_entropy(logits, &labels).unwrap();
    let mean = tape.mean(losses).unwrap();
    tape.backward(mean).unwrap();
}

#[test]
fn passes_of_the_same_shapes_keep_no_more() {
    let mut buffers = Buffers::default();
    assert_eq!(buffers.kept(), 0);
    pass(&mut buffers, 5);
    let kept = buffers.kept();
    assert!(kept > 5 * 2 * 4 * 4, "the values of a pass are kept");
    for _ in 0..10 {
        pass(&mut buffers, 5);
        assert_eq!(buffers.kept(), kept);
    }
    // The negative control: another batch needs other vectors.
    pass(&mut buffers, 2);
    assert!(buffers.kept() > kept);
}

#[test]
fn two_batch_sizes_in_turn_keep_what_both_need() {
    let mut buffers = Buffers::default();
    for images in [7, 3] {
        pass(&mut buffers, images);
    }
    let kept = buffers.kept();
    for images in [7, 3, 3, 7, 7, 3, 7, 3] {
        pass(&mut buffers, images);
        assert_eq!(buffers.kept(), kept);
    }
}

/// A tape that is dropped without a way back, as an evaluation's is, gives back everything too.
#[test]
fn values_alone_are_given_back() {
    let mut buffers = Buffers::default();
    let x = [1.0; 8];
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut gradient = [0.0; 8];
        let mut tape = Tape::new(&mut buffers);
        let x = tape.variable(Shape::new(&[8]).unwrap(), &x, &mut gradient).unwrap();
        let y = tape.exp(x).unwrap();
        tape.softmax(y).unwrap();
        drop(tape);
        kept.push(buffers.kept());
    }
    assert_eq!(kept, [16; 3]);
}
