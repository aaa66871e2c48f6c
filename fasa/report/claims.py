"""Each claim of the appendix against our numbers, by a rule that was written down before them (claims.yaml).

Shapes: R resamples, N test images, K classes, P permutations.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import yaml

from fasa.evaluation import interval
from fasa.record import Record
from fasa.report import classification
from fasa.report.summary import Records, comparable, read_records
from fasa.report.tables import column_name, definition, markdown, signed, words
from fasa.sections import Name, NonNegative, Section

Rule = Literal["up", "down", "at_least", "at_most", "equal", "differs"]
SEEN, OPPOSITE, NOT_SEEN, UNTOLD, NOT_MEASURED, NOT_RUN = VERDICTS = (
    "seen",
    "opposite",
    "not seen",
    "not to be told",
    "not measured",
    "not run",
)
PERMUTATIONS = 10_000
ENOUGH = 10  # seeds, below which nothing is told of a spread
SECTIONS = dict(
    A="classification errors",
    B="sampling probabilities",
    C="time and memory",
    D="groups of classes",
    E="AP_Fixed and AP_Pool",
    F="remarks on other augmentations",
    G="NMS re-sampling",
    H="scores of rare objects",
)
MARKS = {SEEN: "✓", OPPOSITE: "✗", NOT_SEEN: "○", UNTOLD: "?", NOT_MEASURED: "-", NOT_RUN: "…"}
EXPECTED = dict(
    up="higher, ±{:g}",
    down="lower, ±{:g}",
    at_least="not lower, -{:g}",
    at_most="not higher, +{:g}",
    equal="equal, ±{:g}",
    differs="differs, ±{:g}",
)
FAR = "interval beyond the margin on that side, every seed beyond 0"
RULES = markdown(
    ["expected", "seen", "opposite", "not seen"],
    [
        ["higher", "interval above 0, every seed above 0", "both below 0", "interval within the margin"],
        ["lower", "interval below 0, every seed below 0", "both above 0", "interval within the margin"],
        ["equal", "interval within the margin", f"{FAR} (either)", "-"],
        ["not lower", "interval above minus the margin", FAR, "-"],
        ["not higher", "interval below the margin", FAR, "-"],
        ["differs", f"{FAR} (either)", "-", "interval within the margin"],
    ],
)
HOW = f"""How a verdict comes about. Beside what is *expected* stands its margin. The first that holds of
**seen**, **opposite** and **not seen** is the verdict, else it is **not to be told**.

{RULES}

For *seen* of higher and lower a small difference will do; *equal*, *not lower* and *not seen* ask nothing of
the seeds, so look at them. The 95% interval is

- of detectors, percentiles of a paired bootstrap over the images of val: what other images would have shown
  of the same networks. (In a resample some images come twice, which lifts AP a little, so that it need not
  lie around the difference.)
- of classifiers, the normal one over the test images;
- of class groups, the difference with 95% of {PERMUTATIONS:,} permutations of the classes in place of chance;
- of seconds, over iterations;
- of what is measured once a run, from the lowest seed to the highest.

None knows of luck in training; for that there are the seeds. A deviation over seeds is not told of below
{ENOUGH} seeds. Rules and margins stood before the runs that they judge, but for those called "added
later" (`fasa/report/claims.yaml`)."""


class Claim(Section):
    """A claim, as claims.yaml explains it."""

    id: str
    says: str
    rule: Rule
    checks: dict[str, NonNegative]
    source: Literal["runs", "classification", "spread", "cost", "groups"] = "runs"
    row: Name | None = None
    base: Name | None = None
    minus: str | None = None
    among: list[str] = []
    reference: float = 0.0
    table: Name | None = None
    paper: list[float] | None = None
    findings: dict[Name, str] = {}  # by profile


class Measured(NamedTuple):
    """What a check comes to. ``after`` minus ``before`` is the difference."""

    before: float
    after: float
    low: float
    high: float
    seeds: dict[int, float]  # the difference of each


class Evidence(NamedTuple):
    """What there is to judge by; of each source what has run."""

    runs: Records
    classification: dict[str, dict[str, dict[int, dict]]]  # by set, row and seed
    cost: dict[str, dict[str, dict[str, float]]]  # by row and variant
    groups: dict[int, list[dict]]  # the classes of each seed


