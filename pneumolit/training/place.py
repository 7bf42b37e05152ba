"""What every stage of a run shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pneumolit.data.datamodule import ChestXrayDataModule
from pneumolit.data.parts import Part
from pneumolit.model.backbone import BackboneSpec
from pneumolit.rundir import RunDir

# Gets the row of every epoch, as metrics.csv has it; may end the run by RunPrunedError.
Watch = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Workplace:
    """What every stage of a run shares.

    Attributes:
        run: its folder.
        spec: its backbone.
        datamodule: its loaders; batch size and stored features may change from stage to stage.
        accelerator: Lightning's name of the device.
        precision: number format of training.
        console: for people.
        cache_dir: folder of decoded images and stored features.
        gradient_routes: names of the ways of `model.gradients` that layers take.
        watch: told of every epoch.
    """

    run: RunDir
    spec: BackboneSpec
    datamodule: ChestXrayDataModule
    accelerator: str
    precision: str
    console: Console
    cache_dir: Path
    gradient_routes: tuple[str, ...] = ()
    watch: Watch | None = None

    @property
    def part(self) -> Part:
        """Which of the processes that train the model this is."""
        return self.datamodule.part
