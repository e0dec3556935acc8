"""What PyTorch says of model files, loaded with the safetensors library; called by tests/it/torch.rs.

    torch_logits.py FOLDER COUNT

FOLDER holds for each N below COUNT the model N.model and the inputs N.inputs: the tensor `x`, examples or tokens, a row each. N.scores will hold
`scores`, a row for each prediction. The parameters must be those of the module, no more and no fewer.

Prints a line for each: "loaded", or "refused" and why.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "goldens"))

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from torch_models import from_metadata

folder = pathlib.Path(sys.argv[1])
for i in range(int(sys.argv[2])):
    path = folder / f"{i}.model"
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    module = from_metadata(said).eval()
    try:
        module.load_state_dict(load_file(path), strict=True)
    except RuntimeError as error:
        print("refused", str(error).replace("\n", " "))
        continue
    x = load_file(folder / f"{i}.inputs")["x"]
    with torch.no_grad():
        scores = module(x.long() if said["bitproof.data"] == "text" else x)
    save_file({"scores": scores.reshape(-1, scores.shape[-1]).contiguous()}, folder / f"{i}.scores")
    print("loaded")
