"""The rule of the verdicts, and each source of numbers, by hand."""

from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from fasa.params import read_params
from fasa.record import Record
from fasa.report import claims
from fasa.report.claims import (
    NOT_MEASURED,
    NOT_RUN,
    NOT_SEEN,
    OPPOSITE,
    SEEN,
    UNTOLD,
    Claim,
    Evidence,
    Measured,
)

NOTHING = Evidence({}, {}, {}, {})


def measured(low, high, *seeds):
    return Measured(0.0, (low + high) / 2, low, high, dict(enumerate(seeds)))


@pytest.mark.parametrize(
    "rule, low, high, seeds, expected",
    [
        ("up", 0.1, 3.0, [1.0, 2.0], SEEN),
        ("up", 0.1, 3.0, [4.0, -0.1], UNTOLD),  # a seed disagrees
        ("up", 0.1, 0.4, [0.3, -0.1], NOT_SEEN),  # and the interval is within the margin
        ("up", 0.1, 3.0, [4.0, 0.0], UNTOLD),  # a tie is no agreement
        ("up", 0.0, 3.0, [1.0, 2.0], UNTOLD),  # 0 is not beyond 0
        ("up", 0.0, 0.0, [0.0, 0.0], NOT_SEEN),  # rows that are the same
        ("up", -0.4, 0.5, [0.1, 0.2], NOT_SEEN),
        ("up", -0.4, 0.51, [0.1, 0.2], UNTOLD),
        ("up", -3.0, -0.1, [-1.0, -2.0], OPPOSITE),
        ("up", -3.0, -0.1, [-1.0, 0.0], UNTOLD),
        ("up", 0.1, 3.0, [1.5], SEEN),  # of one seed, which is said beside it
        ("down", -3.0, -0.1, [-1.0, -2.0], SEEN),
        ("down", 0.1, 3.0, [1.0, 2.0], OPPOSITE),
        ("down", -0.5, 0.5, [0.1, -0.2], NOT_SEEN),
        ("down", -0.5, 0.6, [0.1, -0.2], UNTOLD),
        ("at_least", -0.5, 3.0, [1.0, -2.0], SEEN),
        ("at_least", -0.6, 3.0, [1.0, 2.0], UNTOLD),
        ("at_least", -3.0, -0.6, [-1.0, -2.0], OPPOSITE),
        ("at_least", -3.0, -0.6, [-4.0, 0.1], UNTOLD),
        ("at_most", -9.0, 0.5, [1.0, -2.0], SEEN),
        ("at_most", 0.6, 3.0, [1.0, 2.0], OPPOSITE),
        ("at_most", 0.4, 3.0, [1.0, 2.0], UNTOLD),
        ("equal", -0.5, 0.5, [1.0, -2.0], SEEN),
        ("equal", 0.1, 0.5, [0.3, 0.3], SEEN),  # a difference, but a small one
        ("equal", 0.6, 3.0, [1.0, 2.0], OPPOSITE),
        ("equal", -3.0, -0.6, [-1.0, -2.0], OPPOSITE),
        ("equal", 0.6, 3.0, [4.0, -0.1], UNTOLD),
        ("equal", 0.4, 3.0, [1.0, 2.0], UNTOLD),
        ("differs", 0.6, 3.0, [1.0, 2.0], SEEN),
        ("differs", -3.0, -0.6, [-1.0, -2.0], SEEN),
        ("differs", -0.5, 0.5, [0.1, 0.2], NOT_SEEN),
        ("differs", 0.4, 3.0, [1.0, 2.0], UNTOLD),
    ],
)
def test_verdicts(rule, low, high, seeds, expected):
    assert claims.verdict(rule, measured(low, high, *seeds), 0.5) == expected


def test_what_has_not_run_has_no_verdict():
    for claim in claims.claims():
        for check in claims.judge(claim, NOTHING):
            assert check.verdict == NOT_RUN and check.measured is None


def run(images=1, replicates=None, **metrics):
    replicates = {name: np.array(values) for name, values in (replicates or {}).items()}
    return Record(metrics, images, replicates, {})


def rows(row, base):
    return NOTHING._replace(runs=dict(row=dict(enumerate(row)), base=dict(enumerate(base))))


CLAIM = Claim(id="A.1", says="x", rule="up", row="row", base="base", checks={"AP": 0.5})


