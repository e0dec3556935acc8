//! One gradient from many shards: who computes a shard is left to the threads, how they add up is not.
//!
//! The plan cuts each batch into shards of rows. Each shard's gradient is computed by itself; then they are added in a binary tree over
//! the shard's number, so the same bits come from one thread and from eight. A batch that does not fit into memory is cut into more
//! shards: a thread holds the activations of one shard at a time, so that is gradient accumulation.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use bitproof_kernels::{binary_in_place, with_float_defaults, Binary};
use ndarray::{ArrayView1, ArrayViewMut1};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::trainable::{ShardGrad, Trainable, TrainableError};

/// The rows of a batch of `rows` rows that shard `shard` of `shards` takes: `rows·shard/shards` up to `rows·(shard + 1)/shards`, whole
/// numbers rounded down. A shard may be without rows; it takes no part then.
pub fn shard_rows(rows: usize, shard: u32, shards: NonZeroU32) -> Range<usize> {
    let bound = |i: u32| (rows as u64 * u64::from(i) / u64::from(shards.get())) as usize;
    bound(shard)..bound(shard + 1)
}

/// The threads that carry shards.
///
/// With more shards than one, as many shards are computed at once as there are threads, each by one thread alone; a single shard is
/// computed by all of them. What they add up to does not depend on it.
#[derive(Debug)]
pub struct Carriers {
    /// A pool for each shard that is computed at once.
    pools: Vec<ThreadPool>,
}

impl Carriers {
    /// Threads for so many shards. Where the operating system refuses them, there are fewer.
    pub fn new(threads: usize, shards: NonZeroU32) -> Self {
        let carriers = threads.clamp(1, shards.get() as usize);
        let pool = |_| ThreadPoolBuilder::new().num_threads((threads / carriers).max(1)).build().ok();
        Self { pools: (0..carriers).map_while(pool).collect() }
    }

    /// Runs `f` where its kernels use the threads of the first carrier. Call [`Carriers::reduce`] in there: it need not wake that one then.
    pub fn within<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        // The pool's threads know neither this thread's subscriber nor its span.
        let (subscriber, span) = (tracing::dispatcher::get_default(Clone::clone), tracing::Span::current());
        let f =
            || tracing::dispatcher::with_default(&subscriber, || span.in_scope(|| with_float_defaults(f)));
        match self.pools.first() {
            Some(first) => first.install(f),
            None => f(),
        }
    }

    /// The sum of what `compute` gives for the shards `0..shards`, added as
    ///
    /// ```text
    /// ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    /// ```
    ///
    /// In each round neighbours are added, the one with the lower number first; a last one without a neighbour goes on as it is, and so
    /// does one beside a shard without rows (`None`). Sums of gradients are f32, those of losses f64. `None` if no shard has rows.
    ///
    /// # Errors
    /// What `compute` gives for the lowest shard that fails.
    pub fn reduce<E: Send>(
        &self,
        model: &dyn Trainable,
        shards: NonZeroU32,
        compute: &(impl Fn(u32) -> Result<Option<ShardGrad>, E> + Sync),
    ) -> Result<Option<ShardGrad>, (u32, E)> {
        let tree = Tree { model, rounds: Mutex::new(rounds(shards.get())) };
        let next = AtomicU32::new(0);
        let failed: Mutex<Option<(u32, E)>> = Mutex::new(None);
        let carry = || {
            with_float_defaults(|| loop {
                let shard = next.fetch_add(1, Ordering::Relaxed);
                if shard >= shards.get() {
                    return;
                }
                match compute(shard) {
                    Ok(gradient) => tree.add(shard as usize, gradient),
                    Err(error) => {
                        let mut failed = lock(&failed);
                        if failed.as_ref().is_none_or(|(lowest, _)| shard < *lowest) {
                            *failed = Some((shard, error));
                        }
                    }
                }
            });
        };
        carry_on(self.pools.get(1..).unwrap_or_default(), &carry);
        match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(failed) => Err(failed),
            None => Ok(tree.root()),
        }
    }
}

/// Runs `carry` here and once in each of the pools.
fn carry_on(pools: &[ThreadPool], carry: &(impl Fn() + Sync)) {
    match pools.split_first() {
        None => carry(),
        Some((first, rest)) => first.in_place_scope(|scope| {
            scope.spawn(|_| carry());
            carry_on(rest, carry);
        }),
    }
}

/// A place of the tree.
enum Slot {
    /// Not all of its shards are computed.
    Open,
    /// The sum of its shards, until its neighbour's is there too.
    Sum(Option<ShardGrad>),
    /// It went into the sum above it.
    Taken,
}

struct Tree<'m> {
    model: &'m dyn Trainable,
    /// Round by round, from the shards to the root.
    rounds: Mutex<Vec<Vec<Slot>>>,
}

fn rounds(shards: u32) -> Vec<Vec<Slot>> {
    let mut rounds = Vec::new();
    let mut width = shards as usize;
    loop {
        rounds.push((0..width).map(|_| Slot::Open).collect());
        if width == 1 {
            return rounds;
        }
        width = width.div_ceil(2);
    }
}

