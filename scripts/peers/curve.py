"""Trains `examples/shakespeare`'s model in PyTorch with the same settings, and prints its losses.

    curve.py examples/shakespeare/data/asyoulik.txt [NAME=VALUE ...]

The settings are those of the pipeline; `NAME=VALUE` changes one. Batches visit each window of the training part once an epoch, in random
order; the validation loss is over windows next to each other, the last one as short as it is. One line every 100 steps.
"""

import math
import sys

import torch
from torch.nn import functional

import gpt

SETTINGS = {
    "steps": 1500, "batch": 32, "window": 64, "layers": 4, "heads": 4, "width": 128, "dropout": 0.2, "learning_rate": 0.003,
    "final_learning_rate": 0.0003, "warmup_steps": 100, "weight_decay": 0.1, "clip_norm": 1.0, "valid_fraction": 0.1,
    "test_fraction": 0.1, "seed": 1, "threads": 1,
}


def rate(s, step):
    if step <= s["warmup_steps"]:
        return s["learning_rate"] * step / s["warmup_steps"]
    done = (step - s["warmup_steps"]) / (s["steps"] - s["warmup_steps"])
    floor = s["final_learning_rate"] / s["learning_rate"]
    return s["learning_rate"] * (floor + (1 - floor) * (0.5 + 0.5 * math.cos(math.pi * done)))


def loss_over(model, tokens, window):
    model.eval()
    losses = []
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, window):
            x, y = tokens[start:start + window], tokens[start + 1:start + 1 + window]
            logits = model(x[:len(y)].unsqueeze(0))
            losses.append(functional.cross_entropy(logits[0], y, reduction="none"))
    model.train()
    return torch.cat(losses).double().mean().item()


def main():
    s = dict(SETTINGS)
    for setting in sys.argv[2:]:
        name, value = setting.split("=")
        s[name] = type(s[name])(float(value))
    torch.set_num_threads(s["threads"])
    torch.manual_seed(s["seed"])
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    vocabulary = sorted(set(text))
    token = {c: i for i, c in enumerate(vocabulary)}
    tokens = torch.tensor([token[c] for c in text])
    valid, test = (round(len(tokens) * s[part]) for part in ("valid_fraction", "test_fraction"))
    train = tokens[:len(tokens) - valid - test]
    held = tokens[len(train):len(train) + valid]
    model = gpt.Gpt(len(vocabulary), s["window"], s["layers"], s["heads"], s["width"], s["dropout"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=s["weight_decay"])
    windows = train.unfold(0, s["window"] + 1, 1)
    order = torch.tensor([], dtype=torch.int64)
    total, count = 0.0, 0
    for step in range(1, s["steps"] + 1):
        if len(order) == 0:
            order = torch.randperm(len(windows))
        rows, order = windows[order[:s["batch"]]], order[s["batch"]:]
        for group in optimizer.param_groups:
            group["lr"] = rate(s, step)
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), s["clip_norm"])
        optimizer.step()
        total, count = total + loss.item(), count + 1
        if step % 100 == 0 or step == s["steps"]:
            print(f"step {step:5}  loss {total / count:.4f}  valid_loss {loss_over(model, held, s['window']):.4f}", flush=True)
            total, count = 0.0, 0


main()
