"""Interrupted training goes on as if it had not been interrupted."""

import os
import pickle
import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmdet.registry import HOOKS
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner, find_latest_checkpoint
from torch import Tensor, nn

from fasa.detection.two_stage import unwrap
from fasa.errors import UserError
from fasa.files import readable_errors, replacing

LAST = "last.pth"
KEPT_INFO = re.compile("best_score|best_ckpt|keep_ckpt_ids|last_ckpt")
AUGMENTER = ".augmenter."
LOOK_EVERY = 20  # iterations between looks at the losses on a GPU, which has to stop for it
OVERFLOWS = 20  # iterations in a row without a finite loss that a loss scaler may take to find its scale


def read_plain(path: str | Path) -> dict:
    """A file of tensors and plain data, on the CPU.

    Raises:
        UserError: there is none, it is cut off, or it holds what torch does not load without trusting it.
    """
    with readable_errors(path), open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            foreign = "Unsupported global" in str(error)
            reason = "holds more than plain data" if foreign else "cut off or no checkpoint"
            raise UserError(
                f"{path}: {reason}; name another, or, if a killed run left it, delete it to start anew"
            ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no state_dict; name a checkpoint of a training run")
    return content


def read_checkpoint(path: str | Path) -> dict:
    """A checkpoint of a training run, as `read_plain` gives it.

    Raises:
        UserError: it cannot be read, or has no ``state_dict``.
    """
    checkpoint = read_plain(path)
    if "state_dict" not in checkpoint:
        raise UserError(f"{path}: holds no state_dict; name a checkpoint of a training run")
    return checkpoint


def check_model(model: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Refuse the state of another model; what augmenters keep may be missing or more, never of another shape.

    Raises:
        UserError: names the first difference.
    """
    mine = model.state_dict()
    for key in [*mine, *state]:
        ours, theirs = mine.get(key), state.get(key)
        if ours is not None and theirs is not None and ours.shape != theirs.shape:
            shapes = f"{key} is {tuple(theirs.shape)} there, {tuple(ours.shape)} here"
            raise UserError(f"{path} is of another model: {shapes}; classes or widths differ")
    wrong = [key for key in mine.keys() ^ state.keys() if AUGMENTER not in key]
    if wrong:
        raise UserError(
            f"{path} is of another model: {min(wrong)} and {len(wrong) - 1} more are in one of them only"
        )


def latest(work_dir: str | Path) -> Path | None:
    """The checkpoint of a run that was written last, by this hook or mmengine's; None: there is none."""
    named, found = Path(work_dir, "last_checkpoint"), [Path(work_dir, LAST)]
    if named.is_file():
        path = Path(named.read_text(errors="replace").strip())
        found = [path, Path(work_dir, path.name), *found]  # the folder may have been moved
    return next((path for path in found if path.is_file()), None)


def check_every(hook: str, every: Any) -> None:
    """Refuse what is no number of iterations, where None is the default.

    Raises:
        UserError: names the hook.
    """
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise UserError(
            f"{hook}: every is {every!r}; it must be a whole number of iterations from 1, or None"
        )


def plain(content: Any) -> Any:
    """The same without NumPy's arrays and numbers, which torch loads from trusted files alone."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return (tuple if isinstance(content, tuple) else list)(map(plain, content))
    return content.tolist() if isinstance(content, np.ndarray | np.generic) else content


def rng_state() -> dict:
    """The state of Python's, NumPy's and torch's generators, as tensors and plain data."""
    name, keys, *rest = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=[name, keys.tolist(), *rest],
        torch=torch.get_rng_state(),
        cuda=[torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
    )


def set_rng_state(state: dict) -> None:
    """Put the generators back to what `rng_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:  # of the device that this rank computes on
        torch.cuda.set_rng_state(state["cuda"][0].cpu())


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

    Bit for bit on CPU, in loops by iterations and by epochs, there in the middle of an epoch too: its batches
    are loaded again up to where the run was. That takes the same number of ranks and of batches in an epoch,
    a seed in the config (``randomness=dict(seed=0)``) and workers that do not outlive an epoch
    (``persistent_workers=False``) or that draw nothing. Where it cannot be, a warning says what differs. Of
    several ranks ``last.pth`` has all that is not the same on each, random states, statistics of norms and
    banks; mmengine's own checkpoints have the first one's.

    mmengine's own checkpoints hold objects that ``torch.load(weights_only=True)`` refuses, and no random
    state. With this hook they, too, are tensors and plain data. ``last.pth`` is written beside and renamed;
    ``resume=True`` without ``load_from`` takes what was written last.

    Args:
        every: iterations between saves; by default 100, or of a short run a quarter.

    Raises:
        UserError: the checkpoint to resume from is cut off or of another model, or a loss is not a number.
    """

    # After every other hook of the same iteration, an adaptation among them.
    priority = "LOWEST"

    def __init__(self, every: int | None = None):
        check_every("ExactResumeHook", every)
        self.every = every
        self.resumed: dict | None = None  # what the checkpoint says of the run that wrote it
        self.ranks: list[dict] | None = None  # random states of all ranks, where they have been gathered
        self.buffers: list[dict] | None = None  # and the buffers that are not the first one's
        self.rng: dict | None = None  # to set once the first epoch begins
        self.unseen: list[tuple[int, dict[str, Tensor]]] = []  # losses that nobody has looked at
        self.overflows = 0

    def before_run(self, runner: Runner) -> None:
        """Look at the checkpoint to resume from before mmengine does, which takes of it what fits."""
        path = runner._resume and (runner._load_from or find_latest_checkpoint(runner.work_dir))
        if path and "://" not in str(path):
            checkpoint = read_checkpoint(path)
            if not {"epoch", "iter"} <= checkpoint.get("meta", {}).keys():
                raise UserError(f"{path}: holds weights alone, nothing to resume from; set resume=False")
            model = unwrap(runner.model)
            check_model(model, checkpoint["state_dict"], path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Make plain data of what is not, and add what resuming needs.

        Of the message hub, which feeds log lines, what `CheckpointHook` knows of other checkpoints is kept.
        """
        info = {key: value for key, value in runner.message_hub.runtime_info.items() if KEPT_INFO.match(key)}
        hub = dict(log_scalars={}, runtime_info=info, resumed_keys=dict.fromkeys(info, True))
        for part in ("meta", "param_schedulers"):
            if part in checkpoint:
                checkpoint[part] = plain(checkpoint[part])
        checkpoint["message_hub"] = plain(hub)
        checkpoint["rng"], checkpoint["buffers"] = self.ranks or [rng_state()], self.buffers or [{}]
        checkpoint["loader"] = dict(batches=len(runner.train_dataloader), seed=sampler_seed(runner))
        if accumulating(runner) and get_world_size() == 1:
            gradients = ((name, one.grad) for name, one in runner.model.named_parameters())
            checkpoint["gradients"] = {name: grad.cpu() for name, grad in gradients if grad is not None}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what is needed once the data loader is there; NumPy's arrays are those of the data set."""
        if runner._resume:
            metainfo = getattr(runner.train_dataloader.dataset, "metainfo", None)
            if plain(metainfo) == checkpoint["meta"].get("dataset_meta"):
                checkpoint["meta"]["dataset_meta"] = metainfo
        self.resumed = {key: checkpoint.get(key) for key in ("rng", "buffers", "loader", "gradients")}

    def before_train(self, runner: Runner) -> None:
        """Take up the data where the run was; one that starts from weights alone has its own."""
        self.every = self.every or min(100, max(1, runner.max_iters // 4))
        resumed, self.resumed = self.resumed, None
        if resumed is None or runner.iter == 0:
            return
        print(f"goes on from iteration {runner.iter} of {runner.max_iters}, in {runner.work_dir}", flush=True)
        states, loader, loop = resumed["rng"], resumed["loader"] or {}, runner.train_loop
        states = [states] if isinstance(states, dict) else states or []
        self.rng = states[get_rank()] if len(states) == get_world_size() else None
        if self.rng:
            for name, value in (resumed["buffers"] or [{}])[get_rank()].items():
                unwrap(runner.model).get_buffer(name).copy_(value)
        inexact = [] if self.rng else ["random states, which the checkpoint does not have of each rank"]
        data, by_epoch = loop.dataloader, not isinstance(loop, IterBasedTrainLoop)
        if loader.get("seed", seed := sampler_seed(runner)) != seed:
            sampler(runner).seed = loader["seed"]
            if data.num_workers:
                inexact.append("what data loader workers draw; set randomness=dict(seed=...)")
        elif by_epoch and data.num_workers and data.persistent_workers:
            inexact.append("what data loader workers draw; set persistent_workers=False")
        if accumulating(runner):
            if resumed["gradients"] is None:
                inexact.append("the gradients accumulated so far")
            for name, grad in (resumed["gradients"] or {}).items():
                parameter = runner.model.get_parameter(name)
                parameter.grad = grad.to(parameter.device)
        if by_epoch:
            inexact += self.enter_epoch(runner, loader.get("batches", len(data)))
        elif self.rng:
            loop.dataloader_iterator = Rewound(loop.dataloader_iterator, loop.iter, self.rng)
            self.rng = None
        if inexact:
            runner.logger.warning(f"resumed, but not exactly: anew are {', and '.join(inexact)}")

    def enter_epoch(self, runner: Runner, batches: int) -> list[str]:
        """Have a loop by epochs skip the batches that were trained on; returns what is not exact.

        Args:
            batches: of an epoch of the run that is resumed.
        """
        loop = runner.train_loop
        done = loop.iter - loop.epoch * batches
        if done == 0:
            return []  # between two epochs: `before_train_epoch` sets the random states
        if batches != len(loop.dataloader) or not 0 < done <= batches:
            loop._iter = loop.epoch * len(loop.dataloader)
            runner.optim_wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)
            return [
                f"epoch {loop.epoch + 1} from its start, of {len(loop.dataloader)} batches, not {batches}"
            ]
        run_iter, rng, self.rng = loop.run_iter, self.rng, None

        def skip(batch_idx: int, data_batch) -> None:
            if batch_idx + 1 == done:
                if rng:
                    set_rng_state(rng)  # before the next batch is loaded
                loop.run_iter = run_iter

        loop.run_iter = skip
        return []

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the random states of a run that was resumed between two epochs."""
        if self.rng:
            set_rng_state(self.rng)
        self.rng = None

    def before_val(self, runner: Runner) -> None:
        """A resumed run does not validate again: validation must leave the random states alone."""
        self.before_validation = rng_state()

    def after_val(self, runner: Runner) -> None:
        """Put them back."""
        set_rng_state(self.before_validation)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Save, and refuse to go on from a loss that is not a number."""
        losses = {name: value.detach() for name, value in (outputs or {}).items() if "loss" in name}
        self.unseen.append((runner.iter + 1, losses))
        due = self.every_n_train_iters(runner, self.every)
        if due or len(self.unseen) == LOOK_EVERY or all(one.device.type == "cpu" for one in losses.values()):
            self.look(isinstance(runner.optim_wrapper, AmpOptimWrapper))
        if due:
            self.save(runner)

    def after_train(self, runner: Runner) -> None:
        """Look at the last losses."""
        self.look(isinstance(runner.optim_wrapper, AmpOptimWrapper))

    def look(self, scaled: bool) -> None:
        """Look at the losses so far; with a loss scaler, which skips such steps, some may overflow."""
        for iteration, losses in self.unseen:
            bad = [name for name, value in losses.items() if not torch.isfinite(value).all()]
            self.overflows = self.overflows + 1 if bad else 0
            if self.overflows > (OVERFLOWS if scaled else 0):
                raise UserError(
                    f"{bad[0]} is {losses[bad[0]].item()} at iteration {iteration}: lower the learning rate, "
                    "optim_wrapper.optimizer.lr of the config (in the pipeline optimizer.lr in params.yaml)"
                )
        self.unseen = []

    def save(self, runner: Runner) -> None:
        """Write ``last.pth``, with the random states of all ranks, and name it as the latest checkpoint.

        Not after a step that overflowed: its weights may be no numbers.
        """
        overflows = [self.overflows]
        if get_world_size() > 1:
            buffers = dict(unwrap(runner.model).named_buffers())
            sums = {name: checksum(value) for name, value in buffers.items()}
            gathered = [None] * get_world_size()
            dist.all_gather_object(gathered, (rng_state(), self.overflows, sums))
            ranks, overflows, (first, *_) = zip(*gathered, strict=True)
            own = {name: value.cpu() for name, value in buffers.items() if sums[name] != first[name]}
            parts = [None] * get_world_size() if is_main_process() else None
            dist.gather_object(own, parts)
            self.ranks, self.buffers = list(ranks), parts
        if is_main_process() and not any(overflows):
            path = Path(runner.work_dir, LAST).absolute()
            with replacing(path) as file:  # mmengine opens it once more, by its name
                runner.save_checkpoint(*os.path.split(file.name), by_epoch=False)
            with replacing(path.with_name("last_checkpoint"), "w") as file:
                file.write(str(path))
        self.ranks = self.buffers = None


def checksum(x: Tensor) -> int:
    """Of a tensor's bytes."""
    return zlib.crc32(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def accumulating(runner: Runner) -> bool:
    """Whether gradients of some iterations wait for those of others."""
    optimizer = runner.optim_wrapper
    return bool(getattr(optimizer, "_inner_count", 0) % getattr(optimizer, "_accumulative_counts", 1))


def sampler(runner: Runner):
    """What deals out the training data's indices."""
    loader = runner.train_dataloader
    return loader.sampler if hasattr(loader.sampler, "seed") else loader.batch_sampler.sampler


def sampler_seed(runner: Runner) -> int | None:
    """The seed of the order of the training data; None where it has none."""
    return getattr(sampler(runner), "seed", None)
