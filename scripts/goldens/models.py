#!/usr/bin/env python3
"""Writes crates/training/tests/goldens/*.safetensors: what PyTorch computes for each model, in double precision.

    python scripts/goldens/models.py      (made with torch 2.15.0 and numpy 2.4.6; any of their kin will do)

Each file is a model file (docs/formats/model.md): its metadata says the model. It holds `param.NAME` and `grad.NAME` for each parameter, the
inputs `x` (examples or tokens), `targets`, `scores` and `losses`; `grad` is the gradient of the sum of the losses. Parameters and inputs are f32
numbers. Everything else was computed from them in float64 and rounded once to f32, so that a difference from it is an error of ours.
"""

import json
import pathlib
import struct

import numpy as np
import torch
from torch.nn import functional as F

from torch_models import from_metadata

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/training/tests/goldens"


def canonical(tensors, said):
    header, data = {"__metadata__": {"format": "pt", **said}}, b""
    for name in sorted(tensors):
        raw = np.ascontiguousarray(tensors[name], dtype="<f4")
        header[name] = {"data_offsets": [len(data), len(data) + raw.nbytes], "dtype": "F32", "shape": list(raw.shape)}
        data += raw.tobytes()
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def losses(kind, scores, targets):
    if kind == "values":
        return (scores[:, 0] - targets) ** 2
    labels = targets.long().flatten()
    if scores.shape[-1] == 1:
        return F.binary_cross_entropy_with_logits(scores[:, 0], labels.double(), reduction="none")
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), labels, reduction="none")


def golden(name, said, rows):
    said = {f"bitproof.{key}": value for key, value in said.items()}
    generator = torch.Generator().manual_seed(len(name) + rows)
    draw = lambda *shape: torch.rand(*shape, generator=generator) * 2 - 1
    model = from_metadata(said)
    with torch.no_grad():
        for parameter in model.parameters():
            # Of the size that keeps activations near 1, and norms away from 0.
            inputs = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_(draw(*parameter.shape) * (3 / inputs) ** 0.5 + (1.0 if parameter.dim() == 1 else 0.0))
    weights = {key: value.numpy().copy() for key, value in model.state_dict().items()}
    kind = said["bitproof.data"]
    if kind == "text":
        vocabulary, window = int(said["bitproof.vocabulary"]), int(said["bitproof.window"])
        x = torch.randint(vocabulary, (rows, window), generator=generator)
        targets = torch.randint(vocabulary, (rows, window), generator=generator)
    else:
        shape = [int(n) for n in said["bitproof.shape"].split(",")]
        x = draw(rows, *shape)
        classes = int(said.get("bitproof.classes", 1))
        targets = draw(rows) if kind == "values" else torch.randint(classes, (rows,), generator=generator)
    model.double()
    seen = x if kind == "text" else x.double()
    flat = seen if kind == "text" or said["bitproof.model"] == "lenet" else seen.flatten(1)
    scores = model(flat)
    each = losses(kind, scores, targets if kind != "values" else targets.double())
    each.sum().backward()
    tensors = {f"param.{key}": value for key, value in weights.items()}
    tensors |= {f"grad.{key}": value.grad.numpy() for key, value in model.named_parameters()}
    tensors |= {"x": x.numpy(), "targets": targets.numpy()}
    tensors |= {"scores": scores.detach().reshape(-1, scores.shape[-1]).numpy(), "losses": each.detach().numpy()}
    (OUT / f"{name}.safetensors").write_bytes(canonical(tensors, said))


golden("linear", {"model": "linear", "data": "values", "shape": "5"}, 7)
golden("logistic-2", {"model": "logistic", "data": "classes", "shape": "5", "classes": "2"}, 9)
golden("logistic-3", {"model": "logistic", "data": "classes", "shape": "5", "classes": "3"}, 9)
golden("mlp", {"model": "mlp", "data": "classes", "shape": "6", "hidden": "16,11", "classes": "4"}, 13)
golden("lenet", {"model": "lenet", "data": "classes", "shape": "2,9,6", "classes": "3"}, 4)
golden(
    "gpt",
    {"model": "gpt", "data": "text", "layers": "2", "heads": "3", "width": "12", "dropout": "0", "vocabulary": "11", "window": "9"},
    3,
)
