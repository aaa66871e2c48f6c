from fasa.report import remarks


def test_margins_are_sorted_and_only_those():
    rows = {
        "mask_rcnn": {},
        "mask_rcnn_angular": dict(augmenter=dict(type="AngularTransfer")),  # by its default, 0.1
        "mask_rcnn_angular_m00": dict(augmenter=dict(type="AngularTransfer", margin=0.0)),
    }
    found = {name: {0: dict(segm_AP=float(len(name)))} for name in rows}
    margins = remarks.margins(rows, found)
    assert list(remarks.margins(rows, {})) == [0.0, 0.1] and remarks.margins(rows, {})[0.1] == {}
    assert list(margins) == [0.0, 0.1] and margins[0.0] == found["mask_rcnn_angular_m00"]


def test_section_holds_what_was_measured():
    margins = {0.0: {0: dict(segm_AP=10.0), 1: dict(segm_AP=20.0)}, 0.2: {}, 0.5: {0: dict(segm_AP=1.0)}}
    measured = {
        "mask_rcnn": dict(seconds=0.4),
        "mask_rcnn_smote": dict(seconds=9.0),
        "mask_rcnn_transfer, features frozen": dict(seconds=0.5),
    }
    repeats = {0.07: [dict(r=4.125, c=2.0, f=None), dict(r=5.0, c=2.0, f=1.0)]}
    text = remarks.section(margins, {8: (25, 12.5)}, repeats, measured)
    assert "| 0.07 " in text and "4.12" in text and "| 5.00 " in text
    assert "| 0.2 | not run    | -        | " in text
    assert "AP lies between 1.0 and 15.0." in text and "all three are met by 12% in a batch of 8." in text
    assert "| 0   | 15.0" in text and "| 8 " in text and "| 25 " in text and "| +25 " in text
    assert "| 0   | 15.0 ± 7.1 " in text and "An iteration" not in text
    assert "an iteration of both stages takes 1.2 times one of plain training" in text
    assert "from 0.07 to 0.07 images of rare classes come 5.0 to 5.0 times and of frequent ones 1.0" in text
    assert "smote" not in text and "nan" not in text and "| - " in text  # APr was not measured


def test_what_has_not_run_is_a_dash():
    frozen = {"mask_rcnn_transfer, features frozen": dict(seconds=0.5)}
    text = remarks.section({}, {}, {}, frozen)
    line = text.partition("| mask_rcnn_transfer, features frozen")[2].splitlines()[0]
    nothing = remarks.section({}, {}, {}, {})
    assert "| not run " in nothing.partition("several thresholds")[2].partition("##")[0]
    assert "| not run " in nothing.partition("two stages")[2]
    assert [cell.strip() for cell in line.split("|")[1:3]] == ["0.500", "-"]


def test_repeat_factors_are_those_of_the_data_and_of_the_rows():
    census = dict(repeats={"0.001": [dict(r=1.5, c=1.0, f=None), dict(r=2.0, c=1.0, f=None)]})
    jobs = dict(plain=dict(traits={}), rfs=dict(traits=dict(rfs=dict(threshold=0.07))))
    found = dict(plain={0: {}}, rfs={0: dict(rfs_r=4.5, rfs_up_r=5.0, rfs_c=2.0, rfs_up_c=2.0)})
    told = remarks.repeats(census, jobs, found)
    assert list(told) == [0.001, 0.07] and told[0.001] == census["repeats"]["0.001"]
    assert told[0.07] == [dict(r=4.5, c=2.0, f=None), dict(r=5.0, c=2.0, f=None)]


def test_partners_are_means_over_seeds():
    seeds = {s: dict(cam_some_8=10.0 * s, cam_every_8=5.0, cam_some_2=1.0, cam_every_2=0.0) for s in (1, 2)}
    assert remarks.partners(dict(mask_rcnn_cam=seeds)) == {2: (1.0, 0.0), 8: (15.0, 5.0)}
    assert remarks.partners({}) == {}
    del seeds[2]["cam_some_2"]  # not every training has pairs of classes that it confuses
    assert remarks.partners(dict(mask_rcnn_cam=seeds)) == {8: (15.0, 5.0)}
