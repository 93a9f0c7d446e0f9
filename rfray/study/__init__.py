"""Studies: from a sweep file to a typed `Study`, its settings and the names of its runs."""

from rfray.study.study import (
    AUTO,
    ChosenLayers,
    Data,
    Knobs,
    Request,
    Study,
    StudyName,
    study_model,
)

__all__ = ["AUTO", "ChosenLayers", "Data", "Knobs", "Request", "Study", "StudyName", "study_model"]
