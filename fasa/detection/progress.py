"""One line of progress now and then, in place of mmengine's pages; what it says is kept."""

import csv
import time
from datetime import timedelta
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from fasa.files import replacing

KEPT = "losses.tsv"


@HOOKS.register_module()
class ProgressHook(Hook):
    """Prints iteration, losses and the time left now and then, and keeps the losses.

    They are in checkpoints, so that a resumed run has what was there before, and in ``losses.tsv`` in the
    work directory, which can be looked at while the run goes on.

    Args:
        every: iterations between lines; by default 50, or of a short run an eighth.

    Attributes:
        seconds: mean seconds per iteration since the start, adaptation passes included.
        losses: a record for each line: iteration, and the mean of each loss over the iterations since the
            line before, on this rank.
    """

    priority = "VERY_LOW"

    def __init__(self, every: int | None = None):
        self.every, self.seconds = every, float("nan")
        self.losses: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}  # since the last record; on the device, which is not waited for
        self.summed = 0

    def before_train(self, runner: Runner) -> None:
        """Start the clock; a run that takes up weights alone has its own losses."""
        if runner.iter == 0:
            self.losses, self.sums, self.summed = [], {}, 0
        self.every = self.every or min(50, max(1, runner.max_iters // 8))
        self.start, self.iterations = time.perf_counter(), 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Sum up, and print when it is time."""
        done = runner.iter + 1
        self.iterations += 1
        self.summed += 1
        self.seconds = (time.perf_counter() - self.start) / self.iterations
        for name, value in outputs.items():
            if "loss" in name:
                value = value.detach()
                self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        if done % self.every == 0 or done == runner.max_iters:
            means = {name: float(value) / self.summed for name, value in self.sums.items()}
            self.losses.append({"iteration": done} | {name: round(mean, 5) for name, mean in means.items()})
            self.sums, self.summed = {}, 0
            if runner.rank == 0:
                self.say(runner, done, means)

    def say(self, runner: Runner, done: int, means: dict[str, float]) -> None:
        """Print a line, and write the table anew."""
        left = timedelta(seconds=round(self.seconds * (runner.max_iters - done)))
        losses = "  ".join(f"{name} {mean:.3f}" for name, mean in means.items())
        print(f"{done}/{runner.max_iters}  {self.seconds:.2f} s/it  {left} left  {losses}", flush=True)
        with replacing(Path(runner.work_dir, KEPT), "w") as file:
            names = dict.fromkeys(name for one in self.losses for name in one)  # a resumed run may have more
            table = csv.DictWriter(file, names, restval="nan", delimiter="\t", lineterminator="\n")
            table.writeheader()
            table.writerows(self.losses)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the losses so far, as plain data."""
        sums = {name: value.cpu() for name, value in self.sums.items()}
        checkpoint["losses"] = dict(records=list(self.losses), sums=sums, summed=self.summed)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take up the losses of the run that wrote it, where it kept them."""
        if kept := checkpoint.get("losses"):
            device = next(runner.model.parameters()).device
            self.losses, self.summed = kept["records"], kept["summed"]
            self.sums = {name: value.to(device) for name, value in kept["sums"].items()}


def losses_table(work_dir: str | Path) -> str:
    """What a run's `ProgressHook` kept, a line a record, tab-separated; none where nothing was trained."""
    path = Path(work_dir, KEPT)
    return path.read_text() if path.exists() else "iteration\n"
