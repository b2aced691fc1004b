"""Per-example losses, built on logits and margins."""

from arcface_jax.losses.cross_entropy import cross_entropy as cross_entropy
from arcface_jax.losses.softmax import softmax as softmax
