"""`dvc exp run --temp` and `--queue` in a checkout that set-up has configured, and that was moved since."""

import csv
import subprocess
import sys
from pathlib import Path

SETUP = Path(__file__).parents[2] / "setup.sh"
ME = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def test_temporary_and_queued_experiments_run_in_a_checkout_that_was_moved(repository, wait_until):
    def call(*command):
        done = repository.call(*command, **ME)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    repository.write(".gitattributes", "*.ipynb filter=notebook text eol=lf\n")
    repository.write(".gitignore", ".venv\n.site\n/out.txt\n")
    (repository.folder / ".venv").symlink_to(sys.prefix)
    subprocess.run(["bash", "-c", f"source {SETUP}; configure_checkout"], cwd=repository.folder, check=True)
    cell = (
        '{"cell_type": "code", "execution_count": %s, "id": "a", "metadata": {}, "outputs": [], "source": ""}'
    )
    text = '{"cells": [%s], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    repository.write("n.ipynb", text % cell % 7)
    repository.write("params.yaml", "x: 1\n")
    repository.stages(
        one=dict(cmd="echo ${x} > out.txt", deps=["n.ipynb"], params=["x"], outs=["out.txt"]),
    )
    call("git", "add", ".")
    call("git", "commit", "-qm", "all")
    assert '"execution_count": null' in call("git", "show", "HEAD:n.ipynb")
    repository.write("n.ipynb", text % cell % 8)  # as a run in JupyterLab leaves it

    call("dvc", "exp", "run", "--temp", "-S", "x=2")
    repository.folder = repository.folder.rename(repository.folder.with_name("moved"))
    call("dvc", "exp", "run", "--temp", "-S", "x=3")
    call("dvc", "exp", "run", "--queue", "-S", "x=4")
    call("dvc", "queue", "start")
    wait_until(lambda: "Worker status: 0 active, 0 idle" in call("dvc", "queue", "status"), seconds=60)

    rows = list(csv.DictReader(call("dvc", "exp", "show", "--csv").splitlines()))
    assert {row["x"]: row["State"] for row in rows if row["typ"].startswith("branch")} == {
        "2": "",
        "3": "",
        "4": "Success",
    }
