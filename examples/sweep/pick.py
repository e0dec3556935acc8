"""Picks the model that was right most often on the validation part; of equal ones that with the lowest loss.

The folders hold an entry for each task of the matrix, named by its values: "hidden=16,learning_rate=0.003".
"""

import json
import pathlib
import shutil
import sys

metrics_folder, models_folder, best_path, model_path = map(pathlib.Path, sys.argv[1:])


def measured(file):
    """The last value of each metric, by its name without the task."""
    points = json.loads(file.read_text())["points"]
    return {point["metric"].rpartition("/")[2]: point["value"] for point in points}


# A folder is listed in any order. Sorted, the first of equals is the same one everywhere.
tasks = {file.name: measured(file) for file in sorted(metrics_folder.iterdir())}
best = min(tasks, key=lambda task: (-tasks[task]["accuracy"], tasks[task]["loss"]))

settings = dict(setting.split("=") for setting in best.split(","))
result = {name: float(value) for name, value in settings.items()} | tasks[best] | {"of": len(tasks)}
best_path.write_text(json.dumps({"task": best} | result, indent=1) + "\n")
pathlib.Path("metrics.json").write_text(json.dumps(result))
shutil.copyfile(models_folder / best, model_path)
