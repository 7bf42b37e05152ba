"""The pages in Korean, keyed by the English text; `language` says what a place in braces stands for."""

from __future__ import annotations

from pneumolit.report.korean_card import CARD_TEXTS
from pneumolit.report.korean_checks import CHECK_TEXTS
from pneumolit.report.korean_lessons import LESSON_TEXTS

_SETS = {
    "Validation": "검증 세트",
    "Test": "시험 세트",
    "Held-out block of patient numbers": "따로 떼어 둔 환자 번호 구간",
    "Second held-out block": "두 번째로 떼어 둔 구간",
    "Third held-out block": "세 번째로 떼어 둔 구간",
    "Training images": "학습 영상",
    "Validation {n}": "검증 세트 {n}",
    "Test {n}": "시험 세트 {n}",
    "Held-out block of patient numbers {n}": "따로 떼어 둔 환자 번호 구간 {n}",
    "Second held-out block {n}": "두 번째로 떼어 둔 구간 {n}",
    "Third held-out block {n}": "세 번째로 떼어 둔 구간 {n}",
    "left out ({why})": "제외({why})",
    "left out (unreadable)": "제외(읽을 수 없음)",
    "without a side": "미배정",
}
_RULES = {
    "primary": "일차(primary)",
    "argmax": "최대 로짓(argmax)",
    "half": "0.5 기준(half)",
    "youden": "유든(youden)",
    "sensitivity >= {value}": "민감도 ≥ {value}",
    "specificity >= {value}": "특이도 ≥ {value}",
    "argmax: the class with the largest logit means pneumonia": (
        "최대 로짓(argmax): 로짓이 가장 큰 범주가 폐렴에 해당함"
    ),
    "half: uncalibrated score probability >= 0.5": "0.5 기준(half): 보정 전 점수의 확률이 0.5 이상",
    "primary: fixed at one half before any data were seen": "일차(primary): 데이터를 보기 전에 0.5로 고정",
    "youden: largest sensitivity + specificity on validation": (
        "유든(youden): 검증 세트에서 민감도와 특이도의 합이 최대"
    ),
    "prevalence {n}: probability at prevalence {m} at least one half": "유병률 {n}: 유병률 {m} 기준의 확률이 1/2 이상",
    "{rule}: highest threshold with sensitivity >= {n} on validation": (
        "{rule}: 검증 세트에서 민감도가 {n} 이상인 가장 높은 임계값"
    ),
    "{rule}: lowest threshold with specificity >= {n} on validation": (
        "{rule}: 검증 세트에서 특이도가 {n} 이상인 가장 낮은 임계값"
    ),
    "primary: calibrated probability at prevalence one half at least 0.5, fixed beforehand": (
        "일차(primary): 유병률 1/2 기준의 보정된 확률이 0.5 이상(미리 고정)"
    ),
    "{rule}: uncalibrated probability at least 0.5": "{rule}: 보정하지 않은 확률이 0.5 이상",
    "the class with the largest logit": "로짓이 가장 큰 범주",
}
_TABLES = {
    "metric": "지표",
    "value [{n} % interval over patients]": "값 [환자 단위 {n} % 신뢰구간]",
    "value [{n} % interval over images]": "값 [영상 단위 {n} % 신뢰구간]",
    "AUROC": "AUROC",
    "average precision": "평균 정밀도",
    "accuracy": "정확도",
    "accuracy (all classes)": "정확도(전체 범주)",
    "balanced accuracy": "균형 정확도",
    "balanced": "균형 정확도",
    "sensitivity": "민감도",
    "specificity": "특이도",
    "sensitivity, bacterial": "민감도(세균성)",
    "sensitivity, viral": "민감도(바이러스성)",
    "PPV": "양성 예측도",
    "NPV": "음성 예측도",
    "F1": "F1",
    "Brier score (calibrated)": "브라이어 점수(보정 후)",
    "Brier score (as trained)": "브라이어 점수(보정 전)",
    "ECE (calibrated)": "기대 보정 오차(보정 후)",
    "ECE (as trained)": "기대 보정 오차(보정 전)",
    "rule": "규칙",
    "threshold": "임계값",
    "TN": "진음성",
    "FP": "위양성",
    "FN": "위음성",
    "TP": "진양성",
    "sensitivity promised": "민감도(기대)",
    "sensitivity found": "민감도(실제)",
    "sensitivity gap": "민감도 차이",
    "specificity promised": "특이도(기대)",
    "specificity found": "특이도(실제)",
    "specificity gap": "특이도 차이",
    "class": "범주",
    "precision": "정밀도",
    "recall": "재현율",
    "images": "영상 수",
    "patients": "환자 수",
    "set": "세트",
    "side": "구분",
    "macro F1": "거시 평균 F1",
    "net benefit": "순편익",
    "of calling all ill": "순편익(모두 양성 판정)",
    "at probability": "기준 확률",
    "probability": "확률",
    "as trained": "보정 전",
    "calibrated": "보정 후",
    "calibrated, at this class mix": "보정 후, 이 세트의 범주 구성 기준",
    "slope": "기울기",
    "intercept": "절편",
    "in the large": "전체 수준의 절편",
    "mean": "예측 평균",
    "observed": "관찰 비율",
    "ECE": "기대 보정 오차",
    "Brier score": "브라이어 점수",
    "part": "하위군 종류",
    "cause": "원인",
    "series": "계열",
    "sharpness": "선명도",
    "bacteria": "세균",
    "virus": "바이러스",
    "blurred third": "흐린 삼분위",
    "middle third": "중간 삼분위",
    "sharp third": "선명한 삼분위",
    "prevalence {n}": "유병률 {n}",
    "all images": "전체 영상",
    "without copies": "사본 제외",
    "prevalence": "유병률",
    "with pneumonia": "폐렴 있음",
    "flagged": "양성 판정",
    "flagged, with pneumonia": "양성 판정 중 폐렴 있음",
    "flagged, without": "양성 판정 중 폐렴 없음",
    "missed": "놓친 폐렴",
    "rightly not flagged": "올바른 음성 판정",
    "stage": "단계",
    "freeze policy": "동결 정책",
    "trained parameters": "학습한 매개변수",
    "all parameters": "전체 매개변수",
    "batch norms that stand still": "고정된 배치 정규화",
    "group": "그룹",
    "parameters": "매개변수",
    "trained": "학습",
    "look": "열람",
    "time (UTC)": "시각(UTC)",
    "run": "실행",
    "configuration": "설정",
    "purpose": "목적",
    "{own} (this run)": "{own} (이 실행)",
    "what": "항목",
    "value": "값",
    "Python": "Python",
    "system": "운영체제",
    "device": "장치",
    "processor threads": "프로세서 스레드",
    "precision of training": "학습 정밀도",
    "precision of scores": "점수 계산 정밀도",
    "weights at the start": "초기 가중치",
    "SHA-256 of these weights": "초기 가중치의 SHA-256",
    "{version} (no commit known)": "{version} (커밋 정보 없음)",
    "absent": "설치되지 않음",
    "image": "영상",
    "label": "정답",
    "called": "판정",
    "pneumonia": "폐렴",
    "no pneumonia": "폐렴 아님",
    "normal": "정상",
}
_REPORT = {
    "Research software, not a medical device.": "연구용 소프트웨어이며 의료기기가 아닙니다.",
    "Contents": "차례",
    "Configuration": "설정 파일",
    "pneumolit run {own}": "pneumolit 실행 {own}",
    "Model": "모델",
    "{model}, {n} parameters": "{model}, 매개변수 {n}개",
    "Data": "데이터",
    "{set}, {n} training images of {m} patients": "{set}, 학습 영상 {n}장(환자 {m}명)",
    "{set}, {n} training images": "{set}, 학습 영상 {n}장",
    "Scored on": "평가한 세트",
    "{set}: {n} images": "{set}: 영상 {n}장",
    "{set}: {n} images of {m} patients": "{set}: 영상 {n}장(환자 {m}명)",
    "Sensitivity": "민감도",
    "Specificity": "특이도",
    "Accuracy": "정확도",
    "Balanced accuracy": "균형 정확도",
    "Accuracy over all classes": "전체 범주 정확도",
    "Decision rule": "판정 규칙",
    "Intervals": "신뢰구간",
    "{n} %, over patients": "{n} %, 환자 단위",
    "{n} %, over images: patients are not known": "{n} %, 영상 단위(환자를 알 수 없음)",
    "Test look": "시험 세트 열람",
    "look {n} of this test set, configuration {m}": "이 시험 세트의 {n}번째 열람, {m}번째 설정",
    "State": "상태",
    "done after {time}": "완료({time} 소요)",
    "done": "완료",
    "running": "진행 중",
    "failed": "실패",
    "interrupted": "중단됨",
    "pruned": "조기 종료됨",
    "running after {time}": "진행 중({time} 경과)",
    "failed after {time}": "실패({time} 후)",
    "interrupted after {time}": "중단됨({time} 후)",
    "pruned after {time}": "조기 종료됨({time} 후)",
    "{n} s": "{n}초",
    "{n} min": "{n}분",
    "{n} h": "{n}시간",
    "May I use this here?": "여기에서 사용해도 됩니까?",
    "What it has seen, what a result would mean, where it fails": (
        "무엇을 학습했고, 결과는 무엇을 뜻하며, 어디에서 실패하는지"
    ),
    "Model card by CLAIM and TRIPOD+AI": "CLAIM과 TRIPOD+AI에 따른 모델 카드",
    "All evaluated sets": "평가한 모든 세트",
    "Thresholds and calibration were chosen on validation; the test split took part in no choice.": (
        "임계값과 보정은 검증 세트에서 정했으며 시험 세트는 어떤 선택에도 쓰이지 않았습니다."
    ),
    "The epoch was chosen by {metric}, thresholds and calibration on validation; the test split took part in no "
    "choice.": (
        "에폭은 {metric} 기준으로, 임계값과 보정은 검증 세트에서 정했으며 시험 세트는 어떤 선택에도 쓰이지 않았습니다."
    ),
    "The epoch was chosen by {metric}; the test split took part in no choice.": (
        "에폭은 {metric} 기준으로 정했으며 시험 세트는 어떤 선택에도 쓰이지 않았습니다."
    ),
    "The test split took part in no choice.": "시험 세트는 어떤 선택에도 쓰이지 않았습니다.",
    "The test split was not scored.": "시험 세트는 평가하지 않았습니다.",
    "There is no test side.": "시험 세트가 없습니다.",
    "The test split was not scored. {metric} chose the epoch.": (
        "시험 세트는 평가하지 않았습니다. 에폭은 {metric} 기준으로 정했습니다."
    ),
    "There is no test side. {metric} chose the epoch.": "시험 세트가 없습니다. 에폭은 {metric} 기준으로 정했습니다.",
    "There is no test side. Validation chose thresholds and calibration, so its numbers flatter.": (
        "시험 세트가 없습니다. 임계값과 보정을 검증 세트에서 정했으므로 검증 세트의 수치는 실제보다 좋게 나옵니다."
    ),
    "The test split was not scored. Validation chose thresholds and calibration, so its numbers flatter.": (
        "시험 세트는 평가하지 않았습니다. 임계값과 보정을 검증 세트에서 정했으므로 검증 세트의 수치는 실제보다 좋게 "
        "나옵니다."
    ),
    "There is no test side. Validation chose thresholds and calibration, so its numbers flatter. {metric} chose the "
    "epoch, so its images flatter as well.": (
        "시험 세트가 없습니다. 임계값과 보정을 검증 세트에서 정했으므로 검증 세트의 수치는 실제보다 좋게 나옵니다. "
        "에폭은 {metric} 기준으로 정했으므로 그 영상의 수치도 실제보다 좋게 나옵니다."
    ),
    "The test split was not scored. Validation chose thresholds and calibration, so its numbers flatter. {metric} "
    "chose the epoch, so its images flatter as well.": (
        "시험 세트는 평가하지 않았습니다. 임계값과 보정을 검증 세트에서 정했으므로 검증 세트의 수치는 실제보다 좋게 "
        "나옵니다. 에폭은 {metric} 기준으로 정했으므로 그 영상의 수치도 실제보다 좋게 나옵니다."
    ),
    "Result": "결과",
    "Decisions in the headline use the primary rule: an image is called pneumonia where the calibrated probability, "
    "re-based to prevalence one half, is at least 0.5. Slope and intercept of the calibration come from validation; "
    "the threshold was fixed before any data were seen. All other rules are secondary.": (
        "대표 수치의 판정은 일차 규칙을 따릅니다. 유병률 1/2 기준으로 환산한 보정 확률이 0.5 이상이면 폐렴으로 "
        "판정합니다. 보정의 기울기와 절편은 검증 세트에서 구했고, 임계값은 데이터를 보기 전에 고정했습니다. 다른 "
        "규칙은 모두 부차적입니다."
    ),
    "Decisions in the headline use the primary rule: an image is called pneumonia where the probability, re-based to "
    "prevalence one half, is at least 0.5. Every member of the ensemble is calibrated on its own validation images, "
    "and nothing is fitted to their mean. All other rules are secondary.": (
        "대표 수치의 판정은 일차 규칙을 따릅니다. 유병률 1/2 기준으로 환산한 확률이 0.5 이상이면 폐렴으로 판정합니다. "
        "앙상블의 구성원은 저마다 자신의 검증 영상으로 보정했고, 그 평균은 따로 보정하지 않았습니다. 다른 규칙은 모두 "
        "부차적입니다."
    ),
    "There is no calibration from validation, so decisions in the headline use the rule half: an image is called "
    "pneumonia where the uncalibrated score probability is at least 0.5.": (
        "검증 세트로 구한 보정이 없으므로 대표 수치의 판정은 0.5 기준(half) 규칙을 따릅니다. 보정하지 않은 점수의 "
        "확률이 0.5 이상이면 폐렴으로 판정합니다."
    ),
    "Curves": "곡선",
    "Decision rules": "판정 규칙",
    "What validation promised and what was found": "검증 세트의 기대와 실제 결과",
    "A gap below 0 means that the rule does worse here than it did on validation.": (
        "차이가 0보다 작으면 그 규칙의 성능이 검증 세트에서보다 여기에서 낮다는 뜻입니다."
    ),
    "At other prevalences": "다른 유병률에서의 성능",
    "Subgroups": "하위군",
    "Calibration": "보정",
    "A calibrated model that says 0.8 is right in 80 of 100 such cases: points on the diagonal.": (
        "잘 보정된 모델이 0.8이라고 하면 그런 사례 100건 중 80건이 폐렴이며, 점들은 대각선 위에 놓입니다."
    ),
    "Slope 1 and intercept 0 are perfect; a slope below 1 means probabilities that are too extreme, an intercept in "
    "the large above 0 that pneumonia is more frequent than predicted. Where the class mix of this set differs from "
    "that of validation, the row at this class mix takes that out.": (
        "기울기 1, 절편 0이 이상적입니다. 기울기가 1보다 작으면 확률이 지나치게 극단적이고, 전체 수준의 절편(in the "
        "large)이 0보다 크면 폐렴이 예측보다 더 잦다는 뜻입니다. 이 세트의 범주 구성이 검증 세트와 다르면, 이 범주 "
        "구성 기준의 행이 그 차이를 없앤 것입니다."
    ),
    "Slope 1 and intercept 0 are perfect; a slope below 1 means probabilities that are too extreme, an intercept in "
    "the large above 0 that pneumonia is more frequent than predicted.": (
        "기울기 1, 절편 0이 이상적입니다. 기울기가 1보다 작으면 확률이 지나치게 극단적이고, 전체 수준의 절편(in the "
        "large)이 0보다 크면 폐렴이 예측보다 더 잦다는 뜻입니다."
    ),
    "Slope, intercept and thresholds were fitted on these images. Slope 1 and intercept 0 are perfect; a slope below 1 "
    "means probabilities that are too extreme, an intercept in the large above 0 that pneumonia is more frequent than "
    "predicted.": (
        "기울기, 절편, 임계값은 이 영상들로 정했습니다. 기울기 1, 절편 0이 이상적입니다. 기울기가 1보다 작으면 확률이 "
        "지나치게 극단적이고, 전체 수준의 절편(in the large)이 0보다 크면 폐렴이 예측보다 더 잦다는 뜻입니다."
    ),
    "By the headline rule. A cause is ranked against all films that do not count as pneumonia, a series of these "
    "against all that do; thirds of sharpness are of this set.": (
        "대표 규칙 기준. 원인별 AUROC는 폐렴으로 세지 않는 모든 영상과, 그런 영상 계열의 AUROC는 폐렴으로 세는 모든 "
        "영상과 견준 값입니다. "
        "선명도 삼분위는 이 세트 안에서 나눈 것입니다."
    ),
    "By the {rule} rule, with this set's sensitivity and specificity. Net benefit: true positives per patient less "
    "false positives weighted by the odds of the probability from which on the rule calls pneumonia at that "
    "prevalence; calling nobody ill has net benefit 0.": (
        "{rule} 규칙과 이 세트의 민감도, 특이도를 사용합니다. 순편익은 환자당 진양성에서 위양성을 뺀 값이며, "
        "위양성에는 그 유병률에서 규칙이 폐렴으로 판정하기 시작하는 확률의 오즈를 가중합니다. 아무도 폐렴으로 판정하지 "
        "않으면 순편익은 0입니다."
    ),
    "Intervals hold with {n} % confidence over patients. AUROC: logit scale, variance between patients (Obuchowski "
    "1997). Sensitivity and specificity: Wilson with the design effect of patients; accuracy, balanced accuracy, "
    "PPV and NPV are put together from these. Average precision and F1: percentiles of {m} bootstrap resamples of "
    "whole patients, each class drawn by itself.": (
        "신뢰구간은 환자 단위의 {n} % 신뢰구간입니다. AUROC: 로짓 척도, 환자 간 분산(Obuchowski 1997). 민감도와 "
        "특이도: 환자의 설계 효과를 반영한 Wilson 구간. 정확도, 균형 정확도, 양성 예측도, 음성 예측도는 이 구간들로 "
        "구성합니다. 평균 정밀도와 F1: 범주별로 환자를 통째로 뽑은 부트스트랩 표본 {m}회의 백분위수."
    ),
    "Confusion matrices": "혼동행렬",
    "With and without exact copies": "동일 사본 포함 및 제외",
    "{n} images are byte-identical copies of another image of this set.": (
        "영상 {n}장은 이 세트의 다른 영상과 바이트까지 같은 사본입니다."
    ),
    "Every class by itself": "범주별 결과",
    "Worst errors": "가장 크게 틀린 사례",
    "{n} of {m} decisions by the {rule} rule are wrong.": "{rule} 규칙의 판정 {m}건 중 {n}건이 틀렸습니다.",
    "The surest first, with the probability of pneumonia at prevalence one half:": (
        "가장 확신한 것부터, 유병률 1/2 기준의 폐렴 확률:"
    ),
    "The {n} of them that the model was most sure of, with the probability of pneumonia at prevalence one half:": (
        "그중 모델이 가장 확신한 {n}건과 유병률 1/2 기준의 폐렴 확률:"
    ),
    "{set}: films to which the model gave the least probability of the truth": (
        "{set}: 모델이 정답에 가장 낮은 확률을 준 영상"
    ),
    "Heat maps and their checks": "히트맵과 그 점검",
    "heat maps: {name}": "히트맵: {name}",
    "surest wrong": "가장 확신하고 틀린 사례",
    "surest right": "가장 확신하고 맞힌 사례",
    "nearest to the threshold": "임계값에 가장 가까운 사례",
    "Whether heat maps of this model can be trusted was not checked so far. This command does:": (
        "이 모델의 히트맵을 믿을 수 있는지는 아직 점검하지 않았습니다. 다음 명령으로 점검합니다:"
    ),
    "FOLDER: the folder of this page.": "FOLDER: 이 페이지가 있는 폴더.",
    "Heat maps are made of the run's own sides, and of no set that was scored besides.": (
        "히트맵은 이 실행에 속한 세트에서만 만들며, 따로 평가한 세트에서는 만들지 않습니다."
    ),
    "Checks of the heat maps in full": "히트맵 점검 전체 결과",
    "{set}: ROC curve with the decision rules": "{set}: 판정 규칙을 표시한 ROC 곡선",
    "{set}: precision and recall with the decision rules": "{set}: 판정 규칙을 표시한 정밀도-재현율 곡선",
    "{set}: distribution of the scores by class": "{set}: 범주별 점수 분포",
    "{set}: confusion matrix of the headline rule": "{set}: 대표 규칙의 혼동행렬",
    "{set}: confusion matrix of all classes, by the largest logit": "{set}: 전체 범주의 혼동행렬(최대 로짓 기준)",
    "{set}: reliability before and after calibration": "{set}: 보정 전후의 보정 곡선(reliability)",
    "Training": "학습",
    "{n} epochs; AUROC on validation after the last one {value}.": "{n} 에폭, 마지막 에폭의 검증 AUROC {value}.",
    "{n} epochs; AUROC on validation after epoch {m}, whose weights were scored, {value}.": (
        "{n} 에폭, 평가에 쓴 {m}번째 에폭의 검증 AUROC {value}."
    ),
    "{n} epochs.": "{n} 에폭.",
    "loss, ranking and learning rate by epoch": "에폭별 손실, 순위 성능(AUROC), 학습률",
    "train: training images; val: validation; stress: distorted copies of validation images; block: held-out patient "
    "numbers. Accuracy is by the largest logit.": (
        "train: 학습 영상; val: 검증 세트; stress: 왜곡한 검증 영상; block: 따로 떼어 둔 환자 번호 구간. 정확도는 "
        "최대 로짓 기준입니다."
    ),
    "What was trained": "학습한 부분",
    "Groups of the last stage, front to back": "마지막 단계의 그룹(입력 쪽부터)",
    "Sides of the split": "데이터 분할",
    "Environment": "실행 환경",
    "Looks at the test split": "시험 세트 열람 기록",
    "A look is a set of predictions made on the test split. The more looks there are, the less its numbers say "
    "about new images.": (
        "열람이란 시험 세트에 대한 한 벌의 예측을 말합니다. 열람이 늘수록 그 수치가 새로운 영상에 대해 말해 주는 것은 "
        "줄어듭니다."
    ),
    "This test set has not been looked at.": "이 시험 세트는 아직 열람하지 않았습니다.",
    "Of {n} looks the latest {m} are shown, and those of this run.": (
        "열람 {n}회 중 최근 {m}회와 이 실행의 열람을 표시합니다."
    ),
}
_MAY_I_USE = {
    "For research, for teaching and to compare methods: yes. To decide anything about a person: no. It is not a "
    "medical device, and nobody has tested it in care.": (
        "연구, 교육, 방법 비교에는 사용할 수 있습니다. 사람에 대한 어떤 결정에도 사용할 수 없습니다. 의료기기가 아니며 "
        "진료 현장에서 시험된 적이 없습니다."
    ),
    "Short answer": "짧은 답",
    "Run": "실행",
    "Learned from": "학습 데이터",
    "Numbers below are from": "아래 수치의 출처",
    "What it has seen": "모델이 학습한 것",
    "It was trained on {n} images of {m} patients ({classes}).": "환자 {m}명의 영상 {n}장으로 학습했습니다({classes}).",
    "It was trained on {n} images ({classes}).": "영상 {n}장으로 학습했습니다({classes}).",
    "Patients are not known: every image counts as its own, so images of one patient may lie on both sides and "
    "intervals may be too narrow.": (
        "환자를 알 수 없습니다. 영상마다 다른 환자로 세므로 한 환자의 영상이 양쪽에 있을 수 있고 신뢰구간이 지나치게 "
        "좁을 수 있습니다."
    ),
    "What a result would mean": "결과의 의미",
    "Images of one of the two classes are missing, so this cannot be said.": (
        "두 범주 중 한쪽의 영상이 없어 말할 수 없습니다."
    ),
    "No class of this data means pneumonia (data.positive is empty), so sensitivity, specificity and what follows "
    "from them are not defined for this run.": (
        "이 데이터에는 폐렴에 해당하는 범주가 없어(data.positive가 비어 있음) 이 실행에서는 민감도, 특이도와 그로부터 "
        "나오는 값이 정의되지 않습니다."
    ),
    "Decisions by the {rule} rule, with the sensitivity ({n}) and the specificity ({m}) found on {k} images. The "
    "share of pneumonia there was chosen by whoever gathered the images; where fewer have pneumonia, more of the "
    "flagged have no pneumonia.": (
        "{rule} 규칙으로 판정하며, 영상 {k}장에서 얻은 민감도({n})와 특이도({m})를 사용합니다. 그 세트의 폐렴 비율은 "
        "영상을 모은 사람이 정한 것이므로, 폐렴이 더 드문 곳에서는 양성 판정 중 폐렴이 없는 사람의 비율이 더 커집니다."
    ),
    "Of 1,000 {people} of whom {n} have pneumonia, {m} would be flagged: {k} with pneumonia and {w} without. {l} "
    "with pneumonia would be missed.": (
        "{people} 1,000명 중 {n}명이 폐렴이라면 {m}명이 양성으로 판정됩니다. 그중 {k}명은 폐렴이고 {w}명은 폐렴이 "
        "아닙니다. 폐렴이 있는 {l}명은 놓칩니다."
    ),
    "Of 1,000 phantoms of whom {n} have pneumonia, {m} would be flagged: {k} with pneumonia and {w} without. {l} "
    "with pneumonia would be missed.": (
        "팬텀 1,000개 중 {n}개가 폐렴이라면 {m}개가 양성으로 판정됩니다. 그중 {k}개는 폐렴이고 {w}개는 폐렴이 "
        "아닙니다. 폐렴이 있는 {l}개는 놓칩니다."
    ),
    "Of 1,000 {people}": "{people} 1,000명당",
    "Of 1,000 phantoms": "팬텀 1,000개당",
    "children": "소아",
    "people": "사람",
    "phantoms": "팬텀",
    "Predictive values": "예측도",
    "PPV: share with pneumonia among the flagged. NPV: share without pneumonia among those not flagged. Both assume "
    "that sensitivity and specificity stay what they are here, which has to be shown first.": (
        "양성 예측도(PPV): 양성으로 판정된 사람 중 폐렴이 있는 비율. 음성 예측도(NPV): 음성으로 판정된 사람 중 폐렴이 "
        "없는 비율. 두 값은 민감도와 특이도가 여기에서와 같다고 가정하며, 이는 먼저 입증되어야 합니다."
    ),
    "Known failures of this run": "이 실행에서 알려진 약점",
    "The test split was not scored in this run. Validation images come from the same collection as the training "
    "images: expect less of others.": (
        "이 실행에서는 시험 세트를 평가하지 않았습니다. 검증 영상은 학습 영상과 같은 출처에서 왔으므로 다른 영상에서는 "
        "성능이 더 낮을 것으로 예상해야 합니다."
    ),
    "There is no test side. Validation images come from the same collection as the training images: expect less of "
    "others.": (
        "시험 세트가 없습니다. 검증 영상은 학습 영상과 같은 출처에서 왔으므로 다른 영상에서는 성능이 더 낮을 것으로 "
        "예상해야 합니다."
    ),
    "Heat maps ({set}): {text}": "히트맵({set}): {text}",
    "In published work on this set the test split did not keep the specificity that validation promised.": (
        "이 데이터로 발표된 연구들에서 검증 세트가 보인 특이도는 시험 세트에서 유지되지 않았습니다."
    ),
    "Validation promised a {name} of {n}, and {m} was found.": "{name}: 검증 세트의 기대값 {n}, 실제 값 {m}.",
    "Validation promised a {name} of {n}, and {m} was found: of 1,000 {cases}, {k} more are decided wrongly than "
    "promised.": "{name}: 검증 세트의 기대값 {n}, 실제 값 {m}. {cases} 1,000장당 {k}장이 기대보다 더 잘못 판정됩니다.",
    "images without pneumonia": "폐렴이 없는 영상",
    "images with pneumonia": "폐렴이 있는 영상",
    "The lowest {name} of a subgroup is {value}, on {n} images ({kind}: {group}).": (
        "하위군 중 가장 낮은 {name}: {value}, 영상 {n}장({kind}: {group})."
    ),
    "On distorted copies of the validation images (resampled, sharpened, strongly compressed, of other contrast, "
    "noisy) balanced accuracy by the largest logit is {n} instead of {m}.": (
        "검증 영상을 변형한 사본(재표본화, 선명화, 강한 압축, 대비 변화, 잡음)에서 최대 로짓 기준 균형 정확도: "
        "{n}(원래 영상에서는 {m})."
    ),
    "{set}: {n} of {m} images without pneumonia were flagged, and {k} of {l} with pneumonia were missed.": (
        "{set}: 폐렴이 없는 영상 {m}장 중 {n}장이 양성으로 판정되었고, 폐렴이 있는 영상 {l}장 중 {k}장을 놓쳤습니다."
    ),
    "About whom it says nothing": "알 수 없는 대상",
    "Adults, newborn and older children: none was in the data.": (
        "성인, 신생아, 더 나이 많은 소아: 데이터에 없었습니다."
    ),
    "Other hospitals, and other projections (posterior-anterior, lateral): none was in the data. Which devices, and "
    "whether films were taken at the bedside, is not recorded.": (
        "다른 병원, 다른 촬영 방향(후전, 측면): 데이터에 없었습니다. 어떤 장비로 찍었는지, 이동식 촬영이었는지는 "
        "기록에 없습니다."
    ),
    "Other findings, such as effusion, tuberculosis or a foreign body: it knows no answer for them.": (
        "흉수, 결핵, 이물 등 다른 소견: 모델은 이에 대한 답을 알지 못합니다."
    ),
    "Age, sex, ethnicity, device and date of the images are not in the data, so nobody can say whether it does "
    "worse for some of them.": (
        "촬영 대상의 나이, 성별, 인종과 영상의 장비, 날짜가 데이터에 없으므로 그중 일부에서 성능이 더 낮은지 아무도 "
        "말할 수 없습니다."
    ),
    "All people: no person was in the data.": "모든 사람: 데이터에 사람이 없었습니다.",
    "Whoever is not like those in the data, and who they are the record does not say.": (
        "데이터에 있는 사람과 다른 모든 사람. 데이터에 있는 사람이 누구인지는 기록에 없습니다."
    ),
    "What would have to be done first": "사용 전에 해야 할 일",
    "Other sets that this run was scored on so far: {own}.": "이 실행을 지금까지 평가한 다른 세트: {own}.",
    "Local validation: consecutive radiographs of your own, at least {n} with and {m} without pneumonia, labelled "
    "by two readers who do not see the score. The command below scores them with this run's own preprocessing and "
    "thresholds.": (
        "현지 검증: 자체적으로 연속 수집한 흉부 X선 영상, 폐렴이 있는 영상 {n}장 이상과 없는 영상 {m}장 이상. 점수를 "
        "모르는 판독자 두 명이 정답을 부여합니다. 아래 명령은 이 실행의 전처리와 임계값으로 그 영상을 평가합니다."
    ),
    "Look at the gap between promise and finding there, at the calibration, and at the subgroups that matter to "
    "you; choose a threshold anew on one part of the images and test it on another.": (
        "그 자료에서 기대와 실제의 차이, 보정, 중요한 하위군을 살펴봅니다. 영상의 일부로 임계값을 새로 정하고 나머지로 "
        "시험합니다."
    ),
    "A study in care, the approval that your country asks of a medical device, and a plan to watch it afterwards.": (
        "진료 현장 연구, 해당 국가가 의료기기에 요구하는 허가, 그리고 사용 후 감시 계획."
    ),
    "FOLDER: the folder of the run, not of a bundle exported from it. ward7.csv: path,label,patient_id": (
        "FOLDER: 내보낸 번들이 아니라 실행 폴더. ward7.csv: path,label,patient_id"
    ),
}

