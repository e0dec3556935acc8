"""Signs and verifies envelopes with PyPI's securesystemslib and in-toto-attestation; called by tests/it/attestation.rs.

    envelopes.py sign PRIVATE_PEM STATEMENT ENVELOPE    an Ed25519 key
    envelopes.py verify PUBLIC_PEM ENVELOPE...

Verifying prints a line for each envelope: "accepted" and the key id, or "refused" and why. What is accepted is also read
as an in-toto statement with SLSA provenance by the schemas of in-toto-attestation, which refuse fields they do not know.
"""

import json
import pathlib
import sys

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

IN_TOTO = "application/vnd.in-toto+json"


def sign(private, statement, out):
    signer = CryptoSigner(load_pem_private_key(pathlib.Path(private).read_bytes(), None))
    envelope = Envelope(pathlib.Path(statement).read_bytes(), IN_TOTO, {})
    envelope.sign(signer)
    pathlib.Path(out).write_text(json.dumps(envelope.to_dict()))


def check(key, path):
    envelope = Envelope.from_dict(json.loads(pathlib.Path(path).read_text()))
    (accepted,) = envelope.verify([key], 1)
    if envelope.payload_type != IN_TOTO:
        raise ValueError(envelope.payload_type)
    statement = json_format.Parse(envelope.payload, statement_pb2.Statement())
    Statement.copy_from_pb(statement).validate()
    if statement.predicate_type != "https://slsa.dev/provenance/v1":
        raise ValueError(statement.predicate_type)
    provenance = json_format.Parse(json_format.MessageToJson(statement.predicate), Provenance())
    for required in (
        provenance.build_definition.build_type,
        provenance.build_definition.external_parameters,
        provenance.run_details.builder.id,
        provenance.run_details.metadata.invocation_id,
        provenance.run_details.metadata.started_on.seconds,
    ):
        if not required:
            raise ValueError("a required field is empty")
    return accepted


def verify(public, *envelopes):
    key = SSlibKey.from_crypto(load_pem_public_key(pathlib.Path(public).read_bytes()))
    for path in envelopes:
        try:
            print("accepted", check(key, path))
        except Exception as error:  # whatever it raises is its way to say no
            print("refused", type(error).__name__, str(error).replace("\n", " "))


{"sign": sign, "verify": verify}[sys.argv[1]](*sys.argv[2:])
