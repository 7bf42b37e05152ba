"""PneumoniaClassifier: same seed, same bits; checkpoints of plain values; numbers with a second source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

from pneumolit.data.datamodule import image_rows
from pneumolit.data.mixing import draw_mix
from pneumolit.labels import LabelSet, two_class_logit
from pneumolit.model.classifier import PneumoniaClassifier, TrainingDivergedError, validation_numbers
from pneumolit.model.loss import taught_loss
from pneumolit.scoring import predict_logits

CAUSE = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))
Configure = Callable[..., dict[str, Any]]
Train = Callable[..., Any]


@pytest.fixture
def short(tiny_config: Configure) -> dict[str, Any]:
    return tiny_config("trainer.max_epochs=1", "data.stress=false", "callbacks.ema.decay=null")


def weights_of(trained: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(trained.run.checkpoint("last"), weights_only=True)["state_dict"]
    return state


def test_same_seed_gives_the_same_bits_and_another_seed_others(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    choices = ("trainer.max_epochs=2", "data.stress=false", "model.drop_rate=0.2", "augment.mixup_alpha=0.4")
    torch.manual_seed(11)  # what ran before must not matter
    first = weights_of(train_only(tiny_config(*choices), tmp_path / "a"))
    torch.manual_seed(12)
    again = weights_of(train_only(tiny_config(*choices), tmp_path / "b"))
    other = weights_of(train_only(tiny_config(*choices, "seed=1"), tmp_path / "c"))
    assert [k for k in first if not torch.equal(first[k], again[k])] == []
    assert not torch.equal(first["backbone.fc.weight"], other["backbone.fc.weight"])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("fused", ["true", "false"])
def test_gradients_are_clipped_in_every_format_also_for_a_fused_optimizer(
    fused: str, precision: str, tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    choices = ("optim=sgd", f"+optim.fused={fused}", "optim.lr=1", "optim.momentum=0", "optim.weight_decay=0")
    cfg = tiny_config(*choices, "optim.nesterov=false", "scheduler=constant", "trainer.gradient_clip_val=1e-3",
                      "trainer.max_epochs=1", "trainer.limit_train_batches=3", "data.stress=false",
                      "callbacks.ema.decay=null")  # fmt: skip
    moved: list[float] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, model: Any, *_: Any) -> None:
            self.before = [p.detach().clone() for p in model.parameters()]

        def on_train_batch_end(self, trainer: Any, model: Any, *_: Any) -> None:
            steps = [p.detach() - b for p, b in zip(model.parameters(), self.before, strict=True)]
            moved.append(float(torch.cat([s.flatten() for s in steps]).norm()))

    train_only(cfg, tmp_path / "run", [Watch()], precision)
    assert moved == pytest.approx([1e-3] * 3, rel=0.01)


def test_the_way_of_clipping_that_a_trainer_names_is_kept(tiny_config: Configure) -> None:
    from pneumolit.data.dataset import load_data
    from pneumolit.training.build import build_datamodule, build_model, check_names

    cfg = tiny_config()
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model = build_model(cfg, check_names(cfg), datamodule)[0]
    model.trainer = Trainer(accelerator="cpu", precision="bf16-mixed", logger=False, enable_checkpointing=False)
    weight = next(model.backbone.parameters())
    weight.grad = torch.full_like(weight, 3.0)
    optimizer = torch.optim.SGD([weight], fused=True)
    model.configure_gradient_clipping(optimizer, 0.5, "value")
    assert torch.equal(weight.grad, torch.full_like(weight, 0.5))
    model.configure_gradient_clipping(optimizer, 0.25, "norm")
    assert float(weight.grad.norm()) == pytest.approx(0.25)


@pytest.mark.parametrize(("freeze", "expected"), [("none", 64), ("head", 0)])
def test_only_where_a_norm_uses_the_statistics_of_the_batch_are_films_scored_in_a_drawn_order(
    tiny_config: Configure, freeze: str, expected: int
) -> None:
    # A stage that trains the head alone has none; on a GPU its batches are filled up to a size of their own.
    from pneumolit.data.dataset import load_data
    from pneumolit.training.build import build_datamodule, build_model, check_names

    cfg = tiny_config("model.bn_inference=drawn_batch", "data.batch_size=64", f"freeze={freeze}")
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model = build_model(cfg, check_names(cfg), datamodule)[0]
    assert (model.drawn_batch, model.needs_batch) == (expected, expected > 0)


@pytest.mark.parametrize(
    ("precision", "clipped", "is_refused"),
    [("16-mixed", 1.0, True), ("16-mixed", None, False), ("bf16-mixed", 1.0, False)],
)
def test_scaled_gradients_of_a_fused_optimizer_are_not_clipped_but_refused(
    precision: str, clipped: float | None, is_refused: bool, tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.data.dataset import load_data
    from pneumolit.training.build import build_datamodule, build_model, check_names

    cfg = tiny_config("optim=sgd", "+optim.fused=true", "scheduler=constant")
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model = build_model(cfg, check_names(cfg), datamodule)[0]
    # No trainer on a CPU has this precision.
    trainer = SimpleNamespace(precision=precision, gradient_clip_val=clipped, datamodule=datamodule, max_epochs=1,
                              limit_train_batches=1.0, accumulate_grad_batches=1)  # fmt: skip
    monkeypatch.setattr(type(model), "trainer", trainer)
    with pytest.raises(ValueError, match=r"leave optim\.fused out") if is_refused else nullcontext():
        model.configure_optimizers()


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str)


def test_checkpoints_hold_plain_hyperparameters_only(small_run: Path) -> None:
    for name in ("best", "last"):
        content = torch.load(small_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert plain(content["hyper_parameters"])
        assert content["hyper_parameters"]["hparams"]["classes"] == ["NORMAL", "BACTERIA", "VIRUS"]


def test_rebuilt_model_gives_the_same_logits_bit_for_bit(
    short: dict[str, Any], train_only: Train, tmp_path: Path
) -> None:
    trained = train_only(short, tmp_path / "run")
    images = {"image": torch.randint(256, (8, 1, 64, 64), dtype=torch.uint8)}
    rebuilt = PneumoniaClassifier.from_checkpoint(trained.run.checkpoint("last"))
    with torch.inference_mode():
        assert torch.equal(rebuilt.logits_of(images), trained.model.eval().logits_of(images))
    assert not rebuilt.training


def test_order_in_memory_does_not_change_what_is_computed(small_run: Path) -> None:
    model = PneumoniaClassifier.from_checkpoint(small_run / "checkpoints" / "last.ckpt")
    images = torch.rand(4, 1, 32, 32)
    assert model.is_channels_last
    with torch.inference_mode():
        fast = model(images)
        model.is_channels_last = False
        model.backbone.to(memory_format=torch.contiguous_format)
        torch.testing.assert_close(model(images), fast, rtol=1e-4, atol=1e-5)


def test_three_channels_are_gray_repeated_and_normalised_once(short: dict[str, Any]) -> None:
    settings = {
        "backbone": "logistic", "classes": ["A", "B"], "positive": [], "image_size": 16, "in_chans": 3,
        "drop_rate": 0.0, "mean": 0.25, "std": 0.5, "prior_log_odds": 0.0, "seed": 0, "loss": {"name": "cross_entropy"},
        "augment": {}, "mixup_alpha": 0.0, "optim": {}, "scheduler": {},
    }  # fmt: skip
    model = PneumoniaClassifier(settings)
    images = torch.rand(2, 1, 16, 16)
    expected = model.backbone(((images - 0.25) / 0.5).repeat(1, 3, 1, 1))
    torch.testing.assert_close(model(images), expected)


def test_frozen_batch_norms_stand_still_from_the_start_and_after_every_train_call(tiny_config: Configure) -> None:
    # Lightning 2.6 calls no train() of its own: a model that starts in training mode stays in it.
    from pneumolit.data.datamodule import ChestXrayDataModule
    from pneumolit.data.dataset import load_data
    from pneumolit.training.build import build_model, check_names

    cfg = tiny_config("freeze=head")
    datamodule = ChestXrayDataModule(load_data(cfg["data"], Path(cfg["cache_dir"])), batch_size=8, seed=0)
    model, _, plan = build_model(cfg, check_names(cfg), datamodule)
    norms = [model.backbone.get_submodule(name) for name in plan.still_norms]
    assert norms and not any(norm.training for norm in norms)
    model.train()
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("average", ["", "callbacks.swa.start_fraction=0.5"])
def test_training_images_have_the_size_of_training_and_scored_ones_that_of_scoring(
    tiny_config: Configure, train_only: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: str
) -> None:
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    forward = PneumoniaClassifier.forward

    def watched(model: PneumoniaClassifier, images: torch.Tensor) -> torch.Tensor:
        seen[model.training].add(images.shape[-1])
        return forward(model, images)

    monkeypatch.setattr(PneumoniaClassifier, "forward", watched)
    run = train_only(
        tiny_config("trainer.max_epochs=1", "model.train_size=24", "callbacks.ema.decay=null", *average.split()),
        tmp_path / "run",
    ).run
    assert seen[True] == {24}
    # The batch norms of averaged weights are estimated from training images.
    assert seen[False] == ({24, 32} if average else {32})
    rebuilt = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    assert rebuilt.train_size == 24
    assert rebuilt.logits_of({"image": torch.zeros(1, 1, 64, 64, dtype=torch.uint8)}).shape == (1, 3)
    assert rebuilt.settings["image_size"] == 32


@pytest.fixture
def validated(tiny_config: Configure, train_only: Train, tmp_path: Path) -> Callable[..., list[dict[str, np.ndarray]]]:
    """`validated(override, ...)`: logits of every validation set after every epoch, of weights that hardly move."""

    def run(*choices: str) -> list[dict[str, np.ndarray]]:
        found: list[dict[str, np.ndarray]] = []

        class Keep(Callback):
            def on_validation_end(self, trainer: Any, model: Any) -> None:
                if not trainer.sanity_checking:
                    found.append({name: kept["logits"].numpy().copy() for name, kept in model.validated.items()})

        still = ("optim.lr=1e-12", "optim=sgd", "scheduler=constant", "callbacks.ema.decay=null", "data.stress=true",
                 "freeze=head", "trainer.max_epochs=2", "trainer.cache_features=false")  # fmt: skip
        train_only(tiny_config(*still, *choices), tmp_path / f"run{len(list(tmp_path.iterdir()))}", [Keep()])
        return found

    return run


def test_augmented_validation_is_drawn_anew_in_every_epoch_and_leaves_the_other_sets_alone(
    validated: Callable[..., list[dict[str, np.ndarray]]],
) -> None:
    first, second = validated("augment=light", "data.val_augment=true")
    plain, plain_again = validated("augment=light")
    np.testing.assert_allclose(plain["val"], plain_again["val"], atol=1e-4)
    for one, other in ((first, second), (first, plain), (second, plain)):
        assert np.abs(one["val"] - other["val"]).max() > 1e-3
    np.testing.assert_allclose(first["stress"], plain["stress"], atol=1e-4)


def test_a_student_is_drawn_to_what_its_teacher_says_and_a_run_repeats_itself(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    from pneumolit.data.dataset import load_data

    plain = tiny_config("trainer.max_epochs=2", "data.stress=false", "callbacks.ema.decay=null", "optim.lr=1e-2")
    data = load_data(plain["data"], Path(plain["cache_dir"]))
    rows = data.rows("train")
    teacher = tmp_path / "teacher.csv"

    def mean_score(name: str, said: float | None) -> float:
        cfg = plain
        if said is not None:
            lines = "".join(f"{data.records[int(row)].path.as_posix()},{said}\n" for row in rows)
            teacher.write_text("path,score\n" + lines)
            cfg = {**plain, "distill": {"teacher": str(teacher), "share": 0.9, "temperature": 2.0}}
        model = train_only(cfg, tmp_path / name).model
        logits = predict_logits(model, image_rows(data, rows))
        odds = two_class_logit(logits, data.labels.positive_mask)
        return float(odds.mean() - model.settings["prior_log_odds"])

    low, none, high = mean_score("low", -4.0), mean_score("none", None), mean_score("high", 4.0)
    assert low < none < high and high - low > 2
    assert mean_score("again", 4.0) == high


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_what_is_taught_is_least_where_the_student_says_the_same(temperature: float) -> None:
    teacher = torch.tensor([-3.0, 0.5, 2.0])
    logits = torch.stack([torch.zeros(3), teacher - np.log(2), teacher - np.log(2)], 1).requires_grad_()
    loss = taught_loss(logits, teacher, [False, True, True], temperature=temperature)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    odds, wanted = np.array([1.0, -2.0, 0.3]), 1 / (1 + np.exp(-teacher.numpy() / temperature))
    probs = 1 / (1 + np.exp(-odds / temperature))
    by_hand = temperature**2 * float(-(wanted * np.log(probs) + (1 - wanted) * np.log(1 - probs)).mean())
    two = torch.stack([torch.zeros(3), torch.from_numpy(odds).float()], 1)
    assert float(taught_loss(two, teacher, [False, True], temperature=temperature)) == pytest.approx(by_hand, rel=1e-5)


def test_mixup_of_one_batch_is_the_mixed_loss_of_both_targets(short: dict[str, Any]) -> None:
    settings = {
        "backbone": "logistic", "classes": ["A", "B"], "positive": [], "image_size": 16, "in_chans": 1,
        "drop_rate": 0.0, "mean": 0.0, "std": 1.0, "prior_log_odds": 0.0, "seed": 5, "loss": {"name": "cross_entropy"},
        "augment": {}, "mixup_alpha": 1.0, "optim": {"lr": 1.0}, "scheduler": {},
    }  # fmt: skip
    model = PneumoniaClassifier(settings)
    model.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = {
        "image": torch.randint(256, (6, 1, 16, 16), dtype=torch.uint8),
        "target": torch.tensor([0, 1, 0, 1, 1, 0]),
        "position": torch.arange(6),
        "epoch": 2,
    }
    mix = draw_mix(6, mixup_alpha=1.0, cutmix_alpha=0.0, seed=5, epoch=2, batch=3)
    assert mix is not None
    share, order = mix.share, mix.order
    images = torch.as_tensor(batch["image"]).float() / 255
    logits = model.backbone(share * images + (1 - share) * images[order])
    loss = torch.nn.functional.cross_entropy
    targets: Any = batch["target"]
    expected = share * loss(logits, targets) + (1 - share) * loss(logits, targets[order])
    torch.testing.assert_close(model.training_step(batch, 3), expected, rtol=1e-4, atol=1e-5)

    # A teacher speaks at prevalence one half, and of each of the two films.
    taught = {**settings, "positive": ["B"], "prior_log_odds": 0.7, "distill": {"share": 0.4, "temperature": 2.0}}
    student = PneumoniaClassifier(taught, model.backbone)
    student.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    said = torch.tensor([-3.0, 2.0, -1.0, 4.0, 0.5, -2.0])

    def of(own: Any, teacher: torch.Tensor) -> torch.Tensor:
        soft = taught_loss(logits, teacher + 0.7, [False, True], temperature=2.0)
        return 0.6 * loss(logits, own) + 0.4 * soft

    expected = share * of(targets, said) + (1 - share) * of(targets[order], said[order])
    torch.testing.assert_close(student.training_step({**batch, "teacher": said}, 3), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_two_class_numbers_equal_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(3, size=60)
    logits = rng.normal(size=(60, 3)) + 1.5 * np.eye(3)[targets]
    logits[:20] = logits[20:40]  # ties
    numbers = validation_numbers(torch.tensor(logits), torch.tensor(targets), CAUSE)
    sick = targets > 0
    called = logits.argmax(1) > 0
    score = np.logaddexp(logits[:, 1], logits[:, 2]) - logits[:, 0]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert numbers["auroc"] == pytest.approx(roc_auc_score(sick, score), abs=1e-6)
    assert numbers["accuracy"] == pytest.approx(accuracy_score(sick, called))
    assert numbers["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(sick, called))
    assert numbers["loss"] == pytest.approx(log_loss(targets, probs))


def test_where_only_the_two_class_score_was_trained_it_alone_decides() -> None:
    logits = torch.tensor([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0]])  # scores log 2 - .5 and log 2 - 1
    targets = torch.tensor([1, 0])
    numbers = validation_numbers(logits, targets, CAUSE, is_two_class_loss=True)
    assert numbers["accuracy"] == numbers["balanced_accuracy"] == 1.0
    assert validation_numbers(logits, targets, CAUSE)["accuracy"] == 0.5  # of three trained classes the largest counts


def test_a_batch_of_one_image_that_a_batch_norm_cannot_take_is_told_by_its_key(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    cfg = tiny_config("data.batch_size=1", "trainer.limit_train_batches=1", "trainer.max_epochs=1")
    with pytest.raises(ValueError, match=r"need more than one image.*data\.batch_size.*; set data\.batch_size to 2"):
        train_only(cfg, tmp_path / "run")


def test_a_last_step_of_fewer_batches_is_as_long_as_one_of_that_batch(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    common = (
        "optim=sgd", "optim.momentum=0", "optim.lr=0.1", "scheduler=constant", "scheduler.warmup_fraction=0",
        "trainer.limit_train_batches=1", "trainer.max_epochs=1", "callbacks.ema.decay=null", "data.stress=false",
    )  # fmt: skip
    weights = []
    for batches in (1, 4):
        train_only(tiny_config(*common, f"trainer.accumulate_grad_batches={batches}"), tmp_path / str(batches))
        (file,) = (tmp_path / str(batches)).rglob("last.ckpt")
        state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
        weights.append(torch.cat([v.flatten() for k, v in state.items() if k.endswith("weight")]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-7, rtol=1e-5)


def test_run_of_a_two_class_loss_logs_the_validation_loss_of_that_score(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    cfg = tiny_config(
        "loss=binary_cross_entropy", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "data.stress=false",
        "callbacks.ema.decay=null",
    )  # fmt: skip
    trained = train_only(cfg, tmp_path / "run")
    data = trained.trainer.datamodule.data
    rows = data.rows("val")
    with torch.inference_mode():
        logits = trained.model.eval().logits_of({"image": torch.from_numpy(data.store.images[rows]).unsqueeze(1)})
    sick = data.targets(rows) != data.labels.classes.index("NORMAL")
    expected = log_loss(sick, 1 - logits.double().softmax(1)[:, data.labels.classes.index("NORMAL")])
    assert trained.run.read_metrics()[0]["val/loss"] == pytest.approx(expected, abs=1e-4)


def test_numbers_without_a_two_class_view_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(4, size=80)
    logits = rng.normal(size=(80, 4)) + np.eye(4)[targets]
    numbers = validation_numbers(torch.tensor(logits), torch.tensor(targets), LabelSet(("A", "B", "C", "D")))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert numbers["auroc"] == pytest.approx(roc_auc_score(targets, probs, multi_class="ovr"), abs=1e-6)
    assert numbers["accuracy"] == pytest.approx(accuracy_score(targets, logits.argmax(1)))
    assert numbers["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, logits.argmax(1)))


@pytest.mark.filterwarnings("error")
def test_a_class_that_does_not_occur_takes_no_part_in_the_mean_auroc() -> None:
    targets = torch.tensor([0, 0, 1, 1, 2, 2])
    logits = torch.eye(4)[targets] + 0.1 * torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    found = validation_numbers(logits, targets, LabelSet(("A", "B", "C", "D")))
    assert found["auroc"] == 1.0 and found["balanced_accuracy"] == 1.0
    alone = validation_numbers(logits, torch.full((6,), 2), LabelSet(("A", "B", "C", "D")))
    assert alone["auroc"] == 0.5


def test_ranking_survives_logits_at_which_a_sigmoid_saturates() -> None:
    # torchmetrics passes logits through a float32 sigmoid: 200 and 300 would become ties, and AUROC one half.
    logits = torch.tensor([[0.0, 200.0], [0.0, 300.0]])
    labels = LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",))
    assert validation_numbers(logits, torch.tensor([0, 1]), labels)["auroc"] == 1.0


def test_one_class_alone_cannot_be_ranked() -> None:
    assert validation_numbers(torch.randn(5, 3), torch.ones(5, dtype=torch.long), CAUSE)["auroc"] == 0.5


def test_weights_thrown_away_by_the_last_step_of_an_epoch_are_never_kept(
    tiny_config: Configure, train_only: Train, tmp_path: Path
) -> None:
    # One step per epoch: the first loss is sound, the step that follows throws the weights away.
    cfg = tiny_config(
        "optim.lr=1e30", "scheduler=constant", "trainer.limit_train_batches=1", "data.stress=false",
        "callbacks.ema.decay=null",
    )  # fmt: skip
    with pytest.raises(TrainingDivergedError, match=r"the logits of val are no numbers after epoch 1; .*optim\.lr"):
        train_only(cfg, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.ckpt"))
