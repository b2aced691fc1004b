"""Per-example losses, built on logits and margins, and terms over the pairs of a batch."""

from arcface_jax.losses.angular_terms import inter as inter
from arcface_jax.losses.angular_terms import intra as intra
from arcface_jax.losses.center import center as center
from arcface_jax.losses.center import update_centers as update_centers
from arcface_jax.losses.circle import circle_pair as circle_pair
from arcface_jax.losses.cross_entropy import cross_entropy as cross_entropy
from arcface_jax.losses.range import range_loss as range_loss
from arcface_jax.losses.softmax import softmax as softmax
from arcface_jax.losses.triplet import triplet as triplet
