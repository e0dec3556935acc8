//! Memory that a thread keeps between calls, so that kernels allocate nothing once they have met their largest operands.

use std::cell::Cell;

/// Buffers without any meaning between calls.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) floats: [Vec<f32>; 10],
    pub(crate) offsets: [Vec<usize>; 4],
}

thread_local! {
    static SPARE: Cell<Buffers> = const {
        Cell::new(Buffers { floats: [const { Vec::new() }; 10], offsets: [const { Vec::new() }; 4] })
    };
}

impl Buffers {
    /// This thread's buffers. Until they are put back, a kernel within a kernel finds empty ones.
    pub(crate) fn take() -> Self {
        SPARE.take()
    }

    /// Keeps them for the next kernel.
    pub(crate) fn put_back(self) {
        SPARE.set(self);
    }
}

/// Lends this thread's buffers to `f`. They are taken out meanwhile: a kernel that this thread steals from within `f` finds
/// empty ones.
pub(crate) fn with_buffers<R>(f: impl FnOnce(&mut Buffers) -> R) -> R {
    let mut buffers = Buffers::take();
    let result = f(&mut buffers);
    buffers.put_back();
    result
}

/// The buffer with `length` elements, all `+0`, at the beginning of a cache line.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    let values = sized(buffer, length);
    values.fill(0.0);
    values
}

/// The buffer with `length` elements, whatever they hold, at the beginning of a cache line.
pub(crate) fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    /// Elements of a cache line: registers that span two of them are slow to load and to store.
    const LINE: usize = 16;
    if buffer.len() < length + LINE {
        buffer.resize(length + LINE, 0.0);
    }
    let skipped = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    &mut buffer[skipped..][..length]
}
