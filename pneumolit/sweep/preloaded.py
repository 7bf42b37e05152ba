"""What the process that forks jobs has imported already: all that a run needs, and nothing that touches CUDA.

A GPU is chosen by an environment variable that CUDA reads when it is first touched, and a process that is forked after
that cannot use CUDA at all.
"""

import matplotlib.backends.backend_agg  # noqa: F401
import sklearn.model_selection  # noqa: F401
import tensorboard.compat.proto.event_pb2  # noqa: F401
import timm  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchvision.utils  # noqa: F401

import pneumolit.report.curves
import pneumolit.report.evaluation
import pneumolit.report.figures
import pneumolit.report.html
import pneumolit.sweep.job
import pneumolit.training.fit  # noqa: F401
from pneumolit.training.environment import source_hash

source_hash()  # of what was imported here: a job that is forked after the sources have changed runs none of the change
