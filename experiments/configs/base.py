"""Every field of an experiment with its default and unit; other configs change what they need."""

from ml_collections import ConfigDict, config_dict

from arcface_jax.training.terms import TERMS
from experiments.margin_fields import margin_fields
from experiments.model_fields import model_fields


def get_config() -> ConfigDict:
    """The default experiment: ArcFace on the built-in synthetic faces."""
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "synthetic_faces"  # a registered data set or a directory of identities
    config.data.size = 32  # px, side of the square images
    config.data.channels = 3  # 1 grey, 3 RGB
    config.data.aligned = False  # True: faces lie on the five-point template (lfw's always do)
    config.data.train = "train"  # split to train on
    config.data.test = "test"  # split of unseen identities to evaluate on
    config.data.options = ConfigDict()  # what the data set itself takes, e.g. identities
    # Identities cut from the training split for choosing hyper-parameters: a share of them, or a
    # number of whole groups (Omniglot alphabets). With evaluate_on = "validation" they are left
    # out of training and evaluated instead of the test split.
    config.data.validation_fraction = 0.0
    config.data.validation_groups = 0
    config.data.evaluate_on = "test"  # or "validation"
    # A cleaned.csv of experiments.clean: training images that it does not keep are left out.
    config.data.keep = ""
    config.data.workers = 0  # 0: threads; n: n processes that decode and augment

    config.augmentation = ConfigDict()
    config.augmentation.flip = 0.0  # probability of a left-right flip
    config.augmentation.shift_px = 0  # px either way
    config.augmentation.rotate_deg = 0.0  # degrees either way
    config.augmentation.scale = 0.0  # size changes by up to this share
    config.augmentation.brightness = 0.0  # share of the full range either way
    config.augmentation.contrast = 0.0  # share either way
    # Grey level of what comes in from outside, 0..255; empty repeats the edge.
    config.augmentation.fill = config_dict.placeholder(float)

    # name, and every field of every network; what is empty is as in the one named.
    config.model = model_fields("resnet_small")
    # A weight file to begin with: safetensors of experiments.evaluate, PyTorch, ONNX.
    config.init_from = ""
    config.freeze_backbone = False  # train the head alone

    # name, and every parameter of every margin (docs/losses.md); angles in radians.
    config.margin = margin_fields("arcface")
    config.scale = config_dict.placeholder(float)  # s; empty: the margin's own (64)

    # Weights of terms added to the loss; 0 leaves a term out.
    config.terms = ConfigDict({name: 0.0 for name in sorted(TERMS)})

    # How the sum over classes is taken: dense (all logits in memory), fused (a block of classes at
    # a time), sharded (fused, classes and batch cut over devices), sampled (Partial FC).
    config.head = ConfigDict()
    config.head.name = "dense"
    config.head.devices = 0  # of sharded and sampled; 0: all there are
    config.head.block = 0  # classes at a time, of all but dense; 0 chooses
    config.head.rate = 0.1  # of sampled: share of the classes in a step
    config.head.update = "sparse"  # of sampled: classes left out stay, or "dense": decay goes on
    config.head.log_q = False  # of sampled: weigh drawn classes so that sums are right on average

    config.steps = 1000
    config.batch_size = 128
    config.learning_rate = 0.1
    config.momentum = 0.9
    config.weight_decay = 5e-4
    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # constant, cosine, step, poly
    config.schedule.warmup = 50  # steps
    config.schedule.drops = ()  # step: where the rate falls to a tenth
    config.schedule.power = 2.0  # poly

    config.log_every = 20  # steps between two records
    config.checkpoint_every = 500  # steps; a killed run goes on from the last one

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 256
    config.evaluation.flip = "none"  # the mirrored image: add its embedding, or add_unit
    config.evaluation.pairs = ""  # a pair list of the data set; empty: drawn
    config.evaluation.max_images_per_identity = 0  # adds metrics with at most so many; 0: none
    config.evaluation.resamples = 200  # of the identities, for intervals
    config.evaluation.angle_images = 2048  # training images in the theta histograms
    return config


def sweep():
    """One point: the config as it is."""
    yield {}
