import copy
import io
import json
import subprocess
import sys

import nbformat
import nbstripout
import pytest

from fasa.errors import UserError
from fasa.pipeline import strip


def executed_notebook():
    """As JupyterLab or papermill leave it: outputs, counts, times, states of the interface."""
    new = nbformat.v4
    data = new.new_output
    outputs = [
        data("stream", name="stdout", text="one at 0x12\n"),
        data("stream", name="stderr", text="[pid 123] careful\n"),
        data("stream", name="stdout", text="two\n"),
        data("execute_result", {"text/plain": "<Thing at 0x7f12ab>"}, execution_count=3),
    ]
    cells = [
        new.new_markdown_cell("# Täglich\n\ntext"),
        new.new_code_cell("x = 1", metadata={"tags": ["parameters"], "papermill": {"duration": 0.1}}),
        new.new_code_cell("x = 2", metadata={"tags": ["injected-parameters"]}),
        new.new_code_cell("f()\ng()", outputs=outputs, execution_count=3, metadata={"scrolled": True}),
        new.new_code_cell("t()", outputs=[data("stream", text="0.1 s")], metadata={"tags": ["volatile"]}),
    ]
    return new.new_notebook(cells=cells, metadata={"language_info": {"name": "python", "version": "3.11.2"}})


def from_disk(notebook):
    return json.loads(nbformat.writes(notebook))


def test_strip_agrees_with_nbstripout():
    notebook = executed_notebook()
    stripped = strip.dumps(strip.strip(from_disk(notebook)))
    keys = ["cell.metadata.papermill", "cell.metadata.scrolled"]
    oracle = nbstripout.strip_output(copy.deepcopy(notebook), False, False, True, keys)
    oracle.metadata = nbformat.from_dict(strip.METADATA)
    assert stripped == nbformat.writes(oracle) + "\n"


def test_strip_is_idempotent_and_forgets_the_run():
    first = strip.strip(from_disk(executed_notebook()))
    assert strip.strip(first) == first
    other = executed_notebook()
    for cell, twin in zip(other.cells, first["cells"], strict=True):
        cell.id = twin["id"]
    other.cells[3].outputs[0].text = "another run\n"
    other.metadata.language_info.version = "3.13.0"
    assert strip.strip(from_disk(other)) == first


def test_cells_of_an_old_notebook_get_stable_ids():
    old = from_disk(executed_notebook()) | {"nbformat_minor": 4}
    for cell in old["cells"]:
        del cell["id"]
    assert [cell["id"] for cell in strip.strip(old)["cells"]] == [f"cell-{number}" for number in range(5)]


def test_normalise_keeps_results_and_drops_luck():
    executed = executed_notebook()
    cells = strip.normalise(executed)["cells"]
    assert cells[2]["id"] == "injected-parameters"
    assert [output.get("text") for output in cells[3]["outputs"]] == ["one\ntwo\n", None]
    assert cells[3]["outputs"][1]["data"] == {"text/plain": "<Thing>"}
    assert cells[3]["execution_count"] == 3
    assert cells[4]["outputs"] == []
    assert executed.cells[3].outputs[0].text == "one at 0x12\n"  # its argument is left alone
    nbformat.validate(nbformat.reads(strip.dumps(strip.normalise(executed)), as_version=4))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nbformat": 3, "worksheets": []}', '{"nbformat": 4}'])
def test_what_is_not_a_notebook_is_one_line(tmp_path, text, capsys, monkeypatch):
    source = tmp_path / "a.ipynb"
    source.write_text(text)
    with pytest.raises(UserError) as info:
        strip.read(source)
    assert str(info.value).startswith(f"{source}: ") and "\n" not in str(info.value)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
    assert strip.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    with pytest.raises(UserError, match="no such notebook"):
        strip.read(tmp_path / "c.ipynb")


def test_plan_and_filter_write_the_same_bytes(tmp_path, monkeypatch, capsysbinary):
    source, target = tmp_path / "a.ipynb", tmp_path / "build" / "a.ipynb"
    source.write_text(nbformat.writes(executed_notebook()), encoding="utf-8")
    strip.write(strip.read(source), target)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
    assert strip.main() == 0
    assert capsysbinary.readouterr().out == target.read_bytes()
    assert "Täglich" in target.read_text(encoding="utf-8")
    assert [path.name for path in target.parent.iterdir()] == ["a.ipynb"]


def test_cells_by_hand_are_no_part_of_a_stage(tmp_path):
    new = nbformat.v4
    cells = [new.new_code_cell("compute()", id="a"), new.new_code_cell("compute()", id="b")]
    path, hashes = tmp_path / "a.ipynb", []
    for tags in ([], ["by-hand"]):
        for drawn in ("draw()", "draw(more=1)"):
            extra = new.new_code_cell(drawn, id="c", metadata=dict(tags=tags))
            path.write_text(nbformat.writes(new.new_notebook(cells=[*cells, extra])))
            hashes.append(strip.content_hash(path))
            assert len(strip.staged(strip.read(path))["cells"]) == 2 + (not tags)
    assert hashes[0] != hashes[1] and hashes[2] == hashes[3]


def test_stripping_needs_no_slow_import():
    code = "import sys, fasa.pipeline.strip; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "nbformat", "papermill", "dvc", "matplotlib"} & set(modules)
