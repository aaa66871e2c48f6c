from fasa.metrics import HEADLINE, headline


def test_dvc_which_sorts_by_name_keeps_the_order():
    assert sorted(HEADLINE) == list(HEADLINE)
    assert [*HEADLINE.values()] == [
        *(f"segm_AP{group}" for group in ("", "r", "c", "f")),
        *(f"bbox_AP{group}" for group in ("", "r")),
    ]


def test_what_there_is_is_rounded():
    assert headline(dict(bbox_AP=10.06, segm_APr=3.44, segm_AR=30.0)) == dict(AP_r=3.4, box=10.1)
