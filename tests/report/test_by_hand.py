"""What a person chooses in a notebook, in a real kernel; `tests/test_pipeline.py` has a real browser."""

import os
import sys

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient


class ThisPython(KernelSpecManager):
    def get_kernel_spec(self, kernel_name):
        return KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs cells in the folder of a test; the outputs of each."""
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def run(*cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        client = NotebookClient(notebook, resources=dict(metadata=dict(path=str(tmp_path))))
        client.kernel_manager_class.kernel_spec_manager = ThisPython()
        client.execute()
        return [[out.get("data", out.get("text")) for out in cell.outputs] for cell in notebook.cells]

    return run


def test_a_choice_is_drawn_in_place_of_the_last(run):
    picked, _, stopped = run(
        "from IPython.display import Markdown\nfrom fasa.errors import UserError\n"
        "from fasa.report.picking import Picker\n"
        "picker = Picker(row=[('first', 1), ('second', 2), ('third', 3)], seed=[('0', 0)])\n"
        "picker.show(lambda row, seed: Markdown(f'row {row}, seed {seed}'))",
        "picker.lists['row'].value = 2",
        "def draw(row, seed):\n    raise UserError(f'{row} has not run')\npicker.show(draw)",
    )
    assert picked[1]["text/markdown"] == "row 2, seed 0"
    assert stopped[0]["text/markdown"] == "2 has not run"