def evidence(settings: dict[str, Any]) -> tuple[Evidence, list[str]]:
    """All that a profile has, and the names of runs that were judged on other images than the rest: left out.

    Args:
        settings: of the stage ``report``.
    """
    results, rows, seeds = f"results/{settings['profile']}", settings["rows"], settings["seeds"]
    classifiers = settings["classifiers"]
    runs, others = comparable(read_records(results, rows, seeds))
    trained = {
        name: classification.read_records(name, classifiers["rows"], classifiers["seeds"])
        for name in [*classifiers["sets"], *classifiers["others"]]
    }
    trained = {name: found for name, found in trained.items() if found or name in classifiers["sets"]}
    return Evidence(runs, trained, read_cost(results, rows), read_groups(results, seeds)), others


class Check(NamedTuple):
    """One metric of a claim, judged."""

    claim: Claim
    metric: str
    where: str  # the set of classification, else ""
    paper: tuple[float, float] | None  # before and after
    measured: Measured | None
    verdict: str


def claims() -> list[Claim]:
    """All of claims.yaml, in order."""
    entries = yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text())
    return [msgspec.convert(entry, Claim) for entry in entries]


def verdict(rule: Rule, measured: Measured | None, margin: float) -> str:
    """One of `VERDICTS`, by the rule that `HOW` tells in words."""
    if measured is None:
        return NOT_RUN
    low, high, seeds = measured.low, measured.high, list(measured.seeds.values())
    if rule in ("down", "at_most"):  # as up, at_least of the negative
        low, high, seeds = -high, -low, [-seed for seed in seeds]
    above, below = all(seed > 0 for seed in seeds), all(seed < 0 for seed in seeds)
    within = -margin <= low and high <= margin
    beyond = low > margin and above or high < -margin and below
    told = {
        "up": {SEEN: low > 0 and above, OPPOSITE: high < 0 and below, NOT_SEEN: within},
        "at_least": {SEEN: low >= -margin, OPPOSITE: high < -margin and below},
        "equal": {SEEN: within, OPPOSITE: beyond},
        "differs": {SEEN: beyond, NOT_SEEN: within},
    }[{"down": "up", "at_most": "at_least"}.get(rule, rule)]
    return next((name for name, holds in told.items() if holds), UNTOLD)


def judge(claim: Claim, evidence: Evidence) -> list[Check]:
    """The checks of a claim; one of classification on each set that there is."""

    def check(metric: str, measured: Measured | None, where: str = "") -> Check:
        told = verdict(claim.rule, measured, claim.checks[metric])
        if (
            told == NOT_RUN
            and claim.source == "runs"
            and evidence.runs.keys() >= {claim.row, claim.base} - {None}
        ):
            told = NOT_MEASURED  # no such classes, or no masks
        return Check(claim, metric, where, papers(claim, metric), measured, told)

    if claim.source in ("classification", "spread"):
        measure = of_classifiers if claim.source == "classification" else of_spread
        sets = evidence.classification or {"": {}}
        return [check(m, measure(claim, m, runs), name) for m in claim.checks for name, runs in sets.items()]
    measure, there = {
        "runs": (of_runs, evidence.runs),
        "cost": (of_cost, evidence.cost),
        "groups": (of_groups, evidence.groups),
    }[claim.source]
    return [check(metric, measure(claim, metric, there)) for metric in claim.checks]


def papers(claim: Claim, metric: str) -> tuple[float, float] | None:
    """The paper's numbers of what is subtracted and of what it is subtracted from; None where it has none."""
    if claim.paper:
        return tuple(claim.paper)
    if not claim.table:
        return None
    table = definition(claim.table)
    numbers = table["paper"]
    if claim.source == "cost":
        place = dict(seconds=0, memory_gb=2)[metric]
        return 0.0, 100 * (numbers[claim.row][place] / numbers[claim.base][place] - 1)

    def of(row: str, name: str) -> float:
        return numbers[row][table["columns"].index(name)]

    if claim.among:
        return max(of(claim.row, name) for name in claim.among), of(claim.row, metric)
    before, after = (
        of(row, metric) - (of(row, claim.minus) if claim.minus else 0) for row in (claim.base, claim.row)
    )
    return before, after


