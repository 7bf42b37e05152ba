"""What lessons ask and find, in Korean, keyed by the English text as in `korean`."""

from __future__ import annotations

LESSON_TEXTS = {
    "measured": "측정한 것",
    "Phantoms drawn by formulas: the number shows how the mistake works, not how large it is on real films.": (
        "수식으로 그린 팬텀입니다. 수치는 이 실수가 어떻게 작용하는지를 보여 줄 뿐, 실제 영상에서 얼마나 큰지를 뜻하지 "
        "않습니다."
    ),
    # Images or patients.
    "Images or patients": "영상 단위인가 환자 단위인가",
    "Every patient has several films. What does a model learn when some of them are in training and others in "
    "validation?": (
        "환자마다 영상이 여러 장 있습니다. 일부는 학습 세트에, 일부는 검증 세트에 들어가면 모델은 무엇을 배울까요?"
    ),
    "Split by patients: data.patient_key=full, the default.": (
        "환자 단위로 나누십시오. 기본값 data.patient_key=full이 그렇게 합니다."
    ),
    "Split by images, validation promised an AUROC of {a} and new patients gave {b}: {c} was memory of the same "
    "chests; split by patients it promised {d} and they gave {e}.": (
        "영상 단위로 나누었을 때 AUROC는 검증 세트 {a}, 새 환자 {b}이며 그 차이({c})는 같은 흉부를 기억한 몫이고, 환자 "
        "단위로 나누면 검증 세트 {d}, 새 환자 {e}입니다."
    ),
    "split by images: AUROC of validation": "영상 단위로 나눔: 검증 세트 AUROC",
    "split by images: AUROC of new patients": "영상 단위로 나눔: 새 환자 AUROC",
    "split by patients: AUROC of validation": "환자 단위로 나눔: 검증 세트 AUROC",
    "split by patients: AUROC of new patients": "환자 단위로 나눔: 새 환자 AUROC",
    # Sixteen films.
    "Sixteen films of validation": "검증 영상 열여섯 장",
    "The official validation folder holds 16 films. How far can their accuracy be from the truth?": (
        "공식 검증 폴더에는 영상이 16장 있습니다. 이 16장의 정확도는 참값에서 얼마나 벗어날 수 있을까요?"
    ),
    "Carve a larger validation set from training (data.val_fraction) and read the interval, not the number.": (
        "학습 세트에서 더 큰 검증 세트를 떼어 내고(data.val_fraction), 수치 하나가 아니라 신뢰구간을 읽으십시오."
    ),
    "{n} films promised {a} % where new patients gave {b} %: another {n} would have promised anything from {c} to {d} "
    "%, a spread of {e} points, another {m} only {f} to {g} %.": (
        "검증 영상 {n}장의 정확도는 {a} %, 새 환자의 정확도는 {b} %였는데, 다른 {n}장을 뽑으면 {c}~{d} %(폭 {e}%p), "
        "{m}장을 뽑으면 {f}~{g} % 사이에 놓입니다."
    ),
    "accuracy in {n} films of validation": "검증 영상 {n}장의 정확도",
    "accuracy in new patients": "새 환자의 정확도",
    "95 of 100 draws of {n} films, lowest and highest": "영상 {n}장을 100번 뽑을 때 95번, 최저와 최고",
    # A threshold chosen on test.
    "A threshold chosen on test": "시험 세트에서 고른 임계값",
    "The ROC curve of the test split shows which threshold is best. Why not use it?": (
        "시험 세트의 ROC 곡선을 보면 어떤 임계값이 가장 좋은지 알 수 있습니다. 왜 그것을 쓰면 안 될까요?"
    ),
    "Fix the threshold on validation; calibration.json does, before test is looked at.": (
        "임계값은 검증 세트에서 정하십시오. calibration.json은 시험 세트를 보기 전에 그렇게 정해집니다."
    ),
    "Chosen on test instead of validation, a threshold changes balanced accuracy by {a} points on test and by {b} on "
    "new patients, on average over {n} test sets of {m} films: {c} points are the choosing.": (
        "임계값을 검증 세트 대신 시험 세트에서 고르면 균형 정확도가 시험 세트에서는 {a}%p, 새 환자에서는 {b}%p "
        "달라지며(영상 {m}장짜리 시험 세트 {n}개의 평균), 그 차이 {c}%p는 고른 덕분일 뿐입니다."
    ),
    "threshold chosen on test: balanced accuracy on test": "시험 세트에서 고른 임계값: 시험 세트의 균형 정확도",
    "threshold chosen on test: balanced accuracy in new patients": "시험 세트에서 고른 임계값: 새 환자의 균형 정확도",
    "threshold chosen on validation: balanced accuracy on test": "검증 세트에서 고른 임계값: 시험 세트의 균형 정확도",
    "threshold chosen on validation: balanced accuracy in new patients": (
        "검증 세트에서 고른 임계값: 새 환자의 균형 정확도"
    ),
    # The best of twenty.
    "The best of twenty by test": "시험 세트로 고른 스무 개 중 최고",
    "Twenty runs differ in their draws alone. How good is the one that is best on test?": (
        "스무 번의 실행은 무작위 추첨만 다릅니다. 시험 세트에서 가장 좋은 실행은 정말 얼마나 좋을까요?"
    ),
    "Choose by validation, look at test once, and report the mean over seeds; test_looks.jsonl counts the looks.": (
        "선택은 검증 세트로 하고, 시험 세트는 한 번만 보고, 여러 시드의 평균을 보고하십시오. 열람 횟수는 "
        "test_looks.jsonl에 기록됩니다."
    ),
    "The best of {n} by test stood {a} points from their average there and {b} among new patients: {c} points were the "
    "luck of the draw.": (
        "시험 세트로 고른 {n}개 중 최고의 실행은 평균과의 차이가 시험 세트에서 {a}%p, 새 환자에서 {b}%p이며, 그 차이 "
        "{c}%p는 추첨의 운입니다."
    ),
    "balanced accuracy on test, the best of {n}": "시험 세트의 균형 정확도, {n}개 중 최고",
    "balanced accuracy on test, average of {n}": "시험 세트의 균형 정확도, {n}개의 평균",
    "balanced accuracy in new patients, that same run": "새 환자의 균형 정확도, 바로 그 실행",
    "balanced accuracy in new patients, average of {n}": "새 환자의 균형 정확도, {n}개의 평균",
    # Augmented validation.
    "Augmented validation": "증강한 검증 세트",
    "Training turns, crops and brightens the films. What does validation say when it does so too?": (
        "학습에서는 영상을 돌리고 자르고 밝기를 바꿉니다. 검증 세트도 그렇게 하면 어떤 수치가 나올까요?"
    ),
    "Augment training alone; validation sees every film as it is, and the same film every time.": (
        "증강은 학습 세트에만 하십시오. 검증 세트의 영상은 언제나 있는 그대로, 같은 영상이어야 합니다."
    ),
    "Augmented as in training, validation of one model on the same films said anything from {a} to {b} % in {n} "
    "drawings, {c} points apart by the draw alone; as they are the films give {d} % every time, and new patients {e} "
    "%.": (
        "학습 때처럼 증강하면 같은 모델, 같은 검증 영상의 정확도가 {n}번 뽑을 때 {a}~{b} %로 추첨만으로 {c}%p "
        "벌어지지만, 있는 그대로의 영상은 언제나 {d} %이고 새 환자는 {e} %입니다."
    ),
    "accuracy in validation, augmented, lowest and highest": "증강한 검증 세트의 정확도, 최저와 최고",
    "accuracy in validation, augmented, on average": "증강한 검증 세트의 정확도, 평균",
    "accuracy in validation as it is": "있는 그대로의 검증 세트의 정확도",
    # Batch norm.
    "Batch norm at inference": "추론할 때의 배치 정규화",
    "A film is scored beside 63 others. May they change what the model says about it?": (
        "영상 한 장이 다른 63장과 함께 채점됩니다. 그 63장 때문에 이 영상의 결과가 달라져도 될까요?"
    ),
    "Score with the statistics of training: model.bn_inference=running, the default.": (
        "학습 때의 통계로 채점하십시오. 기본값 model.bn_inference=running이 그렇게 합니다."
    ),
    "With the statistics of the batch the same model called {a} % of the same films right when they came shuffled and "
    "{b} % when the healthy came first: the order of the files made {c} points, and {d} with the statistics of "
    "training.": (
        "배치의 통계를 쓰면 같은 모델, 같은 영상의 정확도가 섞은 순서에서는 {a} %, 정상 영상이 먼저 오면 {b} %로, 파일 "
        "순서만으로 {c}%p 달라지지만, 학습 때의 통계를 쓰면 {d}%p 달라집니다."
    ),
    "statistics of the batch: accuracy, films shuffled": "배치의 통계: 정확도, 섞은 순서",
    "statistics of the batch: accuracy, healthy first": "배치의 통계: 정확도, 정상 영상 먼저",
    "statistics of training: accuracy, films shuffled": "학습 때의 통계: 정확도, 섞은 순서",
    "statistics of training: accuracy, healthy first": "학습 때의 통계: 정확도, 정상 영상 먼저",
    # Class mix.
    "Accuracy under another class mix": "범주 구성이 다를 때의 정확도",
    "Three of four films show pneumonia here, one of ten on another ward. What becomes of the accuracy?": (
        "여기서는 영상 넷 중 셋이 폐렴이고, 다른 병동에서는 열에 하나입니다. 정확도는 어떻게 될까요?"
    ),
    "Report sensitivity and specificity, and predictive values for the place: evaluate prevalence=0.1.": (
        "민감도와 특이도를 보고하고, 예측도는 쓰일 곳의 유병률로 구하십시오(evaluate prevalence=0.1)."
    ),
    "Where {a} % are ill the model is right in {b} % of the films, where {c} % are ill in {d} %: {e} points are the "
    "mix, for sensitivity ({f} %) and specificity ({g} %) are the same.": (
        "폐렴이 {a} %인 곳에서 모델의 정확도는 {b} %, {c} %인 곳에서는 {d} %이며, 민감도({f} %)와 특이도({g} %)가 "
        "같으므로 {e}%p는 범주 구성 때문입니다."
    ),
    "sensitivity in new patients": "새 환자의 민감도",
    "specificity in new patients": "새 환자의 특이도",
    "accuracy where {n} % are ill": "폐렴이 {n} %인 곳의 정확도",
    "accuracy of calling everybody ill where {n} % are": "폐렴이 {n} %인 곳에서 모두 폐렴이라고 할 때의 정확도",
    "a finding of pneumonia is right where {n} % are ill": "폐렴이 {n} %인 곳에서 폐렴 판정이 맞을 확률",
}
