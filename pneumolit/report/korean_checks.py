"""What the checks of heat maps found, in Korean, keyed by the English text as in `korean`."""

from __future__ import annotations

_BY = "(area under the curve {a} against {b}; better by {value}, p {p_value})"
_BY_KO = "(곡선 아래 면적 {a} 대 {b}, 차이 {value}, p {p_value})"
_DELETE, _INSERT = (
    "eletion: taking the hottest pixels away first makes the probability fall",
    "nsertion: giving the hottest pixels first makes the probability rise",
)
_DELETE_KO, _INSERT_KO = (
    "삭제 점검: 열이 가장 높은 화소부터 지우면 확률이",
    "삽입 점검: 열이 가장 높은 화소부터 채우면 확률이",
)
_BEAT, _BEAT_KO = (
    " They also beat the heat map of another film ({area}).",
    " 다른 영상의 히트맵({area})보다도 낫습니다.",
)
_SAME, _SAME_KO = " The heat map of another film does as well ({area}).", " 다른 영상의 히트맵({area})도 그만큼 합니다."
_WORSE, _WORSE_KO = " The heat map of another film does better ({area}).", " 다른 영상의 히트맵({area})이 더 낫습니다."
_NO_FASTER = "no faster than random maps do, as far as {n} images tell"

CHECK_TEXTS = {
    "Warning: {text}": "경고: {text}",
    # Weights drawn anew.
    "weights drawn anew: no image has heat both before and after, so nothing can be said of whether the heat maps "
    "depend on what was learned.": (
        "가중치 무작위화: 무작위화 전후에 모두 열이 있는 영상이 없어, 히트맵이 학습한 내용에 좌우되는지 말할 수 "
        "없습니다."
    ),
    "Weights drawn anew: over {n} images the median rank correlation (Spearman) between heat maps before and after is "
    "{m} (middle half {a} to {b}), below .5: the maps depend on what the model has learned.": (
        "가중치 무작위화: 영상 {n}장에서 무작위화 전후 히트맵의 순위 상관(스피어만) 중앙값은 {m}(가운데 절반 "
        "{a}~{b})로 0.5보다 작습니다. 히트맵은 모델이 학습한 내용에 좌우됩니다."
    ),
    "weights drawn anew: over {n} images the median rank correlation (Spearman) between heat maps before and after is "
    "{m} (middle half {a} to {b}), not below .5: the maps show the shape of the network or the edges of the film as "
    "much as what was learned, and are no reasons of this model.": (
        "가중치 무작위화: 영상 {n}장에서 무작위화 전후 히트맵의 순위 상관(스피어만) 중앙값은 {m}(가운데 절반 "
        "{a}~{b})로 0.5보다 작지 않습니다. 히트맵은 학습한 내용만큼이나 신경망의 구조나 영상의 윤곽을 보여 주므로 이 "
        "모델의 판단 근거가 아닙니다."
    ),
    "{text} Fewer than {n} images say little.": "{text} 영상이 {n}장보다 적으면 말해 주는 것이 적습니다.",
    "{text} {n} of {m} maps of random weights hold no heat and do not count.": (
        "{text} 무작위 가중치의 히트맵 {m}개 중 {n}개는 열이 없어 세지 않았습니다."
    ),
    # Deletion and insertion.
    "the mean probability of the explained side is {a} for sharp films and {b} for wholly blurred ones; deletion "
    "and insertion can say nothing.": (
        "설명하는 쪽의 평균 확률은 선명한 영상에서 {a}, 모두 흐리게 했을 때 {b}입니다. 삭제와 삽입 점검은 아무것도 "
        "말해 주지 못합니다."
    ),
    **{
        f"{what} faster than random maps do {_BY}.{other}": f"{korean} {_BY_KO}.{other_korean}"
        for what, korean in (
            (f"D{_DELETE}", f"{_DELETE_KO} 무작위 히트맵보다 빨리 떨어집니다"),
            (f"I{_INSERT}", f"{_INSERT_KO} 무작위 히트맵보다 빨리 올라갑니다"),
        )
        for other, other_korean in ((_BEAT, _BEAT_KO), (_SAME, _SAME_KO), (_WORSE, _WORSE_KO))
    },
    f"d{_DELETE} more slowly than random maps do {_BY}: the heat lies where the score does not depend on it.": (
        f"{_DELETE_KO} 무작위 히트맵보다 느리게 떨어집니다 {_BY_KO}. 점수에 영향을 주지 않는 곳에 열이 있습니다."
    ),
    f"i{_INSERT} more slowly than random maps do {_BY}: the heat lies where the score does not depend on it.": (
        f"{_INSERT_KO} 무작위 히트맵보다 느리게 올라갑니다 {_BY_KO}. 점수에 영향을 주지 않는 곳에 열이 있습니다."
    ),
    f"d{_DELETE} {_NO_FASTER} {_BY}.": (
        f"{_DELETE_KO} 영상 {{n}}장으로 보는 한 무작위 히트맵보다 빨리 떨어지지 않습니다 {_BY_KO}."
    ),
    f"i{_INSERT} {_NO_FASTER} {_BY}.": (
        f"{_INSERT_KO} 영상 {{n}}장으로 보는 한 무작위 히트맵보다 빨리 올라가지 않습니다 {_BY_KO}."
    ),
    # Where the heat lies.
    "no heat at all in {n} images, so it lies nowhere.": "영상 {n}장에 열이 전혀 없어 위치를 말할 수 없습니다.",
    "{n} % of the heat lies in the {name}, which is {m} % of the film: {value} times what even heat would give.": (
        "열의 {n} %가 영상의 {m} %인 {name} 안에 있습니다. 고르게 퍼진 열의 {value}배입니다."
    ),
    "{n} % of the heat lies in the {name}, which is {m} % of the film: {value} times what even heat would give, and "
    "{ratio} times the share that the same network has with random weights.": (
        "열의 {n} %가 영상의 {m} %인 {name} 안에 있습니다. 고르게 퍼진 열의 {value}배, 가중치가 무작위인 같은 신경망의 "
        "{ratio}배입니다."
    ),
    "{n} % of the heat lies in the {name}, which is {m} % of the film: {value} times what even heat would give: less "
    "than by chance.": (
        "열의 {n} %가 영상의 {m} %인 {name} 안에 있습니다. 고르게 퍼진 열의 {value}배로, 우연보다 적습니다."
    ),
    "{n} % of the heat lies in the {name}, which is {m} % of the film: {value} times what even heat would give, and "
    "{ratio} times the share that the same network has with random weights: less than by chance.": (
        "열의 {n} %가 영상의 {m} %인 {name} 안에 있습니다. 고르게 퍼진 열의 {value}배, 가중치가 무작위인 같은 신경망의 "
        "{ratio}배로, 우연보다 적습니다."
    ),
    "Heat {region}: {value} times even heat.": "{region}의 열: 고르게 퍼진 열의 {value}배.",
    "Heat {region}: {value} times even heat, and {ratio} times the share that the same network has with random "
    "weights.": "{region}의 열: 고르게 퍼진 열의 {value}배, 가중치가 무작위인 같은 신경망의 {ratio}배.",
    "heat {region}: {value} times even heat; markers, collimation or padding may be read.": (
        "{region}의 열: 고르게 퍼진 열의 {value}배. 표지, 조사야 경계, 여백을 읽고 있을 수 있습니다."
    ),
    "heat {region}: {value} times even heat, and {ratio} times the share that the same network has with random "
    "weights; markers, collimation or padding may be read.": (
        "{region}의 열: 고르게 퍼진 열의 {value}배, 가중치가 무작위인 같은 신경망의 {ratio}배. 표지, 조사야 경계, "
        "여백을 읽고 있을 수 있습니다."
    ),
    "at the border (a tenth of the side)": "가장자리(변의 10분의 1)",
    "in the corners": "모서리",
    "lung box": "폐 상자",
    "lung mask": "폐 마스크",
    # Blanked lungs.
    "With the {name} blanked the AUROC is {value}, with whole films {whole}: whole films are hardly ranked either, so "
    "this says nothing of lungs.": (
        "{name}를 가리면 AUROC는 {value}, 전체 영상에서는 {whole}입니다. 전체 영상도 거의 구별하지 못하므로 폐에 대해 "
        "말해 주는 것이 없습니다."
    ),
    "With the {name} blanked the AUROC is {value}, with whole films {whole}: little is left of the ranking without "
    "lungs, as it should be.": (
        "{name}를 가리면 AUROC는 {value}, 전체 영상에서는 {whole}입니다. 폐가 없으면 거의 구별하지 못하며, 그래야 "
        "합니다."
    ),
    "With the {name} blanked the AUROC is {value}, with whole films {whole}: little is left of the ranking by what "
    "lies outside the lung box, as it should be.": (
        "{name}를 가리면 AUROC는 {value}, 전체 영상에서는 {whole}입니다. 폐 상자 밖에 있는 것으로는 거의 구별하지 "
        "못하며, 그래야 합니다."
    ),
    "with the {name} blanked the AUROC is {value}, with whole films {whole}: films can be told apart by what lies "
    "outside the lung box (in some films strips of lung too), so the model can decide by something else: position, "
    "markers, exposure, soft tissue.": (
        "{name}를 가리면 AUROC는 {value}, 전체 영상에서는 {whole}입니다. 폐 상자 밖에 있는 것(일부 영상에서는 폐의 "
        "가장자리도)으로 영상을 구별할 수 있으므로 모델이 자세, 표지, 노출, 연부 조직 등 다른 것으로 판단할 수 "
        "있습니다."
    ),
    "with the {name} blanked the AUROC is {value}, with whole films {whole}: films can be told apart without any lung, "
    "so the model can decide by something else: position, markers, exposure, soft tissue (or by the shape of the "
    "blank, which follows the lungs).": (
        "{name}를 가리면 AUROC는 {value}, 전체 영상에서는 {whole}입니다. 폐 없이도 영상을 구별할 수 있으므로 모델이 "
        "자세, 표지, 노출, 연부 조직 등 다른 것으로(또는 폐를 따르는 가린 부분의 모양으로) 판단할 수 있습니다."
    ),
    "With all but the {name} blanked the AUROC is {value}.": "{name} 밖을 모두 가리면 AUROC는 {value}입니다.",
    "Deletion, insertion and blanked lungs were left out: they score changed films, and on test that would be a "
    "further look.": (
        "삭제, 삽입, 폐 가리기 점검은 하지 않았습니다. 바꾼 영상을 채점하는 점검이라 시험 세트에서는 또 한 번의 "
        "열람이 됩니다."
    ),
}
