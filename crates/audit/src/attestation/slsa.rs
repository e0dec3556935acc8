//! SLSA provenance, version 1, in a signed envelope: <https://slsa.dev/spec/v1.0/provenance>.

use std::collections::{BTreeMap, BTreeSet};

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use bitproof_core_ledger::dsse::json;
use bitproof_core_ledger::dsse::{DsseError, Envelope, KeyName, PublicKey};
use bitproof_core_ledger::keys::PrivateKey;
use bitproof_core_ledger::sha256::{ContentDigests, Sha256Digest};
use bitproof_training::evidence::Evidence;
use bitproof_training::manifest::Manifest;
use serde::Deserialize;
use serde_json::{json, Map, Value};

use super::{
    listed, statement, Attestation, AttestationError, AttestationKind, Claims, Statement, STATEMENT,
};

const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What a build of this type is: `docs/formats/attestations.md`.
const BUILD_TYPE: &str = "https://bitproof.local/build/run/v1";

/// What provenance is made of. Every part of it was held against the seal of the run.
pub(crate) struct Provenance<'a> {
    /// The files of the package, by name.
    pub(crate) files: &'a [(String, ContentDigests)],
    pub(crate) manifest: &'a Manifest,
    pub(crate) manifest_digests: ContentDigests,
    pub(crate) evidence: &'a Evidence,
    /// Parameters of stages, as `show` prints them.
    pub(crate) config: &'a BTreeMap<String, String>,
    /// The log that the run is sealed in.
    pub(crate) origin: &'a str,
    /// Its signed tree head.
    pub(crate) head: &'a str,
}

impl Provenance<'_> {
    /// The statement in an envelope that an artifact key signed.
    pub(crate) fn sign(&self, key: &PrivateKey) -> Result<Vec<u8>, DsseError> {
        let subject = |(name, digests): &(String, ContentDigests)| json!({ "name": name, "digest": digest_set(digests) });
        let statement = Statement {
            kind: STATEMENT.to_owned(),
            subject: self.files.iter().map(subject).collect(),
            predicate_type: PREDICATE.to_owned(),
            predicate: self.predicate(),
        };
        let statement = serde_json::to_vec(&statement).expect("it has only text keys");
        let envelope = Envelope::by_artifact_key(&statement, key)?;
        Ok(serde_json::to_vec(&envelope).expect("it has only text keys"))
    }

    fn predicate(&self) -> Value {
        let Self { manifest, evidence, .. } = self;
        let code: BTreeMap<&str, &str> =
            manifest.tasks.iter().map(|t| (t.task.as_str(), t.code.as_str())).collect();
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                // A seed is a text: readers hold numbers as f64, which has no place for every u64.
                "externalParameters": {
                    "pipeline": manifest.pipeline, "seed": manifest.seed.to_string(), "config": self.config,
                },
                "internalParameters": {
                    "plan_digest": manifest.plan_digest, "kernels_spec": manifest.kernels_spec, "code": code,
                },
                "resolvedDependencies": self.dependencies(),
            },
            "runDetails": {
                "builder": {
                    "id": format!("https://{}", self.origin),
                    "version": { "bitproof": evidence.host.bitproof_version },
                },
                "metadata": {
                    "invocationId": evidence.uid, "startedOn": evidence.started, "finishedOn": evidence.sealed,
                },
                "byproducts": [
                    {
                        "name": "tree-head", "mediaType": "text/plain",
                        "digest": { "sha256": Sha256Digest::of_bytes(self.head.as_bytes()) },
                        "content": BASE64.encode(self.head),
                    },
                    {
                        "name": "replay-manifest", "mediaType": "application/json",
                        "digest": digest_set(&self.manifest_digests),
                    },
                ],
            },
        })
    }

    /// The data by name, then the code: the program, and the commit that was checked out.
    fn dependencies(&self) -> Vec<Value> {
        let data = self.manifest.data.iter().map(|(name, data)| {
            json!({
                "name": format!("data:{name}"), "uri": format!("bitproof:data/{name}"),
                "digest": { "blake3": data.blake3 },
            })
        });
        let mut dependencies: Vec<Value> = data.collect();
        let host = &self.evidence.host;
        let mut program = json!({
            "name": "bitproof", "uri": format!("pkg:cargo/bitproof@{}", host.bitproof_version),
        });
        if let Some(binary) = &host.binary_blake3 {
            program["digest"] = json!({ "blake3": binary });
        }
        dependencies.push(program);
        if let Some(git) = &self.evidence.git {
            dependencies.push(json!({
                "name": "git", "digest": { "gitCommit": git.commit }, "annotations": { "dirty": git.dirty },
            }));
        }
        dependencies
    }
}

fn digest_set(digests: &ContentDigests) -> Value {
    json!({ "sha256": digests.sha256, "blake3": digests.blake3 })
}

/// Fields that in-toto and SLSA know and that are not looked at here are passed over, as they ask of readers.
#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    build_definition: BuildDefinition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BuildDefinition {
    build_type: String,
    #[serde(rename = "externalParameters")]
    _external_parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: Builder,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Builder {
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    invocation_id: Option<String>,
    started_on: Option<String>,
    finished_on: Option<String>,
}

/// Reads provenance that `key` must have signed.
pub(crate) fn open(bytes: &[u8], key: &PublicKey) -> Result<Attestation, AttestationError> {
    let envelope: Envelope = json::read(bytes, "the envelope")?;
    let payload = envelope.open(key, KeyName::Id)?;
    let (subjects, predicate): (Vec<Subject>, Predicate) = statement(&payload, PREDICATE)?;
    let mut names = BTreeSet::new();
    let mut files = Vec::new();
    for Subject { name, digest } in subjects {
        let Some(sha256) = digest.get("sha256") else { return Err(AttestationError::NoDigest { name }) };
        files.push(listed(&mut names, name, sha256)?);
    }
    if files.is_empty() {
        return Err(AttestationError::Subjects { expected: "at least one is expected", got: 0 });
    }
    let Predicate { build_definition, run_details } = predicate;
    let Metadata { invocation_id, started_on, finished_on } = run_details.metadata;
    let (build_type, builder) = (build_definition.build_type, run_details.builder.id);
    let claims = Claims { build_type, builder, invocation_id, started_on, finished_on };
    Ok(Attestation { kind: AttestationKind::Slsa, key: key.id(), subject: None, files, claims: Some(claims) })
}

#[cfg(test)]
mod tests;
