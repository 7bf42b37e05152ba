"""pneumolit's scoring: logits of the training images of a data set, from its store, as `evaluate` gets them."""

from __future__ import annotations

import sys
import time
from typing import Any, cast

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks._common.arguments import read_arguments
from benchmarks._common.pace import Pace
from benchmarks._common.restart import restart_as_commands_do
from benchmarks._common.task import Scoring
from benchmarks._loops.work import wait_for
from pneumolit.allocator import describe_allocator
from pneumolit.composition import register_resolvers
from pneumolit.config import CONFIG_DIR
from pneumolit.data.datamodule import image_rows
from pneumolit.data.dataset import load_data
from pneumolit.scoring import predict_logits
from pneumolit.training.build import build_datamodule, build_model, check_names


def main() -> None:
    work = read_arguments(Scoring, sys.argv[1:])
    overrides = [
        f"backbone={work.backbone}",
        "model.pretrained=false",
        f"model.image_size={work.image_size}",
        "data=image_folder",
        f"data.root='{work.data_root}'",
        f"data.store_size={max(256, work.image_size)}",
    ]
    register_resolvers()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = cast(dict[str, Any], OmegaConf.to_container(compose("train", overrides=overrides), resolve=True))
    data = load_data(cfg["data"], work.cache_dir)
    model, _, _ = build_model(cfg, check_names(cfg), build_datamodule(cfg, data))
    model.use_channels_last().to(work.device).eval()
    rows = data.rows("train")
    pace = Pace.from_environment()
    pace.tell(threads=torch.get_num_threads(), allocator=describe_allocator())
    while (steps := pace.next_round()) is not None:
        count = steps * work.batch_size
        chosen = image_rows(data, rows[np.arange(count) % len(rows)])
        start = time.perf_counter()
        predict_logits(model, chosen, precision=work.precision)
        wait_for(work.device)
        pace.tell(seconds=time.perf_counter() - start, images=count)


if __name__ == "__main__":
    restart_as_commands_do()
    main()
