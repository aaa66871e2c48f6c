"""The slow, obvious twin of FASA: one class at a time, in Python floats. The oracle of test_algorithm.py."""

import math
from statistics import mean, variance


class SlowFASA:
    def __init__(self, counts, prob_scale=1.0, power=1.0, momentum=0.1, up=1.1, down=0.9):
        self.momentum, self.up, self.down = momentum, up, down
        self.mean, self.var, self.loss = {}, {}, {}
        total = sum(1 / n for n in counts if n)
        self.p = [min(1.0, prob_scale * ((1 / n) / total) ** power) if n else 0.0 for n in counts]

    def update(self, z, labels):
        for c in set(labels):
            mine = [x for x, label in zip(z, labels, strict=True) if label == c]
            columns = list(zip(*mine, strict=True))
            self._blend(self.mean, c, [mean(column) for column in columns])
            if len(mine) > 1:
                self._blend(self.var, c, [variance(column) for column in columns])

    def _blend(self, running, c, value):
        if c in running:
            value = [
                (1 - self.momentum) * old + self.momentum * new
                for old, new in zip(running[c], value, strict=True)
            ]
        running[c] = value

    def adapt(self, signal, groups):
        """`groups`: lists of classes."""
        for group in groups:
            measured = [c for c in group if not math.isnan(signal[c]) and c in self.loss]
            if not measured:
                continue
            new, old = mean(signal[c] for c in measured), mean(self.loss[c] for c in measured)
            for c in group:
                if new < old:
                    self.p[c] = min(1.0, self.up * self.p[c])
                elif new > old:
                    self.p[c] = self.down * self.p[c]
        for c, loss in enumerate(signal):
            if not math.isnan(loss):
                self.loss[c] = loss
