"""A row of params.yaml and a profile become a job."""

import inspect
from typing import Any

import msgspec

import fasa
from fasa import traits
from fasa.augmenter import FILLED_IN, check_arguments
from fasa.classification import job as classification
from fasa.data import kinds
from fasa.errors import UserError
from fasa.job import MODEL, Candidate, Job, method
from fasa.params import AugmenterTrait, Params, Profile
from fasa.sections import merged, read

AFTER_WARMUP = {"train", "traits", "table", "cost"}  # of a profile: nothing that its rows share depends on it


def compose(params: Params, profile: str, row: str, seed: int) -> Job:
    """The job of a row at a profile's scale.

    Raises:
        UserError: a trait that does not exist, settings that it refuses, or traits that exclude each other.
    """
    scale, mine, where = params.sections[profile], params.rows[row], f"rows.{row}"
    fragments, adapting, source = {}, None, ""
    for trait in mine.traits:
        numbers, place = scale.traits.get(trait, {}), f"{profile}.traits.{trait}"
        if traits.exists(trait):
            settings = read(traits.load(trait).Settings, numbers, place)
            fragments[trait] = msgspec.to_builtins(settings)
        elif trait not in scale.traits:
            known = sorted({*scale.traits, *(path.stem for path in traits.FOLDER.glob("*.py"))})
            raise UserError(
                f"params.yaml: {where}.traits: {trait!r} is neither a file of {traits.FOLDER} nor in "
                f"{profile}.traits; known: {', '.join(known)}"
            )
        elif adapting is not None:
            raise UserError(f"params.yaml: {where}.traits: {trait} is a second augmenter; a row has one")
        else:
            adapting, source = read(AugmenterTrait, numbers, place), f"{place}.augmenter"
    augmenter = merged(adapting.augmenter, mine.augmenter) if adapting is not None else None
    if adapting is None and (mine.augmenter or mine.adapt_every is not None or mine.signal):
        raise UserError(
            f"params.yaml: {where}: augmenter, adapt_every and signal change a trait, which it has not"
        )
    if augmenter is not None:
        check_augmenter(augmenter, source, where)
    changes_warmup = any(traits.load(name).warmup for name in fragments)
    changes_scores = augmenter is not None and method(augmenter).changes_scores
    changes_moments = augmenter is not None and _changes_moments(augmenter)
    scoring = [name for name in fragments if getattr(traits.load(name), "scores", False)]
    if scoring and changes_scores:
        raise UserError(
            f"params.yaml: {where}: {augmenter['type']} has scores of its own, as has {', '.join(scoring)}"
        )
    adapt_every = mine.adapt_every if mine.adapt_every is not None else adapting and adapting.adapt_every
    if adapt_every is not None and not method(augmenter).adapts():
        raise UserError(f"params.yaml: {where}.adapt_every: nothing adapts in this row; leave it out")
    return _job(
        profile,
        scale,
        row=row,
        seed=seed,
        model=mine.model,
        traits=fragments,
        augmenter=augmenter,
        adapt_every=adapt_every,
        signal=mine.signal or (adapting.signal if adapting else "loss"),
        train=scale.train,
        own_warmup=mine.model != MODEL or changes_warmup or changes_scores or changes_moments,
    )


def _changes_moments(augmenter: dict[str, Any]) -> bool:
    """Whether what FASA gathers in the shared warm-up is not what this method would have gathered."""
    momentum = inspect.signature(fasa.FASA).parameters["momentum"].default
    another = method(augmenter) is fasa.FASA and augmenter.get("momentum", momentum) != momentum
    return method(augmenter).own_moments or another


def shared_warmup(params: Params, profile: str, seed: int) -> Job:
    """The job of what the rows of a seed share: FASA gathers moments and draws nothing."""
    scale = params.sections[profile]
    train = scale.warmup or scale.train
    return _job(profile, scale, row="warmup", seed=seed, augmenter=dict(type="FASA"), train=train)


def _job(profile: str, scale: Profile, traits: dict[str, dict] | None = None, **own: Any) -> Job:
    """A job at a profile's scale."""
    precise = {} if scale.precision == "float32" else {scale.precision: {}}
    return Job(
        profile=profile,
        data=f"data/{profile}",
        configs=scale.configs or profile,
        config=scale.config,
        weights=scale.weights,
        threads=scale.threads,
        optimizer=scale.optimizer,
        pretrained=f"runs/{profile}/pretrain.pth" if scale.pretrain else None,
        warmup=scale.warmup,
        traits=precise | (traits or {}),
        **own,
    )


