"""Does for `cargo xtask bench kernels --peers` what the kernels do, in numpy or in torch.

    peers.py numpy|torch

Reads a request a line and answers with a line: "ready" with itself, a description of work (its name, the number of threads, sizes) with
"prepared" (or "unknown"), and "run N" with how many nanoseconds one of N repetitions of the work that was prepared last took.
Operands are made and results are given their memory before, where the library can be told where a result goes.
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
        self.count = 1
        try:
            import threadpoolctl

            self.limit = threadpoolctl.threadpool_limits
        except ImportError:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.random = numpy.random.default_rng(0)

    def fill(self, *shape):
        return self.random.random(shape, dtype=self.np.float32) - self.np.float32(0.5)

    def threads(self, count):
        self.count = count
        if self.limit is None:
            return count == 1
        self.limit(count)
        return True

    def alone(self, work):
        """Everything but the matrix product runs on one thread whatever is asked for."""
        return work if self.count == 1 else None

    def matmul(self, m, k, n, form):
        a, b = product(form, m, k, n, self.fill)
        c = self.np.empty((m, n), dtype=self.np.float32)
        return lambda: self.np.matmul(a, b, out=c)

    def sum(self, count):
        x = self.fill(count)
        return self.alone(lambda: x.sum())

    def sum_axis0(self, rows, columns):
        x, out = self.fill(rows, columns), self.fill(columns)
        return self.alone(lambda: x.sum(axis=0, out=out))

    def max_axis1(self, rows, columns):
        x, out = self.fill(rows, columns), self.fill(rows)
        return self.alone(lambda: x.max(axis=1, out=out))

    def add(self, rows, columns):
        x, y = self.fill(rows, columns), self.fill(columns)
        out = self.np.empty_like(x)
        return self.alone(lambda: self.np.add(x, y, out=out))

    def add_relu(self, rows, columns):
        x, y = self.fill(rows, columns), self.fill(columns)
        out, zero = self.np.empty_like(x), self.np.float32(0)
        return self.alone(lambda: self.np.maximum(self.np.add(x, y, out=out), zero, out=out))


class Torch:
    def __init__(self):
        import torch

        self.torch = torch
        self.aten = torch.ops.aten
        self.functions = torch.nn.functional
        torch.manual_seed(0)
        torch.set_grad_enabled(False)

    def fill(self, *shape):
        return self.torch.rand(*shape) - 0.5

    def threads(self, count):
        self.torch.set_num_threads(count)
        return True

    def backward(self, call, wanted, others=()):
        """The gradients of `call` with respect to `wanted`, again and again from one recorded forward pass."""
        with self.torch.enable_grad():
            result = call(*(x.requires_grad_() for x in wanted), *others)
        gradient = self.fill(*result.shape)
        return lambda: self.torch.autograd.grad(result, wanted, gradient, retain_graph=True)

    def matmul(self, m, k, n, form):
        a, b = product(form, m, k, n, self.fill)
        c = self.torch.empty(m, n)
        return lambda: self.torch.mm(a, b, out=c)

    def sum(self, count):
        x = self.fill(count)
        return lambda: x.sum()

    def sum_axis0(self, rows, columns):
        x, out = self.fill(rows, columns), self.fill(columns)
        return lambda: self.torch.sum(x, 0, out=out)

    def max_axis1(self, rows, columns):
        x, out = self.fill(rows, columns), self.fill(rows)
        return lambda: self.torch.amax(x, 1, out=out)

    def add(self, rows, columns):
        x, y = self.fill(rows, columns), self.fill(columns)
        out = self.torch.empty_like(x)
        return lambda: self.torch.add(x, y, out=out)

    def add_relu(self, rows, columns):
        x, y = self.fill(rows, columns), self.fill(columns)
        out = self.torch.empty_like(x)
        return lambda: self.torch.add(x, y, out=out).relu_()

    def softmax(self, rows, columns):
        x = self.fill(rows, columns)
        out = self.torch.empty_like(x)
        return lambda: self.torch.softmax(x, 1, out=out)

    def layer_norm(self, rows, columns):
        x, gamma, beta = self.fill(rows, columns), self.fill(columns), self.fill(columns)
        return lambda: self.functions.layer_norm(x, (columns,), gamma, beta)

    def layer_norm_grad(self, rows, columns):
        wanted = (self.fill(rows, columns), self.fill(columns), self.fill(columns))
        return self.backward(lambda x, g, b: self.functions.layer_norm(x, (columns,), g, b), wanted)

    def softmax_cross_entropy(self, rows, classes):
        logits = self.fill(rows, classes).requires_grad_()
        labels = self.torch.randint(classes, (rows,))

        def both_ways():
            with self.torch.enable_grad():
                loss = self.functions.cross_entropy(logits, labels, reduction="sum")
            return self.torch.autograd.grad(loss, (logits,))

        return both_ways

    def unary(self, name, low, high, count):
        """Derivatives come as the backward pass does them: times a gradient. That of sigmoid takes its result, which is another task."""
        x = self.torch.rand(count) * (high - low) + low
        out = self.torch.empty_like(x)
        if name in ("silu_grad", "gelu_grad"):
            gradient = self.fill(count)
            call = getattr(self.aten, name.replace("_grad", "_backward")).grad_input
            return lambda: call(gradient, x, grad_input=out)
        packet = getattr(self.aten, name, None)
        if packet is None:
            return None
        return lambda: packet.out(x, out=out)

    def dropout(self, count):
        x = self.fill(count)
        return lambda: self.functions.dropout(x, 0.1, True)

    def images(self, n, c, side, o, kernel):
        return self.fill(n, c, side, side), self.fill(o, c, kernel, kernel)

    def conv2d(self, n, c, side, o, kernel, padding):
        (x, weight), bias = self.images(n, c, side, o, kernel), self.fill(o)
        return lambda: self.functions.conv2d(x, weight, bias, 1, padding)

    def conv2d_input_grad(self, n, c, side, o, kernel, padding):
        x, weight = self.images(n, c, side, o, kernel)
        return self.backward(lambda x: self.functions.conv2d(x, weight, None, 1, padding), (x,))

    def conv2d_weight_grad(self, n, c, side, o, kernel, padding):
        x, weight = self.images(n, c, side, o, kernel)
        return self.backward(lambda w: self.functions.conv2d(x, w, None, 1, padding), (weight,))

    def attention(self, batch, heads, steps, width):
        q, k, v = (self.fill(batch, heads, steps, width) for _ in range(3))
        return lambda: self.functions.scaled_dot_product_attention(q, k, v, is_causal=True)

    def attention_grad(self, batch, heads, steps, width):
        wanted = tuple(self.fill(batch, heads, steps, width) for _ in range(3))
        call = self.functions.scaled_dot_product_attention
        return self.backward(lambda q, k, v: call(q, k, v, is_causal=True), wanted)

    def adamw(self, count):
        with self.torch.enable_grad():
            parameter = self.torch.nn.Parameter(self.fill(count))
        parameter.grad = self.fill(count)
        optimizer = self.torch.optim.AdamW([parameter], lr=1e-3, fused=True)
        return optimizer.step

    def steps(self, count, model, optimizer, inputs, labels):
        """As many whole steps: forward, backward, update."""
        torch = self.torch
        for parameter in model.parameters():
            parameter.requires_grad_()

        def work():
            with torch.enable_grad():
                for _ in range(count):
                    optimizer.zero_grad(set_to_none=True)
                    logits = model(inputs)
                    loss = self.functions.cross_entropy(logits.flatten(0, -2), labels)
                    loss.backward()
                    optimizer.step()

        return work

    def train_mlp(self, count, batch, *widths):
        nn = self.torch.nn
        layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:])]
        model = nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())][:-1])
        optimizer = self.torch.optim.SGD(model.parameters(), lr=0.01)
        labels = self.torch.randint(widths[-1], (batch,))
        return self.steps(count, model, optimizer, self.fill(batch, widths[0]), labels)

    def train_gpt(self, count, batch, window, vocabulary, layers, heads, width):
        import gpt

        model = gpt.Gpt(vocabulary, window, layers, heads, width)
        optimizer = self.torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
        tokens = self.torch.randint(vocabulary, (batch, window + 1))
        return self.steps(count, model, optimizer, tokens[:, :-1], tokens[:, 1:].flatten())


def number(word):
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return word


def main():
    library = {"numpy": Numpy, "torch": Torch}[sys.argv[1]]()
    work = None
    for line in sys.stdin:
        words = line.split()
        if words == ["ready"]:
            answer = "ready"
        elif words[0] == "run":
            calls = range(int(words[1]))
            started = time.perf_counter_ns()
            for _ in calls:
                work()
            answer = str((time.perf_counter_ns() - started) // len(calls))
        else:
            # The work before may be large: it goes before the next one comes.
            work = None
            make = getattr(library, words[0], None)
            if make is not None and library.threads(int(words[1])):
                work = make(*map(number, words[2:]))
            answer = "prepared" if work is not None else "unknown"
        print(answer, flush=True)


main()
