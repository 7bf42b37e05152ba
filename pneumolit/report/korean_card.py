"""The model card in Korean, keyed by the English text; `language` says what a place in braces stands for."""

from __future__ import annotations

_FRAME = {
    "Model card": "모델 카드",
    "Model card: {own}": "모델 카드: {own}",
    "How to read this": "읽는 법",
    "The items of two reporting guidelines, answered from the record of this run. Each answer says where it comes "
    "from. What neither the record nor the data can say stands here as open, not as a guess.": (
        "두 보고 지침의 항목에 이 실행의 기록으로 답합니다. 각 답에는 출처를 적었습니다. 기록과 데이터로 알 수 없는 "
        "것은 추측하지 않고 미답으로 남겼습니다."
    ),
    "CLAIM: Tejani et al., Checklist for Artificial Intelligence in Medical Imaging: 2024 Update, Radiology: "
    "Artificial Intelligence 6, 2024, e240300 (44 items).": (
        "CLAIM: Tejani 등, Checklist for Artificial Intelligence in Medical Imaging: 2024 Update, Radiology: "
        "Artificial Intelligence 6, 2024, e240300(44개 항목)."
    ),
    "TRIPOD+AI: Collins et al., BMJ 385, 2024, e078378 (52 items and parts of items).": (
        "TRIPOD+AI: Collins 등, BMJ 385, 2024, e078378(하위 항목을 포함해 52개)."
    ),
    "Answered": "답함",
    "Answered in part": "일부 답함",
    "Cannot be answered from this data": "이 데이터로는 답할 수 없음",
    "For the authors to add": "저자가 추가할 항목",
    "Cannot be answered from this data: {why}": "이 데이터로는 답할 수 없습니다: {why}",
    "Not in the record of a run; whoever publishes the model must add it: {why}": (
        "실행 기록에 없으며, 모델을 발표하는 사람이 추가해야 합니다: {why}"
    ),
    "Source: {files}": "출처: {files}",
    "Mendeley Data, doi:10.17632/rscbjbr9sj; Kermany et al., Cell 172, 2018": (
        "Mendeley Data, doi:10.17632/rscbjbr9sj; Kermany 등, Cell 172, 2018"
    ),
    "data.json; {source}": "data.json; {source}",
    "Title and summary": "제목과 요약",
    "Introduction": "서론",
    "Data": "데이터",
    "Reference standard": "참조 표준",
    "Partitions": "데이터 분할",
    "Model": "모델",
    "Training": "학습",
    "Evaluation: methods": "평가 방법",
    "Results": "결과",
    "Discussion": "고찰",
    "Other information": "기타 정보",
}
_TITLES = {
    "{n}. {title}": "{n}. {title}",
    "Title": "제목",
    "Summary": "요약",
    "Background and intended use": "배경과 사용 목적",
    "Health inequalities": "건강 불평등",
    "Aims": "목적",
    "Prospective or retrospective": "전향적 또는 후향적",
    "Goal of the study": "연구 목표",
    "Sources of the data": "데이터 출처",
    "Dates": "날짜",
    "Setting and centres": "환경과 기관",
    "Inclusion and exclusion": "포함 및 제외 기준",
    "Treatments": "치료",
    "Preprocessing": "전처리",
    "Selection of subsets": "부분집합 선택",
    "De-identification": "비식별화",
    "Missing data": "결측 자료",
    "Acquisition": "영상 획득",
    "Definition of the outcome": "결과 변수의 정의",
    "Why this reference standard": "참조 표준의 선택 이유",
    "Who gave the labels": "정답을 부여한 사람",
    "Labels of the test images": "시험 영상의 정답",
    "Agreement of the readers": "판독자 간 일치도",
    "Blinding": "눈가림",
    "Predictors": "예측 변수",
    "Reading of the predictors": "예측 변수의 판독",
    "How images were assigned": "영상의 배정 방법",
    "Level at which sides are apart": "분할이 서로 겹치지 않는 수준",
    "Sample size": "표본 크기",
    "Class imbalance": "범주 불균형",
    "Differences between development and evaluation data": "개발 자료와 평가 자료의 차이",
    "Description of the model": "모델 설명",
    "Software": "소프트웨어",
    "Parameters at the start": "매개변수 초기화",
    "Output and thresholds": "출력과 임계값",
    "Choice of the final model": "최종 모델의 선택",
    "Ensembles": "앙상블",
    "Updating of the model": "모델 갱신",
    "Measures": "성능 지표",
    "Uncertainty": "불확실성",
    "Robustness": "강건성",
    "Differences between clusters": "군집 간 차이",
    "Explanation": "설명 가능성",
    "Testing on data of the same collection": "내부 자료 시험",
    "Testing on external data": "외부 자료 시험",
    "How predictions are computed": "예측값의 계산 방법",
    "Fairness": "공정성",
    "Flow of patients and images": "환자와 영상의 흐름",
    "Characteristics of those imaged": "촬영 대상의 특성",
    "Performance": "성능",
    "Analysis of the errors": "오류 분석",
    "Interpretation": "해석",
    "Limits": "제한점",
    "What follows for practice": "진료에 대한 함의",
    "Poor or missing images": "질이 낮거나 없는 영상",
    "What users have to do": "사용자가 해야 할 일",
    "Protocol": "프로토콜",
    "Software, model and data": "소프트웨어, 모델, 데이터",
    "Registration": "등록",
    "Ethics": "윤리",
    "Funding": "연구비",
    "Conflicts of interest": "이해 상충",
    "Patients and public": "환자와 대중의 참여",
}
_STUDY = {
    "Deep-learning classifier ({name}) of chest radiographs: {classes}.": (
        "흉부 X선 영상의 딥러닝 분류기({name}): {classes}."
    ),
    "Deep-learning classifier ({name}) of synthetic chest phantoms: {classes}.": (
        "합성 흉부 팬텀의 딥러닝 분류기({name}): {classes}."
    ),
    "Development and evaluation of a diagnostic prediction model.": "진단 예측 모델의 개발과 평가.",
    "Development and evaluation of a classifier.": "분류기의 개발과 평가.",
    "{n} images of the data set: {name}.": "데이터 세트 {name}의 영상 {n}장.",
    "{set} ({n} images, {m} patients): AUROC {auroc}, sensitivity {first}, specificity {second} by the {rule} rule.": (
        "{set}(영상 {n}장, 환자 {m}명): {rule} 규칙에서 AUROC {auroc}, 민감도 {first}, 특이도 {second}."
    ),
    "{set} ({n} images): AUROC {auroc}, sensitivity {first}, specificity {second} by the {rule} rule.": (
        "{set}(영상 {n}장): {rule} 규칙에서 AUROC {auroc}, 민감도 {first}, 특이도 {second}."
    ),
    "{set} ({n} images): accuracy over all classes {value}.": "{set}(영상 {n}장): 전체 범주 정확도 {value}.",
    "{set} ({n} images, {m} patients): accuracy over all classes {value}.": (
        "{set}(영상 {n}장, 환자 {m}명): 전체 범주 정확도 {value}."
    ),
    "Diagnostic: pneumonia against its absence on one frontal chest radiograph. Meant for research and teaching; it "
    "has no place in a care pathway, and no user in care is foreseen.": (
        "진단 목적: 정면 흉부 X선 영상 한 장에서 폐렴의 유무를 구별합니다. 연구와 교육을 위한 것으로 진료 과정에서 "
        "맡은 역할이 없으며 진료 현장의 사용자를 상정하지 않습니다."
    ),
    "To tell the classes of the data apart; no class means pneumonia. Meant for research and teaching; it has no place "
    "in a care pathway, and no user in care is foreseen.": (
        "데이터의 범주를 구별합니다. 폐렴에 해당하는 범주는 없습니다. 연구와 교육을 위한 것으로 진료 과정에서 맡은 "
        "역할이 없으며 진료 현장의 사용자를 상정하지 않습니다."
    ),
    "To show that the machinery works. It learned from drawn phantoms, says nothing about radiographs and has no place "
    "in a care pathway.": (
        "도구가 작동함을 보이기 위한 것입니다. 그린 팬텀으로 학습했으므로 X선 영상에 대해 아무것도 말해 주지 않으며 "
        "진료 과정에서 맡은 역할이 없습니다."
    ),
    "To develop a classifier. There is no test side: how well it tells the classes apart is known on validation images "
    "alone. No hypothesis was written down beforehand.": (
        "분류기를 개발합니다. 시험 세트가 없어 범주를 얼마나 잘 구별하는지는 검증 영상에서만 알 수 있습니다. 미리 적어 "
        "둔 가설은 없습니다."
    ),
    "To develop a classifier and to estimate how well it tells the classes apart on images of the same collection: "
    "development and internal testing. No hypothesis was written down beforehand.": (
        "분류기를 개발하고 같은 출처의 영상에서 범주를 얼마나 잘 구별하는지 추정합니다(개발과 내부 시험). 미리 적어 둔 "
        "가설은 없습니다."
    ),
    "nothing in it tells one group of people from another.": "사람들의 집단을 구분할 정보가 없습니다.",
    "Model creation. Not a trial, and no test of superiority or non-inferiority.": (
        "모델 개발. 임상시험이 아니며 우월성이나 비열등성을 검정하지 않습니다."
    ),
    "Data set: {name}.": "데이터 세트: {name}.",
    "no date of an image is in it.": "영상의 날짜가 없습니다.",
    "no treatment is recorded in it.": "치료 기록이 없습니다.",
    "the record does not hold {what}": "기록에 없는 정보: {what}",
    "how the images were gathered.": "영상의 수집 방법.",
    "hospitals and setting.": "병원과 진료 환경.",
    "how the images were selected.": "영상의 선정 방법.",
    "projection, device and exposure.": "촬영 방향, 장비, 노출 조건.",
    "who read the images.": "영상 판독자.",
    "whether test images were read otherwise, and with which tool.": (
        "시험 영상을 다르게 판독했는지, 어떤 도구를 썼는지."
    ),
    "how names and dates were removed from the images.": "영상에서 이름과 날짜를 어떻게 제거했는지.",
    "Files become 8-bit gray images (color to luminance, 16 bits scaled), turned upright, squashed to a square of "
    "{n} pixels; the model sees {m} pixels.": (
        "파일은 8비트 회색조 영상으로 바꾸고(색상은 휘도로, 16비트는 축소), 바로 세운 뒤 한 변 {n}픽셀의 정사각형으로 "
        "맞춥니다. 모델의 입력은 한 변 {m}픽셀입니다."
    ),
    "Intensities are scaled as the starting weights expect it.": "밝기는 초기 가중치가 요구하는 대로 정규화합니다.",
    "Intensities are scaled by the mean and standard deviation of ImageNet.": (
        "밝기는 ImageNet의 평균과 표준편차로 정규화합니다."
    ),
    "Intensities are scaled to the range from 0 to 1.": "밝기는 0에서 1 사이로 맞춥니다.",
    "whether quality differs between groups of people.": "집단에 따라 영상의 질이 다른지 여부.",
    "{n} images of the training side were left out ({why}).": "학습 쪽 영상 {n}장을 제외했습니다({why}).",
    "exact copies": "동일 사본",
    "exact copies, or beyond the share of patients that trains": "동일 사본 또는 학습에 쓰는 환자 비율을 넘는 영상",
    "to balance the classes": "범주 균형 조정",
    "exact copies, or to balance the classes": "동일 사본 또는 범주 균형 조정",
    "It was trained at {list} pixels.": "학습할 때의 크기는 한 변 {list}픽셀입니다.",
    "Blocks of patient numbers were set aside from the training side before validation was drawn; the first ranks "
    "sweeps ({metric}); any further ones take part in no choice.": (
        "검증 세트를 뽑기 전에 학습 쪽에서 환자 번호 구간을 따로 떼어 두었습니다. 첫 구간으로 스윕의 순위를 매기며"
        "({metric}), 다른 구간은 어떤 선택에도 쓰이지 않습니다."
    ),
    "Blocks of patient numbers were set aside from the training side before validation was drawn; one of them ranks "
    "sweeps ({metric}); the others take part in no choice.": (
        "검증 세트를 뽑기 전에 학습 쪽에서 환자 번호 구간을 따로 떼어 두었습니다. 그중 하나로 스윕의 순위를 매기며"
        "({metric}), 나머지는 어떤 선택에도 쓰이지 않습니다."
    ),
    "Blocks of patient numbers were set aside from the training side before validation was drawn; the first chooses "
    "checkpoints and ranks sweeps ({metric}); any further ones take part in no choice.": (
        "검증 세트를 뽑기 전에 학습 쪽에서 환자 번호 구간을 따로 떼어 두었습니다. 첫 구간으로 체크포인트를 고르고 "
        "스윕의 순위를 매기며({metric}), 다른 구간은 어떤 선택에도 쓰이지 않습니다."
    ),
    "Blocks of patient numbers were set aside from the training side before validation was drawn; one of them chooses "
    "checkpoints and ranks sweeps ({metric}); the others take part in no choice.": (
        "검증 세트를 뽑기 전에 학습 쪽에서 환자 번호 구간을 따로 떼어 두었습니다. 그중 하나로 체크포인트를 고르고 "
        "스윕의 순위를 매기며({metric}), 나머지는 어떤 선택에도 쓰이지 않습니다."
    ),
    "Blocks of patient numbers were set aside from the training side before validation was drawn; they take part in "
    "no choice.": (
        "검증 세트를 뽑기 전에 학습 쪽에서 환자 번호 구간을 따로 떼어 두었습니다. 이 구간은 어떤 선택에도 쓰이지 "
        "않습니다."
    ),
    "{n} files could not be read (data.on_bad_image={value}). The model uses no other variable, so none can be "
    "missing.": (
        "읽을 수 없는 파일 {n}개(data.on_bad_image={value}). 모델은 다른 변수를 쓰지 않으므로 다른 결측은 없습니다."
    ),
    "which patients or images never reached the collection.": "수집 자료에 들어오지 못한 환자나 영상.",
    "The classes are {own}; of these, pneumonia: {own_positive}.": "범주는 {own}이며, 그중 폐렴: {own_positive}.",
    "The classes are {own}; of these, pneumonia: no class.": "범주는 {own}이며, 그중 폐렴: 없음.",
    "by what definition the labels were given.": "정답을 부여한 기준.",
    "The state at the time of the image; there is no time horizon.": "촬영 시점의 상태이며 예측 기간은 없습니다.",
    "no reason is given, and no other standard (culture, computed tomography, course) is in it.": (
        "이유가 제시되어 있지 않고 다른 표준(배양 검사, CT, 경과)도 없습니다."
    ),
    "it holds one label per image and not those of single readers.": (
        "영상마다 정답이 하나뿐이며 판독자별 판독은 없습니다."
    ),
    "whether readers knew the course or other findings.": "판독자가 경과나 다른 소견을 알고 있었는지 여부.",
    "The only predictor is the image: gray values, without age, sex, symptoms or laboratory values. None was chosen "
    "beforehand.": (
        "예측 변수는 영상의 회색조 값뿐이며 나이, 성별, 증상, 검사 수치는 쓰지 않습니다. 미리 선택한 변수는 없습니다."
    ),
    "Does not apply: no person reads the image before the model does.": (
        "해당 없음: 모델보다 먼저 영상을 판독하는 사람이 없습니다."
    ),
    "The sides come from a given split file.": "주어진 분할 파일을 그대로 사용했습니다.",
    "All images were divided anew into train, validation and test by the shares {shares}.": (
        "모든 영상을 학습, 검증, 시험 세트로 다시 나누었습니다(비율 {shares})."
    ),
    "The validation side is the one that the data set names.": "검증 세트는 데이터 세트가 정한 그대로입니다.",
    "The test side is the one that the data set names.": "시험 세트는 데이터 세트가 정한 그대로입니다.",
    "Validation is fold {n} of {m}, by whole patients.": "검증 세트는 환자 단위로 나눈 {m}개 폴드 중 {n}번째입니다.",
    "Validation is a contiguous block of patient numbers, {n} % of the training side.": (
        "검증 세트는 이어진 환자 번호 구간이며 학습 쪽의 {n} %입니다."
    ),
    "Validation was drawn from the training side by whole patients, stratified by class and cause: {n} %, unless "
    "the data set names its own.": (
        "검증 세트는 학습 쪽에서 환자 단위로, 범주와 원인별로 층화하여 {n} %를 뽑았습니다(데이터 세트가 따로 정한 "
        "경우는 예외)."
    ),
    "Patients, as far as file names tell them apart (data.patient_key={key}).": (
        "환자 단위. 파일 이름으로 구별되는 범위 안에서입니다(data.patient_key={key})."
    ),
    "Patients, as the column patient_id of the list tells them apart.": (
        "환자 단위. 목록의 patient_id 열에 따라 구별합니다."
    ),
    "Patients that training shares with other sides: {list}.": "학습 세트와 다른 세트에 함께 있는 환자 수: {list}.",
    "No sample size was computed: the data set is what it is. How far its size reaches can be seen from the width "
    "of the intervals.": (
        "표본 크기는 계산하지 않았습니다. 데이터 세트의 크기는 주어진 것이며, 그 크기로 어디까지 말할 수 있는지는 "
        "신뢰구간의 폭에 나타납니다."
    ),
    "Balancing of the training images: data.balance={value}, loss.class_weight={other}.": (
        "학습 영상의 균형 조정: data.balance={value}, loss.class_weight={other}."
    ),
    "The two-class logit is moved by {n}, the log odds that training saw, and calibrated on validation.": (
        "두 범주 로짓을 학습 때의 로그 오즈만큼({n}) 옮기고 검증 세트에서 보정했습니다."
    ),
    "The two-class logit is moved by {n}, the log odds that training saw.": (
        "두 범주 로짓을 학습 때의 로그 오즈만큼({n}) 옮겼습니다."
    ),
    "setting, eligibility and device of the sides.": "세트별 진료 환경, 선정 기준, 장비.",
    "Share of pneumonia: {n} in training, {m} in {set}.": "폐렴 비율: 학습 세트 {n}, {set} {m}.",
}
_PROVENANCE = {
    "Chest X-Ray Images (Pneumonia), Kermany et al. 2018": "Chest X-Ray Images (Pneumonia), Kermany 등 2018",
    "Children of one to five years of one hospital, the Guangzhou Women and Children's Medical Center in Guangzhou, "
    "China.": "중국 광저우의 한 병원(Guangzhou Women and Children's Medical Center)의 1~5세 소아.",
    "Retrospective: the radiographs were taken in routine care and selected afterwards.": (
        "후향적: 통상적인 진료에서 촬영한 영상을 나중에 선정했습니다."
    ),
    "The authors removed radiographs of low quality and unreadable ones; by what other rules they selected is not "
    "said with the data.": (
        "저자들은 질이 낮거나 판독할 수 없는 영상을 제외했습니다. 그 밖의 선정 기준은 데이터에 적혀 있지 않습니다."
    ),
    "Anterior-posterior projection. Device, tube voltage, dose and position of the child are not said with the "
    "data; the films are given out as JPEG files with 8 bits.": (
        "전후(AP) 촬영. 장비, 관전압, 선량, 촬영 자세는 데이터에 적혀 있지 않습니다. 영상은 8비트 JPEG 파일로 "
        "배포됩니다."
    ),
    "Normal or pneumonia; of pneumonia the file name says bacterial or viral. Each image carries one final label.": (
        "정상 또는 폐렴. 폐렴은 파일 이름에 세균성인지 바이러스성인지가 적혀 있습니다. 영상마다 최종 정답이 하나씩 "
        "있습니다."
    ),
    "Two expert physicians graded every image. Their training and experience are not said with the data.": (
        "전문 의사 두 명이 모든 영상을 판독했습니다. 이들의 수련과 경력은 데이터에 적혀 있지 않습니다."
    ),
    "A third expert checked the evaluation set as well.": "평가 세트는 세 번째 전문가가 추가로 확인했습니다.",
    "File names carry a number per patient and no name, date, age or sex.": (
        "파일 이름에는 환자별 번호만 있고 이름, 날짜, 나이, 성별은 없습니다."
    ),
    "Images without pneumonia are labelled normal. No other disease is labelled in the set, so the model cannot "
    "have learned to tell one from pneumonia.": (
        "폐렴이 없는 영상은 정상으로 표시되어 있습니다. 다른 질환은 표시되어 있지 않으므로 모델이 다른 질환과 폐렴을 "
        "구별하는 법을 배웠을 수 없습니다."
    ),
    "PneumoniaMNIST, made of the set of Kermany et al. 2018": "PneumoniaMNIST (Kermany 등 2018 데이터에서 만든 것)",
    "Anterior-posterior projection, cropped to a square at the middle and shrunk by MedMNIST. Device, tube voltage, "
    "dose and position of the child are not said with the data.": (
        "전후(AP) 촬영. MedMNIST가 가운데를 정사각형으로 잘라 줄였습니다. 장비, 관전압, 선량, 촬영 자세는 "
        "데이터에 적혀 있지 않습니다."
    ),
    "Images carry no name and no number of a patient, so that films of one patient may be on two sides.": (
        "영상에는 환자의 이름도 번호도 없으므로 한 환자의 영상이 양쪽에 있을 수 있습니다."
    ),
    "Yang et al., Scientific Data 10, 2023; Kermany et al., Cell 172, 2018": (
        "Yang 등, Scientific Data 10, 2023; Kermany 등, Cell 172, 2018"
    ),
    "synthetic chest phantoms": "합성 흉부 팬텀",
    "Nobody was imaged: the images are drawn by a program. They show that the machinery works and prove nothing "
    "about real radiographs.": (
        "촬영한 사람이 없습니다. 프로그램이 그린 영상입니다. 도구가 작동함을 보일 뿐 실제 X선 영상에 대해서는 아무것도 "
        "증명하지 않습니다."
    ),
    "Neither prospective nor retrospective: a program made the images.": (
        "전향적도 후향적도 아닙니다. 프로그램이 만든 영상입니다."
    ),
    "Every image that the program drew is included.": "프로그램이 그린 모든 영상을 포함합니다.",
    "No device: the program draws gray images.": "장비 없음: 프로그램이 회색조 영상을 그립니다.",
    "The program that draws a phantom decides its class.": "팬텀을 그리는 프로그램이 범주를 정합니다.",
    "No reader: the class is decided before the image is drawn.": "판독자 없음: 영상을 그리기 전에 범주가 정해집니다.",
    "Test phantoms are labelled in the same way.": "시험용 팬텀의 정답도 같은 방법으로 정합니다.",
    "No person is shown.": "사람이 찍힌 영상이 아닙니다.",
    "Images without pneumonia are phantoms without an opacity.": "폐렴이 없는 영상은 음영이 없는 팬텀입니다.",
    "images in the layout of the Kaggle set, {n} of them": "Kaggle 세트와 같은 폴더 구조의 영상 {n}장",
    "The files are laid out like the Kaggle set, but are not as many, so nothing is taken for granted about who was "
    "imaged.": "폴더 구조는 Kaggle 세트와 같지만 영상 수가 다르므로 촬영 대상에 대해 아무것도 단정하지 않습니다.",
    "class folders of the user's own": "사용자의 범주별 폴더",
    "a list of the user's own images (manifest)": "사용자의 영상 목록(manifest)",
    "The record does not say who was imaged, where and when; whoever gathered the images must.": (
        "누가, 어디서, 언제 촬영되었는지 기록에 없습니다. 영상을 모은 사람이 밝혀야 합니다."
    ),
}
_MODEL = {
    "{name} with {n} parameters: {k} input channels of {m} pixels, head {head}, dropout {d}, {l} logits ({classes}).": (
        "{name}, 매개변수 {n}개: 입력 채널 {k}개, 한 변 {m}픽셀, 헤드 {head}, 드롭아웃 {d}, 로짓 {l}개({classes})."
    ),
    "The whole model is config.yaml with the checkpoint in checkpoints/; `python -m pneumolit.evaluate run_dir=...` "
    "applies it.": (
        "모델 전체는 config.yaml과 checkpoints/의 체크포인트이며 `python -m pneumolit.evaluate run_dir=...`로 "
        "적용합니다."
    ),
    "Random weights (seed={n}).": "무작위 가중치(seed={n}).",
    "Pretrained weights: {name}; the head is new and random (seed={n}).": (
        "사전 학습된 가중치: {name}. 헤드는 새로 무작위로 초기화했습니다(seed={n})."
    ),
    "One logit per class; the class with the largest one is the answer. No class means pneumonia.": (
        "범주마다 로짓 하나. 가장 큰 로짓의 범주가 답입니다. 폐렴에 해당하는 범주는 없습니다."
    ),
    "One logit per class and one two-class score. No calibration was fitted.": (
        "범주마다 로짓 하나와 두 범주 점수 하나. 보정은 구하지 않았습니다."
    ),
    "One logit per class, one two-class score and one calibrated probability of pneumonia.": (
        "범주마다 로짓 하나, 두 범주 점수 하나, 보정된 폐렴 확률 하나."
    ),
    "Primary rule: pneumonia where the calibrated probability, re-based to prevalence one half, is at least 0.5; "
    "fixed before any data were seen. All other thresholds come from validation.": (
        "일차 규칙: 유병률 1/2 기준으로 환산한 보정 확률이 0.5 이상이면 폐렴. 데이터를 보기 전에 고정했습니다. 다른 "
        "임계값은 모두 검증 세트에서 구했습니다."
    ),
    "Calibration on validation: slope {n}, intercept {m}, prevalence {k}.": (
        "검증 세트에서 구한 보정: 기울기 {n}, 절편 {m}, 유병률 {k}."
    ),
    "Stage {n} of {m}: {text}": "{m}단계 중 {n}단계: {text}",
    "{name}, learning rate {lr}, weight decay {wd}, schedule {schedule}, batches of {n}, at most {m} epochs, loss "
    "{loss}, label smoothing {smoothing}, freeze={policy}.": (
        "{name}, 학습률 {lr}, 가중치 감쇠 {wd}, 스케줄 {schedule}, 배치 크기 {n}, 최대 {m} 에폭, 손실 함수 {loss}, "
        "레이블 평활화 {smoothing}, freeze={policy}."
    ),
    "Augmentation of training images: {settings}.": "학습 영상의 증강: {settings}.",
    "Styles of early feature maps are mixed between the images of a batch (MixStyle), of each with a probability of "
    "{p}.": ("배치 안의 영상끼리 앞쪽 특징 맵의 양식을 확률 {p}로 섞습니다(MixStyle)."),
    "A teacher's scores of the training images make {share} of the loss.": (
        "학습 영상에 대한 교사 모델의 점수가 손실의 {share}를 차지합니다."
    ),
    "A share of {share} of the training images trains, by whole patients.": (
        "학습 영상 가운데 {share}의 비율로, 환자 단위로 골라 학습합니다."
    ),
    "Validation images are augmented too while training, as published work did.": (
        "발표된 연구처럼 학습하는 동안 검증 영상도 증강합니다."
    ),
    "Validation was drawn from the training side by whole patients, not stratified: {share} %.": (
        "검증 세트는 학습 쪽에서 환자 단위로, 층을 나누지 않고 뽑았습니다: {share} %."
    ),
    "Training images are not augmented.": "학습 영상을 증강하지 않았습니다.",
    "The weights of the last epoch are scored.": "마지막 에폭의 가중치로 평가합니다.",
    "The weights of the epoch with the best {metric} are scored.": (
        "{metric} 값이 가장 좋은 에폭의 가중치로 평가합니다."
    ),
    "Whether this run was chosen among others its record does not say; the ledger of looks and the sweep do.": (
        "이 실행이 여러 실행 중에서 선택되었는지는 실행 기록에 없으며, 열람 기록과 스윕에 있습니다."
    ),
    "One model, no ensemble.": "단일 모델이며 앙상블이 아닙니다.",
    "One model, no ensemble. Its weights are a running mean over steps (callbacks.ema).": (
        "단일 모델이며 앙상블이 아닙니다. 가중치는 학습 단계에 걸친 이동 평균입니다(callbacks.ema)."
    ),
    "One model, no ensemble. Its weights are a mean over epochs (callbacks.swa).": (
        "단일 모델이며 앙상블이 아닙니다. 가중치는 에폭에 걸친 평균입니다(callbacks.swa)."
    ),
    "None after training, but for slope and intercept of the score, which were fitted on validation. Test images "
    "changed nothing.": (
        "학습 뒤에는 검증 세트로 점수의 기울기와 절편만 구했고 다른 갱신은 없습니다. 시험 영상으로 바꾼 것은 없습니다."
    ),
    "None after training, but for slope and intercept of the score, which were fitted on validation.": (
        "학습 뒤에는 검증 세트로 점수의 기울기와 절편만 구했고 다른 갱신은 없습니다."
    ),
    "None after training.": "학습 뒤의 갱신은 없습니다.",
    "Decisions by the largest logit: accuracy over all classes, precision and recall of every class; the confusion "
    "matrix as a picture. No class means pneumonia, so nothing is ranked.": (
        "가장 큰 로짓에 따른 판정: 전체 범주 정확도, 범주별 정밀도와 재현율. 혼동행렬은 그림으로 제시합니다. 폐렴에 "
        "해당하는 범주가 없어 순위 성능은 없습니다."
    ),
    "{n} % intervals over images. No significance test within one run.": (
        "영상 단위의 {n} % 신뢰구간을 구합니다. 한 실행 안에서는 유의성 검정을 하지 않습니다."
    ),
    "Ranking (AUROC, average precision), decisions (accuracy, sensitivity, specificity, PPV, NPV, F1), "
    "probabilities (Brier score, calibration error, slope and intercept); ROC, precision and recall, and "
    "reliability as pictures.": (
        "순위 성능(AUROC, 평균 정밀도), 판정 성능(정확도, 민감도, 특이도, 양성 예측도, 음성 예측도, F1), 확률의 "
        "질(브라이어 점수, 보정 오차, 기울기와 절편). ROC 곡선, 정밀도-재현율 곡선, 보정 곡선은 그림으로 제시합니다."
    ),
    "{n} % intervals over patients, since images of one patient are not independent. No significance test within "
    "one run.": (
        "한 환자의 영상들은 서로 독립이 아니므로 환자 단위의 {n} % 신뢰구간을 구합니다. 한 실행 안에서는 유의성 검정을 "
        "하지 않습니다."
    ),
    "it names no hospital or country. Series of file names, if any, are compared instead.": (
        "병원이나 국가가 적혀 있지 않습니다. 대신 파일 이름 계열이 있으면 서로 비교합니다."
    ),
    "Distorted copies of the validation images are scored after every epoch (stress, metrics.csv).": (
        "에폭마다 검증 영상을 변형한 사본을 평가합니다(stress, metrics.csv)."
    ),
    "Held-out blocks of patient numbers were scored: {list}.": "따로 떼어 둔 환자 번호 구간을 평가했습니다: {list}.",
    "No analysis of robustness was made in this run.": "이 실행에서는 강건성을 분석하지 않았습니다.",
    "Heat maps with their checks are in the folder explanation/ and on the page of the run.": (
        "히트맵과 그 점검 결과는 explanation/ 폴더와 실행 페이지에 있습니다."
    ),
    "Not made for this run so far; `python -m pneumolit.explain run_dir=...` makes heat maps and checks them.": (
        "이 실행에서는 아직 만들지 않았습니다. `python -m pneumolit.explain run_dir=...`로 히트맵을 만들고 점검합니다."
    ),
    "Evaluated sets: {list}.": "평가한 세트: {list}.",
    "Sets of other origin that were scored: {own}.": "평가한 다른 출처의 세트: {own}.",
    "None was scored so far; `python -m pneumolit.evaluate run_dir=... data=manifest data.manifest=FILE name=NAME` "
    "scores one.": (
        "아직 없습니다. `python -m pneumolit.evaluate run_dir=... data=manifest data.manifest=FILE name=NAME`으로 "
        "평가합니다."
    ),
    "predictions.csv holds logits and score of every image; all numbers are made from it. The run's own checkpoint, "
    "preprocessing, calibration and thresholds are used.": (
        "predictions.csv에 모든 영상의 로짓과 점수가 있으며 모든 수치는 여기에서 계산합니다. 이 실행의 체크포인트, "
        "전처리, 보정, 임계값을 그대로 사용합니다."
    ),
    "without age, sex or ethnicity nothing can be compared or corrected.": (
        "나이, 성별, 인종 정보가 없어 비교하거나 교정할 수 없습니다."
    ),
}
_RESULTS = {
    "Images and patients of every side, and what was left out:": "세트별 영상 수와 환자 수, 그리고 제외한 영상:",
    "Classes are in the table of the entry before this one.": "범주별 수는 앞 항목의 표에 있습니다.",
    "age, sex, ethnicity, device, dates and clinical state are not in it.": (
        "나이, 성별, 인종, 장비, 날짜, 임상 상태가 없습니다."
    ),
    "No class means pneumonia; the confusion matrix of all classes is on the page of the run.": (
        "폐렴에 해당하는 범주가 없습니다. 전체 범주의 혼동행렬은 실행 페이지에 있습니다."
    ),
    "The most certain errors are listed on the page of the run.": "가장 확신한 오류는 실행 페이지에 있습니다.",
    "One collection: what holds here need not hold elsewhere.": (
        "하나의 출처에서 온 자료입니다. 여기에서 성립하는 것이 다른 곳에서도 성립한다고 볼 수 없습니다."
    ),
    "One model of one seed: another seed would give other numbers, and the intervals do not hold that part.": (
        "하나의 시드로 학습한 하나의 모델입니다. 시드가 다르면 수치도 달라지며 신뢰구간에는 그 부분이 들어 있지 "
        "않습니다."
    ),
    "This test set was looked at {n} times; whoever chooses between runs by it makes its numbers too good.": (
        "이 시험 세트는 {n}회 열람되었습니다. 이 세트로 실행을 고르면 그 수치는 실제보다 좋게 나옵니다."
    ),
    "Training and test images come from different blocks of patient numbers of one hospital.": (
        "학습 영상과 시험 영상은 한 병원의 서로 다른 환자 번호 구간에서 왔습니다."
    ),
    "The test side was drawn anew from the whole set.": "시험 세트는 전체 데이터 세트에서 새로 뽑았습니다.",
    "The test side is the one of a given split file, which need not be that of the data set.": (
        "시험 세트는 주어진 분할 파일의 것이며 데이터 세트가 정한 것과 다를 수 있습니다."
    ),
    "No use in care follows from these numbers. Next: images of other hospitals and devices with age and sex, "
    "labelled by readers whose agreement is known.": (
        "이 수치로부터 진료에서의 사용이 정당화되지는 않습니다. 다음 단계: 나이와 성별이 있고 판독자 간 일치도가 "
        "알려진, 다른 병원과 장비의 영상."
    ),
    "How it stands against other runs `python -m pneumolit.compare` tells, with tests for images of the same "
    "patients. Fairness cannot be judged.": (
        "다른 실행과의 비교는 같은 환자의 영상을 고려한 검정과 함께 `python -m pneumolit.compare`가 보여 줍니다. "
        "공정성은 판단할 수 없습니다."
    ),
    "A file that cannot be read is refused. `predict` warns of films that are turned, inverted, noisy, blurred or flat "
    "beyond those of training, and of what a DICOM file says of its body part and view. Nothing stops it, and what a "
    "picture shows no check can tell; a person must.": (
        "읽을 수 없는 파일은 거부합니다. `predict`는 학습 영상에 비해 돌아갔거나 반전되었거나 잡음이 많거나 흐리거나 "
        "대비가 낮은 영상, 그리고 DICOM 파일에 적힌 부위와 촬영 방향에 대해 경고합니다. 경고가 처리를 멈추지는 않으며, "
        "영상에 무엇이 찍혔는지는 어떤 검사로도 알 수 없으므로 사람이 확인해야 합니다."
    ),
    "Choose frontal chest radiographs and start a command. To judge the answer takes somebody who reads radiographs.": (
        "정면 흉부 X선 영상을 골라 명령을 실행합니다. 결과를 판단하려면 X선 영상을 판독할 수 있는 사람이 필요합니다."
    ),
    "No study protocol was written. config.yaml and the sources of the given version are the technical details.": (
        "연구 프로토콜은 작성하지 않았습니다. 기술적 세부 사항은 config.yaml과 해당 버전의 소스 코드입니다."
    ),
    "Software: pneumolit {version} ({commit}), Apache-2.0.": "소프트웨어: pneumolit {version}({commit}), Apache-2.0.",
    "no commit known": "커밋 정보 없음",
    "Model: the folder checkpoints/ of this run.": "모델: 이 실행의 checkpoints/ 폴더.",
    "Images: {name}, licence {licence}.": "영상: {name}, 라이선스 {licence}.",
    "whether the images are available.": "영상의 공개 여부.",
    "Not a clinical trial; not registered.": "임상시험이 아니며 등록하지 않았습니다.",
    "ethics committee and consent.": "윤리위원회 승인과 동의.",
    "who paid, and what part they took.": "연구비 출처와 그 역할.",
    "those of all authors.": "모든 저자의 이해 상충.",
    "whether they took part; the record shows none.": "참여 여부(기록에는 없음).",
}

CARD_TEXTS: dict[str, str] = {**_FRAME, **_TITLES, **_STUDY, **_PROVENANCE, **_MODEL, **_RESULTS}
