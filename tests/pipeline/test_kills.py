"""A short storm of kills over a toy of a pipeline with real notebooks; `tests/kills.py` has the long one."""

import hashlib
import json
import shutil

from kills import campaign

DATA = """
from fasa.notebook import output
output("data/toy.txt").write_text("17")
"""
# takes up its checkpoint, and has a worker of its own
TRAIN = """
import time
from pathlib import Path
from fasa.files import replacing
from fasa.notebook import output, work_dir
from fasa.pipeline.process import pool

last = work_dir() / "last.txt"
begin = "0 " + Path("data/toy.txt").read_text()
step, value = map(int, (last.read_text() if last.exists() else begin).split())
with pool(1) as processes:
    while step < 30:
        value = processes.submit(pow, value + job["seed"], 5, 1_000_003).result()
        step += 1
        with replacing(last, "w") as file:
            file.write(f"{step} {value}")
        time.sleep(0.05)
output(f"runs/toy/{job['seed']}.txt").write_text(str(value))
"""
TABLE = """
from pathlib import Path
from fasa.notebook import output
values = [path.read_text() for path in sorted(Path("runs/toy").iterdir())]
print(values)
output("results/toy.txt").write_text(" ".join(values))
"""


def stage(name, deps, out, **matrix):
    executed = f"executed/toy/{name.replace('@toy', '')}.ipynb"
    job = f"build/jobs/{name}.json"
    return matrix | dict(cmd="python -m fasa.pipeline.run", deps=[job, *deps], outs=[executed, out])


def toy(repository):
    """Three kinds of stages, planned by hand."""
    folder = repository.folder
    repository.write(".gitignore", "/fasa\n/.fasa\n/data\n/runs\n/results\n/executed\n")
    sources = {
        file.relative_to(folder).as_posix(): hashlib.md5(file.read_bytes()).hexdigest()
        for file in sorted((folder / "fasa").glob("**/*.py"))
    }
    for name, cell in (("data", DATA), ("train", TRAIN), ("table", TABLE)):
        repository.notebook(f"build/notebooks/{name}.ipynb", cell, parameters="job = {}")
    for name, seed in (("data@toy", 0), ("train@toy-1", 1), ("train@toy-2", 2), ("table@toy", 0)):
        job = dict(notebook=name.partition("@")[0], settings=dict(seed=seed), sources=sources)
        repository.write(f"build/jobs/{name}.json", json.dumps(job))
    repository.stages(
        data=dict(foreach=["toy"], do=stage("data@toy", [], "data/toy.txt")),
        train=stage(
            "train@toy-${item.seed}",
            ["data/toy.txt"],
            "runs/toy/${item.seed}.txt",
            matrix=dict(profile=["toy"], seed=[1, 2]),
        ),
        table=dict(foreach=["toy"], do=stage("table@toy", ["runs/toy"], "results/toy.txt")),
    )
    return folder


def test_after_kills_of_random_processes_the_results_are_the_same_bytes(
    tmp_path, monkeypatch, make_repository
):
    repository = make_repository(tmp_path / "calm")
    for name, value in repository.env.items():
        monkeypatch.setenv(name, value)
    calm = toy(repository)
    stormy = shutil.copytree(calm, tmp_path / "stormy", symlinks=True)
    lines = list(campaign(calm, stormy, ["python", "-m", "fasa", "run", "-j", "2"], kills=3, seed=0))
    assert lines[-1] == "4 stages: the same bytes after 3 kills, no process left"
    assert not list((stormy / ".fasa").glob("train@toy-*/*"))  # nothing unfinished
