"""Backbones: images in, un-normalised embeddings out."""

from arcface_jax.models.backbone import BackboneConfig as BackboneConfig
from arcface_jax.models.counting import Counts as Counts
from arcface_jax.models.counting import count as count
from arcface_jax.models.iresnet import IResNet as IResNet
from arcface_jax.models.iresnet import IResNetConfig as IResNetConfig
from arcface_jax.models.mobilefacenet import MobileFaceNet as MobileFaceNet
from arcface_jax.models.mobilefacenet import MobileFaceNetConfig as MobileFaceNetConfig
from arcface_jax.models.mobilefacenet_128d import MobileFaceNet128d as MobileFaceNet128d
from arcface_jax.models.mobilefacenet_128d import (
    MobileFaceNet128dConfig as MobileFaceNet128dConfig,
)
from arcface_jax.models.preprocessing import Preprocessing as Preprocessing
from arcface_jax.models.registry import MODELS as MODELS
from arcface_jax.models.registry import configure as configure
from arcface_jax.models.registry import create as create
from arcface_jax.models.vit import ViT as ViT
from arcface_jax.models.vit import ViTConfig as ViTConfig
