"""Small archives in the layout of the real ones, made on the spot."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

LFW_TRAIN = {"Ann_Lee": 2, "Emmy_Rossum": 2, "Raul_Ibanez": 1, "Recep_Tayyip_Erdogan": 4}
LFW_TEST = {"Abdullah_Gul": 1, "Betsy_Coffin": 1, "Zoe_Day": 2}


def encoded(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def landmarks_250(rng):
    """Five integer points of a plausible face in a 250 px image."""
    face = np.array([[105, 110], [145, 110], [125, 135], [108, 158], [142, 158]])
    return face + rng.integers(-4, 5, (5, 2))


def lfw_names(people):
    return [f"{p}/{p}_{k:04d}.jpg" for p, count in people.items() for k in range(1, count + 1)]


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """A directory with omniglot, orl and lfw in small."""
    root = tmp_path_factory.mktemp("originals")
    for name in ("omniglot", "orl", "lfw"):
        (root / name).mkdir()
    rng = np.random.default_rng(0)
    for stem, alphabets in (("background", ("Aa_(x)", "Bb", "Cc")), ("evaluation", ("Dd", "Ee"))):
        with zipfile.ZipFile(root / "omniglot" / f"images_{stem}.zip", "w") as archive:
            archive.writestr(f"images_{stem}/", "")
            for k, alphabet in enumerate(alphabets):
                for character in (1, 2):
                    for drawer in (1, 2, 3):
                        path = f"{alphabet}/character{character:02d}/{k:04d}_{drawer:02d}.png"
                        paper = rng.random((105, 105)) > 0.1
                        archive.writestr(f"images_{stem}/{path}", encoded(paper, "PNG"))
    with zipfile.ZipFile(root / "orl" / "att_faces.zip", "w") as archive:
        archive.writestr("att_faces/README", "faces")
        for person in range(1, 41):
            for number in (1, 2, 10):
                pixels = rng.integers(0, 256, (112, 92), np.uint8)
                pgm = b"P5\n# made here\n92 112\n255\n" + pixels.tobytes()
                archive.writestr(f"att_faces/s{person}/{number}.pgm", pgm)
    write_lfw(root / "lfw", rng)
    return root


def write_lfw(folder, rng):
    lines = []
    with tarfile.open(folder / "lfw.tgz", "w:gz") as archive:
        for name in lfw_names(LFW_TRAIN | LFW_TEST):
            if name.startswith("Betsy_Coffin"):
                continue
            data = encoded(rng.integers(0, 256, (150, 150, 3), np.uint8), "JPEG")
            member = tarfile.TarInfo(f"lfw/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            lines.append("\t".join([name, *map(str, landmarks_250(rng).ravel())]))
    (folder / "lfw_landmark.txt").write_text("\n".join(lines))
    for file, people in (("peopleDevTrain", LFW_TRAIN), ("peopleDevTest", LFW_TEST)):
        rows = [f"{name}\t{count}" for name, count in people.items()]
        (folder / f"{file}.txt").write_text("\n".join([str(len(rows)), *rows]) + "\n")
    (folder / "pairsDevTest.txt").write_text("1\nZoe_Day\t1\t2\nBetsy_Coffin\t1\tZoe_Day\t2\n")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Where the tests of a session prepare data sets, each once."""
    return tmp_path_factory.mktemp("prepared")
