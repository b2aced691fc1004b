"""Backbones: images in, un-normalised embeddings out."""

from arcface_jax.models.iresnet import IResNet as IResNet
from arcface_jax.models.iresnet import IResNetConfig as IResNetConfig
from arcface_jax.models.registry import MODELS as MODELS
from arcface_jax.models.registry import create as create
