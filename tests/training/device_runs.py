"""Small runs that several tests take to other devices and processes."""

import jax
import jax.numpy as jnp
import numpy as np

import arcface_jax as af
from arcface_jax.heads import Fused, Sharded
from arcface_jax.models import IResNetConfig
from arcface_jax.parallel import make_mesh
from arcface_jax.training import Hyper, Program, ProgramConfig, ScheduleConfig, train

DIM = 8
# Divides over 1, 2, 3, 4 and 8 devices.
ROWS = 24


class Batches:
    """Random images of random classes, the same stream for the same number of classes."""

    def __init__(self, num_classes):
        self.num_classes, self.position = num_classes, 0

    def __next__(self):
        rng = np.random.default_rng(self.position)
        self.position += 1
        labels = rng.integers(0, self.num_classes, ROWS).astype(np.int32)
        images = rng.integers(0, 256, (ROWS, 8, 8, 1)).astype(np.uint8)
        return {"image": images, "label": labels}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = int(state["position"])


def make_program(num_classes, head):
    model = IResNetConfig(
        depths=(1,), widths=(4,), embedding_dim=DIM, image_size=8, channels=1, dropout=0.0
    )
    schedule = ScheduleConfig(name="constant", steps=1000)
    return Program(
        ProgramConfig(model=model, num_classes=num_classes, schedule=schedule, head=head)
    )


def on(devices, data=1, **options):
    return Sharded(mesh=make_mesh(devices, data), local=Fused(block=64), **options)


def hyper(margin=None):
    # Steps at a rate of 0.1 enlarge rounding, by a factor that depends on the machine.
    return Hyper(
        margin=margin or af.arcface(0.3), scale=16.0, learning_rate=0.02, weight_decay=5e-4
    ).traced()


def run(program, hyper, *, steps, num_classes):
    state = program.init(hyper, seed=0)
    state = train(program, state, Batches(num_classes), hyper, steps=steps)
    return program, state


def arrays(program, state):
    """Whatever training has moved, without padding."""
    classes = program.config.num_classes
    state = jax.tree.map(
        lambda x, by_class: x[:classes] if by_class else x, state, program.by_class(state)
    )
    return jax.tree.leaves((state.params, state.rest, state.head, state.optimizer))


def assert_equal_but_for_rounding(ends, expected):
    for got, wanted in zip(arrays(*ends), arrays(*expected), strict=True):
        if jnp.issubdtype(wanted.dtype, jax.dtypes.prng_key):
            continue
        # A bias in front of batch normalisation has no gradient but rounding.
        largest = max(float(np.abs(wanted).max()), 1e-2)
        np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=2e-4 * largest)
