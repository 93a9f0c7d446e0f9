"""How a report sets trained, untrained and shuffled alignment beside each other."""

import numpy as np
import pytest
from written_study import cell, npz, study_document

from rfray.analysis import build_tables, expected_slots, load_report, read_frame
from rfray.analysis.artifacts import Alignment, ArtifactError, read_alignment
from rfray.analysis.figures.cka import draw_cka, draw_cka_layers
from rfray.analysis.figures.panels import Drawing, Panel
from rfray.analysis.figures.style import colour
from rfray.analysis.formats import long_form
from rfray.analysis.samples import Measurements

CKA_ALONE = dict.fromkeys(("train", "prune", "finetune", "hessian", "importance"))


@pytest.fixture
def measured(ledger, shipped):
    """The table of alignment in the shipped report on a study, by metric, and what is missing."""

    def make(study):
        report, frame = load_report(shipped), read_frame(ledger, study)
        tables, _ = build_tables(
            report.layout, Measurements(frame, expected_slots(frame), {}), report.published
        )
        (table,) = (table for table in tables if table.spec.id == "cka")
        return long_form(table).set_index("metric"), [str(gap) for gap in table.gaps]

    return make


def write_cka(writer, diagonal, shuffled=None, **params):
    group = {name: value for name, value in cell().items() if name != "seed"}
    metrics = {"cka_diagonal_mean": diagonal}
    metrics |= {} if shuffled is None else {"cka_shuffled_mean": shuffled}
    writer.run("cka", {**group, "seeds": "[0, 1]", **params}, metrics)


def test_trained_stands_beside_untrained_with_what_training_adds(write, measured):
    cka = {"at": ["trained", "init"]}
    writer = write(study_document(kernel_size=[2], **{**CKA_ALONE, "cka": cka}))
    write_cka(writer, 0.7, 0.2, at="trained")
    write_cka(writer, 0.5, 0.3, at="init")

    found, gaps = measured(writer.study)

    assert found["mean"].round(6).to_dict() == {
        "trained": 0.7,
        "trained_shuffled": 0.2,
        "untrained": 0.5,
        "untrained_shuffled": 0.3,
        "gained": 0.2,
    }
    assert gaps == []


def test_a_study_that_compares_trained_networks_alone_has_no_columns_of_untrained_ones(
    write, measured
):
    writer = write(study_document(kernel_size=[2], **CKA_ALONE, cka={"at": ["trained"]}))
    write_cka(writer, 0.7, 0.2, at="trained")

    found, _ = measured(writer.study)

    assert list(found.index) == ["trained", "trained_shuffled"]


def test_a_run_that_says_neither_its_moment_nor_a_baseline_is_of_trained_networks(write, measured):
    """As runs and study documents were before cka had its controls."""
    writer = write(study_document(kernel_size=[2], **CKA_ALONE))
    write_cka(writer, 0.7)

    found, gaps = measured(writer.study)

    assert found.loc["trained", "mean"] == 0.7
    assert gaps == ["vgg19_rf digits k=2: cka: has no metric cka_shuffled_mean"]
    assert "has no metric cka_shuffled_mean" in found.loc["trained_shuffled", "note"]


def test_untrained_networks_that_are_not_compared_yet_are_missing_by_name(write, measured):
    cka = {"at": ["trained", "init"]}
    writer = write(study_document(kernel_size=[2], **{**CKA_ALONE, "cka": cka}))
    write_cka(writer, 0.7, 0.2)

    _, gaps = measured(writer.study)

    assert gaps == ["vgg19_rf digits k=2: cka init: not run yet"]


def test_an_estimator_that_varies_makes_rows_of_its_own(write, measured):
    document = study_document(kernel_size=[2], **CKA_ALONE)
    document["axes"]["cka.estimator"] = ["biased", "unbiased"]
    writer = write(document)
    write_cka(writer, 0.7, 0.2, **{"cka.estimator": "biased", "estimator": "biased"})
    write_cka(writer, 0.5, -0.01, **{"cka.estimator": "unbiased", "estimator": "unbiased"})

    found, gaps = measured(writer.study)

    by_estimator = found.set_index("cka.estimator", append=True)["mean"]
    assert by_estimator["trained"].to_dict() == {"biased": 0.7, "unbiased": 0.5}
    assert by_estimator["trained_shuffled"].to_dict() == {"biased": 0.2, "unbiased": -0.01}
    assert gaps == []


def test_a_baseline_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "cka.npz"
    path.write_bytes(npz(["a", "b"], [(0, 1)], np.ones((1, 2, 2)), shuffled=np.ones((2, 2))))

    with pytest.raises(ArtifactError, match=r"a baseline \(2, 2\), not 1 pairs of 2 layers"):
        read_alignment(path)


def alignment(value, shuffled=None):
    baseline = None if shuffled is None else np.full((1, 3), shuffled)
    matrices = value * np.eye(3)[None]
    return Alignment(("conv1", "conv2", "conv3"), np.array([(0, 1)]), matrices, baseline)


def panel(content, k, at):
    return Panel(k, {2: 181, 3: 359}[k], at, (content,), ())


def beside(shuffled=None):
    """Two receptive fields, trained and untrained."""
    panels = [
        panel(alignment({"trained": 0.9, "init": 0.4}[at], shuffled), k, at)
        for k in (2, 3)
        for at in ("trained", "init")
    ]
    return Drawing((("dataset", "digits"), ("arch", "vgg19_rf")), tuple(panels))


def test_maps_of_trained_and_untrained_networks_share_a_row():
    figure = draw_cka("CKA", beside())

    maps = figure.axes[:4]
    assert [axes.get_title() for axes in maps] == [
        f"RF {field} (k = {k}), {moment}, 1 pair"
        for k, field in ((2, 181), (3, 359))
        for moment in ("trained", "untrained")
    ]
    assert len({axes.get_subplotspec().rowspan.start for axes in maps[:2]}) == 1


def test_equal_layers_are_lines_with_the_shuffled_ones_dotted():
    figure = draw_cka_layers("CKA", beside(shuffled=0.2))

    first, second = figure.axes
    assert first.get_title() == "RF 181 (k = 2)"
    lines = {line.get_linestyle(): line for line in second.lines}
    assert lines["-"].get_ydata().tolist() == [0.9] * 3
    assert lines["--"].get_ydata().tolist() == [0.4] * 3
    assert lines[":"].get_ydata().tolist() == [0.2] * 3
    assert lines["-"].get_color() == colour(3)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["trained", "untrained", "images of one network shuffled"]


def test_equal_layers_of_runs_without_a_baseline_have_no_dotted_line():
    figure = draw_cka_layers("CKA", beside())

    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["trained", "untrained"]
