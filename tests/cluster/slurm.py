"""The tiny profile's stages under srun, on a Slurm of two local nodes: ``python tests/cluster/slurm.py``.

Trains and evaluates, kills what may be killed, and says what it saw; ends with 1 at the first surprise.
Takes root and slurm-wlm (``apt-get install slurm-wlm``), and about five minutes.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from cluster import said, two_nodes

sys.path.insert(0, str(Path(__file__).parents[1]))
from clones import ENVIRONMENT, ROOT, change, cloned, dvc, fasa, yaml  # noqa: E402

ROW = "mask_rcnn_fasa-0"
TRAIN, EVALUATE = f"train@tiny-{ROW}", f"evaluate@tiny-{ROW}"
LONG = 260  # iterations of a training that is killed; it saves every 100
SRUN = dict(FASA_LAUNCH="srun -N2 -n2 --overcommit")


def main() -> None:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as name, two_nodes(Path(name, "slurm")):
        os.environ |= SRUN
        ENVIRONMENT.update(os.environ)
        tiny = yaml.load((ROOT / "params.yaml").read_text())["tiny"]
        tiny["data"]["images"]["val"] = 20
        chosen = dict(rows=["mask_rcnn_fasa"], seeds=[0])
        folder = cloned(Path(name, "fasa"), profiles=["tiny"], run=chosen, repro=chosen["rows"], tiny=tiny)
        expect("train and evaluate on two nodes", done := fasa(folder, "run", EVALUATE), done.returncode == 0)
        steps = (Path(name, "slurm") / "slurmctld.log").read_text().count("rpc_allocate_resources JobId=")
        expect(f"as {steps} jobs of Slurm", steps, steps == 3)
        before = (folder / "dvc.lock").read_text()
        done = dvc(folder, "repro", "--force", "--no-run-cache", "--single-item", EVALUATE, FASA_LAUNCH="")
        same = (folder / "dvc.lock").read_text() == before
        expect("one process finds the same, to the byte", done, done.returncode == 0 and same)

        tiny["train"]["iterations"] = LONG
        change(folder, tiny=tiny)
        expect("plan", done := dvc(folder, "repro", "plan"), done.returncode == 0)
        broken(folder, "a killed dvc", lambda stage: stage.send_signal(signal.SIGKILL))
        broken(folder, "a killed rank", lambda stage: workers()[-1].kill())
        broken(
            folder,
            "a cancelled step",
            lambda stage: said("scancel", *said("squeue", "-h", "-o", "%i").split()),
        )
        done = dvc(folder, "repro", "--single-item", TRAIN)
        seen = re.findall(rf"^(\d+)/{LONG} ", done.stdout, re.MULTILINE)
        expect(f"the same command goes on, at {seen[0]}", done, done.returncode == 0 and int(seen[0]) > 100)
        history = json.loads((folder / f"runs/tiny/history/{ROW}.json").read_text())
        expect(f"and ends at {history['iterations']}", history, history["iterations"] == LONG)


def broken(folder: Path, what: str, strike) -> None:
    """Start the long training, strike once it has saved, and see that nothing is left of it."""
    command = ["dvc", "repro", "--single-item", TRAIN]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    stage = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **streams)
    try:
        wait_for("it trains on two nodes and has saved", lambda: saved(folder) and len(workers()) == 2)
        ranks = workers()
        strike(stage)
        begin = time.monotonic()
        output, _ = stage.communicate()
    finally:
        stage.kill()
    wait_for("the step is gone", lambda: not said("squeue", "-h", "-s") and not said("squeue", "-h"))
    wait_for("no rank is left", lambda: not any(one.is_running() for one in ranks))
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    print(f"{what}: nothing left after {time.monotonic() - begin:.0f} s", *lines, sep="\n    ", flush=True)
    expect("it failed, in one line at the most", output, stage.returncode != 0 and len(lines) <= 1)


def saved(folder: Path) -> bool:
    """Whether the training has a checkpoint to go on from."""
    return bool(list(folder.glob(f".fasa/{TRAIN}/*/last.pth")))


def workers() -> list[psutil.Process]:
    """The ranks, which are children of Slurm's daemons."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "fasa.detection.worker" in command and "python" in command[0]:  # not srun itself
            found.append(process)
    return found


def wait_for(what: str, condition, seconds: float = 900) -> None:
    """Wait, and end with 1 if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            expect(what, said("squeue", "-s"), False)
        time.sleep(0.2)


def expect(what: str, seen, fine: bool) -> None:
    """Say what was seen, and end if it is not what was expected."""
    print(f"{'ok' if fine else 'FAILED'}: {what}", flush=True)
    if not fine:
        seen = (
            f"{seen.stdout[-3000:]}\n{seen.stderr[-3000:]}" if hasattr(seen, "stdout") else str(seen)[-3000:]
        )
        sys.exit(seen)


if __name__ == "__main__":
    main()
