"""Margins of one's own, which commands that read a finished point have to be told of.

Imports no JAX: the entry points read its flag before JAX may start.
"""

import importlib

from absl import flags

_IMPORT = flags.DEFINE_list(
    "import", [], "Modules that register margins of your own, where the point has one."
)


def import_own_margins() -> None:
    """Imports the modules that --import names.

    Raises:
      ValueError: there is no such module.
    """
    for name in _IMPORT.value:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ValueError(
                f"--import={name}: there is no module {error.name}; set PYTHONPATH to where it is."
            ) from None
