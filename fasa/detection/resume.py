"""Interrupted training goes on as if it had not been interrupted."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fasa.errors import UserError

LAST = "last.pth"


def rng_state() -> dict:
    """The state of Python's, NumPy's and torch's generators, as tensors and plain data."""
    name, keys, *rest = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=[name, keys.tolist(), *rest],
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    )


def set_rng_state(state: dict) -> None:
    """Put the generators back to what `rng_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


class Rewound:
    """A data loader's iterator that sets the random states after the batches that a resumed run skips.

    Not later: the batch that follows may be augmented at random.
    """

    def __init__(self, iterator: Iterator, skip: int, rng: dict):
        self.iterator, self.skip, self.rng = iterator, skip, rng

    def __next__(self):
        if self.skip == 0:
            set_rng_state(self.rng)
        self.skip -= 1
        return next(self.iterator)

    def __getattr__(self, name: str):
        return getattr(self.iterator, name)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Saves ``last.pth`` in the work directory, from which a killed run goes on.

    Bit for bit on CPU in one process. Of several, only the first one's random state is kept: they start anew.

    mmengine's own checkpoints hold objects that ``torch.load(weights_only=True)`` refuses, and no random
    state. This one holds tensors and plain data only, and is written beside and renamed.

    Args:
        every: iterations between saves.
    """

    # After every other hook of the same iteration, an adaptation among them.
    priority = "LOWEST"

    def __init__(self, every: int = 100):
        self.every, self.rng = every, None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the message hub, which only feeds log lines, by an empty one; add random states."""
        checkpoint["message_hub"] = dict(log_scalars={}, runtime_info={}, resumed_keys={})
        checkpoint["rng"] = rng_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the random states until the data loader has been advanced."""
        self.rng = checkpoint.get("rng")

    def before_train(self, runner: Runner) -> None:
        """Have a resumed run set them; one that starts from a checkpoint's weights alone has its own."""
        if self.rng is not None and runner.iter > 0 and get_world_size() == 1:
            loop = runner.train_loop
            loop.dataloader_iterator = Rewound(loop.dataloader_iterator, runner.iter, self.rng)
        self.rng = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Save, and refuse to go on from a loss that is not a number."""
        for name, value in (outputs or {}).items():
            if "loss" in name and not torch.isfinite(value).all():
                raise UserError(
                    f"{name} is {value.item()} at iteration {runner.iter + 1}: lower the learning rate "
                    "(lr in params.yaml)"
                )
        if self.every_n_train_iters(runner, self.every):
            runner.save_checkpoint(runner.work_dir, LAST + ".new", by_epoch=False)
            if is_main_process():
                os.replace(Path(runner.work_dir, LAST + ".new"), Path(runner.work_dir, LAST))