impl Tree<'_> {
    /// Puts in what was computed, and adds as far up as the neighbours are there: whoever comes second adds.
    fn add(&self, shard: usize, mut sum: Option<ShardGrad>) {
        let mut at = shard;
        for round in 0.. {
            let neighbour = {
                let mut rounds = lock(&self.rounds);
                let width = rounds[round].len();
                if width == 1 {
                    rounds[round][at] = Slot::Sum(sum);
                    return;
                }
                if at ^ 1 >= width {
                    rounds[round][at] = Slot::Taken;
                    None
                } else if let Slot::Open = rounds[round][at ^ 1] {
                    rounds[round][at] = Slot::Sum(sum);
                    return;
                } else {
                    rounds[round][at] = Slot::Taken;
                    match std::mem::replace(&mut rounds[round][at ^ 1], Slot::Taken) {
                        Slot::Sum(neighbour) => neighbour,
                        Slot::Open | Slot::Taken => None,
                    }
                }
            };
            // The sum is worked out while others go on.
            sum = match if at.is_multiple_of(2) { (sum, neighbour) } else { (neighbour, sum) } {
                (Some(left), Some(right)) => Some(self.sum(left, right)),
                (one, None) | (None, one) => one,
            };
            at /= 2;
        }
    }

    fn sum(&self, mut left: ShardGrad, right: ShardGrad) -> ShardGrad {
        let into = ArrayViewMut1::from(left.gradient.values_mut());
        binary_in_place(Binary::Add, into, ArrayView1::from(right.gradient.values()))
            .expect("gradients of one model have one layout");
        left.loss += right.loss;
        left.count += right.count;
        self.model.recycle(right);
        left
    }

    fn root(self) -> Option<ShardGrad> {
        let rounds = self.rounds.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match rounds.into_iter().last()?.into_iter().next()? {
            Slot::Sum(sum) => sum,
            Slot::Open | Slot::Taken => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A shard that does not fit its model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("shard {shard}: {source}")]
pub struct ShardError {
    /// Its number.
    pub shard: u32,
    /// Why.
    #[source]
    pub source: TrainableError,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitproof_kernels::StreamKey;

    use super::*;
    use crate::params::{ParamLayout, ParamSet};
    use crate::trainable::{Batch, Evaluation};

    /// A model of one parameter; the test gives the gradients itself.
    struct One(Arc<ParamLayout>);

    impl One {
        fn new() -> Self {
            Self(ParamLayout::new([("w", vec![1])]).unwrap())
        }
        fn shard(&self, gradient: f32) -> ShardGrad {
            let mut set = ParamSet::zeros(&self.0);
            set.values_mut()[0] = gradient;
            ShardGrad { gradient: set, loss: f64::from(gradient), count: 1 }
        }
    }

    impl Trainable for One {
        fn layout(&self) -> &Arc<ParamLayout> {
            &self.0
        }
        fn init(&self, _: StreamKey) -> ParamSet {
            ParamSet::zeros(&self.0)
        }
        fn shard_grad(&self, _: &ParamSet, _: &Batch<'_>, _: StreamKey) -> Result<ShardGrad, TrainableError> {
            Ok(self.shard(0.0))
        }
        fn eval(&self, _: &ParamSet, _: &Batch<'_>) -> Result<Evaluation, TrainableError> {
            Err(TrainableError::Kind { expected: "nothing", got: "something" })
        }
        fn multiply_adds(&self) -> u64 {
            1
        }
    }

    fn shards(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    #[test]
    fn rows_are_dealt_whole_and_in_order() {
        for (rows, n) in [(64, 8), (7, 8), (10, 3), (0, 4), (5, 1)] {
            let dealt: Vec<usize> = (0..n).flat_map(|i| shard_rows(rows, i, shards(n))).collect();
            assert_eq!(dealt, (0..rows).collect::<Vec<_>>(), "{rows} rows on {n} shards");
        }
        assert_eq!((0..3).map(|i| shard_rows(10, i, shards(3)).len()).collect::<Vec<_>>(), [3, 3, 4]);
    }

    #[test]
    fn the_tree_is_the_one_that_is_written_down_for_any_number_of_threads() {
        let model = One::new();
        // Chosen so that another order of additions gives other bits.
        let g = [1e8_f32, 1.0, -1e8, 3.0, 0.5, 1e-8, 7.0];
        let expected = ((g[0] + g[1]) + (g[2] + g[3])) + ((g[4] + g[5]) + g[6]);
        let chain = g.iter().fold(0.0, |a, b| a + b);
        assert_ne!(expected, chain, "the control: a chain is something else");
        for threads in [1, 2, 3, 8] {
            let carriers = Carriers::new(threads, shards(7));
            let compute = |i: u32| Ok::<_, ()>(Some(model.shard(g[i as usize])));
            let sum = carriers.within(|| carriers.reduce(&model, shards(7), &compute)).unwrap().unwrap();
            assert_eq!((sum.gradient.values(), sum.count), (&[expected][..], 7), "{threads} threads");
        }
    }

    #[test]
    fn shards_without_rows_take_no_part_and_the_lowest_failure_is_told() {
        let model = One::new();
        let carriers = Carriers::new(2, shards(4));
        // −0 + nothing stays −0; −0 + 0 would not.
        let some = |i: u32| Ok::<_, ()>((i == 2).then(|| model.shard(-0.0)));
        let sum = carriers.reduce(&model, shards(4), &some).unwrap().unwrap();
        assert_eq!(sum.gradient.values()[0].to_bits(), (-0.0_f32).to_bits());
        assert_eq!(carriers.reduce(&model, shards(4), &|_| Ok::<_, ()>(None)), Ok(None));
        let failing = |i: u32| if i % 2 == 1 { Err(i * 10) } else { Ok(Some(model.shard(1.0))) };
        assert_eq!(carriers.reduce(&model, shards(4), &failing), Err((1, 10)));
    }
}
