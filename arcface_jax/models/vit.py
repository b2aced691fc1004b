"""Vision transformers as InsightFace trains them, without a class token."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from arcface_jax.models.backbone import BackboneConfig
from arcface_jax.models.layers import Convolution, uniform_fan_in
from arcface_jax.models.normalization import BatchNorm
from arcface_jax.models.remat import rematerialized

# arcface_torch draws these with trunc_normal_(std=0.02), which cuts at -2 and 2: 100 standard
# deviations, so nothing is cut. jax.nn.initializers.truncated_normal would cut at two of them.
_normal = nnx.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig(BackboneConfig):
    """Size of a `ViT`; fields of every backbone are those of `BackboneConfig`.

    ``dtype`` is that of the products in the blocks; patch embedding, residual sum, LayerNorm and
    softmax are float32 like the embedding layer. There are no stages: ``remat="stage"`` is
    ``"block"``.

    Args:
      width: numbers per token.
      depth: blocks.
      heads: of attention, a divisor of ``width``.
      patch: side in pixels of what becomes a token; rows and columns that do not fill one at the
        lower and right edge are unused.
      drop_path: rate at which the last block's branches are left out of an example; that of the
        others falls linearly to 0 in the first.
      mask_ratio: share of an example's tokens that training leaves out of the blocks.
      norm_epsilon: of the batch norms after the tokens; LayerNorm has 1e-5.

    Raises:
      ValueError: a number out of range.

    >>> ViTConfig(width=256, depth=12, heads=8, mask_ratio=0.1).kept_tokens
    129
    """

    width: int
    depth: int
    heads: int
    patch: int = 9
    drop_path: float = 0.0
    mask_ratio: float = 0.0
    norm_epsilon: float = 2e-5

    def __post_init__(self):
        super().__post_init__()
        for name in ("width", "depth", "heads", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.width % self.heads:
            raise ValueError(
                f"width={self.width} does not divide into heads={self.heads}; take a multiple."
            )
        if self.patch > self.image_size:
            raise ValueError(
                f"patch={self.patch} is larger than image_size={self.image_size}; take smaller "
                "patches or larger images."
            )
        self.check_rates("drop_path", "mask_ratio")
        if not self.kept_tokens:
            raise ValueError(
                f"mask_ratio={self.mask_ratio} leaves none of {self.tokens} tokens; take at most "
                f"{1 - 1 / self.tokens:.3g}."
            )

    def build(self, *, rngs: nnx.Rngs) -> "ViT":
        """The network, freshly drawn."""
        return ViT(self, rngs=rngs)

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch) ** 2

    @property
    def kept_tokens(self) -> int:
        """Tokens of an example that go through the blocks in training."""
        # 1e-9: 10 * (1 - 0.9) is 0.9999999999999998 in binary.
        return math.floor(self.tokens * (1.0 - self.mask_ratio) + 1e-9)


def uniform_taps(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    r"""Uniform in :math:`\pm 1/\sqrt{k^2 c_\text{in}}`, PyTorch's default for convolutions.

    >>> bool((abs(uniform_taps(jax.random.key(0), (2, 2, 4, 8))) <= 0.25).all())
    True
    """
    return uniform_fan_in(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)


class PatchEmbed(nnx.Module):
    """Square patches, row by row, each through the same linear map.

    >>> config = ViTConfig(width=4, depth=1, heads=1, image_size=20)
    >>> PatchEmbed(config, rngs=nnx.Rngs(0))(jnp.ones((2, 20, 20, 3))).shape
    (2, 4, 4)
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        """Draws kernel and bias from stream ``params``."""
        self.proj = Convolution(
            config.channels,
            config.width,
            kernel=config.patch,
            stride=config.patch,
            padding=0,
            use_bias=True,
            kernel_init=uniform_taps,
            dtype=config.wide_dtype,
            rngs=rngs,
        )
        bound = (config.patch**2 * config.channels) ** -0.5
        self.proj.bias = nnx.Param(
            jax.random.uniform(rngs.params(), (config.width,), jnp.float32, -bound, bound)
        )

    def __call__(self, images: Array) -> Array:
        """float[B, H, W, channels] -> [B, tokens, width]."""
        x = self.proj(images)
        return x.reshape(x.shape[0], -1, x.shape[-1])


