"""The list of training images that experiments.clean writes and ``data.keep`` names, as CSV."""

import csv
import sys
from pathlib import Path

import numpy as np

from arcface_jax.analysis import SubcenterStatistics
from arcface_jax.data import Dataset
from arcface_jax.whole_file import whole_file

COLUMNS = ("id", "identity", "kept", "angle_deg", "subcenter", "on_dominant", "reason")
_WORDS = {"true": True, "false": False}


def write_cleaned_list(
    path: Path,
    dataset: Dataset,
    statistics: SubcenterStatistics,
    keep: np.ndarray,
    *,
    threshold_deg: float,
) -> None:
    """A row for each image of ``dataset``, in its order.

    ``angle_deg`` is that to the dominant centre of the image's class, ``subcenter`` the number of
    the centre that it is nearest to, ``on_dominant`` whether that is the dominant one.
    """
    word = {value: text for text, value in _WORDS.items()}
    reason = f"beyond {threshold_deg:g} degrees"
    with whole_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (
                name,
                dataset.identities[label],
                word[kept],
                f"{angle:.6f}",
                subcenter,
                word[on_dominant],
                "" if kept else reason,
            )
            for name, label, kept, angle, subcenter, on_dominant in zip(
                dataset.ids,
                statistics.labels.tolist(),
                keep.tolist(),
                statistics.dominant_deg.tolist(),
                statistics.nearest.tolist(),
                statistics.on_dominant.tolist(),
                strict=True,
            )
        )


def kept_ids(path: Path, dataset: Dataset) -> frozenset[str]:
    """Names of the images that the list at ``path`` keeps.

    Args:
      path: a file with the columns ``id`` and ``kept`` ("true" or "false"), others are ignored.
      dataset: what the list is of; it may have more images.

    Raises:
      ValueError: not such a file (the line is named), an image that ``dataset`` does not have or
        that is listed twice, or none kept.
    """
    listed: dict[str, bool] = {}
    known = set(dataset.ids)
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            if not {"id", "kept"} <= set(header):
                raise ValueError(
                    f"{path}: line 1 must name the columns id and kept, as in the cleaned.csv of "
                    "experiments.clean."
                )
            name_at, kept_at = header.index("id"), header.index("kept")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if len(row) != len(header) or row[kept_at].lower() not in _WORDS:
                    raise ValueError(
                        f"{where}: expected {len(header)} values and kept true or false, got "
                        f"{','.join(row)[:80]!r}."
                    )
                name = row[name_at]
                if name in listed:
                    raise ValueError(f"{where}: image {name!r} is listed twice.")
                if name not in known:
                    raise ValueError(
                        f"{where}: {dataset.name} has no image {name!r} (its names look like "
                        f"{dataset.ids[0]!r}); the list is of other data, or of other data.options."
                    )
                listed[name] = _WORDS[row[kept_at].lower()]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, line {reader.line_num}: not a CSV file ({error}).") from None
    kept = frozenset(name for name, stays in listed.items() if stays)
    if not kept:
        raise ValueError(f"{path} keeps none of the {len(listed)} images that it lists.")
    return kept


def keep_only(dataset: Dataset, kept: frozenset[str]) -> Dataset:
    """The images of ``dataset`` that are in ``kept``; says on stderr how many that are.

    Raises:
      ValueError: none is.
    """
    indices = [index for index, name in enumerate(dataset.ids) if name in kept]
    if not indices:
        raise ValueError(
            f"data.keep keeps no image of the training identities of {dataset.name}; the list is "
            "of other identities."
        )
    cut = dataset.keep(indices)
    note = f"data.keep: {len(cut)} of {len(dataset)} training images stay"
    gone = sorted(set(dataset.identities) - set(cut.identities))
    if gone:
        few = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
        note += f"; {len(gone)} of {dataset.num_classes} identities have none left: {few}"
    print(f"{note}.", file=sys.stderr)
    return cut
