"""Drops rows that are not whole, and splits the rest into a training and a test part."""

import argparse
import csv
import json
import random

COLUMNS = ["area", "rooms", "age", "distance", "rent"]


def numbers(row):
    """The values of a row; None where one is missing or makes no sense."""
    try:
        values = [float(row[column]) for column in COLUMNS]
    except ValueError:
        return None
    return values if min(values) >= 0 else None


def write(path, rows):
    with open(path, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(COLUMNS)
        out.writerows(rows)


parser = argparse.ArgumentParser()
parser.add_argument("--rents", required=True)
parser.add_argument("--train", required=True)
parser.add_argument("--test", required=True)
parser.add_argument("--test-fraction", type=float, required=True)
parser.add_argument("--seed", type=int, required=True)
args = parser.parse_args()

with open(args.rents, newline="") as file:
    rows = [numbers(row) for row in csv.DictReader(file)]
whole = [row for row in rows if row]

# Of the module `random` only random() is promised to stay the same from one Python to the next.
stream = random.Random(args.seed)
parts = {True: [], False: []}
for row in whole:
    parts[stream.random() < args.test_fraction].append(row)
write(args.train, parts[False])
write(args.test, parts[True])

counts = {"rows": len(rows), "dropped": len(rows) - len(whole), "train_rows": len(parts[False]), "test_rows": len(parts[True])}
with open("metrics.json", "w") as file:
    json.dump(counts, file)
