import os
import signal

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """On workers (``--dist loadgroup``) a file stays together where its tests share what is made once.

    The largest such group begins first; any other test goes to the worker that has time.
    """
    for item in items:
        shared = (one for found in item._fixtureinfo.name2fixturedefs.values() for one in found)
        if any(one.scope == "module" for one in shared):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


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
