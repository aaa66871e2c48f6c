"""One line of progress now and then, in place of mmengine's pages."""

import time

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class ProgressHook(Hook):
    """Prints iteration, losses (the first rank's) and the time left, every `every` iterations.

    Attributes:
        seconds: mean seconds per iteration since the start, adaptation passes included.
    """

    priority = "VERY_LOW"

    def __init__(self, every: int = 50):
        self.every, self.seconds = every, float("nan")

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self.start, self.iterations = time.perf_counter(), 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Print when it is time."""
        done = runner.iter + 1
        self.iterations += 1
        self.seconds = (time.perf_counter() - self.start) / self.iterations
        if (done % self.every == 0 or done == runner.max_iters) and runner.rank == 0:
            left = time.strftime("%H:%M:%S", time.gmtime(self.seconds * (runner.max_iters - done)))
            losses = "  ".join(
                f"{name} {float(value.detach()):.3f}" for name, value in outputs.items() if "loss" in name
            )
            print(f"{done}/{runner.max_iters}  {self.seconds:.2f} s/it  {left} left  {losses}", flush=True)
