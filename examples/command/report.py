"""The result in words, for people."""

import json
import sys

model_path, metrics_path, out_path = sys.argv[1:]
with open(model_path) as file:
    model = json.load(file)
# What another stage measured comes as a list of points.
with open(metrics_path) as file:
    metrics = {point["metric"]: point["value"] for point in json.load(file)["points"]}

columns, weights = model["columns"], model["weights"]
*_, target = columns
lines = [f"The mean {target} is {columns[target]['mean']:.0f}. It changes by"]
for name, weight in weights.items():
    slope = weight * columns[target]["deviation"] / columns[name]["deviation"]
    lines.append(f"  {slope:+8.2f} for 1 more of {name}")
lines.append(f"On rows that it has not seen the model is off by {metrics['evaluate/rmse']:.1f} (root of the mean square).")
lines.append(f"It explains {metrics['evaluate/r2']:.1%} of how they differ.")
with open(out_path, "w") as file:
    file.write("\n".join(lines) + "\n")
