"""Writes the files of arrays that crates/training/tests/datasets.rs reads, as NumPy and safetensors write them.

    python3 -m venv target/datasets && target/datasets/bin/pip install numpy==2.4.6 safetensors==0.8.0
    target/datasets/bin/python scripts/datasets/fixtures.py crates/training/tests/fixtures

What is in them stands in the test: four rows of two features, 0, 1, 2, 3, 4, 5, 6, 7 in their order, and the labels 3, 0, 3, 7.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from safetensors.numpy import save

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
features = np.arange(8).reshape(4, 2)
labels = np.array([3, 0, 3, 7])


def write(name: str, array: np.ndarray, version: tuple[int, int] | None = None) -> None:
    with open(folder / name, "wb") as file:
        npy.write_array(file, array, version=version)


for kind in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]:
    for order, word in [("<", "little"), (">", "big")]:
        write(f"features-{kind}-{word}.npy", features.astype(order + kind))
write("features-fortran.npy", np.asfortranarray(features.astype("<f4")))
write("features-version-2.npy", features.astype("<f4"), (2, 0))
write("features-version-3.npy", features.astype("<f4"), (3, 0))
# Two channels of three by two, in Fortran order: 24 numbers an example would make a large file, so two examples do.
images = np.arange(24, dtype="<f8").reshape(2, 2, 3, 2)
write("images-fortran.npy", np.asfortranarray(images))
write("images-labels.npy", np.array([[1], [0]], dtype="<i8"))
write("labels-i8.npy", labels.astype("<i8"))
write("labels-f4.npy", labels.astype("<f4"))
write("labels-b1.npy", labels == 3)
write("labels-half.npy", labels.astype("<f8") + 0.5)
write("labels-negative.npy", labels.astype("<i2") - 4)
(folder / "labels-i8.npy.gz").write_bytes(gzip.compress((folder / "labels-i8.npy").read_bytes(), mtime=0))

tensors = {
    "labels": labels.astype("<i4"),
    "features": features.astype("<f8"),
    "unused": np.array([7], dtype="<u2"),
    "a.halves": features.astype("<f2"),
    "flags": labels == 3,
}
(folder / "tensors.safetensors").write_bytes(save(tensors, metadata={"made": "by safetensors"}))

# safetensors sorts what it writes. The format allows any order, and types that NumPy has not.
bfloat16 = (features.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
wide = labels.astype("<u8").tobytes()
header = {
    "targets": {"dtype": "U64", "shape": [4], "data_offsets": [len(bfloat16), len(bfloat16) + len(wide)]},
    "inputs": {"dtype": "BF16", "shape": [4, 1, 2], "data_offsets": [0, len(bfloat16)]},
}
text = json.dumps(header).encode()
unordered = len(text).to_bytes(8, "little") + text + bfloat16 + wide
(folder / "unordered.safetensors").write_bytes(unordered)
