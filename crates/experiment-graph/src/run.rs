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
    /// Code: task to kind and version.
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

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, s: S) -> Result<S::Ok, S::Error> {
        let shown: BTreeMap<&String, String> =
            map.iter().map(|(name, value)| (name, format!("{:016x}", value.to_bits()))).collect();
        shown.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let shown = BTreeMap::<String, String>::deserialize(d)?;
        let value = |(name, bits): (String, String)| {
            let bits = u64::from_str_radix(&bits, 16).map_err(serde::de::Error::custom)?;
            Ok((name, f64::from_bits(bits)))
        };
        shown.into_iter().map(value).collect()
    }
}
