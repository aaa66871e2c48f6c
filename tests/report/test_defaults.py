"""Table 7: the paper's numbers, ours from the code, and a profile's."""

from fasa.report import defaults


def test_defaults_are_read_from_the_code_and_rows_from_their_jobs():
    jobs = dict(
        mask_rcnn=dict(augmenter=None),
        mask_rcnn_angular=dict(augmenter=dict(type="AngularTransfer", margin=0.1)),
        mask_rcnn_angular_m50=dict(augmenter=dict(type="AngularTransfer", margin=0.5)),
    )
    text = defaults.section(jobs)
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    rows = {one[-1]: one[2:5] for one in cells[2:]}
    assert rows["`MoEx.eps`"] == ["1e-05", "1e-05", "no row"]
    assert rows["`AngularTransfer.margin`"] == ["0.1", "0.1", "default, 0.5 in `mask_rcnn_angular_m50`"]
    assert rows["`AngularTransfer.scale`"] == ["20", "20", "default"]
    assert text.endswith("**Read:** 11 of 11 defaults are the paper's.")
