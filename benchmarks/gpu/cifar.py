"""Tables 3 and 4 at full protocol: many small runs at once on one GPU.

    python -m benchmarks.gpu.cifar OUT_DIR --data .gpu-data/cifar-100-lt.zip --minutes 7

Every run is `fasa.classification.experiment.run` of a row and seed of params.yaml, and its record is written
as OUT_DIR/ROW-SEED.json as soon as it ends. What is different here is speed alone. A ResNet-32 asks for
hundreds of kernels of microseconds, so a GPU waits for Python: its forward and backward pass are captured as
CUDA graphs, the runs of a process are threads with a stream each (processes take turns on a GPU, streams
share it), grouping goes to helpers, since it would hold all threads up, and every tenth epoch leaves a
checkpoint.
"""

import argparse
import functools
import json
import multiprocessing
import sys
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from msgspec.structs import replace
from torch import Tensor, nn

from fasa.classification import experiment, training
from fasa.classification import job as classification
from fasa.classification.learner import Learner
from fasa.data.images import LongTailed
from fasa.files import replacing
from fasa.params import Params, read_params
from fasa.rows import compose_classifier

SET, ROWS = "cifar100", ("ce", "ce_fasa", "ce_fasa_metric", "ce_fasa_class")
LEAKY = "_leaky"  # of a row's name: it adapts to the test split, as in the paper
CHECKPOINTS = 10  # epochs between them
SETTLED = 20  # seconds after the first epoch, from which on the speed tells how much there is time for
CAPTURE = threading.Lock()  # one at a time; it also guards torch's global generator, which gives the weights
JOB = threading.local()


class Stopped(Exception):
    """Time is up."""


class Board:
    """What the processes tell each other.

    Attributes:
        done: epochs of each job; admitted: jobs of a lower number may train; stop: all shall end.
    """

    def __init__(self, jobs: int):
        context = multiprocessing.get_context("spawn")
        self.done, self.admitted = context.Array("i", jobs), context.Value("i", jobs)
        self.stop = context.Event()


class Job(NamedTuple):
    """One run; the lower its number, the earlier it is wanted."""

    number: int
    row: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row}-{self.seed}"


class Body(nn.Module):
    """A `ResNet32` up to its embeddings, which a graph can be made of."""

    def __init__(self, model: nn.Module, amp: bool):
        super().__init__()
        self.stem, self.blocks, self.amp = model.stem, model.blocks, amp

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.amp, cache_enabled=False):
            return self.blocks(self.stem(x)).mean((2, 3))


class FastLearner(Learner):
    """A learner whose network is replayed from a graph, and whose classes are grouped elsewhere."""

    helpers: ProcessPoolExecutor | None = None
    graphs = True

    def __init__(self, *args, **kwargs):
        with CAPTURE:
            super().__init__(*args, **kwargs)
        self.captured = not self.graphs
        if self.helpers and hasattr(self.augmenter, "group"):
            self.augmenter.group = functools.partial(_elsewhere, self.helpers, self.augmenter.group)

    def step(self, x: Tensor, labels: Tensor, progress: float) -> dict[str, Tensor]:
        """As `Learner.step`."""
        if not self.captured and x.is_cuda:
            self.captured = True
            with CAPTURE:
                self._capture(x)
        return super().step(x, labels, progress)

    def _capture(self, x: Tensor) -> None:
        model, eager, shape = self.model, self.model.features, x.shape
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            replayed = torch.cuda.make_graphed_callables(Body(model, self.amp), (x.clone(),))
        except (AssertionError, RuntimeError):
            traceback.print_exc()
            print("no graph could be captured: this run goes on without", flush=True)
            return
        finally:
            model.load_state_dict(before)  # capturing ran the network, which moved its running statistics
        model.features = lambda x: (replayed if model.training and x.shape == shape else eager)(x)


def _elsewhere(helpers: ProcessPoolExecutor, group, means):
    return helpers.submit(group, means).result()


class Told:
    """In place of `Progress`: tells the board of epochs, and waits while other jobs are wanted first."""

    def __init__(self, first: int, epochs: int, images: int):
        self.images = images

    def __call__(self, epoch: int, seen: int, losses: dict[str, Tensor]) -> None:
        if seen < self.images:
            return
        board, number = JOB.board, JOB.number
        board.done[number] = epoch + 1
        while not board.stop.is_set() and number >= board.admitted.value:
            time.sleep(0.1)
        if board.stop.is_set():
            raise Stopped


def settings_of(job: Job, params: Params, epochs: int | None) -> classification.Job:
    """What params.yaml says of a run, on one thread; of a leaky row, that it adapts to the test split."""
    found = compose_classifier(params, SET, job.row.removesuffix(LEAKY), job.seed)
    if job.row.endswith(LEAKY):
        found = replace(found, row=job.row, settings=replace(found.settings, adapt_split="test"))
    schedule = replace(found.schedule, epochs=epochs or found.schedule.epochs)
    return replace(found, threads=1, schedule=schedule)


def plan(rows: list[str], seeds: list[int], leaky: bool) -> list[Job]:
    """All rows of the first seed, then of the second; leaky ones after all others."""
    pairs = [(row, seed) for seed in seeds for row in rows]
    pairs += [(row + LEAKY, seed) for seed in seeds for row in rows if leaky and row != "ce"]
    return [Job(number, *pair) for number, pair in enumerate(pairs)]


