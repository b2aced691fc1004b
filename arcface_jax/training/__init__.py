"""Training: schedules, optimiser, one jitted step, the loop around it, checkpoints and records."""

from arcface_jax.training.checkpoints import Checkpoints as Checkpoints
from arcface_jax.training.loop import Diverged as Diverged
from arcface_jax.training.loop import train as train
from arcface_jax.training.program import Program as Program
from arcface_jax.training.program import ProgramConfig as ProgramConfig
from arcface_jax.training.records import JsonLines as JsonLines
from arcface_jax.training.records import read_json_lines as read_json_lines
from arcface_jax.training.row_updates import update_rows as update_rows
from arcface_jax.training.schedules import ScheduleConfig as ScheduleConfig
from arcface_jax.training.state import Hyper as Hyper
from arcface_jax.training.state import TrainState as TrainState
from arcface_jax.training.terms import TERMS as TERMS
