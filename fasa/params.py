"""params.yaml as types: ranges and choices stand here, and nothing that is not here is accepted."""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fasa.classification import job as classification
from fasa.errors import UserError
from fasa.job import MODEL, Optimizer, Pretraining, Schedule
from fasa.sections import Count, Name, Positive, Section, Seed, read, refuse_odd, resolved

Precision = Literal["float32", "bfloat16"]


class Row(Section):
    """What distinguishes a row from plain Mask R-CNN, the same at every scale.

    Args:
        model: a file of the profile's configs, without its suffix.
        traits: each a fragment in ``configs/traits``, or an augmenter in the profile's `traits`.
        augmenter: arguments in place of the trait's own.
        adapt_every, signal: in place of the trait's own, see `fasa.job.Job`.
    """

    model: Name = MODEL
    traits: list[Name] = []
    augmenter: dict[str, Any] = {}
    adapt_every: Count | None = None
    signal: Literal["loss", "metric"] | None = None


class AugmenterTrait(Section):
    """A trait that is an augmenter: its arguments at a profile's scale, and how it adapts.

    Args:
        augmenter: a method of `fasa` and its arguments, such as ``{type: FASA, prob_scale: 8}``.
        adapt_every, signal: see `fasa.job.Job`.
    """

    augmenter: dict[str, Any]
    adapt_every: Count | None = None
    signal: Literal["loss", "metric"] = "loss"


class Table(Section):
    """How rows are compared.

    Args:
        resamples: of the paired bootstrap.
    """

    resamples: Positive = 1000


class Cost(Section):
    """How the cost of a row is measured.

    Args:
        iterations: that are timed.
        batch: images of an iteration; None: those of training.
    """

    iterations: Annotated[int, Meta(ge=2)] = 120
    batch: Positive | None = None


class Profile(Section):
    """A scale: data, schedule and the numbers of the traits.

    In the file ``like: NAME`` takes what is not said from another profile, see `fasa.sections.resolved`.

    Args:
        data: of a kind of `fasa.data.kinds`, and its settings.
        configs: the folder below ``configs`` with the models; None: of the profile's own name.
        config: what differs from those configs, nested as they are, such as ``{model: {backbone: ...}}``.
        weights: that backbones start from: "imagenet", or a file, in whose name ``{depth}`` stands for the
            ResNet's; None: random.
        threads: of a stage, on the CPU; the last digits of metrics depend on it.
        precision: in which networks compute while they train, see `fasa.detection.bfloat16`.
        optimizer: of both parts of a training.
        pretrain: of the backbone; None: it starts from `weights`.
        warmup: of what the rows of a seed share; None: each is trained from its initial weights.
        train: of a row's own part.
        launch: the command that training and detection run under, such as ``torchrun --nproc_per_node=8``,
            as text or a list of words; empty: none. See `fasa.pipeline.launch`, which reads it: it is no
            part of a job.
        traits: settings of fragments, which have defaults, and `AugmenterTrait`s, by name.
        table, cost: how rows are compared and measured.
    """

    data: dict[str, Any]
    optimizer: Optimizer
    train: Schedule
    pretrain: Pretraining | None = None
    warmup: Schedule | None = None
    configs: Name | None = None
    config: dict[str, Any] = {}
    weights: str | None = None
    threads: Positive = 1
    precision: Precision = "float32"
    launch: str | list[str] = ""
    traits: dict[Name, dict[str, Any]] = {}
    table: Table = Table()
    cost: Cost = Cost()

    def __post_init__(self):
        if self.pretrain and self.weights:
            raise ValueError("pretrain and weights exclude each other: both say what backbones start from")


class ClassifierRow(Section):
    """What distinguishes a row of classification from plain cross-entropy, the same on every set.

    Args:
        loss: see `fasa.classification.job.Row`.
        traits: at most one, an augmenter of the set's `traits`.
        augmenter: arguments in place of the trait's own.
        adapt_every, adapt_split, signal: in place of the trait's own.
    """

    loss: classification.Losses = "cross_entropy"
    traits: Annotated[list[Name], Meta(max_length=1)] = []
    augmenter: dict[str, Any] = {}
    adapt_every: Positive | None = None
    adapt_split: Literal["adapt", "test"] | None = None
    signal: Literal["loss", "metric"] | None = None


class ClassifierTrait(Section):
    """An augmenter's arguments on a set, and how it adapts, see `fasa.classification.job.Row`."""

    augmenter: dict[str, Any]
    adapt_every: Positive = 1
    adapt_split: Literal["adapt", "test"] = "adapt"
    signal: Literal["loss", "metric"] = "loss"


class Set(Section):
    """A data set of classification, how to train on it, and the numbers of the traits.

    Args:
        data: of a kind of `fasa.data.kinds`, and its settings.
        schedule: how long and how fast to train.
        seed: of what is drawn of the data; the same for all rows.
        shots: few-shot classes have fewer images than the first, many-shot ones more than the second.
        threads: of the CPU.
        precision: of the network up to the embeddings.
        traits: the augmenters that rows name.
    """

    data: dict[str, Any]
    schedule: classification.Schedule
    shots: Annotated[list[Count], Meta(min_length=2, max_length=2)]
    seed: Seed = 0
    threads: Positive = 1
    precision: Precision = "float32"
    traits: dict[Name, ClassifierTrait] = {}

    def __post_init__(self):
        if self.shots != sorted(self.shots):
            raise ValueError(f"shots is {self.shots}; the smaller comes first")


