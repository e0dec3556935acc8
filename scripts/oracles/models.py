"""Signs and verifies models with the library behind PyPI's model-signing; called by tests/it/attestation.rs.

    models.py sign PRIVATE_PEM DIR OUT COUNT    OUT/0.sig, ...: at least COUNT, until both values of s have occurred
    models.py verify PUBLIC_PEM DIR SIGNATURE...

Prints a line for each signature: "high" or "low" for its s; "accepted", or "refused" and why.
"""

import base64
import json
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from model_signing import signing, verifying

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def sign(private, model, out, count):
    seen = set()
    config = signing.Config().use_elliptic_key_signer(private_key=pathlib.Path(private))
    # That one of the two does not occur in a hundred is as likely as one in 2^100.
    for i in range(100):
        if i >= int(count) and len(seen) == 2:
            return
        path = pathlib.Path(out) / f"{i}.sig"
        config.sign(pathlib.Path(model), path)
        envelope = json.loads(path.read_text())["dsseEnvelope"]
        _, s = decode_dss_signature(base64.b64decode(envelope["signatures"][0]["sig"]))
        seen.add("high" if s > P256_ORDER // 2 else "low")
        print("high" if s > P256_ORDER // 2 else "low")
    sys.exit("one value of s has not occurred")


def verify(public, model, *signatures):
    for signature in signatures:
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=pathlib.Path(public))
            config.verify(pathlib.Path(model), pathlib.Path(signature))
            print("accepted")
        except Exception as error:  # whatever it raises is its way to say no
            print("refused", type(error).__name__, str(error).replace("\n", " "))


{"sign": sign, "verify": verify}[sys.argv[1]](*sys.argv[2:])