def candidate(params: Params, study: str, name: str, seed: int) -> Candidate:
    """What one candidate of a study trains at the study's scale.

    All candidates of a study train a warm-up of their own where any of them changes what a warm-up depends
    on: so they compare, and stay what they are when the profile takes up what was chosen.

    Raises:
        UserError: an override that the profile's section cannot take.
    """
    profile, those = params.tuning[study].profile, params.tuning[study].candidates
    where = f"tuning.{study}.candidates.{name}"
    section = msgspec.to_builtins(params.sections[profile])
    if "optimizer" in those[name]:
        del section["optimizer"]
    section = read(Profile, merged(section, those[name]), where)
    params = msgspec.structs.replace(params, sections=params.sections | {profile: section})
    data = None
    if "data" in those[name]:
        module, settings = kinds.find(kinds.DETECTION, section.data, f"{where}.data")
        data = dict(module=module.__name__, settings=msgspec.to_builtins(settings))
    own = any(changes.keys() - AFTER_WARMUP for changes in those.values())
    return Candidate(
        rows=[compose(params, profile, row, seed) for row in params.tuning[study].rows],
        warmup=shared_warmup(params, profile, seed) if own else None,
        data=data,
        # Other data have other classes, of which a backbone must have seen none.
        pretrain=section.pretrain if {"data", "pretrain"} & those[name].keys() else None,
    )


def compose_classifier(params: Params, set_name: str, row: str, seed: int) -> classification.Job:
    """The job of a row of classification on a set.

    Raises:
        UserError: a trait that the set has not, settings that are refused, or a method that needs a detector.
    """
    there, mine = params.classification.sets[set_name], params.classification.rows[row]
    where, place = f"classification.rows.{row}", f"classification.sets.{set_name}"
    settings = dict(loss=mine.loss)
    changed = {name: getattr(mine, name) for name in ("adapt_every", "adapt_split", "signal")}
    changed = {name: value for name, value in changed.items() if value is not None}
    if not mine.traits and (mine.augmenter or changed):
        raise UserError(
            f"params.yaml: {where}: what it changes is an augmenter's; it names none under traits"
        )
    for name in mine.traits:
        if name not in there.traits:
            raise UserError(f"params.yaml: {where}.traits: {name!r} is not in {place}.traits")
        trait = there.traits[name]
        augmenter = merged(trait.augmenter, mine.augmenter)
        check_augmenter(augmenter, f"{place}.traits.{name}.augmenter", where)
        if method(augmenter).needs_maps or method(augmenter).changes_scores:
            raise UserError(
                f"params.yaml: {place}.traits.{name}: {augmenter['type']} needs a detector's head"
            )
        settings |= msgspec.structs.asdict(trait) | dict(augmenter=augmenter) | changed
    return classification.Job(
        set=set_name,
        row=row,
        seed=seed,
        schedule=there.schedule,
        settings=classification.Row(**settings),
        shots=there.shots,
        threads=there.threads,
        precision=there.precision,
    )


def check_augmenter(section: dict[str, Any], where: str, row: str) -> None:
    """Build an augmenter for two classes: it checks what it is given.

    Args:
        where: the dotted path of its section.
        row: that of the row that may have changed it.

    Raises:
        UserError: there is no such method, or arguments that it refuses.
    """
    if not isinstance(kind := section.get("type"), str) or kind not in fasa.methods():
        raise UserError(f"params.yaml: {where}.type is {kind!r}; known: {', '.join(sorted(fasa.methods()))}")
    known = inspect.signature(method(section)).parameters
    given = dict(num_classes=2, width=2, map_shape=(1, 1, 1))
    given = {name: value for name, value in given.items() if name in known}
    arguments = {name: value for name, value in section.items() if name != "type"}
    check_arguments(method(section), arguments, f"params.yaml: {where}", FILLED_IN | {"seed"})
    try:
        method(section)(**given, **arguments)
    except (TypeError, ValueError) as error:
        place = f"{where} (as {row} has it)" if row else where
        raise UserError(f"params.yaml: {place}: {error}") from None