class Attention(nnx.Module):
    r"""Each token takes from all tokens: :math:`\text{softmax}(Q K^T / \sqrt{d}) V` per head.

    The columns of the first product are queries, keys, values, each head by head.

    Source: Vaswani et al., Attention Is All You Need (NeurIPS 2017), eq. 1 and section 3.2.2.

    >>> config = ViTConfig(width=8, depth=1, heads=2)
    >>> Attention(config, rngs=nnx.Rngs(0))(jnp.ones((1, 5, 8))).shape
    (1, 5, 8)
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        """Draws the kernels from stream ``params``."""
        linear = functools.partial(nnx.Linear, kernel_init=_normal, dtype=config.dtype, rngs=rngs)
        self.qkv = linear(config.width, 3 * config.width, use_bias=False)
        self.proj = linear(config.width, config.width)
        self.heads = config.heads
        self.wide_dtype = config.wide_dtype

    def __call__(self, x: Array) -> Array:
        """float[B, tokens, width] -> the same shape in the config's dtype."""
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = jnp.moveaxis(parts, 2, 0)
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=self.wide_dtype)
        weights = jax.nn.softmax(logits * q.shape[-1] ** -0.5, axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
        return self.proj(mixed.reshape(x.shape))


class MLP(nnx.Module):
    """Linear to four times the width, ReLU6, linear back.

    >>> MLP(ViTConfig(width=8, depth=1, heads=2), rngs=nnx.Rngs(0))(jnp.ones((1, 5, 8))).shape
    (1, 5, 8)
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        """Draws the kernels from stream ``params``."""
        linear = functools.partial(nnx.Linear, kernel_init=_normal, dtype=config.dtype, rngs=rngs)
        self.fc1 = linear(config.width, 4 * config.width)
        self.fc2 = linear(4 * config.width, config.width)

    def __call__(self, x: Array) -> Array:
        """float[..., width] -> the same shape in the config's dtype."""
        return self.fc2(jax.nn.relu6(self.fc1(x)))


class Block(nnx.Module):
    """Attention, then `MLP`; each sees the tokens after LayerNorm and is added to them.

    Args:
      config: of the network.
      drop_path: rate at which an example goes without a branch in training.
      rngs: stream ``params``, and ``dropout`` where ``drop_path`` is not 0.

    >>> block = Block(ViTConfig(width=8, depth=1, heads=2), drop_path=0.0, rngs=nnx.Rngs(0))
    >>> block(jnp.ones((1, 5, 8))).shape
    (1, 5, 8)
    """

    def __init__(self, config: ViTConfig, *, drop_path: float, rngs: nnx.Rngs):
        """Draws the kernels from stream ``params``."""
        self.norm1 = _layer_norm(config, rngs)
        self.attn = Attention(config, rngs=rngs)
        self.norm2 = _layer_norm(config, rngs)
        self.mlp = MLP(config, rngs=rngs)
        self.drop_path = nnx.Dropout(
            drop_path, broadcast_dims=(1, 2), rngs=rngs if drop_path else None
        )

    def __call__(self, x: Array) -> Array:
        """float32[B, tokens, width] -> the same shape and dtype."""
        # The sum stays float32: of a small branch bfloat16 would lose all but the first digits.
        x = x + self.drop_path(self.attn(self.norm1(x))).astype(x.dtype)
        return x + self.drop_path(self.mlp(self.norm2(x))).astype(x.dtype)


def _layer_norm(config: ViTConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # Flax's epsilon is 1e-6, and its fast variance cancels where the mean is large.
    return nnx.LayerNorm(
        config.width, epsilon=1e-5, use_fast_variance=False, dtype=config.wide_dtype, rngs=rngs
    )


def keep_random(key: Array, tokens: Array, keep: int) -> tuple[Array, Array]:
    """Some tokens of each example, and where they were.

    Args:
      key: for the draw; each example has its own.
      tokens: float[B, N, width].
      keep: K, from 1 to N.

    Returns:
      float[B, K, width] in random order, and int[B, K]: their places in ``tokens``.

    Source: He et al., Masked Autoencoders (CVPR 2022), section 3 ("MAE encoder").

    >>> kept, places = keep_random(jax.random.key(0), jnp.ones((2, 5, 8)), 3)
    >>> kept.shape, places.shape
    ((2, 3, 8), (2, 3))
    """
    batch, count, _ = tokens.shape
    all_places = jnp.broadcast_to(jnp.arange(count), (batch, count))
    shuffled = jax.random.permutation(key, all_places, axis=1, independent=True)
    places = shuffled[:, :keep]
    return jnp.take_along_axis(tokens, places[:, :, None], axis=1), places


def put_back(tokens: Array, places: Array, filler: Array, count: int) -> Array:
    """What `keep_random` took, in its places again, with ``filler`` in the others.

    Args:
      tokens: float[B, K, width].
      places: int[B, K], in [0, count).
      filler: float[width].
      count: N, tokens of an example.

    Returns:
      float[B, N, width].

    >>> put_back(jnp.ones((1, 1, 1)), jnp.array([[2]]), jnp.array([0.5]), 3)[0, :, 0]
    Array([0.5, 0.5, 1. ], dtype=float32)
    """

    # Under vmap, as a scatter with row numbers would gather a batch that lies on many devices.
    def one(tokens: Array, places: Array) -> Array:
        empty = jnp.broadcast_to(filler[None].astype(tokens.dtype), (count, filler.size))
        return empty.at[places].set(tokens, unique_indices=True)

    return jax.vmap(one)(tokens, places)


class ViT(nnx.Module):
    """Transformer over patches; all its tokens, through linear, BN, linear, BN: the embedding.

    In training mode an embedding's length is about the root of D until the last batch norm's scale
    has moved; it is trained. With ``mask_ratio`` training leaves tokens out of the blocks and
    puts ``mask_token`` into their places after the last LayerNorm; evaluation takes all tokens.

    Args:
      config: the size.
      rngs: streams ``params`` and, with drop_path or mask_ratio, ``dropout``.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021), section 3.1; exact
    layers as in arcface_torch. drop_path: Huang et al., Stochastic Depth (ECCV 2016).

    >>> config = ViTConfig(width=8, depth=1, heads=2, embedding_dim=4, image_size=18)
    >>> ViT(config, rngs=nnx.Rngs(0))(jnp.ones((2, 18, 18, 3))).shape
    (2, 4)
    """

    def __init__(self, config: ViTConfig, *, rngs: nnx.Rngs):
        """Draws every parameter from ``rngs``."""
        self.config = config
        width, wide = config.width, config.wide_dtype
        self.patch_embed = PatchEmbed(config, rngs=rngs)
        self.pos_embed = nnx.Param(_normal(rngs.params(), (1, config.tokens, width), jnp.float32))
        self.mask_token = nnx.Param(_normal(rngs.params(), (1, 1, width), jnp.float32))
        self.mask_rngs = nnx.data(rngs["dropout"].fork() if config.mask_ratio else None)
        last = max(config.depth - 1, 1)
        self.blocks = nnx.List(
            Block(config, drop_path=config.drop_path * i / last, rngs=rngs)
            for i in range(config.depth)
        )
        self.norm = _layer_norm(config, rngs)
        linear = functools.partial(
            nnx.Linear, use_bias=False, kernel_init=_normal, dtype=wide, rngs=rngs
        )
        self.feature = nnx.List(
            [
                linear(config.tokens * width, width),
                BatchNorm(width, **config.norm, dtype=wide),
                linear(width, config.embedding_dim),
                BatchNorm(config.embedding_dim, **config.norm, dtype=wide),
            ]
        )
        self.deterministic = False

    def set_view(self, deterministic: bool | None = None, **kwargs):
        """Switches masking off and on, for `flax.nnx.view`."""
        if deterministic is not None:
            self.deterministic = deterministic
        return kwargs

    def __call__(self, images: Array) -> Array:
        """float[B, H, W, channels] in [-1, 1] -> float32[B, D], not normalised.

        Raises:
          ValueError: images of another size or number of channels.
        """
        x = self.token_features(images)
        x = x.reshape(x.shape[0], -1)
        for layer in self.feature:
            x = layer(x)
        return x

    def token_features(self, images: Array) -> Array:
        """float[B, H, W, channels] in [-1, 1] -> float32[B, tokens, width], after LayerNorm.

        Raises:
          ValueError: images of another size or number of channels.
        """
        self.config.check_images(images)
        x = self.patch_embed(images) + self.pos_embed[...]
        if self.mask_rngs is None or self.deterministic:
            return self.norm(self._through_blocks(x))
        x, places = keep_random(self.mask_rngs(), x, self.config.kept_tokens)
        x = self.norm(self._through_blocks(x))
        return put_back(x, places, self.mask_token[...].reshape(-1), self.config.tokens)

    def _through_blocks(self, x: Array) -> Array:
        for block in self.blocks:
            x = block(x) if self.config.remat == "none" else rematerialized(block, x)
        return x
