import json

import numpy as np
import pytest

from arcface_jax.data.augmentation import Augmentation
from arcface_jax.data.dataset import Dataset
from arcface_jax.data.pipeline import batches, evaluation_batches

LIGHT = Augmentation(flip=0.5, shift_px=1, brightness=0.1)


def numbered(count=10):
    """Image k is k everywhere, and is alone in class k."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 3, 3, 1)
    ).copy()
    names = tuple(map(str, range(count)))
    return Dataset(name="n", source=images, labels=np.arange(count), identities=names, ids=names)


def textured(count=20):
    images = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 1), np.uint8)
    names = tuple(map(str, range(count)))
    return Dataset(name="t", source=images, labels=np.arange(count), identities=names, ids=names)


class Lazy:
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def taken(dataset, steps, **options):
    it = batches(dataset, **({"batch_size": 4, "seed": 0} | options))
    try:
        return [next(it) for _ in range(steps)]
    finally:
        it.close()


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])


def test_batches_have_their_shapes_and_images_their_labels():
    for batch in taken(numbered(), 5):
        assert batch["image"].shape == (4, 3, 3, 1) and batch["image"].dtype == np.uint8
        assert batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])


def test_every_epoch_shows_every_image_once_in_a_new_order():
    labels = np.concatenate([batch["label"] for batch in taken(numbered(), 15)]).reshape(6, 10)
    assert (np.sort(labels) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in labels}) == 6


def test_seeds_decide_the_order():
    assert_same(taken(numbered(), 5, seed=3), taken(numbered(), 5, seed=3))
    first, other = (
        np.concatenate([b["label"] for b in taken(numbered(), 5, seed=s)]) for s in (0, 1)
    )
    assert (first != other).any()


def test_augmentation_is_new_each_epoch_and_the_same_each_run():
    data = textured()
    run = taken(data, 10, augmentation=LIGHT)
    assert_same(run, taken(data, 10, augmentation=LIGHT))
    views = {label: [] for label in range(20)}
    for batch in run:
        for image, label in zip(batch["image"], batch["label"], strict=True):
            views[int(label)].append(image)
    assert sum((first != second).any() for first, second in views.values()) >= 18


def test_augmentation_of_an_image_does_not_depend_on_the_batch_size():
    def views(size):
        run = taken(textured(), 40 // size, batch_size=size, augmentation=LIGHT)
        return np.concatenate([batch["image"] for batch in run])

    np.testing.assert_array_equal(views(4), views(10))


def test_start_resumes_at_a_step():
    whole = taken(textured(), 12, augmentation=LIGHT)
    assert_same(taken(textured(), 5, augmentation=LIGHT, start=7), whole[7:])


def test_state_resumes_where_it_was_taken():
    whole = taken(textured(), 12, augmentation=LIGHT)
    it = batches(textured(), batch_size=4, seed=0, augmentation=LIGHT)
    for _ in range(5):
        next(it)
    state = json.loads(json.dumps(it.get_state()))
    next(it)
    it.set_state(state)
    assert_same([next(it) for _ in range(7)], whole[5:])
    it.close()
    fresh = batches(textured(), batch_size=4, seed=0, augmentation=LIGHT)
    fresh.set_state(state)
    assert_same([next(fresh)], whole[5:6])
    fresh.close()


def test_an_array_and_a_lazy_source_give_the_same():
    data = textured()
    lazy = Dataset(
        name="l",
        source=Lazy(data.source),
        labels=data.labels,
        identities=data.identities,
        ids=data.ids,
    )
    assert_same(taken(data, 6, augmentation=LIGHT), taken(lazy, 6, augmentation=LIGHT))


@pytest.mark.slow
def test_worker_processes_change_nothing():
    here = taken(textured(), 6, augmentation=LIGHT, start=2)
    assert_same(taken(textured(), 6, augmentation=LIGHT, start=2, workers=2), here)


def test_a_closed_iterator_is_refused():
    it = batches(numbered(), batch_size=4, seed=0)
    next(it)
    it.close()
    it.close()
    with pytest.raises(ValueError, match="closed"):
        next(it)


def test_a_damaged_image_is_named_by_the_iterator():
    class Damaged(Lazy):
        def __getitem__(self, index):
            raise ValueError("the image is damaged.")

    data = numbered()
    broken = Dataset(
        name="b",
        source=Damaged(data.source),
        labels=data.labels,
        identities=data.identities,
        ids=data.ids,
    )
    it = batches(broken, batch_size=2, seed=0)
    with pytest.raises(ValueError, match="b: image '.' can't be read: the image is damaged"):
        next(it)
    it.close()


@pytest.mark.parametrize("option", ["batch_size", "workers", "start"])
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=option):
        batches(numbered(), **({"batch_size": 4, "seed": 0} | {option: -1}))


@pytest.mark.parametrize("size", [3, 5, 10, 16])
def test_evaluation_shows_every_image_once_in_order(size):
    seen = list(evaluation_batches(numbered(), batch_size=size))
    assert all(batch["image"].shape == (size, 3, 3, 1) for batch in seen)
    mask = np.concatenate([batch["mask"] for batch in seen])
    labels = np.concatenate([batch["label"] for batch in seen])
    images = np.concatenate([batch["image"] for batch in seen])[:, 0, 0, 0]
    assert mask.sum() == 10 and (labels[~mask] == -1).all()
    assert labels[mask].tolist() == images[mask].tolist() == list(range(10))


def test_evaluation_needs_a_batch_size():
    with pytest.raises(ValueError, match="batch_size"):
        next(evaluation_batches(numbered(), batch_size=0))
