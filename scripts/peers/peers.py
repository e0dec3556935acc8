"""Does for `cargo xtask bench kernels --peers` what the kernels do, in numpy or in torch.

    peers.py numpy|torch

Reads a request a line and answers with a line: "ready" with itself, a description of work with "prepared" (or "unknown"), and "run"
with how many nanoseconds one repetition of the work that was prepared last took.
"""

import sys
import time


def product(form, m, k, n, fill):
    a = fill(k, m).T if form == "tn" else fill(m, k)
    b = fill(n, k).T if form == "nt" else fill(k, n)
    return a, b


class Numpy:
    def __init__(self):
        import numpy
        import os

        self.np = numpy
        self.limit = None
        try:
            import threadpoolctl

            self.limit = threadpoolctl.threadpool_limits
        except ImportError:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.random = numpy.random.default_rng(0)

    def fill(self, *shape):
        return self.random.random(shape, dtype=self.np.float32) - self.np.float32(0.5)

    def threads(self, count):
        if self.limit is None and count != 1:
            return False
        if self.limit is not None:
            self.limit(count)
        return True

    def matmul(self, m, k, n, form):
        a, b = product(form, int(m), int(k), int(n), self.fill)
        c = self.np.empty((int(m), int(n)), dtype=self.np.float32)
        return lambda: self.np.matmul(a, b, out=c)

    def sum(self, count):
        x = self.fill(int(count))
        return lambda: x.sum()

    def add(self, rows, columns):
        x, y = self.fill(int(rows), int(columns)), self.fill(int(columns))
        out = self.np.empty_like(x)
        return lambda: self.np.add(x, y, out=out)


class Torch:
    def __init__(self):
        import torch

        self.torch = torch
        torch.manual_seed(0)
        torch.set_grad_enabled(False)

    def fill(self, *shape):
        return self.torch.rand(*shape) - 0.5

    def threads(self, count):
        self.torch.set_num_threads(count)
        return True

    def matmul(self, m, k, n, form):
        a, b = product(form, int(m), int(k), int(n), self.fill)
        c = self.torch.empty(int(m), int(n))
        return lambda: self.torch.mm(a, b, out=c)

    def sum(self, count):
        x = self.fill(int(count))
        return lambda: x.sum()

    def add(self, rows, columns):
        x, y = self.fill(int(rows), int(columns)), self.fill(int(columns))
        out = self.torch.empty_like(x)
        return lambda: self.torch.add(x, y, out=out)

    def softmax(self, rows, columns):
        x = self.fill(int(rows), int(columns))
        return lambda: self.torch.softmax(x, 1)

    def layer_norm(self, rows, columns):
        x, g, b = self.fill(int(rows), int(columns)), self.fill(int(columns)), self.fill(int(columns))
        return lambda: self.torch.nn.functional.layer_norm(x, (int(columns),), g, b)

    def unary(self, name, count):
        x = self.fill(int(count))
        functions = self.torch.nn.functional
        call = {"silu": functions.silu, "gelu": functions.gelu}.get(name) or getattr(self.torch, name)
        return lambda: call(x)

    def conv2d(self, n, c, h, w, o, kernel, stride, padding):
        x = self.fill(int(n), int(c), int(h), int(w))
        weight, bias = self.fill(int(o), int(c), int(kernel), int(kernel)), self.fill(int(o))
        return lambda: self.torch.nn.functional.conv2d(x, weight, bias, int(stride), int(padding))

    def attention(self, batch, heads, steps, width):
        q, k, v = (self.fill(int(batch), int(heads), int(steps), int(width)) for _ in range(3))
        call = self.torch.nn.functional.scaled_dot_product_attention
        return lambda: call(q, k, v, is_causal=True)

    def adamw(self, count):
        with self.torch.enable_grad():
            parameter = self.torch.nn.Parameter(self.fill(int(count)))
        parameter.grad = self.fill(int(count))
        optimizer = self.torch.optim.AdamW([parameter], lr=1e-3, fused=True)
        return optimizer.step


def main():
    library = {"numpy": Numpy, "torch": Torch}[sys.argv[1]]()
    work = None
    for line in sys.stdin:
        words = line.split()
        if words == ["ready"]:
            answer = "ready"
        elif words == ["run"]:
            started = time.perf_counter_ns()
            work()
            answer = str(time.perf_counter_ns() - started)
        else:
            make = getattr(library, words[0], None)
            known = make is not None and library.threads(int(words[1]))
            work = make(*words[2:]) if known else None
            answer = "prepared" if known else "unknown"
        print(answer, flush=True)


main()
