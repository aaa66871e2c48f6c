import numpy as np
import pytest

from fasa.data.images import LongTailed, Split, check, divide, exponential_counts
from fasa.errors import UserError


@pytest.mark.parametrize(
    ("n_max", "classes", "ratio", "total", "rarest"),
    [
        (500, 100, 100, 10847, 5),  # the sums that papers on CIFAR-100-LT print
        (500, 100, 50, 12608, 10),
        (500, 100, 10, 19573, 50),
        (5000, 10, 100, 12406, 50),  # CIFAR-10-LT
        (100, 100, 100, 2131, 1),
        (7, 3, 1, 21, 7),
        (5, 1, 1, 5, 5),
    ],
)
def test_exponential_counts(n_max, classes, ratio, total, rarest):
    counts = exponential_counts(n_max, classes, ratio)
    assert counts.dtype == np.int64 and counts.shape == (classes,)
    assert counts.sum() == total and counts[0] == n_max and counts[-1] == rarest
    assert (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("ratio", [101, 1e9])
def test_a_ratio_that_empties_the_tail_is_refused(ratio):
    with pytest.raises(ValueError, match=r"^ratio .* leaves the rarest class without images; .* 100$"):
        exponential_counts(100, 10, ratio)


@pytest.mark.parametrize("seed", [0, 3])
def test_divide_deals_in_the_order_of_numpys_global_shuffles(seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 500))
    counts = exponential_counts(500, 100, 100)
    before = np.random.get_state()
    kept, left = divide(labels, np.stack([counts, 500 - counts]), seed)
    assert np.array_equal(np.random.get_state()[1], before[1])  # nobody else's random numbers change
    np.random.seed(seed)
    expected = []
    for k, n in enumerate(counts):
        indices = np.where(labels == k)[0]
        np.random.shuffle(indices)
        expected += indices[:n].tolist()
    np.random.set_state(before)
    assert kept.tolist() == expected and len(kept) == 10847
    assert sorted([*kept, *left]) == list(range(50000))  # what train leaves out, all of it and nothing twice
    assert np.bincount(labels[left]).tolist() == (500 - counts).tolist()


def test_divide_refuses_more_than_there_are():
    with pytest.raises(UserError, match=r"data: 4 images of class 1 are wanted, but there are 3$"):
        divide(np.array([0, 1, 1, 1, 0, 0, 0]), np.array([[2, 2], [2, 2]]), 0)


@pytest.fixture
def data():
    split = Split(np.zeros((6, 8, 8, 3), np.uint8), np.array([0, 0, 0, 1, 1, 2]))
    return LongTailed(split, split, split, ["a", "b", "c"], flip=False)


def test_consistent_data_pass_and_tell_their_counts(data):
    nothing = Split(data.train.images[:0], data.train.labels[:0])
    assert check(data) is data
    assert check(data._replace(adapt=nothing))  # nothing left out: no class is measured
    assert data.counts.tolist() == [3, 2, 1] and data.counts.dtype == np.int64


IMAGES, LABELS = np.zeros((6, 8, 8, 3), np.uint8), np.array([0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize(
    ("part", "images", "labels", "message"),
    [
        ("train", IMAGES.astype(float), LABELS, r"data\.train: images must be uint8"),
        ("train", IMAGES[..., 0], LABELS, r"data\.train: images must be uint8 \(N, H, W, C\)"),
        ("adapt", IMAGES[:, :4], LABELS, r"data\.adapt: images must be of the size of train's, \(8, 8, 3\)"),
        ("test", IMAGES, LABELS.astype(np.int32), r"data\.test: labels must be int64"),
        ("test", IMAGES, LABELS[:, None], r"data\.test: labels must be int64 \(N,\)"),
        ("adapt", IMAGES[:5], LABELS, r"data\.adapt: 5 images, but 6 labels"),
        ("test", IMAGES, LABELS + 1, r"data\.test: labels must be in \[0, 3\)"),
        ("test", IMAGES, LABELS - 1, r"data\.test: labels must be in \[0, 3\)"),
        ("train", IMAGES, LABELS % 2, r"data\.train: no image of class c \(1 in all\)"),
        ("test", IMAGES, LABELS * 0, r"data\.test: no image of class b \(2 in all\)"),
        ("train", IMAGES, 2 - LABELS, r"data\.train: classes must be in order of their counts"),
    ],
)
def test_inconsistent_data_are_refused(data, part, images, labels, message):
    with pytest.raises(UserError, match=message) as error:
        check(data._replace(**{part: Split(images, labels)}))
    assert "\n" not in str(error.value)


def test_names_that_do_not_tell_classes_apart_are_refused(data):
    with pytest.raises(UserError, match=r"data\.names: two classes"):
        check(data._replace(names=["a", "b", "a"]))
