"""The backbones again, in PyTorch: independent of this library.

Module names give the keys of the published checkpoints. Run with the dicts ``inputs`` and
``outputs``, as the fixture ``peers`` does, the file trains batch norm's statistics for some
batches, then embeds one more in evaluation and in training and takes gradients.
"""

import json

import torch
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, c_in, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride == 2:
            projection = nn.Conv2d(c_in, width, 1, stride=2, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x):
        branch = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        branch = self.bn3(self.conv2(branch))
        return branch + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    def __init__(self, *, depths, widths, embedding_dim, image_size, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        c_in, self.stages, side = widths[0], len(depths), image_size
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            blocks = [ResidualBlock(c_in, width, 2)]
            blocks += [ResidualBlock(width, width, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            c_in, side = width, -(-side // 2)
        self.bn2 = nn.BatchNorm2d(c_in)
        self.fc = nn.Linear(c_in * side * side, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        self.features.weight.requires_grad = False

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


class Layers(nn.Module):
    """What arcface_torch keeps under the name ``layers``; added to the input where residual."""

    def __init__(self, *layers, residual=False):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x):
        return self.layers(x) + x if self.residual else self.layers(x)


def unit(c_in, c_out, side, *, stride=1, padding=0, groups=1, active=True):
    convolution = nn.Conv2d(
        c_in, c_out, side, stride=stride, padding=padding, groups=groups, bias=False
    )
    return Layers(convolution, nn.BatchNorm2d(c_out), *([nn.PReLU(c_out)] if active else []))


def separable(c_in, c_out, hidden, *, stride=1, residual=False):
    return Layers(
        unit(c_in, hidden, 1),
        unit(hidden, hidden, 3, stride=stride, padding=1, groups=hidden),
        unit(hidden, c_out, 1, active=False),
        residual=residual,
    )


def residuals(width, hidden, count):
    return Layers(*(separable(width, width, hidden, residual=True) for _ in range(count)))


class MobileFaceNet(nn.Module):
    def __init__(self, *, blocks, scale, embedding_dim, image_size, channels):
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        if blocks[0] == 1:
            second = unit(narrow, narrow, 3, padding=1, groups=64)
        else:
            second = residuals(narrow, 128, blocks[0])
        self.layers = nn.Sequential(
            unit(channels, narrow, 3, stride=2, padding=1),
            second,
            separable(narrow, narrow, 128, stride=2),
            residuals(narrow, 128, blocks[1]),
            separable(narrow, wide, 256, stride=2),
            residuals(wide, 256, blocks[2]),
            separable(wide, wide, 512, stride=2),
            residuals(wide, 256, blocks[3]),
        )
        self.conv_sep = unit(wide, 512, 1)
        self.features = Layers(
            unit(512, 512, image_size // 16, groups=512, active=False),
            nn.Flatten(),
            nn.Linear(512, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
        )

    def forward(self, x):
        return self.features(self.conv_sep(self.layers(x)))


def with_relu6(c_in, c_out, side, **options):
    convolution = nn.Conv2d(c_in, c_out, side, bias=False, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU6())


class Inverted(nn.Module):
    def __init__(self, c_in, c_out, expansion, stride):
        super().__init__()
        hidden = expansion * c_in
        self.residual = stride == 1 and c_in == c_out
        self.conv = nn.Sequential(
            with_relu6(c_in, hidden, 1),
            with_relu6(hidden, hidden, 3, stride=stride, padding=1, groups=hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x):
        return self.conv(x) + x if self.residual else self.conv(x)


class MobileFaceNet128d(nn.Module):
    def __init__(self, *, embedding_dim, image_size, channels):
        super().__init__()
        self.conv1 = with_relu6(channels, 64, 3, stride=2, padding=1)
        self.dw_conv = nn.Module()
        self.dw_conv.depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)
        self.dw_conv.pointwise = nn.Conv2d(64, 64, 1, bias=False)
        self.dw_conv.bn1, self.dw_conv.bn2 = nn.BatchNorm2d(64), nn.BatchNorm2d(64)
        settings = [(2, 64, 2)] + [(2, 64, 1)] * 4 + [(4, 128, 2)] + [(2, 128, 1)] * 6
        settings += [(4, 128, 2)] + [(2, 128, 1)] * 2
        blocks, c_in = [], 64
        for expansion, c_out, stride in settings:
            blocks.append(Inverted(c_in, c_out, expansion, stride))
            c_in = c_out
        self.features = nn.Sequential(*blocks)
        self.conv2 = with_relu6(128, 512, 1)
        self.gdconv = nn.Module()
        self.gdconv.depthwise = nn.Conv2d(512, 512, image_size // 16, groups=512, bias=False)
        self.gdconv.bn = nn.BatchNorm2d(512)
        self.conv3 = nn.Conv2d(512, embedding_dim, 1)
        self.bn = nn.BatchNorm2d(embedding_dim)

    def forward(self, x):
        x = torch.relu(self.dw_conv.bn1(self.dw_conv.depthwise(self.conv1(x))))
        x = torch.relu(self.dw_conv.bn2(self.dw_conv.pointwise(x)))
        x = self.conv2(self.features(x))
        return self.bn(self.conv3(self.gdconv.bn(self.gdconv.depthwise(x)))).flatten(1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        per_head = []
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        for q, k, v in zip(
            *(part.chunk(self.heads, dim=-1) for part in (query, key, value)), strict=True
        ):
            weights = torch.softmax(torch.bmm(q, k.mT) / q.shape[-1] ** 0.5, dim=-1)
            per_head.append(torch.bmm(weights, v))
        return self.proj(torch.cat(per_head, dim=-1))


class Branches(nn.Module):
    """Attention and MLP, each added to its input."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(width, 4 * width)
        self.mlp.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        hidden = nn.functional.relu6(self.mlp.fc1(self.norm2(x)))
        return x + self.mlp.fc2(hidden)


class ViT(nn.Module):
    def __init__(self, *, width, depth, heads, embedding_dim, image_size, channels, patch):
        super().__init__()
        tokens = (image_size // patch) ** 2
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList(Branches(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim, eps=2e-5),
        )

    def forward(self, images):
        maps = self.patch_embed.proj(images)
        x = torch.einsum("bdhw->bhwd", maps).flatten(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.feature(self.norm(x).flatten(1))


NETWORKS = {kind.__name__: kind for kind in (IResNet, MobileFaceNet, MobileFaceNet128d, ViT)}


def build(inputs):
    """The network of ``config`` with the arrays ``state/…``, in the type of these."""
    config = json.loads(str(inputs["config"]))
    model = NETWORKS[config.pop("type")](**config)
    given = {k.removeprefix("state/"): v for k, v in inputs.items() if k.startswith("state/")}
    if any(v.dtype == "float64" for v in given.values()):
        model = model.double()
    model.load_state_dict({key: torch.tensor(value) for key, value in given.items()})
    return model


def run(inputs, outputs):
    """``images`` float[steps, B, H, W, c]; the last batch is the one that is embedded."""
    model = build(inputs)
    *warm_up, images = torch.tensor(inputs["images"]).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        for batch in warm_up:
            model(batch)
        outputs["evaluation"] = model.eval()(images).numpy()
    training = model.train()(images)
    (training * torch.tensor(inputs["weights"])).sum().backward()
    outputs["training"] = training.detach().numpy()
    for name, value in model.state_dict().items():
        outputs[f"after/{name}"] = value.numpy()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            outputs[f"gradient/{name}"] = parameter.grad.numpy()


if "inputs" in globals():
    run(globals()["inputs"], globals()["outputs"])
