"""The models as PyTorch modules whose state_dict has the names and layouts of docs/formats/model.md, and the file of a model.

Written from the layers' definitions; shared by scripts/goldens/models.py and scripts/oracles/torch_logits.py.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Lenet(nn.Module):
    def __init__(self, image, classes):
        super().__init__()
        self.image = image
        channels, height, width = image
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.fc1 = nn.Linear(16 * (height // 4) * (width // 4), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x):
        x = x.reshape(-1, *self.image)
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        rows, tokens, width = x.shape
        q, k, v = (
            part.reshape(rows, tokens, self.heads, -1).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(width // self.heads)
        hidden = torch.triu(torch.ones(tokens, tokens, dtype=torch.bool), diagonal=1)
        y = scores.masked_fill(hidden, -math.inf).softmax(-1) @ v
        return self.c_proj(y.transpose(1, 2).reshape(rows, tokens, width))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    """Without dropout: it is off where a model is evaluated."""

    def __init__(self, layers, heads, width, vocabulary, window):
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(window, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def numbers(text):
    return [int(n) for n in text.split(",") if n]


def from_metadata(said):
    """The module of a model file, by its metadata."""
    said = {key.removeprefix("bitproof."): value for key, value in said.items() if key.startswith("bitproof.")}
    kind, shape = said["model"], numbers(said.get("shape", ""))
    outputs = int(said["classes"]) if said["data"] == "classes" else 1
    if kind == "gpt":
        return Gpt(*(int(said[key]) for key in ("layers", "heads", "width", "vocabulary", "window")))
    if kind == "lenet":
        image = numbers(said["image"]) if "image" in said else ([1] * (3 - len(shape)) + shape)
        return Lenet(image, outputs)
    if kind == "mlp":
        widths = [math.prod(shape), *numbers(said["hidden"]), outputs]
        layers = [nn.Linear(*pair) for pair in zip(widths, widths[1:])]
        return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))[:-1]
    return nn.Linear(math.prod(shape), 1 if kind == "logistic" and outputs == 2 else outputs)
