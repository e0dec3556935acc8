"""Errors of the model on rows that it has not seen."""

import csv
import json
import math
import sys

model_path, test_path = sys.argv[1:]
with open(model_path) as file:
    model = json.load(file)
columns, weights = model["columns"], model["weights"]
*_, target = columns


def predicted(row):
    scaled = (w * (float(row[name]) - columns[name]["mean"]) / columns[name]["deviation"] for name, w in weights.items())
    return columns[target]["mean"] + columns[target]["deviation"] * math.fsum(scaled)


with open(test_path, newline="") as file:
    rows = list(csv.DictReader(file))
actual = [float(row[target]) for row in rows]
squares = [(predicted(row) - y) ** 2 for row, y in zip(rows, actual)]
mean = math.fsum(actual) / len(actual)
spread = math.fsum((y - mean) ** 2 for y in actual)

with open("metrics.json", "w") as file:
    json.dump({"rmse": math.sqrt(math.fsum(squares) / len(squares)), "r2": 1 - math.fsum(squares) / spread}, file)
