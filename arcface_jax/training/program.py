"""The compiled functions of a run: initialise, train one step, embed."""

import collections
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from arcface_jax import geometry
from arcface_jax.heads import HEADS, Head, Sampled, Sharded, initial_centers, margin_softmax_loss
from arcface_jax.heads.class_products import own_products
from arcface_jax.known_names import unknown_name
from arcface_jax.models import BackboneConfig, Preprocessing
from arcface_jax.parallel import classes_spec, padded, place, rows_spec
from arcface_jax.training.row_updates import take_rows, update_rows
from arcface_jax.training.schedules import ScheduleConfig
from arcface_jax.training.state import Hyper, TrainState
from arcface_jax.training.terms import (
    NEEDS_ONE_CENTER,
    TERMS,
    init_term_state,
    next_term_state,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """What is fixed when the step is compiled; everything else is in `Hyper`.

    Args:
      model: the backbone.
      num_classes: C.
      preprocessing: what the backbone's images become first; None: [-1, 1].
      frozen: whether the backbone stays as it is, in evaluation mode; the head alone is trained.
      schedule: the learning rate's course.
      momentum: of SGD.
      head: how the sum over classes is taken; a name or a `Head`. Where its classes lie on several
        devices, batches are cut over the same ones.

    >>> from arcface_jax.models import IResNetConfig
    >>> ProgramConfig(
    ...     model=IResNetConfig(depths=(1,), widths=(4,), image_size=8),
    ...     num_classes=3,
    ...     schedule=ScheduleConfig(steps=10),
    ... ).momentum
    0.9
    """

    model: BackboneConfig
    num_classes: int
    schedule: ScheduleConfig
    preprocessing: Preprocessing | None = None
    frozen: bool = False
    momentum: float = 0.9
    head: str | Head = "dense"

    def __post_init__(self):
        if self.num_classes < 1:
            raise ValueError(f"num_classes={self.num_classes}; there must be at least 1 class.")
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum={self.momentum} lies outside [0, 1).")
        if isinstance(self.head, str) and self.head not in HEADS:
            raise unknown_name("head", self.head, HEADS)
        self.contract.check_model(self.model)

    @property
    def contract(self) -> Preprocessing:
        """``preprocessing``, or that of images in [-1, 1]."""
        if self.preprocessing is not None:
            return self.preprocessing
        return Preprocessing.for_model(self.model)


# Gradients of a float16 network are small numbers of it; 2^10 lifts them off its lower end.
_FLOAT16_AMPLIFIES = 1024.0


class Program:
    """Compiled once per `ProgramConfig` and kind of margin; shared by all runs that have them.

    Args:
      config: what is fixed.

    >>> from arcface_jax.models import IResNetConfig
    >>> config = ProgramConfig(
    ...     model=IResNetConfig(depths=(1,), widths=(4,), embedding_dim=4, image_size=8),
    ...     num_classes=3,
    ...     schedule=ScheduleConfig(steps=10),
    ... )
    >>> program = Program(config)
    >>> from arcface_jax.margins import arcface
    >>> hyper = Hyper(margin=arcface(), scale=None, learning_rate=0.1, weight_decay=0.0)
    >>> state = program.init(hyper, seed=0)
    >>> program.embed(state, jnp.zeros((2, 8, 8, 3), jnp.uint8)).shape
    (2, 4)
    """

    def __init__(self, config: ProgramConfig):
        """Nothing is compiled before its first call."""
        self.config = config
        head = HEADS[config.head] if isinstance(config.head, str) else config.head
        self._head = _for_classes(head, config.num_classes)
        self._mesh = self._head.mesh
        # Rows that the centres have: as many as their devices can share evenly.
        self._rows = padded(config.num_classes, self._mesh)
        self.traces: collections.Counter[str] = collections.Counter()
        # Only the structure is wanted, so nothing is drawn.
        model = nnx.eval_shape(lambda: config.model.build(rngs=nnx.Rngs(0)))
        self._graphdef = nnx.graphdef(model)
        evaluating = nnx.view(model, use_running_average=True, deterministic=True)
        self._eval_graphdef = nnx.graphdef(evaluating)
        self._step = jax.jit(self._traced("train_step", self._train_step), donate_argnums=0)
        self._embed = jax.jit(self._traced("embed", self._embeddings), static_argnums=2)

    def _traced(self, name: str, function):
        @functools.wraps(function)
        def counted(*args):
            self.traces[name] += 1
            return function(*args)

        return counted

    def init(self, hyper: Hyper, *, seed: int, backbone: Any = None) -> TrainState:
        """The state before the first step; equal seeds give equal states.

        ``backbone`` is a network of the same config whose parameters and statistics are taken.

        Not compiled as one program: XLA takes far longer to compile it than to draw each array.
        """
        config, margin = self.config, hyper.margin
        classes, dim = config.num_classes, config.model.embedding_dim
        model_key, dropout_key, center_key, step_key = jax.random.split(jax.random.key(seed), 4)
        model = config.model.build(rngs=nnx.Rngs(params=model_key, dropout=dropout_key))
        if backbone is not None:
            # A step gives its state up, so these have to be copies.
            taken = nnx.state(backbone, (nnx.Param, nnx.BatchStat))
            nnx.update(model, jax.tree.map(jnp.copy, taken))
        _, params, rest = nnx.split(model, nnx.Param, ...)
        head = {
            "centers": initial_centers(
                center_key,
                classes,
                dim,
                centers_per_class=margin.centers_per_class,
                mesh=self._mesh,
            )
        }
        bias = margin.init_bias(classes)
        if bias is not None:
            head["bias"] = jnp.pad(bias, (0, self._rows - classes))
        margin_params = margin.init_params(classes, scale=hyper.scale)
        state = TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            rest=rest,
            head=head,
            margin_params=margin_params,
            margin_state=margin.init_state(self._rows, dim),
            # A step gives its state up, so the mean has to be a copy.
            average=None if margin.features_momentum is None else jax.tree.map(jnp.copy, params),
            term_state=init_term_state(hyper.terms, num_classes=self._rows, embedding_dim=dim),
            optimizer=self._optimizer(0.0, 0.0).init(
                ({} if config.frozen else params, head, margin_params)
            ),
            key=step_key,
        )
        return self._placed(state)

    def by_class(self, state: TrainState) -> TrainState:
        """True for each array of ``state`` that has a row per class, and maybe rows of padding."""
        trained = self._trained(state)
        nothing = jax.tree.map(lambda _: False, state)
        return dataclasses.replace(
            nothing,
            head=jax.tree.map(lambda _: True, state.head),
            margin_state=jax.tree.map(
                lambda x: x.ndim > 0 and x.shape[0] == self._rows, state.margin_state
            ),
            term_state=jax.tree.map(lambda _: True, state.term_state),
            optimizer=optax.tree_map_params(
                self._optimizer(0.0, 0.0),
                lambda _, by_class: by_class,
                state.optimizer,
                _by_class(trained),
                transform_non_params=lambda _: False,
            ),
        )

    def _trained(self, state: TrainState) -> tuple[Any, Any, Any]:
        """What the optimiser moves: (of the backbone, of the head, of the margin)."""
        return {} if self.config.frozen else state.params, state.head, state.margin_params

    def _placed(self, state: TrainState) -> TrainState:
        """``state`` where the head wants it: rows of classes cut over devices, the rest on each."""
        mesh = self._mesh
        if mesh is None:
            return state
        return jax.tree.map(
            lambda x, by_class: place(x, mesh, classes_spec() if by_class else P()),
            state,
            self.by_class(state),
        )

    def shapes(self, hyper: Hyper) -> TrainState:
        """Shapes, types and places of a state, without making one."""
        state = jax.eval_shape(lambda: self.init(hyper, seed=0))

        def shape(x: Any, by_class: bool) -> jax.ShapeDtypeStruct:
            if self._mesh is None:
                place = SingleDeviceSharding(jax.devices()[0])
            else:
                place = NamedSharding(self._mesh, classes_spec() if by_class else P())
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

        return jax.tree.map(shape, state, self.by_class(state))

    def centers(self, state: TrainState) -> np.ndarray:
        """The centres as they are trained, float[C, D] or float[C, K, D], without padding."""
        centers = state.head["centers"]
        if not centers.is_fully_addressable:
            centers = multihost_utils.process_allgather(centers, tiled=True)
        return np.asarray(centers)[: self.config.num_classes]

    def train_step(
        self, state: TrainState, images: ArrayLike, labels: ArrayLike, hyper: Hyper
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step of SGD; ``state`` is given up to it.

        Args:
          state: from `init` or the last step.
          images: uint8[B, H, W, c], or float in [-1, 1].
          labels: int32[B]; -1 is ignored.
          hyper: traced numbers, see `Hyper.traced`.

        Returns:
          The next state, and sums and norms of the batch: ``loss`` and ``theta_target_deg`` (means
          over rows that count), ``grad_norm``, ``learning_rate``, ``embedding_norm``, and each
          added term before its weight.
        """
        return self._step(state, *self._cut((images, labels)), hyper)

    def embed(
        self, state: TrainState, images: ArrayLike, *, batch_statistics: bool = False
    ) -> Array:
        """float32[B, D], not normalised.

        ``batch_statistics`` normalises by the batch instead of the running statistics, which mean
        nothing before some fifty steps.
        """
        return self._embed(state, images, batch_statistics)

    def _cut(self, batch: Any) -> Any:
        """Arrays of this process's part of the batch, as parts of the whole on all devices."""
        if self._mesh is None:
            return batch
        sharding = NamedSharding(self._mesh, rows_spec(self._mesh))
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch
        )

    def _optimizer(
        self, learning_rate: ArrayLike, weight_decay: ArrayLike
    ) -> optax.GradientTransformation:
        """SGD with momentum, the decay part of the gradient as in PyTorch."""
        return optax.chain(
            optax.add_decayed_weights(jnp.asarray(weight_decay), mask=_decayed),
            optax.trace(self.config.momentum),
            optax.scale_by_learning_rate(jnp.asarray(learning_rate)),
        )

    def _train_step(self, state: TrainState, images: Array, labels: Array, hyper: Hyper):
        counted = labels >= 0
        key = jax.random.fold_in(state.key, state.step)
        trained = self._trained(state)
        frozen = self.config.frozen
        graphdef = self._eval_graphdef if frozen else self._graphdef
        by_class = _by_class(trained)
        head: Head = self._head
        # Of a sample, and where each example's class is among the centres that the step meets.
        within = outside = None
        own = labels
        if isinstance(head, Sampled):
            sample = head.draw(labels, num_classes=self.config.num_classes, key=key)
            within, outside = (sample, None) if head.update == "dense" else (None, sample)
            own, counted, head = sample.labels, sample.kept, head.on(sample)
        count = jnp.maximum(jnp.sum(counted), 1)
        images = self.config.contract.normalize(images)
        average, features = self._averaged(state, images, hyper.margin.features_momentum)

        amplify = _FLOAT16_AMPLIFIES if jnp.dtype(self.config.model.dtype) == jnp.float16 else 1.0

        def objective(moving):
            params, classes, margin_params = take_rows(moving, by_class, sample=within)
            params = state.params if frozen else params
            model = nnx.merge(graphdef, params, state.rest, copy=True)
            embeddings = model(images)
            result = margin_softmax_loss(
                embeddings,
                classes["centers"],
                labels,
                margin=hyper.margin,
                scale=hyper.scale,
                bias=classes.get("bias"),
                params=margin_params,
                state=state.margin_state,
                key=key,
                features=features,
                head=head,
            )
            losses, margin_state = (
                result if state.margin_state is not None else (result, state.margin_state)
            )
            rest = nnx.split(model, nnx.Param, ...)[2]
            terms = {
                name: TERMS[name](
                    embeddings,
                    classes["centers"],
                    own if name in NEEDS_ONE_CENTER else labels,
                    state.term_state.get(name),
                )
                for name in hyper.terms
            }
            added = sum(weight * terms[name] for name, weight in hyper.terms.items())
            loss = jnp.sum(losses) / count + added
            return amplify * loss, (loss, rest, margin_state, embeddings, terms)

        (_, (loss, rest, margin_state, embeddings, terms)), grads = jax.value_and_grad(
            objective, has_aux=True
        )(take_rows(trained, by_class, sample=outside))
        grads = jax.tree.map(lambda grad: grad / amplify, grads)
        rate = hyper.learning_rate * self.config.schedule.factor(state.step)
        optimizer = self._optimizer(rate, hyper.weight_decay)
        (params, classes, margin_params), optimizer_state = update_rows(
            optimizer, grads, state.optimizer, trained, by_class=by_class, sample=outside
        )
        # Of the rows that the loss has met: reading others would copy all centres.
        met = take_rows(trained, by_class, sample=within or outside)[1]["centers"]
        theta = geometry.angle(
            own_products(geometry.unit(embeddings), met, None, own, normalized=True)
        )
        metrics = {
            "loss": loss,
            "theta_target_deg": jnp.degrees(jnp.sum(jnp.where(counted, theta, 0.0)) / count),
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": rate,
            "embedding_norm": jnp.sum(jnp.where(counted, geometry.length(embeddings), 0.0)) / count,
            **terms,
        }
        state = TrainState(
            step=state.step + 1,
            params=state.params if frozen else params,
            rest=rest,
            head=classes,
            margin_params=margin_params,
            margin_state=margin_state,
            average=average,
            term_state=next_term_state(state.term_state, embeddings, labels),
            optimizer=optimizer_state,
            key=state.key,
        )
        return self._placed(state), metrics

    def _averaged(
        self, state: TrainState, images: Array, momentum: ArrayLike | None
    ) -> tuple[Any, Array | None]:
        """(running mean of the backbone moved on, its embeddings), or (None, None)."""
        if momentum is None:
            return None, None
        average = jax.tree.map(
            lambda mean, new: momentum * mean + (1.0 - momentum) * new, state.average, state.params
        )
        return average, nnx.merge(self._graphdef, average, state.rest, copy=True)(images)

    def _embeddings(self, state: TrainState, images: Array, batch_statistics: bool) -> Array:
        graphdef = self._graphdef if batch_statistics else self._eval_graphdef
        model = nnx.merge(graphdef, state.params, state.rest, copy=True)
        return self.config.contract.embed(model, images)


def _for_classes(head: Head, num_classes: int) -> Head:
    """``head`` for centres with rows of padding behind ``num_classes``."""
    if isinstance(head, Sampled):
        return dataclasses.replace(head, head=_for_classes(head.head, num_classes))
    return dataclasses.replace(head, num_classes=num_classes) if isinstance(head, Sharded) else head


def _by_class(trained: Any) -> Any:
    """True for what has a row per class."""
    params, head, margin_params = trained
    return (
        jax.tree.map(lambda _: False, params),
        jax.tree.map(lambda _: True, head),
        jax.tree.map(lambda _: False, margin_params),
    )


def _decayed(trained: Any) -> Any:
    """True for what weight decay pulls to zero: all but numbers of a class or margin."""
    params, head, margin_params = trained
    return (
        jax.tree.map(lambda _: True, params),
        {name: name != "bias" for name in head},
        jax.tree.map(lambda _: False, margin_params),
    )
