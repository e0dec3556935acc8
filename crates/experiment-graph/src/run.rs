//! What is compared: the facts of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The facts of a run that a comparison looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFacts {
    /// Its name.
    pub run: String,
    /// Its unique id, in hex.
    pub uid: String,
    /// Its plan, in hex.
    pub plan_digest: String,
    /// Data inputs: name to digest.
    pub data: BTreeMap<String, String>,
    /// Parameters: `task.key` to value.
    pub params: BTreeMap<String, String>,
    /// Code: task to kind and version or command; of commands also `stage/path` to the content of a file, and what else their results hang on.
    pub code: BTreeMap<String, String>,
    /// The root of its random streams.
    pub seed: u64,
    /// The version of the numeric specification.
    pub kernels_spec: u32,
    /// The last value of each metric.
    #[serde(with = "bits")]
    pub metrics: BTreeMap<String, f64>,
}

/// Values as the hex digits of their bits, so that NaN and every rounding survive.
mod bits {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::exact::ExactF64;

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(map.iter().map(|(name, value)| (name, ExactF64::from(*value))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let exact = BTreeMap::<String, ExactF64>::deserialize(d)?;
        Ok(exact.into_iter().map(|(name, value)| (name, value.get())).collect())
    }
}
