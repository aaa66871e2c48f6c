from fasa.report import cost

ONE = dict(seconds=0.4, seconds_std=0.01, memory_gb=1.25, growth=-0.06, state=0.0)
TWO = ONE | dict(seconds=0.44, memory_gb=1.5, state=1.5, pass_seconds=4.26)


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_rows_are_compared_to_the_first_and_to_the_paper():
    measured = dict(mask_rcnn=dict(mask_rcnn=ONE), mask_rcnn_rfs_fasa=dict(mask_rcnn_rfs_fasa=TWO))
    table = cost.table(measured, ["mask_rcnn", "mask_rcnn_rfs", "mask_rcnn_rfs_fasa"])
    first, missing, second = map(cells, table.splitlines()[2:])
    assert first == ["Mask R-CNN<br>`mask_rcnn`", "0.400 ± 0.010", "+0.0%", "1.25", "-0.1", "0.00", "-"]
    assert missing[1:4] == ["not run (0.768 ± 0.04)", "-", "- (11.1)"]
    assert second[1:] == ["0.440 ± 0.010 (0.792 ± 0.05)", "+10.0%", "1.50 (12.4)", "-0.1", "1.50", "4.3"]


def test_stages_of_a_row_are_named():
    measured = dict(mask_rcnn_transfer={"mask_rcnn_transfer, features frozen": ONE})
    assert cells(cost.table(measured, ["mask_rcnn_transfer"]).splitlines()[2])[0].endswith(
        ", features frozen<br>`mask_rcnn_transfer`"
    )
    assert cost.flat(measured) == measured["mask_rcnn_transfer"]


def test_the_dearest_and_the_cheapest_row_are_told():
    measured = dict(a=dict(a=ONE), b=dict(b=TWO), c=dict(c=TWO | dict(seconds=9.0)))
    text = cost.extremes(measured, ["a", "b"])
    assert "most time with `b`, 0.440 s, and the least with `a`, 0.400 s" in text
    assert "nothing to compare" in cost.extremes(measured, ["a"])


def test_what_fasa_adds_is_said():
    text = cost.reading(dict(mask_rcnn_rfs=dict(mask_rcnn_rfs=ONE), mask_rcnn_rfs_fasa=dict(x=TWO)))
    assert "+10.0% time" in text and "differ by 2%" in text and "+20.0% memory" in text
    assert "+3.1% and +11.7%" in text and cost.reading({}).startswith("**Read:** nothing yet")


def test_what_passes_add_is_said_where_they_are_by_iterations():
    measured = dict(
        mask_rcnn_rfs=dict(mask_rcnn_rfs=ONE), mask_rcnn_rfs_fasa=dict(x=TWO | dict(pass_seconds=2.2))
    )
    assert "one in 100 iterations: +5.0%" in cost.reading(measured, every=100)
    assert "passes" not in cost.reading(measured)
