import os
import signal
from functools import cache

import pytest
from serving import serving

# One thread: sums do not depend on the machine, and tests do not fight over cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts what it runs in the background deaf to Ctrl-C, and all that this starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine, whose `files` a test fills."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        yield server


def pytest_xdist_make_scheduler(config, log):
    """On several workers a file stays together where its tests share what is made once, and begins first.

    Any other test goes to the worker that has time. (``--dist loadgroup`` would do it, but pytest 9.2 ignores
    the names that it gives to tests.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return file if shares(config.rootpath / file) else nodeid

    return Scheduling(config, log)


@cache
def shares(path):
    """Whether a file of tests makes something once for all of them."""
    return 'scope="module"' in path.read_text()


@pytest.fixture(scope="session")
def tiny_glyphs(tmp_path_factory):
    """A data set of six classes, small enough to train on in seconds."""
    from fasa.data.kinds import DETECTION, find

    root = tmp_path_factory.mktemp("data") / "glyphs"
    images = dict(train=12, adapt=6, val=6, tune=6)
    sizes = dict(image_size=64, objects=[2, 3], object_size=[20, 36])
    section = dict(kind="glyphs", seed=0, classes=6, images=images, pairs=1, **sizes)
    module, settings = find(DETECTION, section, "data")
    module.prepare(settings, root)
    return root
