"""Verification and identification of held-out identities, with intervals over identities."""

from arcface_jax.evaluation.all_pairs import PairRoc as PairRoc
from arcface_jax.evaluation.all_pairs import all_pairs_roc as all_pairs_roc
from arcface_jax.evaluation.bootstrap import Interval as Interval
from arcface_jax.evaluation.bootstrap import bootstrap_identities as bootstrap_identities
from arcface_jax.evaluation.identification import RankOne as RankOne
from arcface_jax.evaluation.identification import rank_one as rank_one
from arcface_jax.evaluation.impostors import ImpostorScores as ImpostorScores
from arcface_jax.evaluation.impostors import impostor_scores as impostor_scores
from arcface_jax.evaluation.impostors import listed_impostor_scores as listed_impostor_scores
from arcface_jax.evaluation.open_set import OpenSetResult as OpenSetResult
from arcface_jax.evaluation.open_set import evaluate_open_set as evaluate_open_set
from arcface_jax.evaluation.pair_benchmark import PairsResult as PairsResult
from arcface_jax.evaluation.pair_benchmark import evaluate_pairs as evaluate_pairs
from arcface_jax.evaluation.pairs import DrawnPairs as DrawnPairs
from arcface_jax.evaluation.pairs import TenFold as TenFold
from arcface_jax.evaluation.pairs import class_ordered_folds as class_ordered_folds
from arcface_jax.evaluation.pairs import draw_pairs as draw_pairs
from arcface_jax.evaluation.pairs import ten_fold_accuracy as ten_fold_accuracy
from arcface_jax.evaluation.roc import TarAtFar as TarAtFar
from arcface_jax.evaluation.roc import area_under_curve as area_under_curve
from arcface_jax.evaluation.roc import equal_error_rate as equal_error_rate
from arcface_jax.evaluation.roc import tar_at_far as tar_at_far
