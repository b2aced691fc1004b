"""A directory of images, one directory for each identity."""

import dataclasses
from pathlib import Path

import numpy as np

from arcface_jax.data.dataset import Dataset
from arcface_jax.data.decode import ImageDecoder

_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"),
    *(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded when asked."""

    paths: tuple[Path, ...]
    decoder: ImageDecoder

    def __len__(self) -> int:
        """Number of files."""
        return len(self.paths)

    def __getitem__(self, index):
        """Image ``index``, uint8[H, W, c]."""
        return self.decoder({"image": self.paths[int(index)].read_bytes()})


def load_folder(
    path: str | Path, *, size: int | None = None, channels: int | None = None
) -> Dataset:
    """The images below ``path``; identities are the names of its directories, sorted.

    Files are found at any depth and known by their content, not by their ending (JPEG, PNG, GIF,
    BMP, WebP, PGM and its kin). Names that begin with a dot are passed over.

    Args:
      path: directory with one directory for each identity.
      size: output side in px, of each image's central square; None keeps the stored sizes.
      channels: 1 or 3; None: as stored.

    Raises:
      FileNotFoundError: no such directory.
      ValueError: an identity without images, a file that is no image, images beside the
        directories. The path is named.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"no such directory: {root}.")
    directories = sorted(p for p in root.iterdir() if p.is_dir() and not _is_hidden(p, root))
    stray = sorted(p for p in root.iterdir() if p.is_file() and _is_image(p))
    if stray:
        raise ValueError(
            f"{stray[0]} lies outside the directory of any identity ({len(stray)} such images); "
            "put each image in a directory named by whose it is."
        )
    if not directories:
        raise ValueError(
            f"{root} has no directories; expected one for each identity, with its images inside."
        )
    files: list[tuple[int, Path]] = []
    for label, directory in enumerate(directories):
        below = sorted(p for p in directory.rglob("*") if p.is_file() and not _is_hidden(p, root))
        if not below:
            raise ValueError(f"{directory} has no images; remove it or fill it.")
        files += [(label, p) for p in below]
    for _, file in files:
        if not _is_image(file):
            raise ValueError(
                f"{file} is not an image (it begins with {_head(file)[:8].hex(' ') or 'nothing'}); "
                "remove it or move it out of the identity's directory."
            )
    return Dataset(
        name=root.name,
        source=ImageFiles(tuple(p for _, p in files), ImageDecoder(size=size, channels=channels)),
        labels=np.array([label for label, _ in files], np.int32),
        identities=tuple(p.name for p in directories),
        ids=tuple(p.relative_to(root).as_posix() for _, p in files),
    )


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_image(path: Path) -> bool:
    head = _head(path)
    return head.startswith(_SIGNATURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)
