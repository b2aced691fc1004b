import numpy as np
import pytest

from arcface_jax.data.faces import Nuisances, contact_sheet, draw_identity, render


def test_contact_sheet_has_a_row_for_each_identity():
    people = [draw_identity(index, seed=11) for index in range(2)]
    nuisances = [Nuisances(), Nuisances(yaw=20.0), Nuisances(smile=1.0)]
    sheet = contact_sheet(people, nuisances, size=24, gap=3)
    assert sheet.shape == (2 * 24 + 3, 3 * 24 + 2 * 3, 3)
    np.testing.assert_array_equal(sheet[27:, 27:51], render(people[1], nuisances[1], size=24))
    assert np.all(sheet[24:27] == 255)


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="at least one identity"):
        contact_sheet([], [Nuisances()], size=32)
