"""Margins: what happens to a cosine on its way to a logit.

Everything here is elementwise: no mesh, no model, no loop over the batch. Hyper-parameters are
leaves of a pytree, so one compiled program serves a sweep over them; words such as the tail rule
and the gradient convention are static.
"""

# The order of these imports is the order of `MARGINS`.
# isort: off
from arcface_jax.margins.rule import Context as Context
from arcface_jax.margins.rule import MarginRule as MarginRule
from arcface_jax.margins.registry import MARGINS as MARGINS
from arcface_jax.margins.registry import Entry as Entry
from arcface_jax.margins.registry import margin_table as margin_table
from arcface_jax.margins.registry import register_margin as register_margin
from arcface_jax.margins.softmax import softmax as softmax
from arcface_jax.margins.combined import GRADIENTS as GRADIENTS
from arcface_jax.margins.combined import TAILS as TAILS
from arcface_jax.margins.combined import Margin as Margin
from arcface_jax.margins.combined import arcface as arcface
from arcface_jax.margins.combined import combined as combined
from arcface_jax.margins.combined import cosface as cosface
from arcface_jax.margins.combined import norm_softmax as norm_softmax
from arcface_jax.margins.combined import sphereface as sphereface
from arcface_jax.margins.l_softmax import l_softmax as l_softmax
from arcface_jax.margins.sphereface_psi import sphereface_psi as sphereface_psi
from arcface_jax.margins.sphereface_r import sphereface_r as sphereface_r
from arcface_jax.margins.sphereface2 import sphereface2 as sphereface2
from arcface_jax.margins.curricularface import curricularface as curricularface
from arcface_jax.margins.mv_softmax import mv_softmax_am as mv_softmax_am
from arcface_jax.margins.mv_softmax import mv_softmax_arc as mv_softmax_arc
from arcface_jax.margins.magface import magface as magface
from arcface_jax.margins.adaface import adaface as adaface
from arcface_jax.margins.elasticface import elasticface as elasticface
from arcface_jax.margins.subcenter import subcenter_arcface as subcenter_arcface
from arcface_jax.margins.vpl import vpl as vpl
from arcface_jax.margins.circle import circle_class as circle_class
from arcface_jax.margins.adacos import adacos as adacos
from arcface_jax.margins.airface import airface as airface
from arcface_jax.margins.p2sgrad import p2sgrad as p2sgrad
from arcface_jax.margins.uniface import uniface as uniface
from arcface_jax.margins.interclass_filter import interclass_filter as interclass_filter
from arcface_jax.margins.by_class import ByClass as ByClass
from arcface_jax.margins.logits import margin_logits as margin_logits
from arcface_jax.margins.logits import target_cosine as target_cosine
# isort: on
