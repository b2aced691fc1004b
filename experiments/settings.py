"""A config file's values, checked once and frozen."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from arcface_jax.data.augmentation import Augmentation
from arcface_jax.heads import Dense, Fused, Head, Sampled, Sharded
from arcface_jax.known_names import unknown_name
from arcface_jax.margins import MARGINS, MarginRule
from arcface_jax.models import BackboneConfig, Preprocessing
from arcface_jax.models.preprocessing import FLIPS
from arcface_jax.parallel import make_mesh
from arcface_jax.training import Hyper, ScheduleConfig
from arcface_jax.training.terms import NEEDS_ONE_CENTER
from experiments.initial_weights import initial_weights
from experiments.model_fields import check_weights, make_model

HEAD_NAMES = ("dense", "fused", "sharded", "sampled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images are trained on and which are evaluated; fields as in configs/base.py."""

    name: str
    size: int
    channels: int
    aligned: bool
    train: str
    test: str
    options: tuple[tuple[str, Any], ...]
    validation_fraction: float
    validation_groups: int
    evaluate_on: str
    keep: str
    workers: int

    def __post_init__(self):
        if self.evaluate_on not in ("test", "validation"):
            raise ValueError(
                f"data.evaluate_on={self.evaluate_on!r}; it is 'test' or 'validation'."
            )
        if self.validation_fraction and self.validation_groups:
            raise ValueError(
                "data.validation_fraction and data.validation_groups both cut identities from the "
                "training split; set one of them."
            )
        cuts = bool(self.validation_fraction or self.validation_groups)
        if self.evaluate_on == "validation" and not cuts:
            raise ValueError(
                "data.evaluate_on='validation' needs identities to evaluate; set "
                "data.validation_fraction or data.validation_groups."
            )
        # A sweep may come to this point hours from now.
        if self.keep and not Path(self.keep).is_file():
            raise ValueError(
                f"data.keep={self.keep} is no file; it is a cleaned.csv that experiments.clean "
                "wrote."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """How the sum over classes is taken; fields as in configs/base.py."""

    name: str
    devices: int
    block: int
    rate: float
    update: str
    log_q: bool

    def __post_init__(self):
        if self.name not in HEAD_NAMES:
            raise unknown_name("head", self.name, HEAD_NAMES)
        for field in ("devices", "block"):
            _check_at_least(f"head.{field}", getattr(self, field), 0)
        if self.devices > 1 and self.name in ("dense", "fused"):
            raise ValueError(
                f"head.devices={self.devices} cuts the classes over devices, and head.name="
                f"{self.name!r} keeps them on one; take 'sharded' or 'sampled'."
            )
        # Wrong values show now, not after the data are read.
        self.make()

    def make(self) -> Head:
        """The head."""
        if self.name == "dense":
            return Dense()
        head = Fused(block=self.block or None)
        if self.name == "fused":
            return head
        if self.devices != 1:
            mesh = make_mesh(self.devices or None)
            head = Sharded(mesh=mesh, local=head) if mesh.size > 1 else head
        if self.name == "sharded":
            return head
        return Sampled(rate=self.rate, head=head, update=self.update, log_q=self.log_q)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How unseen identities are evaluated; fields as in configs/base.py."""

    batch_size: int
    flip: str
    pairs: str
    max_images_per_identity: int
    resamples: int
    angle_images: int

    def __post_init__(self):
        if self.flip not in FLIPS:
            raise unknown_name("evaluation.flip", self.flip, FLIPS)
        for name in ("batch_size", "angle_images"):
            _check_at_least(f"evaluation.{name}", getattr(self, name), 1)
        for name in ("resamples", "max_images_per_identity"):
            _check_at_least(f"evaluation.{name}", getattr(self, name), 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole experiment."""

    seed: int
    data: DataSettings
    augmentation: Augmentation
    model: BackboneConfig
    init_from: str
    freeze_backbone: bool
    margin: MarginRule
    scale: float | None
    terms: tuple[tuple[str, float], ...]
    head: HeadSettings
    steps: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    schedule: ScheduleConfig
    log_every: int
    checkpoint_every: int
    evaluation: EvaluationSettings

    def __post_init__(self):
        for name in ("steps", "batch_size", "log_every", "checkpoint_every"):
            _check_at_least(name, getattr(self, name), 1)
        if self.batch_size < 2:
            raise ValueError("batch_size=1 leaves batch normalisation without a variance.")
        if self.model.norm_group and self.batch_size % self.model.norm_group:
            raise ValueError(
                f"batch_size={self.batch_size} does not divide into groups of model.norm_group="
                f"{self.model.norm_group}."
            )
        if self.freeze_backbone and not self.init_from:
            raise ValueError(
                "freeze_backbone=True trains the head on a network that nothing has trained; set "
                "init_from, or leave it out."
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate} must be positive.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay={self.weight_decay} must not be negative.")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale={self.scale} must be positive.")
        if self.scale is not None and not self.margin.has_scale:
            raise ValueError(
                f"scale={self.scale} has no effect with {type(self.margin).__name__}: "
                f"{self.margin.no_scale} Leave it out."
            )
        mesh = self.head.make().mesh
        if mesh is not None and self.batch_size % mesh.size:
            raise ValueError(
                f"batch_size={self.batch_size} does not divide over {mesh.size} devices; take a "
                "multiple, or set head.devices."
            )
        if self.head.name == "sampled" and self.margin.needs_all_classes:
            raise ValueError(
                f"head.name='sampled' leaves classes out and {type(self.margin).__name__} needs "
                f"them: {self.margin.needs_all_classes}; take 'fused' or 'sharded'."
            )
        for name, weight in self.terms:
            if weight and name == "inter" and self.head.name == "sampled":
                raise ValueError(
                    f"terms.inter={weight} is between all centres, and head.name='sampled' leaves "
                    "some out; take 'fused' or 'sharded'."
                )
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"terms.{name}={weight} must not be negative.")
            if weight and name in NEEDS_ONE_CENTER and self.margin.centers_per_class > 1:
                raise ValueError(
                    f"terms.{name}={weight} is between one centre per class and others; this "
                    f"margin has {self.margin.centers_per_class} of each class."
                )

    def contract(self, *, aligned: bool) -> Preprocessing:
        """What the network's images are; ``aligned``: whether the data set places faces itself.

        Raises:
          ValueError: the images are not what the weights of init_from want.
        """
        aligned = aligned or self.data.aligned
        if not self.init_from:
            return Preprocessing.for_model(
                self.model,
                alignment="five_points" if aligned else "none",
                flip=self.evaluation.flip,
            )
        contract = initial_weights(self.init_from).preprocessing
        if contract.alignment == "five_points" and not aligned:
            raise ValueError(
                f"init_from={self.init_from} was trained on faces on the five-point template, and "
                f"{self.data.name} does not say that its images are; set data.aligned=True if they "
                "are, or align them first."
            )
        return dataclasses.replace(contract, flip=self.evaluation.flip)

    @property
    def hyper(self) -> Hyper:
        """What a compiled step takes as numbers."""
        return Hyper(
            margin=self.margin,
            scale=self.scale,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            terms={name: weight for name, weight in self.terms if weight > 0},
        )


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}.")


