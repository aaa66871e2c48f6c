"""How often a GPU would have to stop for the host in a step; counted on the CPU, by what is called."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fasa import FASA, ReleasedFASA
from fasa.augmenter import virtual_loss

K, D = 40, 8
# Operators whose result, or the size of it, the host has to know; `bincount` asks for least and greatest.
STOPS = {
    "_local_scalar_dense": 1,
    "nonzero": 1,
    "masked_select": 1,
    "bincount": 2,
    "_unique2": 1,
    "unique_dim": 1,
    "equal": 1,
    "is_nonzero": 1,
}


class Stops(TorchDispatchMode):
    """Counts them; indexing by a mask is a hidden `nonzero`."""

    def __init__(self):
        super().__init__()
        self.n, self.names = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        stops = STOPS.get(name, 0)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            stops = sum(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
        if stops:
            self.n += stops
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_the_counter_counts():
    x = torch.arange(6)
    for stop, n in (
        (lambda: x.sum().item(), 1),
        (lambda: bool(x.any()), 1),
        (lambda: x[x > 2], 1),
        (lambda: x.__setitem__(x > 2, 0), 1),
        (lambda: x.nonzero(), 1),
        (lambda: torch.bincount(x), 2),
        (lambda: x.unique(), 1),
        (lambda: x.clone().index_add_(0, x, x), 0),
        (lambda: x.masked_fill(x > 2, 0), 0),
    ):
        with Stops() as stops:
            stop()
        assert stops.n == n, stops.names


@pytest.mark.parametrize("method", [FASA, ReleasedFASA])
@pytest.mark.parametrize("warmup", [0, 1000])
def test_a_step_of_fasa_stops_three_times(method, warmup):
    """For which rows are foreground, which classes are in the batch, and which were drawn."""
    augmenter, fc = method(K, D, prob_scale=5, warmup=warmup), torch.nn.Linear(D, K + 1)
    augmenter.initialise(torch.arange(1, K + 1))
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 5):
        z = torch.randn(30, D, generator=generator, requires_grad=True)
        labels = torch.randint(0, K + 1, (30,), generator=generator)
        with Stops() as stops:
            virtual = augmenter(z, labels)
            virtual_loss(fc(virtual.features), virtual).backward()
        # the first step asks for `iteration` and `counts`, which nobody has read yet
        assert stops.n == (2 if warmup else 3) + (step == 1) * (1 if warmup else 2), stops.names
    assert augmenter.iteration == augmenter.step == 4


def test_what_others_write_is_read_again():
    augmenter = FASA(K, D)
    with pytest.raises(RuntimeError, match="FASA needs the class counts: call initialise"):
        augmenter.require_counts()
    augmenter.initialise(torch.ones(K))
    augmenter.require_counts()
    augmenter(torch.randn(3, D), torch.tensor([0, 1, 2]))
    assert augmenter.step == 1
    augmenter.iteration.fill_(7)
    assert augmenter.step == 7
    augmenter.iteration += 2
    assert augmenter.step == 9
    other = FASA(K, D)
    assert other.step == 0
    other.load_state_dict(augmenter.state_dict())
    assert other.step == 9
    other.require_counts()
    other.iteration = torch.tensor(30)
    assert other.step == 30
    twin = copy.deepcopy(augmenter)
    twin(torch.randn(3, D), torch.tensor([0, 1, 2]))
    assert (twin.step, augmenter.step, augmenter.double().step) == (10, 9, 9)