def test_two_rows_over_the_seeds_that_both_have():
    a = [run(AP=1.0, replicates=dict(AP=[1.0, 2.0])), run(AP=3.0, replicates=dict(AP=[3.0, 4.0]))]
    b = [
        run(AP=2.0, replicates=dict(AP=[2.0, 2.0])),
        run(AP=5.0, replicates=dict(AP=[5.0, 7.0])),
        run(AP=99.0, replicates=dict(AP=[99.0, 99.0])),
    ]
    (check,) = claims.judge(CLAIM, rows(b, a))
    low, high = np.percentile([1.5, 1.5], [2.5, 97.5])
    assert check.measured == Measured(2.0, 3.5, low, high, {0: 1.0, 1: 2.0}) and check.verdict == SEEN


def test_a_metric_that_was_not_measured_is_another_thing_than_a_row_that_did_not_run():
    (check,) = claims.judge(CLAIM, rows([run(AR=1.0)], [run(AP=1.0)]))
    assert check.verdict == NOT_MEASURED
    (check,) = claims.judge(CLAIM, NOTHING._replace(runs=dict(row={0: run(AP=1.0)})))
    assert check.verdict == NOT_RUN


def test_a_gain_beside_another_gain():
    claim = replace(CLAIM, checks={"APr": 1}, minus="AP")
    kept = dict(APr=[5.0, 6.0], AP=[2.0, 2.0])
    b, a = (
        [run(APr=5.0, AP=2.0, replicates=kept)],
        [run(APr=1.0, AP=1.0, replicates=dict(APr=[1, 1], AP=[1, 1]))],
    )
    (check,) = claims.judge(claim, rows(b, a))
    assert (check.measured.before, check.measured.after) == (0, 3)
    assert (check.measured.low, check.measured.high) == tuple(np.percentile([3, 4], [2.5, 97.5]))


def test_the_largest_of_several_is_the_largest_on_every_resample():
    claim = replace(CLAIM, base=None, checks={"Cls": 1}, among=["Loc", "Miss"])
    kept = dict(Cls=[9.0, 8.0], Loc=[7.0, 1.0], Miss=[1.0, 9.0])
    (check,) = claims.judge(claim, rows([run(Cls=9.0, Loc=2.0, Miss=5.0, replicates=kept)], []))
    assert (check.measured.before, check.measured.after) == (5, 9)
    assert (check.measured.low, check.measured.high) == tuple(np.percentile([2, -1], [2.5, 97.5]))


def test_what_is_measured_once_a_run_lies_between_its_seeds():
    claim = replace(CLAIM, rule="down", base=None, reference=50, checks={"share": 5})
    (check,) = claims.judge(claim, rows([run(share=20.0), run(share=30.0)], []))
    assert check.measured == Measured(50, 25, -30, -20, {0: -30, 1: -20}) and check.verdict == SEEN


def test_classifiers_of_another_test_set_are_left_out():
    claim = replace(CLAIM, source="classification", checks={"accuracy": 1})
    row = {0: classifier(1, 1), 1: classifier(1, 1, 1)}
    base = {0: classifier(0, 1), 1: classifier(0, 1, 1)}
    (check,) = claims.judge(claim, NOTHING._replace(classification=dict(small=dict(row=row, base=base))))
    assert check.measured.seeds == {0: 50}


def classifier(*right):
    bits = b64encode(np.packbits(np.array(right, dtype=bool))).decode()
    return dict(metrics=dict(accuracy=100 * sum(right) / len(right)), right=bits, tested=len(right))


def test_classifiers_are_compared_image_by_image():
    claim = replace(CLAIM, source="classification", checks={"accuracy": 1})
    base = {0: classifier(1, 0, 0, 0, 1), 1: classifier(1, 0, 0, 0, 1)}
    row = {0: classifier(1, 1, 0, 1, 1), 1: classifier(1, 1, 0, 0, 0)}
    (check,) = claims.judge(claim, NOTHING._replace(classification=dict(small=dict(row=row, base=base))))
    better = np.array([0, 1, 0, 0.5, -0.5])
    half = 196 * better.std() / 5**0.5
    assert check.where == "small" and check.measured.seeds == {0: 40, 1: 0}
    assert (check.measured.before, check.measured.after) == (40, 60)
    assert (check.measured.low, check.measured.high) == pytest.approx((20 - half, 20 + half))


def accuracies(*values):
    return {seed: dict(metrics=dict(accuracy=value)) for seed, value in enumerate(values)}


