"""Sizes of every registered network are those of the published ones."""

import pytest

from arcface_jax.models import MODELS, Counts, count

# Trained parameters, running means and variances, multiply-accumulates.
PUBLISHED = {
    "iresnet18": (24_025_088, 14_720, 2_597_109_760 + 12_845_056),
    "iresnet34": (34_138_816, 25_856, 4_446_797_824 + 12_845_056),
    "iresnet50": (43_590_336, 38_144, 6_296_485_888 + 12_845_056),
    "iresnet100": (65_155_648, 69_632, 12_076_761_088 + 12_845_056),
    "iresnet200": (118_833_408, 136_064, 23_406_100_480 + 12_845_056),
    "mobilefacenet": (2_059_520, 23_808, 437_520_896),
    "mobilefacenet_large": (6_314_880, 52_736, 1_816_482_816),
    "mobilefacenet_128d": (999_936, 19_712, 233_810_432),
    "vit_t": (19_137_792, 1_536, 1_377_480_704 + 127_401_984),
    "vit_s": (76_023_296, 2_048, 5_491_744_768 + 254_803_968),
    "vit_b": (113_833_472, 2_048, 10_927_562_752 + 509_607_936),
    "vit_l": (255_684_352, 2_560, 24_573_382_656 + 764_411_904),
}


def test_every_network_but_our_own_is_published():
    assert set(MODELS) - set(PUBLISHED) == {"resnet_small"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_equal_the_published_ones(name):
    parameters, statistics, macs = PUBLISHED[name]
    assert count(MODELS[name]) == Counts(parameters=parameters, statistics=statistics, macs=macs)
