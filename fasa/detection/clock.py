"""How long iterations take, and what memory they leave behind."""

import time

import psutil
import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module(force=True)
class ClockHook(Hook):
    """Stamps the end of every iteration, the loading of its batch included.

    Attributes:
        times: of each iteration's end, in seconds.
        memory: bytes of memory that the process then holds.
    """

    priority = "LOWEST"

    def __init__(self):
        self.times: list[float] = []
        self.memory: list[int] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Stamp; a GPU is waited for."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.memory.append(psutil.Process().memory_info().rss)
