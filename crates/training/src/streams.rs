//! Keys of random streams: derived from the run's seed, the stage and the purpose, so that no two uses share a stream. The
//! tasks of a matrix share theirs: they differ by what the matrix says, and by nothing else.

use bincode::Encode;
use bitproof_core_ledger::digest::{Digest, StreamKind};
use bitproof_kernels::StreamKey;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode)]
pub enum Purpose {
    /// The order in which rows are dealt to train, valid and test.
    Split,
    /// Initial weights.
    Init,
    /// The order of the rows in an epoch.
    Shuffle {
        /// The epoch, from 0.
        epoch: u32,
    },
    /// What is random in the model, in a shard of a step.
    Shard {
        /// The step, from 1.
        step: u64,
        /// The shard, from 0.
        shard: u32,
    },
    /// What a model says.
    Generate,
}

/// The key of the stream for a purpose: the first eight bytes of a derived digest.
pub fn stream_key(seed: u64, stage: &str, purpose: Purpose) -> StreamKey {
    let digest = Digest::<StreamKind>::of(&(seed, stage, purpose));
    StreamKey::from_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

/// The key of one of several places in a model that draw: the first eight bytes of the digest of the model's key and the place.
pub fn site_key(key: StreamKey, site: u32) -> StreamKey {
    let digest = Digest::<StreamKind>::of(&(key.to_bytes(), site));
    StreamKey::from_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_matters() {
        let base = stream_key(1, "train", Purpose::Shuffle { epoch: 0 });
        assert_eq!(base, stream_key(1, "train", Purpose::Shuffle { epoch: 0 }));
        assert_ne!(base, stream_key(2, "train", Purpose::Shuffle { epoch: 0 }));
        assert_ne!(base, stream_key(1, "other", Purpose::Shuffle { epoch: 0 }));
        assert_ne!(base, stream_key(1, "train", Purpose::Shuffle { epoch: 1 }));
        assert_ne!(base, stream_key(1, "train", Purpose::Init));
    }

    #[test]
    fn every_site_has_a_stream_of_its_own() {
        let (key, other) = (StreamKey::from_bytes([1; 8]), StreamKey::from_bytes([2; 8]));
        assert_eq!(site_key(key, 0), site_key(key, 0));
        assert_ne!(site_key(key, 0), site_key(key, 1));
        assert_ne!(site_key(key, 0), site_key(other, 0));
        assert_ne!(site_key(key, 0), key);
    }
}
