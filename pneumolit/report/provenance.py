"""What is known of who was imaged and who gave the labels, by the source of the images; the rest is said to be unknown.

Source:
    Kermany, Zhang and Goldbaum, "Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for
    Classification", Mendeley Data, 2018, doi:10.17632/rscbjbr9sj (population, hospital, projection, grading, licence);
    Kermany et al., Cell 172, 2018, 1122-1131; Yang et al., MedMNIST v2, Scientific Data 10, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pneumolit.labels import NORMAL
from pneumolit.report.run_record import RunRecord


@dataclass(frozen=True)
class Provenance:
    """Sentences about a data set; an empty one says that nothing is known.

    Attributes:
        name: of the set, for people.
        people: those imaged, in the plural: "children", "people" or "phantoms".
        population: who was imaged, where.
        design: how the images were gathered.
        eligibility: which images were let in.
        acquisition: how they were taken.
        labels: how the labels came about.
        readers: who gave them.
        test_labels: what was done besides for the test images.
        privacy: what the files say of persons.
        licence: under which the set is given out.
        negatives: what an image without pneumonia is.
        source: where this is known from.
    """

    name: str
    people: str = "people"
    population: str = ""
    design: str = ""
    eligibility: str = ""
    acquisition: str = ""
    labels: str = ""
    readers: str = ""
    test_labels: str = ""
    privacy: str = ""
    licence: str = ""
    negatives: str = ""
    source: str = "config.yaml"

    def negatives_of(self, data: Mapping[str, Any]) -> str:
        """What an image without pneumonia is, where no class but NORMAL is without; else nobody has said it."""
        without = [str(name).upper() for name in data["classes"] if name not in data["positive"]]
        return self.negatives if without == [NORMAL] else ""


KAGGLE = Provenance(
    name="Chest X-Ray Images (Pneumonia), Kermany et al. 2018",
    people="children",
    population="Children of one to five years of one hospital, the Guangzhou Women and Children's Medical Center in "
    "Guangzhou, China.",
    design="Retrospective: the radiographs were taken in routine care and selected afterwards.",
    eligibility="The authors removed radiographs of low quality and unreadable ones; by what other rules they selected "
    "is not said with the data.",
    acquisition="Anterior-posterior projection. Device, tube voltage, dose and position of the child are not "
    "said with the data; the films are given out as JPEG files with 8 bits.",
    labels="Normal or pneumonia; of pneumonia the file name says bacterial or viral. Each image carries one final "
    "label.",
    readers="Two expert physicians graded every image. Their training and experience are not said with the data.",
    test_labels="A third expert checked the evaluation set as well.",
    privacy="File names carry a number per patient and no name, date, age or sex.",
    licence="CC BY 4.0",
    negatives="Images without pneumonia are labelled normal. No other disease is labelled in the set, so the model "
    "cannot have learned to tell one from pneumonia.",
    source="Mendeley Data, doi:10.17632/rscbjbr9sj; Kermany et al., Cell 172, 2018",
)

PNEUMONIAMNIST = replace(
    KAGGLE,
    name="PneumoniaMNIST, made of the set of Kermany et al. 2018",
    acquisition="Anterior-posterior projection, cropped to a square at the middle and shrunk by MedMNIST. Device, tube "
    "voltage, dose and position of the child are not said with the data.",
    privacy="Images carry no name and no number of a patient, so that films of one patient may be on two sides.",
    source="Yang et al., Scientific Data 10, 2023; Kermany et al., Cell 172, 2018",
)

PHANTOMS = Provenance(
    name="synthetic chest phantoms",
    people="phantoms",
    population="Nobody was imaged: the images are drawn by a program. They show that the machinery works and prove "
    "nothing about real radiographs.",
    design="Neither prospective nor retrospective: a program made the images.",
    eligibility="Every image that the program drew is included.",
    acquisition="No device: the program draws gray images.",
    labels="The program that draws a phantom decides its class.",
    readers="No reader: the class is decided before the image is drawn.",
    test_labels="Test phantoms are labelled in the same way.",
    privacy="No person is shown.",
    negatives="Images without pneumonia are phantoms without an opacity.",
)


def provenance(record: RunRecord) -> Provenance:
    """What is known of a run's data.

    The Kaggle set is recognised by its layout and its counts; other images in the same layout are not taken for it.
    """
    source = str(record.config["data"]["source"])
    if source == "demo":
        return PHANTOMS
    if source == "kaggle" and record.is_kaggle:
        return KAGGLE
    if source == "pneumoniamnist":
        return PNEUMONIAMNIST
    if source == "kaggle":
        total = sum(side.num_images for side in record.sides.values())
        return Provenance(
            name=f"images in the layout of the Kaggle set, {total} of them",
            population="The files are laid out like the Kaggle set, but are not as many, so nothing is taken for "
            "granted about who was imaged.",
        )
    names = {"folder": "class folders of the user's own", "manifest": "a list of the user's own images (manifest)"}
    return Provenance(
        name=names.get(source, source),
        population="The record does not say who was imaged, where and when; whoever gathered the images must.",
    )