_ENSEMBLE = {
    "pneumolit ensemble {own}": "pneumolit 앙상블 {own}",
    "{kind} of {n} runs": "실행 {n}개의 {kind} 앙상블",
    "mean of {n} runs": "실행 {n}개의 평균(mean) 앙상블",
    "greedy": "탐욕 선택(greedy)",
    "Members": "구성원",
    "member": "구성원",
    "weight": "가중치",
    "folder, from here": "폴더(이 폴더 기준)",
    "The score is the {text}.": "점수: {text}.",
    "weighted mean of the members' calibrated log odds of pneumonia, each re-based to prevalence one half": (
        "구성원별 보정된 폐렴 로그 오즈(각각 유병률 1/2 기준으로 환산)의 가중 평균"
    ),
    "Members and weights were chosen by {text}.": "구성원과 가중치의 선택 기준: {text}.",
    "class-balanced log loss on validation, in nats": "검증 세트의 범주 균형 로그 손실(nat)",
    "Not chosen: {own}.": "선택되지 않음: {own}.",
    "Numbers of validation flatter: it calibrated the ensemble, and a greedy one was chosen by it.": (
        "검증 세트로 앙상블을 보정했고 탐욕 선택에도 썼으므로 검증 세트의 수치는 실제보다 좋게 나옵니다."
    ),
}

TEXTS: dict[str, str] = {
    **_SETS,
    **_RULES,
    **_TABLES,
    **_REPORT,
    **_MAY_I_USE,
    **_ENSEMBLE,
    **CARD_TEXTS,
    **CHECK_TEXTS,
    **LESSON_TEXTS,
}