def of_runs(claim: Claim, metric: str, records: Records) -> Measured | None:
    """From the runs of the detector; None where they, or the metric, are not there."""
    mine, theirs = records.get(claim.row, {}), records.get(claim.base, {})
    seeds = sorted(mine.keys() & theirs.keys() if claim.base else mine)
    runs = [mine[seed] for seed in seeds]
    bases = [theirs[seed] for seed in seeds] if claim.base else []
    names = {metric, *claim.among} | ({claim.minus} if claim.minus else set())
    if not runs or any(name not in run.metrics for name in names for run in (*runs, *bases)):
        return None

    def sides(values: Callable[[Record], dict], i: int) -> tuple:
        """What seed i has before and after, from its metrics or its replicates."""

        def own(run: Record):
            return values(run)[metric] - (values(run)[claim.minus] if claim.minus else 0)

        if claim.among:
            return np.max([values(runs[i])[name] for name in claim.among], axis=0), own(runs[i])
        return (own(bases[i]) if claim.base else claim.reference), own(runs[i])

    each = [sides(lambda run: run.metrics, i) for i in range(len(seeds))]
    before, after = (float(mean(side)) for side in zip(*each, strict=True))
    differences = {seed: round(float(b - a), 9) for seed, (a, b) in zip(seeds, each, strict=True)}
    if all(name in run.replicates for name in names for run in (*runs, *bases)):
        resampled = [b - a for a, b in (sides(lambda run: run.replicates, i) for i in range(len(seeds)))]
        there = interval(after - before, np.round(np.mean(resampled, axis=0), 9))
        return Measured(before, after, there.low, there.high, differences)
    return Measured(before, after, min(differences.values()), max(differences.values()), differences)


def of_classifiers(claim: Claim, metric: str, runs: dict[str, dict[int, dict]]) -> Measured | None:
    """From the runs of a classifier on one set; the interval is the normal one over its test images."""
    mine, theirs = runs.get(claim.row, {}), runs.get(claim.base, {})
    seeds = sorted(
        seed for seed in mine.keys() & theirs.keys() if mine[seed]["tested"] == theirs[seed]["tested"]
    )
    seeds = [seed for seed in seeds if mine[seed]["tested"] == mine[seeds[0]]["tested"]]
    if not seeds:
        return None
    before, after = (mean(side[seed]["metrics"][metric] for seed in seeds) for side in (theirs, mine))
    differences = {s: mine[s]["metrics"][metric] - theirs[s]["metrics"][metric] for s in seeds}
    better = np.mean(
        [right(mine[seed]).astype(float) - right(theirs[seed]) for seed in seeds], axis=0
    )  # (N,)
    half = 1.96 * 100 * better.std() / len(better) ** 0.5
    return Measured(before, after, after - before - half, after - before + half, differences)


def right(record: dict) -> np.ndarray:
    """Which test images a classifier got right, (N,) bool."""
    bits = np.frombuffer(b64decode(record["right"]), np.uint8)
    return np.unpackbits(bits, count=record["tested"]).astype(bool)


def of_spread(claim: Claim, metric: str, runs: dict[str, dict[int, dict]]) -> Measured | None:
    """Standard deviations over seeds; below `ENOUGH` of them an interval without bounds."""
    both = [[one["metrics"][metric] for one in runs.get(row, {}).values()] for row in (claim.base, claim.row)]
    if min(map(len, both)) < 2:
        return None
    before, after = map(stdev, both)
    low, high = -np.inf, np.inf
    if min(map(len, both)) >= ENOUGH:
        from scipy.stats import f

        degrees = len(both[1]) - 1, len(both[0]) - 1
        low, high = (after / f.ppf(q, *degrees) ** 0.5 - before for q in (0.975, 0.025))
    return Measured(before, after, low, high, {})


