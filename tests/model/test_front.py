"""A frozen front and what lies behind it: the rear alone does what the whole does, or the model is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.cut import Cut, NoCutError
from pneumolit.model.freeze import FreezePlan, apply_freeze, hold_still, plan_freeze
from pneumolit.model.front import Rear, cut_for, find_front, front_output

GROUP = {"policy": "groups", "last": 1}
QUICK: list[tuple[str, int, dict[str, Any], str]] = [
    ("test_resnet", 32, GROUP, "layer4.0"),
    ("test_resnet", 32, {"policy": "layers", "last": 4}, "layer4.0"),  # its conv3 trains, and a shortcut passes it
    ("test_vit", 160, {"policy": "fraction", "last": 0.3}, "blocks.4"),
    ("test_convnext", 32, GROUP, "stages.3.downsample.0"),
    ("test_convnext", 32, {"policy": "layers", "last": 2}, "stages.3.blocks.1"),  # of its block only gamma trains
    ("mobilenetv3_small_050", 32, {"policy": "layers", "last": 4}, "blocks.5.0.conv"),
    ("baseline_cnn", 32, {"policy": "layers", "last": 4}, "features.1.0"),
]
SLOW: list[tuple[str, int, dict[str, Any], str]] = [
    ("resnet50", 64, {"policy": "groups", "last": 2}, "layer3.0"),
    ("vgg11_bn", 32, {"policy": "layers", "last": 3}, "pre_logits.fc1"),
    ("densenet121", 32, GROUP, "features.denseblock4"),  # a dense layer is given all those before it
    ("tf_efficientnet_lite0", 64, {"policy": "groups", "last": 2}, "blocks.5.0.conv_pw"),
    ("swin_tiny_patch4_window7_224", 224, GROUP, "layers.3.downsample.norm"),
]
CASES = [
    pytest.param(*case, id=f"{case[0]} {case[3]}", marks=marks)
    for cases, marks in ((QUICK, ()), (SLOW, pytest.mark.slow))
    for case in cases
]


def built(name: str, size: int, freeze: dict[str, Any], head: str = "linear") -> tuple[nn.Module, FreezePlan]:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "num_classes": 3,
        "in_chans": 1,
        "image_size": size,
        "drop_rate": 0.4,
        "pretrained": False,
    }
    model, _ = build_backbone(find_backbone(name), **arguments, head=head)
    plan = plan_freeze(model, freeze, image_shape=(1, size, size))
    apply_freeze(model, plan)
    return model, plan


def gradients(model: nn.Module, logits: Tensor) -> list[Tensor]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return list(torch.autograd.grad(logits.square().sum(), trained))


@pytest.mark.parametrize(("name", "size", "freeze", "entrance"), CASES)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_rear_has_logits_and_gradients_of_the_whole_with_dropout_and_without(
    name: str, size: int, freeze: dict[str, Any], entrance: str, head: str
) -> None:
    model, plan = built(name, size, freeze, head)
    cut = find_front(model, (1, size, size), plan)
    assert cut.entrance.removeprefix("body.") == entrance
    images, rear = torch.randn(5, 1, size, size), Rear(model, cut)
    with torch.no_grad():
        output = front_output(model.eval(), cut, images)
        torch.testing.assert_close(rear(output), model(images), rtol=1e-4, atol=1e-5)
    assert output.shape == (5, *cut.shape)
    model.train()
    hold_still(model, plan)
    for seed in (1, 2):
        torch.manual_seed(seed)
        whole = model(images)
        torch.manual_seed(seed)
        part = rear(output)
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradients(model, part), gradients(model, whole), rtol=1e-3, atol=1e-4)


def test_neither_looking_for_the_front_nor_running_the_rear_changes_names_modes_weights_or_random_numbers() -> None:
    model, plan = built("test_resnet", 32, GROUP)
    before, names = copy.deepcopy(model.state_dict()), [n for n, _ in model.named_modules()]
    modes = [m.training for m in model.modules()]
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    rear = Rear(model, find_front(model, (1, 32, 32), plan))
    assert torch.equal(torch.rand(1), expected)
    model.eval()
    rear(torch.randn(2, *rear.cut.shape))
    for module, mode in zip(model.modules(), modes, strict=True):
        assert not module.training
        module.training = mode
    assert [n for n, _ in model.named_modules()] == names and list(model.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_nothing_of_the_front_is_run_behind_the_cut_and_nothing_behind_it_before() -> None:
    model, plan = built("test_resnet", 32, GROUP)
    cut = find_front(model, (1, 32, 32), plan)
    rear, called = Rear(model, cut), []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, given, result, name=name: called.append(name))
    output = front_output(model.eval(), cut, torch.randn(2, 1, 32, 32))
    before, called[:] = set(called), []
    rear(output)
    assert "layer3.0.conv1" in before and not any(n.startswith(("layer4", "fc", "global_pool")) for n in before)
    assert "layer4.0.conv1" in called and not before & set(called)
    assert 0.9 < cut.share < 1


def test_the_rear_follows_weights_modes_and_copies_of_its_model() -> None:
    model, plan = built("test_resnet", 32, GROUP)
    cut = find_front(model, (1, 32, 32), plan)
    rear, output = Rear(model, cut), torch.randn(4, *cut.shape)
    assert not torch.equal(rear(output), rear(output))  # dropout
    model.eval()
    before = rear(output)
    assert torch.equal(rear(output), before)
    other, _ = built("test_resnet", 32, GROUP)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    model.load_state_dict(other.state_dict())
    after = rear(output)
    assert torch.equal(after, Rear(other.eval(), cut)(output)) and not torch.equal(after, before)
    copied, its_rear = copy.deepcopy((model, rear))
    with torch.no_grad():
        copied.get_parameter("fc.bias").add_(1.0)
    torch.testing.assert_close(its_rear(output), rear(output) + 1.0)


def test_a_plan_that_trains_the_head_alone_is_cut_before_the_head() -> None:
    model, plan = built("test_resnet", 32, {"policy": "layers", "last": 1})
    assert plan.trainable == ("fc.weight", "fc.bias")
    assert cut_for(model, (1, 32, 32), drop_rate=0.4, plan=plan) == Cut("fc", (96,), 0.4)


class Toy(nn.Module):
    """A frozen front and a rear that trains, joined as its subclasses do it."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU())
        self.rear = nn.Linear(16, 16)
        self.fc = nn.Linear(16, 3)

    def join(self, images: Tensor) -> Any:
        return self.rear(self.front(images))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.join(images))
        return logits


