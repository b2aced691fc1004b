"""Angles between embeddings and class centres, and what scale a number of classes asks for."""

from arcface_jax.analysis.advice import fixed_adacos_scale as fixed_adacos_scale
from arcface_jax.analysis.advice import suggest_scale as suggest_scale
from arcface_jax.analysis.angles import AngleStatistics as AngleStatistics
from arcface_jax.analysis.angles import angle_histogram as angle_histogram
from arcface_jax.analysis.angles import angle_statistics as angle_statistics
from arcface_jax.analysis.angles import target_angles as target_angles
from arcface_jax.analysis.subcenters import Cleaned as Cleaned
from arcface_jax.analysis.subcenters import SubcenterStatistics as SubcenterStatistics
from arcface_jax.analysis.subcenters import dominant_centers as dominant_centers
from arcface_jax.analysis.subcenters import drop_rule as drop_rule
from arcface_jax.analysis.subcenters import subcenter_statistics as subcenter_statistics
