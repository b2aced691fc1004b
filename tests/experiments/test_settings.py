"""A config file's values, checked once and frozen."""

import importlib
import pathlib

import pytest
from ml_collections import ConfigDict

import arcface_jax as af
from experiments.configs import base
from experiments.settings import make_margin, make_settings
from experiments.sweep import point_names, resolve

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(base.__file__).parent).glob("*.py")
    if path.stem != "__init__"
)


def changed(**values):
    config = base.get_config()
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in values.items()})
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_point_of_every_config_file_is_valid(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    config = module.get_config()
    assert isinstance(config, ConfigDict)
    sweeps = [f for key, f in vars(module).items() if key == "sweep" or key.startswith("sweep_")]
    assert sweeps
    for sweep in sweeps:
        points = list(sweep())
        names = point_names(points)
        assert len(set(names)) == len(names)
        for point in points:
            make_settings(resolve(config, point))


def test_settings_are_hashable_where_they_are_static():
    settings = make_settings(base.get_config())
    assert hash(settings.model) == hash(make_settings(base.get_config()).model)
    assert settings.schedule.steps == settings.steps


def test_a_margin_gets_only_what_it_takes():
    assert make_margin("arcface", {"m": 0.4, "tail": None}) == af.arcface(0.4)
    with pytest.raises(ValueError, match="margin cosface has no tail; it takes m"):
        make_margin("cosface", {"tail": "hard"})
    with pytest.raises(ValueError, match="Did you mean arcface"):
        make_margin("arcfaec", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(steps=0), "steps=0"),
        (dict(batch_size=1), "without a variance"),
        (dict(learning_rate=-0.1), "learning_rate=-0.1 must be positive"),
        (dict(weight_decay=-1.0), "must not be negative"),
        (dict(scale=-4.0), "scale=-4.0 must be positive"),
        (dict(scale=4.0, margin__name="softmax"), "Leave it out"),
        (dict(terms__center=-1.0), "terms.center=-1.0 must not be negative"),
        (
            dict(terms__intra=1.0, margin__name="subcenter_arcface"),
            "terms.intra=1.0 is between one centre per class",
        ),
        (dict(margin__m=-0.5), "m2=-0.5 lies outside"),
        (dict(model__name="resnet_smal"), "Did you mean resnet_small"),
        (dict(model__dtype="float8"), "unknown model.dtype"),
        (dict(data__evaluate_on="validation"), "needs identities to evaluate"),
        (dict(data__evaluate_on="train"), "it is 'test' or 'validation'"),
        (
            dict(data__keep="/nonexistent/cleaned.csv"),
            "data.keep=/nonexistent/cleaned.csv is no file",
        ),
        (
            dict(data__validation_fraction=0.1, data__validation_groups=2),
            "set one of them",
        ),
        (dict(schedule__warmup=2000), "shorten the warm-up"),
        (dict(evaluation__batch_size=0), "evaluation.batch_size=0"),
        (dict(augmentation__flip=2.0), "flip is a probability"),
        (dict(head__name="samplde"), "Did you mean sampled"),
        (dict(head__devices=2), "head.name='dense' keeps them on one"),
        (dict(head__name="sharded", head__devices=64), "needs 64 devices"),
        (dict(head__name="sharded", batch_size=127), "batch_size=127 does not divide over 8"),
        (dict(head__name="sampled", head__rate=2.0), r"rate=2.0 lies outside \[0, 1\]"),
        (dict(head__name="sampled", margin__name="vpl"), "a feature of every class"),
        (dict(head__name="sampled", terms__inter=1.0), "is between all centres"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_the_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        make_settings(changed(**change))


@pytest.mark.parametrize("name", af.MARGINS)
def test_every_margin_and_each_of_its_parameters_can_be_named(name):
    entry = af.MARGINS[name]
    assert make_settings(changed(margin__name=name)).margin == entry()
    for parameter, default in entry.defaults.items():
        if default is None or isinstance(default, af.MarginRule):
            continue
        values = {"margin__name": name, f"margin__{parameter}": default}
        assert make_settings(changed(**values)).margin == entry()


def test_a_wrapping_margin_hands_on_what_it_has_no_use_for():
    config = changed(
        margin__name="interclass_filter",
        margin__threshold=0.3,
        margin__margin="arcface",
        margin__m=0.4,
    )
    assert make_settings(config).margin == af.interclass_filter(af.arcface(0.4), threshold=0.3)


def test_terms_with_a_weight_are_added():
    assert make_settings(base.get_config()).hyper.terms == {}
    assert make_settings(changed(terms__center=0.003)).hyper.terms == {"center": 0.003}


def test_an_unknown_path_of_a_sweep_is_refused():
    with pytest.raises(ValueError, match="margn"):
        resolve(base.get_config(), {"margn.name": "arcface"})


def test_a_value_of_another_type_is_refused():
    with pytest.raises(ValueError, match="the sweep sets"):
        resolve(base.get_config(), {"steps": "many"})
