"""What a study is: from a sweep file to a typed `Study`, its settings and its names."""

from rfray.study.study import (
    AUTO,
    ChosenLayers,
    Data,
    Knobs,
    Request,
    Study,
    StudyName,
    study_model,
    when_model,
)

__all__ = [
    "AUTO",
    "ChosenLayers",
    "Data",
    "Knobs",
    "Request",
    "Study",
    "StudyName",
    "study_model",
    "when_model",
]