def make_margin(name: str, values: Mapping[str, Any]) -> MarginRule:
    """The margin of that name, with those of ``values`` that are not None.

    A margin that wraps another takes its name as ``margin``, and hands on what it has no use for.

    Raises:
      ValueError: an unknown name, a value that this margin does not have, or one out of range.

    >>> make_margin("cosface", {"m": 0.25, "tail": None}).m3
    0.25
    >>> make_margin("interclass_filter", {"margin": "cosface", "m": 0.25}).margin.m3
    0.25
    """
    if name not in MARGINS:
        raise unknown_name("margin", name, MARGINS)
    given = {key: value for key, value in values.items() if value is not None}
    takes = MARGINS[name].defaults
    own = {key: value for key, value in given.items() if key in takes}
    if "margin" in own:
        rest = {key: value for key, value in given.items() if key not in takes}
        return MARGINS[name](**own | {"margin": make_margin(own["margin"], rest)})
    for key in given:
        if key not in takes:
            raise ValueError(
                f"margin {name} has no {key}; it takes {', '.join(takes) or 'nothing'}."
            )
    return MARGINS[name](**own)


def make_settings(config: ConfigDict, *, finished: bool = False) -> Settings:
    """A config's values as checked, frozen settings.

    Args:
      config: the values.
      finished: the run is over; the weights that it began with need not be there any more.

    Raises:
      ValueError: a value out of range or a combination that makes no sense, with the way out.
    """
    values = config.to_dict()
    data = values["data"]
    data["options"] = tuple(sorted(data["options"].items()))
    model = make_model(values["model"], size=data["size"], channels=data["channels"])
    source = values["init_from"]
    if source and not finished:
        check_weights(model, initial_weights(source).model.config, source=source)
    margin = dict(values["margin"])
    flat = {
        key: values[key]
        for key in (
            "seed",
            "init_from",
            "freeze_backbone",
            "scale",
            "steps",
            "batch_size",
            "learning_rate",
            "momentum",
            "weight_decay",
            "log_every",
            "checkpoint_every",
        )
    }
    return Settings(
        **flat,
        data=DataSettings(**data),
        augmentation=Augmentation(**values["augmentation"]),
        model=model,
        margin=make_margin(margin.pop("name"), margin),
        terms=tuple(sorted(values["terms"].items())),
        head=HeadSettings(**values["head"]),
        schedule=ScheduleConfig(steps=values["steps"], **values["schedule"]),
        evaluation=EvaluationSettings(**values["evaluation"]),
    )
