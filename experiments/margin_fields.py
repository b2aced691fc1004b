"""The hyper-parameters of all registered margins, as fields of a config."""

import inspect
import typing

from ml_collections import ConfigDict, config_dict

from arcface_jax.margins import MARGINS, MarginRule


def _kind(parameter: inspect.Parameter) -> type:
    """What values of a parameter are; a margin is given by its name."""
    default = parameter.default
    if default is None:
        allowed = typing.get_args(parameter.annotation)
        return next((kind for kind in (str, MarginRule) if kind in allowed), float)
    return type(default)


def margin_fields(name: str) -> ConfigDict:
    """A config with a margin's name and an empty field for every parameter of every margin.

    What is left empty takes the default of the margin that is named. A margin that a config file
    registers before it calls this has its fields too.

    Raises:
      ValueError: two margins have a parameter of one name and of different kinds.

    >>> "upper_norm" in margin_fields("arcface")
    True
    """
    kinds_of: dict[str, set[type]] = {}
    for entry in MARGINS.values():
        for parameter in entry.__signature__.parameters.values():
            kind = _kind(parameter)
            kind = str if issubclass(kind, MarginRule) else kind
            kinds_of.setdefault(parameter.name, set()).add(kind)
    fields = ConfigDict({"name": name})
    for parameter, kinds in kinds_of.items():
        if kinds == {int, float}:
            kinds = {float}
        if len(kinds) > 1:
            raise ValueError(
                f"margins disagree on what {parameter} is: {', '.join(k.__name__ for k in kinds)}; "
                "rename it in one of them."
            )
        fields[parameter] = config_dict.placeholder(kinds.pop())
    return fields


def margins_help() -> str:
    """Names and defaults of all margins, for --help.

    >>> margins_help().splitlines()[5].strip()
    "arcface            m=0.5, tail='hard', gradient='exact'"
    """
    lines = [
        "Margins (--config.margin.name=NAME, --config.margin.PARAMETER=VALUE; docs/losses.md):"
    ]
    for entry in MARGINS.values():
        shown = []
        for name, value in entry.defaults.items():
            if isinstance(value, MarginRule):
                value = "arcface"
            shown.append(f"{name}={'the usual' if value is None else repr(value)}")
        lines.append(f"  {entry.name:18} {', '.join(shown)}".rstrip())
    return "\n".join(lines)
