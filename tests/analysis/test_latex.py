import subprocess

import pytest

from rfray.analysis.formats import escaped

# With those of the page: the report that both look at is drawn once.
pytestmark = pytest.mark.xdist_group("half_done")

DOCUMENT = r"""\documentclass[a4paper]{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def tables(half_done_report):
    """The LaTeX tables of a study with published values and with every kind of flaw, by id."""
    return {path.stem: path.read_text() for path in half_done_report.glob("tables/*.tex")}


def test_tables_compile_with_booktabs_alone(tables, program, tmp_path):
    pdflatex = program("pdflatex", "texlive-latex-base texlive-latex-recommended")
    (tmp_path / "paper.tex").write_text(DOCUMENT % "\n\\clearpage\n".join(tables.values()))

    result = subprocess.run(
        [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )

    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert result.returncode == 0, log[-2000:]
    assert "Missing character" not in log
    assert len(tables) >= 4
    assert f"({len(tables)} pages" in log.replace("\n", " ")


def test_table_has_the_numbers_of_the_study_and_those_published(tables):
    text = tables["table1"]

    assert r"\caption{Dense networks and networks pruned at rate 0.9" in text
    assert r"RF & $k$ & & Dense (\%) & Pruned (\%) & Difference" in text
    assert r"\multicolumn{8}{l}{vgg19\_rf, cifar10, width 1} \\" in text
    assert r" &  & paper & 93.50 \ensuremath{\pm} 0.11 (" in text
    assert "(2 of 3)" in text
    assert r"Dense (\%) falls with the receptive field: p = " in text


def test_every_character_is_printed_or_replaced_by_a_mark():
    assert escaped("50 % of a_b") == r"50 \% of a\_b"
    assert escaped("日") == r"{\bfseries ?}"
    assert escaped("−1.24e-05 ± 2e+07") == (
        r"\ensuremath{-}1.24\ensuremath{\times10^{-5}} \ensuremath{\pm} 2\ensuremath{\times10^{7}}"
    )