def test_a_spread_is_told_from_ten_seeds_on():
    claim = replace(CLAIM, source="spread", rule="down", checks={"accuracy": 0})

    def check(row, base):
        there = dict(small=dict(row=accuracies(*row), base=accuracies(*base)))
        return claims.judge(claim, NOTHING._replace(classification=there))[0]

    wide, narrow = [0.0, 10.0] * 5, [0.0, 1.0] * 5
    assert check(narrow, wide).verdict == SEEN and check(wide, narrow).verdict == OPPOSITE
    assert check(narrow[:9], wide).verdict == UNTOLD and check(narrow[:1], wide).verdict == NOT_RUN
    assert check(narrow, narrow).verdict == UNTOLD


def test_cost_is_told_in_percent_and_stages_add_up():
    plain = dict(seconds=1.0, seconds_std=0.1, iterations=100, memory_gb=2.0, growth=1.0)
    first, second = plain | dict(seconds=0.8, memory_gb=3.0), plain | dict(seconds=0.6, growth=4.0)
    cost = dict(base=dict(base=plain), row={"row, first": first, "row, second": second})

    def check(metric):
        claim = replace(CLAIM, source="cost", checks={metric: 5})
        return claims.judge(claim, NOTHING._replace(cost=cost))[0].measured

    assert (
        check("memory_gb").after == pytest.approx(50) and check("growth").after - check("growth").before == 3
    )
    half = 196 * (2 * 0.1**2 / 100 + 0.1**2 / 100 * 1.4**2) ** 0.5
    seconds = check("seconds")
    assert (seconds.after, seconds.low, seconds.high) == pytest.approx((40, 40 - half, 40 + half))


def classes(groups, places, bases, partners=()):
    partner = dict(partners) | {b: a for a, b in partners}
    return [
        dict(name=f"{i}", group=g, place=[float(p)], base=b, cooccurs_with=partner.get(f"{i}"))
        for i, (g, p, b) in enumerate(zip(groups, places, bases, strict=True))
    ]


def test_look_alikes_share_groups_by_chance_or_more():
    claim = replace(CLAIM, source="groups", row=None, base=None, checks={"together": 1})
    groups, bases = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], "aabbccddee"

    def check(groups, bases, seeds=(0,)):
        there = {seed: classes(groups, range(10), bases) for seed in seeds}
        return claims.judge(claim, NOTHING._replace(groups=there))[0]

    told = check(groups, bases, seeds=(0, 1))
    assert told.measured.before == pytest.approx(100 * 5 / 45, abs=0.5) and told.measured.after == 100
    assert told.verdict == SEEN and list(told.measured.seeds) == [0, 1]
    assert check([0, 1] * 5, bases).measured.after == 0
    assert check([0] * 10, bases).verdict == NOT_SEEN  # in one group they are together by chance
    assert check(groups, range(10)).verdict == NOT_RUN  # no class looks like another


def test_companions_lie_nearer_than_pairs_at_large():
    claim = replace(CLAIM, source="groups", row=None, base=None, checks={"nearer": 1})
    places = [0, 1, 20, 21, 40, 41, 60, 61]
    partners = [("0", "1"), ("2", "3"), ("4", "5"), ("6", "7")]
    there = classes([0] * 8, places, "abcdefgh", partners)
    (check,) = claims.judge(claim, NOTHING._replace(groups={0: there}))
    pairs = [abs(a - b) for i, a in enumerate(places) for b in places[:i]]
    assert check.measured.after == pytest.approx(100 * (1 - 1 / np.mean(pairs))) and check.verdict == SEEN


def test_the_papers_numbers_are_looked_up():
    found = {
        (claim.id, metric): claims.papers(claim, metric)
        for claim in claims.claims()
        for metric in claim.checks
    }
    assert found["A.1", "segm_tide_Cls"] == (7.15, 25.10)
    assert found["A.2", "segm_tide_Cls"] == (25.10, 20.74)
    assert found["B.1c", "segm_AP"] == (23.2, 23.7)
    assert found["B.2", "accuracy"] == (43.7, 43.9) and found["B.3b", "accuracy"] == (0.85, 0.25)
    assert found["C.3", "seconds"] == pytest.approx((0, 3.125)) and found["C.2", "growth"] is None
    assert found["E.6", "segm_pool_APr"] == pytest.approx((9.0 - 27.2, 11.9 - 27.4))
    assert found["G.5", "segm_APr"] == (10.2, 11.1) and found["H.1", "segm_rare_score"] is None


