"""What so many test images leave open of an accuracy stands beside its deviation over seeds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from test_tables import plan, tables, write_seed

from rfray.analysis import analyze, load_report
from rfray.analysis.chance import TestImages
from rfray.analysis.formats import latex_text, long_form, markdown_text

__all__ = ["tables"]

FACTS = {"digits": {"classes": 10, "test_images": 364}}


def test_known_errors():
    # The usual rule: 10,000 images at 90 % leave 0.3 points.
    assert TestImages(10, 10_000).sampling_error(90.0) == pytest.approx(0.3)
    assert TestImages(10, 10_000).sampling_error(50.0) == pytest.approx(0.5)
    assert TestImages(10, 364).sampling_error(100.0) == 0.0


@given(st.integers(0, 100), st.integers(1, 10**5))
def test_it_is_the_deviation_of_a_binomial_share(accuracy, images):
    error = TestImages(10, images).sampling_error(accuracy)

    assert error == pytest.approx(100 * binom.std(images, accuracy / 100) / images)


@pytest.fixture
def known(write):
    """A study of three seeds, dense 90, 92 and 94, whose number of test images is recorded."""
    writer = write(plan(datasets=FACTS))
    for seed in (0, 1, 2):
        write_seed(writer, seed)
    return writer.study


def test_it_stands_beside_each_accuracy_and_nothing_else(known, tables):
    found = long_form(tables(known)["pruned-0.9"]).set_index("metric")

    assert found["sampling_error"].dropna().to_dict() == pytest.approx(
        {
            "dense_test_accuracy": 100 * math.sqrt(0.92 * 0.08 / 364),
            "pruned_test_accuracy": 100 * math.sqrt(0.51 * 0.49 / 364),
        }
    )
    assert found["test_images"].dropna().to_dict() == {
        "dense_test_accuracy": 364, "pruned_test_accuracy": 364
    }  # fmt: skip


def test_it_reads_as_a_line_and_is_explained_once(known, tables):
    table = tables(known)["pruned-0.9"]

    text = markdown_text(table)
    assert "|  |  | sampling error | ± 1.42 | ± 2.62 | — | — | — |" in text
    assert text.count("of a mean accuracy p on n = 364 test images") == 1
    assert "sampling error" in latex_text(table)
    assert r"\textbf{?}" not in latex_text(table)


def test_it_stands_on_the_page(known, ledger, shipped, tmp_path):
    out = analyze(ledger, known, load_report(shipped), tmp_path).out

    assert "<small>sampling ± 1.42</small>" in (out / "report.html").read_text()


def test_without_a_number_of_test_images_nothing_is_said(write, tables):
    writer = write(plan())
    write_seed(writer, 0)

    table = tables(writer.study)["pruned-0.9"]

    assert "sampling error" not in markdown_text(table)
    assert long_form(table)["sampling_error"].isna().all()
