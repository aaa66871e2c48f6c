"""One of several processes that work on the same thing: how they find each other, share work, and end.

Started by torchrun, by srun, or by nothing at all: then a process is the only rank.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmdet.registry import DATA_SAMPLERS
from mmengine.config import Config
from mmengine.dist import get_dist_info, get_world_size, is_main_process
from torch.utils.data import Sampler

from fasa.errors import UserError
from fasa.files import readable_errors
from fasa.pipeline.process import die_with_parent

WAIT = "FASA_WAIT"  # seconds that ranks wait for each other, at the start and whenever they meet
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket Timeout", "Timed out")


def slurm_to_torchrun(environment: dict[str, str]) -> dict[str, str]:
    """torchrun's variables for a process that srun has started; none for any other.

    Raises:
        UserError: Slurm does not say where the first process runs.
    """
    # Not SLURM_NTASKS: a batch script has that too, whose ranks nobody has started.
    if "RANK" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return {}
    host = environment.get("MASTER_ADDR")
    if not host:
        nodes = environment["SLURM_STEP_NODELIST"]
        found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True)
        if found.returncode or not found.stdout.split():
            raise UserError(f"srun: scontrol does not name the hosts: {found.stderr.strip() or 'no output'}")
        host = found.stdout.split()[0]
    step = int(environment["SLURM_JOB_ID"]) + 1009 * int(environment.get("SLURM_STEP_ID", 0))
    return dict(
        RANK=environment["SLURM_PROCID"],
        WORLD_SIZE=environment["SLURM_STEP_NUM_TASKS"],
        # Where Slurm shows each task its own GPU alone, that is its first.
        LOCAL_RANK="0" if environment.get("SLURM_GPUS_PER_TASK") == "1" else environment["SLURM_LOCALID"],
        MASTER_ADDR=host,
        MASTER_PORT=environment.get("MASTER_PORT", str(20000 + step % 10000)),
    )


def join_ranks() -> int:
    """Find the other ranks, if a launcher started this process; returns how many there are.

    With NCCL on GPUs. On CPUs with gloo, and here: mmengine's own ways ask for a GPU.

    Raises:
        UserError: this host has fewer GPUs than ranks, or not all ranks came.
    """
    os.environ.update(slurm_to_torchrun(dict(os.environ)))
    if "RANK" not in os.environ:
        return 1
    die_with_parent(os.getppid())  # of the launcher's, which ends with the stage: nobody else would end this
    gpu, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if gpus and gpu >= gpus:
        raise UserError(
            f"rank {os.environ['RANK']} asks for GPU {gpu}, but here are {gpus}; start fewer ranks"
        )
    if gpus:
        torch.cuda.set_device(gpu)
    try:
        seconds = float(os.environ.get(WAIT, 600))
        dist.init_process_group("nccl" if gpus else "gloo", timeout=timedelta(seconds=seconds))
    except RuntimeError as error:
        if not any(sign in str(error) for sign in LOST):
            raise
        host, port, size = (os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"))
        raise UserError(
            f"not all of {size} ranks came to {host}:{port} within {seconds:g} s ({WAIT}); "
            "start as many as were asked for, on hosts that reach each other"
        ) from None
    return dist.get_world_size()


@contextmanager
def as_rank() -> Iterator[int]:
    """Run a block as one of the ranks, whose number it gives; what goes wrong ends the process with one line.

    A rank that loses another one says so without ``error:``: the other one's reason counts.
    """
    try:
        with readable_errors("a file"):
            ranks = join_ranks()
            yield ranks
        if ranks > 1:
            dist.destroy_process_group()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    except RuntimeError as error:
        if not dist.is_initialized() or not any(sign in str(error) for sign in LOST):
            raise
        sys.exit(f"rank {os.environ['RANK']}: has lost another rank; the same command goes on")


def for_ranks(cfg: Config, ranks: int, batch: int | None = None) -> Config:
    """The config for one of several ranks.

    Args:
        batch: images of an iteration on all ranks together; None: each takes the config's `batch_size`.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """
    if batch is not None:
        if batch % ranks:
            raise UserError(f"a batch of {batch} cannot be shared out among {ranks} ranks; take a multiple")
        cfg.train_dataloader.batch_size = batch // ranks
    if ranks > 1:
        cfg.launcher = "pytorch"
        if not torch.cuda.is_available():
            cfg.model_wrapper_cfg = dict(
                type="MMDistributedDataParallel",
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get("find_unused_parameters", False),
            )
    return cfg


def agreed(value: Any) -> Any:
    """The first rank's value, on all: hosts may see a shared folder at different times."""
    if get_world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gathered(share: Any) -> list | None:
    """Every rank's share, in the order of ranks; on the first rank, None on others."""
    if get_world_size() == 1:
        return [share]
    shares = [None] * get_world_size() if is_main_process() else None
    dist.gather_object(share, shares)
    return shares


@DATA_SAMPLERS.register_module()
class WholeBatches(Sampler):
    """Deals out the batches of one process in turn, each whole, so that an image has the same company.

    What a network makes of an image depends, in the last digits, on those beside it.

    Args:
        dataset: what is dealt out; each once, in its order.
        batch: images of a batch, the data loader's `batch_size`.
        seed: not used; mmengine gives it.
    """

    def __init__(self, dataset, batch: int, seed: int | None = None):
        self.size, self.batch = len(dataset), batch
        self.rank, self.ranks = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        for start in range(self.rank * self.batch, self.size, self.ranks * self.batch):
            yield from range(start, min(start + self.batch, self.size))

    def __len__(self) -> int:
        return sum(1 for _ in self)
