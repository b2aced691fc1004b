import pytest

from arcface_jax.data.faces.images import FaceOptions, draw_identities, draw_images


def test_processes_give_the_same_images_in_order():
    options = FaceOptions(images=2, size=16, strength=1.0, seed=3)
    here = [draw_images(k, options=options) for k in range(5, 10)]
    assert list(draw_identities(range(5, 10), options=options, processes=2)) == here


def test_a_renderer_that_fails_is_named():
    # A negative seed can't seed a generator, which only the child finds out.
    options = FaceOptions(images=1, size=16, strength=1.0, seed=-1)
    with pytest.raises(RuntimeError, match="renders identity 0 ended early"):
        list(draw_identities(range(2), options=options, processes=2))
