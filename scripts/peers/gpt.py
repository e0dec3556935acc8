"""The transformer of `model = "gpt"` in PyTorch, with the same names, layouts and initial distribution."""

import math

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, heads, width):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        batch, steps, width = x.shape
        split = (batch, steps, self.heads, width // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in self.c_attn(x).split(width, 2))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(batch, steps, width))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self, heads, width, dropout):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(heads, width)
        self.ln_2, self.mlp = nn.LayerNorm(width), Mlp(width)
        self.dropout = dropout

    def forward(self, x):
        x = x + functional.dropout(self.attn(self.ln_1(x)), self.dropout, self.training)
        return x + functional.dropout(self.mlp(self.ln_2(x)), self.dropout, self.training)


class Gpt(nn.Module):
    """The head shares the weights of the embedding."""

    def __init__(self, vocabulary, window, layers, heads, width, dropout=0.0):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(window, width)
        self.h = nn.ModuleList(Block(heads, width, dropout) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.dropout = dropout
        for name, parameter in self.named_parameters():
            if "ln_" in name:
                continue
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * layers) if residual else 0.02)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1])
        x = functional.dropout(self.wte(tokens) + self.wpe(places), self.dropout, self.training)
        for block in self.h:
            x = block(x)
        return functional.linear(self.ln_f(x), self.wte.weight)