def of_cost(claim: Claim, metric: str, cost: dict[str, dict[str, dict[str, float]]]) -> Measured | None:
    """What a row costs more, in percent of its base, or MB of growth; stages of a row that has two add up."""
    mine, theirs = cost.get(claim.row), cost.get(claim.base)
    if not mine or not theirs:
        return None
    (base,) = theirs.values()
    stages = list(mine.values())
    if metric == "growth":
        before, after = base["growth"], max(one["growth"] for one in stages)
        return Measured(before, after, after - before, after - before, {0: after - before})
    combine = sum if metric == "seconds" else max
    more = 100 * (combine(one[metric] for one in stages) / base[metric] - 1)
    half = 0.0
    if metric == "seconds":
        errors = [(one["seconds_std"] ** 2 / one["iterations"]) for one in stages]
        own = base["seconds_std"] ** 2 / base["iterations"] * ((more / 100 + 1) ** 2)
        half = 1.96 * 100 * (sum(errors) + own) ** 0.5 / base["seconds"]
    return Measured(0.0, more, more - half, more + half, {0: more})


def of_groups(claim: Claim, metric: str, groups: dict[int, list[dict]]) -> Measured | None:
    """How the classes of each seed lie, against chance: the classes change places, the same in all seeds."""
    if not groups:
        return None
    shared = set.intersection(*({one["name"] for one in classes} for classes in groups.values()))
    seeds = {
        seed: sorted((one for one in classes if one["name"] in shared), key=lambda one: one["name"])
        for seed, classes in groups.items()
    }
    pairs = dict(together=look_alikes, nearer=companions)[metric](next(iter(seeds.values())))
    if not len(pairs):
        return None
    closeness = dict(together=same_group, nearer=nearness)[metric]
    close = np.array([closeness(classes) for classes in seeds.values()])  # (seeds, K, K)
    rng = np.random.default_rng(0)
    chance = []
    for _ in range(PERMUTATIONS):
        a, b = rng.permutation(close.shape[1])[pairs.T]
        chance.append(close[:, a, b].mean(axis=1))
    chance = np.array(chance)  # (P, seeds)
    observed = close[:, pairs[:, 0], pairs[:, 1]].mean(axis=1)
    expected = close[:, *np.triu_indices(close.shape[1], 1)].mean(axis=1)
    low, high = observed.mean() - np.percentile(chance.mean(axis=1), [97.5, 2.5])
    differences = dict(zip(seeds, (observed - expected).tolist(), strict=True))
    return Measured(float(expected.mean()), float(observed.mean()), float(low), float(high), differences)


def look_alikes(classes: list[dict]) -> np.ndarray:
    """Pairs of classes of one base, (pairs, 2); none where that is not known."""
    bases = [one.get("base") for one in classes]
    return _pairs(len(classes), lambda a, b: bases[a] is not None and bases[a] == bases[b])


def companions(classes: list[dict]) -> np.ndarray:
    """Pairs of classes that were planted to share images, (pairs, 2)."""
    return _pairs(len(classes), lambda a, b: classes[a].get("cooccurs_with") == classes[b]["name"])


def _pairs(n: int, holds: Callable[[int, int], bool]) -> np.ndarray:
    return np.array([(a, b) for b in range(n) for a in range(b) if holds(a, b)], dtype=int).reshape(-1, 2)


def same_group(classes: list[dict]) -> np.ndarray:
    """100 where two classes share a group, else 0: (K, K)."""
    group = np.array([one["group"] for one in classes])
    return 100.0 * (group[:, None] == group)


def nearness(classes: list[dict]) -> np.ndarray:
    """By how many percent two classes lie nearer than pairs do on average, (K, K)."""
    place = np.array([one["place"] for one in classes])
    distance = np.linalg.norm(place[:, None] - place, axis=-1)
    return 100 * (1 - distance / distance[np.triu_indices(len(place), 1)].mean())


def text(checks: Sequence[Check], profile: str) -> str:
    """All of it in Markdown, a table for each section of the appendix."""
    counts = Counter(check.verdict for check in checks)
    counted = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name])
    number = len({check.claim.id for check in checks})
    parts = [f"**{counted}**: {number} claims, {len(checks)} checks.", HOW]
    for letter in sorted({check.claim.id[0] for check in checks}):
        mine = [check for check in checks if check.claim.id[0] == letter]
        parts += [f'<a id="claims-{letter.lower()}"></a>', f"### {letter}: {SECTIONS[letter]}", _table(mine)]
    by_claim = {
        check.claim.id: check.claim
        for check in checks
        if check.verdict in (OPPOSITE, NOT_SEEN)
        or check.verdict == UNTOLD
        and profile in check.claim.findings
    }
    if by_claim:
        parts.append("### Of what is not seen, opposite, or not to be told")
        parts += [
            f"**{claim.id}**, {claim.says}: {claim.findings.get(profile, 'not looked into yet.').strip()}"
            for claim in by_claim.values()
        ]
    return "\n\n".join(parts)