class Classification(Section):
    """Data sets and rows of Tables 3 and 4."""

    sets: dict[Name, Set]
    rows: dict[Name, ClassifierRow]


class Run(Section):
    """What runs of the detector: every row on every seed, at the scale of every profile."""

    rows: Annotated[list[Name], Meta(min_length=1)]
    seeds: Annotated[list[Seed], Meta(min_length=1)]


class Shown(Section):
    """The run that ``dvc metrics show``, ``dvc exp show`` and the losses of ``dvc plots show`` tell of.

    At the scale of the first profile: one run has one column a metric; each of many would have its own.
    """

    row: Name
    seed: Seed = 0


class Classify(Section):
    """What is trained of the classifier: every row on every set, for every seed."""

    sets: list[Name]
    rows: list[Name]
    seeds: list[Seed]


class Study(Section):
    """What ``dvc repro tuning/STUDY/dvc.yaml`` tries; its rule is in `fasa.report.tuning`.

    Args:
        profile: whose settings it is to choose; not planned where that is none of `Params.profiles`.
        rows: that the rule looks at.
        seeds: of `Run.seeds`.
        candidates: by name, what each changes in the profile's section; an optimizer is changed whole.
    """

    profile: Name
    rows: Annotated[list[Name], Meta(min_length=1)]
    seeds: Annotated[list[Seed], Meta(min_length=1)]
    candidates: Annotated[dict[Name, dict[str, Any]], Meta(min_length=1)]


class Params(Section):
    """All of params.yaml.

    Args:
        profiles: the scales that run.
        run, classify: what runs of each.
        shown: what DVC's tables tell of.
        tuning: the studies by which settings are chosen.
        repro: the rows that ``make repro`` runs, of those in `run.rows`.
        rows: of the detector, the same at every scale.
        classification: its sets and rows.
        sections: every other key of the file, a profile each.
    """

    profiles: Annotated[list[Name], Meta(min_length=1)]
    run: Run
    shown: Shown
    repro: list[Name]
    classify: Classify
    tuning: dict[Name, Study]
    rows: dict[Name, Row]
    classification: Classification
    sections: dict[Name, Profile]

    def __post_init__(self):
        sets = self.classification.sets
        for where, values, known in (
            ("profiles", self.profiles, self.sections),
            ("run.rows", self.run.rows, self.rows),
            ("run.seeds", self.run.seeds, None),
            ("shown.row", [self.shown.row], self.rows),
            ("repro", self.repro, self.rows),
            ("classify.sets", self.classify.sets, sets),
            ("classify.rows", self.classify.rows, self.classification.rows),
            ("classify.seeds", self.classify.seeds, None),
            *(
                (f"tuning.{name}.profile", [study.profile], self.sections)
                for name, study in self.tuning.items()
            ),
            *((f"tuning.{name}.rows", study.rows, self.rows) for name, study in self.tuning.items()),
            *((f"tuning.{name}.seeds", study.seeds, None) for name, study in self.tuning.items()),
        ):
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ValueError(f"{where} names {twice[0]!r} twice")
            if unknown := [value for value in values if known is not None and value not in known]:
                names = ", ".join(map(str, sorted(known)))
                raise ValueError(f"{where}: there is no {unknown[0]!r}; known: {names}")
        if "classify" in sets:
            raise ValueError(
                "classification.sets: classify is the folder of all sets' runs; choose another name"
            )
        if both := self.sections.keys() & sets.keys():
            raise ValueError(
                f"{min(both)} is a profile and a set of classification: they would share folders"
            )


def read_params(path: str | Path) -> Params:
    """Read and check params.yaml as DVC reads it: YAML 1.2, where ``1e-3`` is a number and ``no`` a string.

    Raises:
        UserError: one line that says what is wrong, by the dotted path that ``dvc exp run -S`` takes.
    """
    path = Path(path)
    try:
        content = YAML(typ="safe", pure=True).load(path.read_bytes().decode())
        refuse_odd(content, "")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply, or an alias (*) holds itself") from None
    except UserError:
        raise
    except (OSError, YAMLError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is {type(content).__name__}, not keys and values; git checkout {path.name}")
    known = {
        name: content[name] for name in Params.__struct_fields__ if name in content and name != "sections"
    }
    sections = {str(name): value for name, value in content.items() if name not in known}
    profiles = content.get("profiles")
    for name in profiles if isinstance(profiles, list) else ():
        if isinstance(name, str) and name not in sections:
            raise UserError(f"params.yaml: profiles names {name!r}, but there is no section {name}")
    sections = {name: resolved(sections, name) for name in sections}
    for name, section in sections.items():
        if not isinstance(section, dict) or "data" not in section:
            names = ", ".join(name for name in Params.__struct_fields__ if name != "sections")
            raise UserError(
                f"params.yaml: {name} is unknown: neither one of {names}, nor a profile with data"
            )
        read(Name, name, "a profile")
        read(Profile, section, name)
    return read(Params, known | dict(sections=sections))
