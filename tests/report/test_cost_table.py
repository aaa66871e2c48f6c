import json

import pytest

from fasa.errors import UserError
from fasa.report import cost


def test_measured_rows_are_put_together_in_order(tmp_path):
    (tmp_path / "cost").mkdir()
    (tmp_path / "cost" / "b.json").write_text(json.dumps({"b": dict(seconds=2)}))
    (tmp_path / "cost" / "a.json").write_text(
        json.dumps({"a, first": dict(seconds=1), "a, second": dict(seconds=3)})
    )
    found = cost.measured(tmp_path, ["b", "missing", "a"])
    assert list(found) == ["b", "a, first", "a, second"] and found["a, second"] == dict(seconds=3)
    with pytest.raises(UserError, match="no row has been measured"):
        cost.measured(tmp_path, ["missing"])


def test_rows_are_compared_to_the_first_and_to_the_paper():
    one = dict(seconds=0.4, seconds_std=0.01, memory_gb=1.234, growth=-0.06, state=0.0)
    two = one | dict(seconds=0.44, state=1.5, pass_seconds=4.26)
    text = cost.section({"mask_rcnn": one, "mask_rcnn_rfs_fasa": two})
    first, second = text.splitlines()[-2:]
    assert (
        "0.400 ± 0.010" in first
        and "+0.0%" in first
        and "1.23" in first
        and first.split("|")[-2].strip() == "-"
    )
    assert "0.440 ± 0.010 (0.792 ± 0.05)" in second and "+10.0%" in second and "1.23 (12.4)" in second
    assert "-0.1" in second and "1.50" in second and "4.3" in second