def test_the_paper_confirms_itself():
    """A claim whose numbers the paper has is on its side there: rules and rows are the right way round."""
    for claim in claims.claims():
        for metric, margin in claim.checks.items():
            if both := claims.papers(claim, metric):
                gain = both[1] - both[0]
                there = Measured(*both, gain, gain, {0: gain})
                assert claims.verdict(claim.rule, there, margin) == SEEN, (claim.id, metric)


def test_every_row_that_a_claim_needs_runs():
    params = read_params(Path(__file__).parents[2] / "params.yaml")
    for claim in claims.claims():
        rows = params.classify.rows if claim.source in ("classification", "spread") else params.run.rows
        assert {claim.row, claim.base} - {None} <= set(rows), claim.id


def test_ids_are_those_of_the_appendixs_sections_each_once():
    ids = [claim.id for claim in claims.claims()]
    assert len(set(ids)) == len(ids) and sorted({one[0] for one in ids}) == list(claims.SECTIONS)


def test_the_text_counts_and_labels():
    kept = dict(AP=[2.0, 2.0])
    seen = claims.judge(
        CLAIM, rows([run(AP=2.0, replicates=kept)], [run(AP=1.0, replicates=dict(AP=[1, 1]))])
    )
    same = claims.judge(
        replace(CLAIM, id="B.1", findings=dict(small="We looked.\n")),
        rows(*[[run(AP=1.0, replicates=dict(AP=[1, 1]))] * 2] * 2),
    )
    missing = claims.judge(replace(CLAIM, id="B.2", rule="at_most"), NOTHING)
    text = claims.text([*seen, *same, *missing], "small")
    assert "**B.1**, x: not looked into yet." in claims.text(same, "other")
    assert "**1 seen, 1 not seen, 1 not run**: 3 claims, 3 checks." in text
    x, y, z = (line for line in text.splitlines() if line.startswith(("| A.1", "| B.1", "| B.2")))
    assert "| higher, ±0.5 | -     | 1.0 → 2.0 | +1.0 [+1.0, +1.0] | +1.0 " in x
    assert "| ✓ seen (one seed) | X: row over base " in x
    assert "| 0.0 [0.0, 0.0] " in y and " 0.0 0.0 |" in y and "| ○ not seen " in y
    assert "| … not run " in z and "| not higher, +0.5 |" in z
    assert "**B.1**, x: We looked." in text and "**A.1**" not in text
    headings = [line for line in text.splitlines() if line.startswith("###")]
    assert headings == [
        "### A: classification errors",
        "### B: sampling probabilities",
        "### Of what is not seen, opposite, or not to be told",
    ]
    line = claims.line([*seen, *same, *missing, *missing], "B.2")
    assert (
        line == "Its [claims](#claims-b): **B.2** AP: not run, AP: not run." and '<a id="claims-b">' in text
    )
    told = claims.plain([*seen, *missing])
    assert told[0]["seeds"] == {"0": 1.0} and told[0]["verdict"] == SEEN and "before" not in told[1]


def test_the_rule_is_told_in_words():
    assert all(f"**{verdict}**" in claims.HOW for verdict in (SEEN, OPPOSITE, NOT_SEEN, UNTOLD))
    told = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in claims.RULES.splitlines()[2:]}
    names = dict(up="higher", down="lower", at_least="not lower", at_most="not higher", equal="equal")
    within = measured(-0.1, 0.1, 0.1, -0.1)
    for rule, name in (names | dict(differs="differs")).items():
        seen, _, not_seen = (cell.strip() for cell in told.pop(name))
        wide_enough = "margin" in seen and not seen.startswith(claims.FAR)
        assert wide_enough == (claims.verdict(rule, within, 0.5) == SEEN)
        assert (not_seen != "-") == (claims.verdict(rule, within, 0.5) == NOT_SEEN)
    assert not told


def test_a_spread_and_what_another_metric_is_taken_from_are_named():
    spread = replace(CLAIM, source="spread", checks={"accuracy": 0})
    assert "| SD of accuracy |" in claims.text(claims.judge(spread, NOTHING), "small")
    minus = replace(CLAIM, checks={"segm_APr": 1}, minus="segm_AP")
    assert "| mask APr - mask AP |" in claims.text(claims.judge(minus, NOTHING), "small")


def test_sets_that_have_run_are_told_of_though_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results" / "classify" / "large" / "ce-0.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"metrics": {}}')
    classifiers = dict(sets=["small"], others=["large", "other"], rows=["ce"], seeds=[0])
    there, _ = claims.evidence(dict(profile="tiny", rows=[], seeds=[], classifiers=classifiers))
    assert there.classification == dict(small={}, large=dict(ce={0: dict(metrics={})}))
