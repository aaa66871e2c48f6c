"""Jobs of the embedded model on a small data set, for tests."""

from fasa.job import Job, Optimizer, Schedule

TRAITS = dict(nms_resampling="nms", instaboost="instaboost", rfs="rfs")


def job(data, seed=0, iterations=6, lr=1e-3, batch=2, loss=None, classifier=None, **settings):
    """A job of the embedded model on a small data set; traits by their names."""
    names = [TRAITS[name] for name in TRAITS if settings.get(name)]
    traits = {TRAITS[name]: settings.pop(name) for name in list(settings) if name in TRAITS}
    traits = {
        name: value if isinstance(value, dict) else {} for name, value in traits.items() if name in names
    }
    traits |= {name: {} for name in (loss, classifier) if name not in (None, "cross_entropy", "linear")}
    schedule = Schedule(iterations=iterations, batch=batch)
    settings.setdefault("optimizer", Optimizer(type="AdamW", lr=lr, weight_decay=0.05))
    place = dict(profile="small", data=str(data), configs="embedded", row="row", seed=seed, threads=1)
    return Job(**place, train=schedule, warmup=schedule, traits=traits, **settings)
