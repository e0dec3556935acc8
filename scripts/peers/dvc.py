"""Runs for `cargo xtask bench scheduler --peers` a chain of copies by DVC.

    dvc.py dvc

Speaks as peers.py does: "chain 1 STAGES BYTES first" prepares a chain of which every repetition is the first run in a new project,
"… cached" one that was run before. What is timed is `dvc repro` alone, as a process of its own.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

# Beside the interpreter, as the setup leaves it, or else the system's.
HERE = os.path.dirname(sys.executable)
DVC = shutil.which("dvc", path=os.pathsep.join([HERE, os.environ.get("PATH", "")]))
ENVIRONMENT = {**os.environ, "DVC_NO_ANALYTICS": "1"}


def dvc(folder, *arguments):
    subprocess.run(
        [DVC, *arguments], cwd=folder, env=ENVIRONMENT, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


class Chain:
    def __init__(self, stages, size, cached):
        self.stages, self.size, self.cached = stages, size, cached
        self.folder = None
        if cached:
            self.make()
            dvc(self.folder.name, "repro", "--quiet")

    def make(self):
        self.folder = tempfile.TemporaryDirectory(dir=pathlib.Path(__file__).parents[2] / "target")
        folder = pathlib.Path(self.folder.name)
        dvc(folder, "init", "--no-scm", "--quiet")
        (folder / "0").write_bytes(b"x" * self.size)
        lines = ["stages:"]
        for i in range(self.stages):
            lines += [f"  copy{i}:", f"    cmd: cp {i} {i + 1}", f"    deps: ['{i}']", f"    outs: ['{i + 1}']"]
        (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")

    def run(self):
        if not self.cached:
            self.make()
        started = time.perf_counter_ns()
        dvc(self.folder.name, "repro", "--quiet")
        return time.perf_counter_ns() - started


def main():
    if DVC is None:
        sys.exit("dvc is not installed")
    chain = None
    for line in sys.stdin:
        words = line.split()
        if words == ["ready"]:
            answer = "ready"
        elif words[0] == "run":
            calls = range(int(words[1]))
            answer = str(sum(chain.run() for _ in calls) // len(calls))
        elif words[:2] == ["chain", "1"]:
            chain = Chain(int(words[2]), int(words[3]), words[4] == "cached")
            answer = "prepared"
        else:
            answer = "unknown"
        print(answer, flush=True)


main()
