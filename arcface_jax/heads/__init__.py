"""Heads: where and how the sum over classes is taken. Any margin works with any head."""

from arcface_jax.heads.dense import Dense as Dense
from arcface_jax.heads.fused import Fused as Fused
from arcface_jax.heads.head import Head as Head
from arcface_jax.heads.initial_centers import initial_centers as initial_centers
from arcface_jax.heads.margin_softmax import HEADS as HEADS
from arcface_jax.heads.margin_softmax import margin_softmax_loss as margin_softmax_loss
from arcface_jax.heads.planning import Estimate as Estimate
from arcface_jax.heads.planning import Plan as Plan
from arcface_jax.heads.planning import plan as plan
from arcface_jax.heads.sampled import Sample as Sample
from arcface_jax.heads.sampled import Sampled as Sampled
from arcface_jax.heads.sharded import Sharded as Sharded