def serve(
    jobs: list[Job],
    board: Board,
    data: LongTailed,
    settings: dict[str, classification.Job],
    out: Path,
    work: Path,
    at_once: int,
    graphs: bool,
) -> None:
    """Run jobs in threads of this process, some at a time in their order."""
    FastLearner.graphs = graphs
    training.Learner, training.Progress = FastLearner, Told
    save = training.save
    training.save = lambda path, state: (
        None if len(state["log"]["curve"]) % CHECKPOINTS else save(path, state)
    )
    # Threads that go on elsewhere would break a capture in the default mode.
    torch.cuda.graph = functools.partial(torch.cuda.graph, capture_error_mode="thread_local")
    with (
        ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as FastLearner.helpers,
        ThreadPoolExecutor(at_once) as threads,
    ):
        list(threads.map(lambda job: _run(job, board, data, settings[job.name], out, work), jobs))


def _run(
    job: Job, board: Board, data: LongTailed, settings: classification.Job, out: Path, work: Path
) -> None:
    JOB.board, JOB.number = board, job.number
    path = out / f"{job.name}.json"
    if board.stop.is_set():
        return
    if path.exists():
        board.done[job.number] = settings.schedule.epochs
        return
    start = time.perf_counter()
    try:
        with torch.cuda.stream(torch.cuda.Stream() if torch.cuda.is_available() else None):
            record = experiment.run(settings, data, work / job.name)
    except Stopped:
        return
    except Exception:
        (out / f"{job.name}.error").write_text(traceback.format_exc())
        print(f"{job.name} failed: {traceback.format_exc(limit=-2)}", file=sys.stderr, flush=True)
        return
    with replacing(path, "w") as file:
        json.dump(record, file)
    shown = "  ".join(f"{name} {value:.2f}" for name, value in record["metrics"].items())
    print(f"{job.name}: {time.perf_counter() - start:.0f} s  {shown}", flush=True)


def _serve(jobs: list[Job], board: Board, packed: Path, *rest) -> None:
    from benchmarks.gpu.cifar_data import unpack

    serve(jobs, board, unpack(packed), *rest)


def watch(
    processes: list, board: Board, jobs: list[Job], epochs: int, deadline: float, every: float = 10
) -> None:
    """Print a line of progress now and then; where time will not do for all seeds, let the last ones wait."""
    begun, before, rate = None, 0, float("inf")
    while any(process.is_alive() for process in processes):
        until = min(time.monotonic() + every, deadline)
        while time.monotonic() < until and any(process.is_alive() for process in processes):
            time.sleep(0.2)
        now, done = time.monotonic(), list(board.done)
        if begun is None and sum(done):
            begun, before = now, sum(done)
        elif begun and now - begun >= SETTLED:
            rate = (sum(done) - before) / (now - begun)
        left = [epochs - one for one in done]
        board.admitted.value = admitted(jobs, left, rate * max(deadline - now, 0.0))
        print(
            f"{sum(done)}/{epochs * len(jobs)} epochs, {rate:.1f}/s, {deadline - now:.0f} s left, "
            f"{sum(not one for one in left)} runs done, {board.admitted.value} admitted",
            flush=True,
        )
        if now >= deadline:
            board.stop.set()
            for process in processes:
                process.join(20)
                process.terminate()
            return


def admitted(jobs: list[Job], left: list[int], affordable: float) -> int:
    """How many jobs may train: all, or those of the seeds that there is time for; one seed at the least.

    Args:
        left: epochs that each job still needs.
        affordable: epochs of all jobs together until the end.
    """
    ends = [i + 1 for i in range(len(jobs)) if i + 1 == len(jobs) or _block(jobs[i]) != _block(jobs[i + 1])]
    fitting = [end for end in ends if sum(left[:end]) <= affordable]
    return max(fitting, default=ends[0])


def _block(job: Job) -> tuple[int, bool]:
    return job.seed, job.row.endswith(LEAKY)


def main(arguments: list[str] | None = None) -> int:
    """Runs what is missing in OUT_DIR; status 1 if something is still missing in the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="where the records go")
    parser.add_argument("--data", type=Path, required=True, help="what benchmarks.gpu.cifar_data packed")
    parser.add_argument("--work", type=Path, default=Path("/tmp/fasa-cifar"), help="where checkpoints go")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--leaky", action="store_true", help="the rows that adapt to test too, at the end")
    parser.add_argument("--processes", type=int, default=4, help="that take turns on the GPU")
    parser.add_argument("--at-once", type=int, default=3, help="runs of a process, which share its turn")
    parser.add_argument("--minutes", type=float, default=60, help="until all ends, done or not")
    parser.add_argument("--epochs", type=int, help="in place of the protocol's")
    parser.add_argument("--no-graphs", action="store_true", help="kernel by kernel")
    options = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = plan(options.rows, options.seeds, options.leaky)
    params = read_params(Path("params.yaml"))
    settings = {job.name: settings_of(job, params, options.epochs) for job in jobs}
    board, context = Board(len(jobs)), multiprocessing.get_context("spawn")
    rest = options.data, settings, options.out, options.work, options.at_once, not options.no_graphs
    processes = [
        context.Process(target=_serve, args=(jobs[i :: options.processes], board, *rest))
        for i in range(options.processes)
    ]
    for process in processes:
        process.start()
    watch(processes, board, jobs, settings[jobs[0].name].schedule.epochs, deadline)
    missing = [job.name for job in jobs if not (options.out / f"{job.name}.json").exists()]
    print(f"missing: {', '.join(missing)}" if missing else f"all {len(jobs)} runs are done", flush=True)
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
