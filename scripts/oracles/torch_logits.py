"""What PyTorch says of a model file, loaded with the safetensors library; called by tests/it/torch.rs.

    torch_logits.py MODEL.safetensors INPUTS.safetensors OUT.safetensors

INPUTS holds `x`: examples or tokens, a row each. OUT will hold `scores`, a row for each prediction. The parameters must be those of the module,
no more and no fewer.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "goldens"))

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from torch_models import from_metadata

model_path, inputs_path, out_path = sys.argv[1:]
with safe_open(model_path, framework="pt") as file:
    said = file.metadata()
module = from_metadata(said)
module.load_state_dict(load_file(model_path), strict=True)
module.eval()
x = load_file(inputs_path)["x"]
with torch.no_grad():
    scores = module(x.long() if said["bitproof.data"] == "text" else x)
save_file({"scores": scores.reshape(-1, scores.shape[-1]).contiguous()}, out_path)
