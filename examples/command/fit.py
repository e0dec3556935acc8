"""Fits a line to the rents by gradient descent, with a line of metrics for each step.

Sums go through math.fsum, which is exact; the rest is + - * / on doubles. That gives the same bits on every machine and with
every version of Python. sum() does not (it is more exact since 3.12), nor do math.exp and math.log (they are the C library's).
"""

import argparse
import csv
import json
import math

parser = argparse.ArgumentParser()
parser.add_argument("--train", required=True)
parser.add_argument("--columns", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--learning-rate", type=float, required=True)
args = parser.parse_args()

with open(args.columns) as file:
    columns = json.load(file)
*features, target = columns


def scaled(row, name):
    return (float(row[name]) - columns[name]["mean"]) / columns[name]["deviation"]


with open(args.train, newline="") as file:
    rows = list(csv.DictReader(file))
xs = [[scaled(row, name) for name in features] for row in rows]
ys = [scaled(row, target) for row in rows]

weights = [0.0] * len(features)
with open("metrics.jsonl", "w") as log:
    for step in range(args.steps):
        errors = [math.fsum(w * v for w, v in zip(weights, x)) - y for x, y in zip(xs, ys)]
        loss = math.fsum(e * e for e in errors) / len(errors)
        log.write(json.dumps({"step": step, "loss": loss}) + "\n")
        for i in range(len(weights)):
            slope = math.fsum(e * x[i] for e, x in zip(errors, xs)) / len(errors)
            weights[i] -= args.learning_rate * 2 * slope

with open(args.model, "w") as file:
    json.dump({"columns": columns, "weights": dict(zip(features, weights))}, file, indent=1)
