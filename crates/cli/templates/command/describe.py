"""Mean and standard deviation of each column."""

import csv
import json
import math
import sys

rows_path, out_path = sys.argv[1:]
with open(rows_path, newline="") as file:
    rows = list(csv.DictReader(file))


def describe(values):
    mean = math.fsum(values) / len(values)
    return {"mean": mean, "deviation": math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))}


columns = {name: describe([float(row[name]) for row in rows]) for name in rows[0]}
with open(out_path, "w") as file:
    json.dump(columns, file, indent=1)