class PastIt(Toy):
    def join(self, images: Tensor) -> Any:
        return self.rear(self.front(images)) + images.flatten(1)


class PastItForNothing(Toy):
    def join(self, images: Tensor) -> Any:
        return self.rear(self.front(images)) + 0.0 * images.flatten(1)  # a gate that is closed at the start


class PastItInTraining(Toy):
    def join(self, images: Tensor) -> Any:
        joined = self.rear(self.front(images))
        return joined + images.flatten(1) if self.training else joined


class TrainsBefore(Toy):
    def join(self, images: Tensor) -> Any:
        return self.rear(self.front(images * self.rear.bias.mean()))


class RunAgain(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.known = [self.front[1]]  # no module of its own, so that no other can stand in its place

    def join(self, images: Tensor) -> Any:
        return self.rear(self.front(images)) + self.known[0](torch.zeros(len(images), 16))


class Random(Toy):
    def join(self, images: Tensor) -> Any:
        return self.rear(nn.functional.dropout(self.front(images), 0.5, self.training))


class Twice(Toy):
    def join(self, images: Tensor) -> Any:
        return self.rear(self.rear(self.front(images)))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (PastIt, "rear needs more than the output of what is before it"),
        (PastItForNothing, "rear needs more than the output of what is before it"),
        (PastItInTraining, "rear needs more than the output of what is before it"),
        (TrainsBefore, "what trains is not all behind the input of rear"),
        (RunAgain, "what lies before rear is run again behind it"),
        (Random, "its frozen part is random in training"),
        (Twice, "rear is called 2 times"),
    ],
)
def test_model_whose_rear_sees_more_than_the_stored_tensor_is_refused(kind: type[Toy], reason: str) -> None:
    torch.manual_seed(0)
    sound, model = Toy(), kind()
    plan = plan_of(sound)
    assert find_front(sound, (1, 4, 4), plan).entrance == "rear"
    with pytest.raises(NoCutError, match=reason):
        find_front(model, (1, 4, 4), plan)


def plan_of(model: Toy) -> FreezePlan:
    names = [name for name, _ in model.named_parameters()]
    frozen = tuple(n for n in names if n.startswith("front"))
    return FreezePlan(
        policy="toy",
        settings={},
        trainable=tuple(n for n in names if n not in frozen),
        frozen=frozen,
        still_norms=(),
        moving_norms=(),
        still_modules=("front",),
        trainable_count=0,
        frozen_count=0,
        groups=(),
    )
