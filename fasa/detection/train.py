"""Trains what an mmengine config says, on one process or on the ranks that a launcher has started.

    python -m fasa.detection.train CONFIG
    torchrun --nproc_per_node=8 -m fasa.detection.train CONFIG --out model.pth
    srun --ntasks-per-node=8 --gres=gpu:8 python -m fasa.detection.train CONFIG

A killed run goes on from its ``last.pth``, see `fasa.detection.resume`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction

from fasa.detection.training import history, save_model, train
from fasa.errors import UserError
from fasa.files import replacing


def slurm_to_torchrun(environment: dict[str, str]) -> dict[str, str]:
    """torchrun's variables for a process that srun has started; none for any other.

    Raises:
        UserError: Slurm does not say where the first process runs.
    """
    # Not SLURM_NTASKS: a batch script has that too, whose ranks nobody has started.
    if "RANK" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return {}
    hosts = subprocess.run(
        ["scontrol", "show", "hostnames", environment["SLURM_STEP_NODELIST"]], capture_output=True, text=True
    )
    if hosts.returncode or not hosts.stdout.split():
        raise UserError(f"srun: scontrol does not name the hosts: {hosts.stderr.strip() or 'no output'}")
    return dict(
        RANK=environment["SLURM_PROCID"],
        WORLD_SIZE=environment["SLURM_STEP_NUM_TASKS"],
        LOCAL_RANK=environment["SLURM_LOCALID"],
        MASTER_ADDR=hosts.stdout.split()[0],
        MASTER_PORT=environment.get("MASTER_PORT", str(20000 + int(environment["SLURM_JOB_ID"]) % 10000)),
    )


def join_ranks() -> int:
    """Find the other ranks, if a launcher started this process; returns how many there are.

    With NCCL on GPUs. On CPUs with gloo, and here: mmengine's own ways ask for a GPU.

    Raises:
        UserError: this host has fewer GPUs than ranks.
    """
    os.environ.update(slurm_to_torchrun(dict(os.environ)))
    if "RANK" not in os.environ:
        return 1
    gpu, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if gpus and gpu >= gpus:
        raise UserError(
            f"rank {os.environ['RANK']} asks for GPU {gpu}, but here are {gpus}; start fewer ranks"
        )
    if gpus:
        torch.cuda.set_device(gpu)
    dist.init_process_group("nccl" if gpus else "gloo")
    return dist.get_world_size()


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


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m fasa.detection.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", type=Path, help="an mmengine config")
    parser.add_argument("--branch-from", type=Path, help="a checkpoint whose weights to start from")
    parser.add_argument("--out", type=Path, help="where to write the trained model")
    parser.add_argument("--history", type=Path, help="where to write what augmenters did, as JSON")
    parser.add_argument("--batch", type=int, help="images of an iteration, on all ranks together")
    parser.add_argument("--threads", type=int, help="of each process; sums on a CPU depend on it")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="as in mmdet's tools")
    given = parser.parse_args(arguments)
    try:
        if given.threads:
            torch.set_num_threads(given.threads)
        if not given.config.is_file():
            raise UserError(f"{given.config}: no such config")
        cfg = Config.fromfile(given.config)
        cfg.merge_from_dict(given.cfg_options)
        cfg.setdefault("work_dir", str(Path("work_dirs", given.config.stem)))
        runner = train(for_ranks(cfg, join_ranks(), given.batch), given.branch_from)
        did = history(runner)
        if given.out:
            save_model(runner.model, list(runner.train_dataloader.dataset.metainfo["classes"]), given.out)
        if given.history and runner.rank == 0:
            with replacing(given.history, "w") as file:
                json.dump(did, file)
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")


if __name__ == "__main__":
    main()