def _table(checks: Sequence[Check]) -> str:
    header = ["", "verdict", "claim", "metric", "expected", "paper", "ours", "difference [95%]", "seeds"]
    body, before = [], None
    for check in checks:
        claim, there = check.claim, check.measured
        rows = " over ".join(words(row) for row in (claim.row, claim.base) if row)
        says = claim.says[0].upper() + claim.says[1:] + (f": {rows}" if rows else "")
        says += f", on {check.where}" if check.where else ""
        told = says if (claim.id, says) != before else ""  # of several metrics it is said once
        expected = EXPECTED[claim.rule].format(claim.checks[check.metric])
        paper = _change(*check.paper) if check.paper else "-"
        ours = [_change(there.before, there.after), *_difference(there)] if there else ["-", "-", "-"]
        judged = f"{MARKS[check.verdict]} {_labelled(check)}"
        body.append([claim.id, judged, told, _metric(check), expected, paper, *ours])
        before = claim.id, says
    return markdown(header, body)


def line(checks: Sequence[Check], section: str) -> str:
    """The verdicts on the claims of one section of the appendix, in a line: ``"B.1"``."""
    told: dict[str, list[str]] = {}
    for check in checks:
        if check.claim.id.startswith(section):
            where = " on ".join(filter(None, [_metric(check), check.where]))
            told.setdefault(check.claim.id, []).append(f"{where}: {_labelled(check)}")
    verdicts = "; ".join(f"**{name}** {', '.join(each)}" for name, each in told.items())
    return f"Its [claims](#claims-{section[0].lower()}): {verdicts}."


def _metric(check: Check) -> str:
    name = column_name(check.metric)
    if check.claim.source == "spread":
        return f"SD of {name}"
    return f"{name} - {column_name(check.claim.minus)}" if check.claim.minus else name


def _change(before: float, after: float) -> str:
    return f"{round(before, 1) + 0:.1f} → {round(after, 1) + 0:.1f}"  # + 0: no minus before nothing


def _difference(there: Measured) -> list[str]:
    bounded = np.isfinite([there.low, there.high]).all()
    bounds = f" [{signed(there.low)}, {signed(there.high)}]" if bounded else ""
    return [
        signed(there.after - there.before) + bounds,
        " ".join(map(signed, there.seeds.values())) or "-",
    ]


def _labelled(check: Check) -> str:
    alone = check.measured is not None and len(check.measured.seeds) == 1
    once = "one measurement" if check.claim.source == "cost" else "one seed"
    return f"{check.verdict} ({once})" if alone else check.verdict


def plain(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The same as plain data."""
    told = []
    for check in checks:
        there = check.measured
        one = dict(id=check.claim.id, says=check.claim.says, rule=check.claim.rule, metric=check.metric)
        one |= dict(margin=check.claim.checks[check.metric], paper=check.paper, verdict=check.verdict)
        if check.where:
            one["set"] = check.where
        if there:
            numbers = there._replace(seeds={str(seed): value for seed, value in there.seeds.items()})
            one |= {
                name: _finite(value) for name, value in numbers._asdict().items() if name != "seeds"
            } | dict(seeds=numbers.seeds)
        told.append(one)
    return told


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def read_groups(results: str | Path, seeds: Sequence[int]) -> dict[int, list[dict]]:
    """The grouped classes of each seed that has run."""
    paths = {seed: Path(results, "clusters", f"{seed}.json") for seed in seeds}
    found = {seed: json.loads(path.read_text())["classes"] for seed, path in paths.items() if path.exists()}
    return {seed: classes for seed, classes in found.items() if classes}  # none where rows share no warm-up


def read_cost(results: str | Path, rows: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """What rows cost that were measured, by row and variant."""
    paths = {row: Path(results, "cost", f"{row}.json") for row in rows}
    return {row: json.loads(path.read_text()) for row, path in paths.items() if path.exists()}
