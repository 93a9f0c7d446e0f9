"""The report as a reader has it: in a real browser, at the widths of a phone and of a desk."""

import json
import re
from urllib.parse import unquote

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from written_study import Writer, cell, study_document

from rfray.analysis import analyze, load_report, read_frame
from rfray.analysis.links import runs_link, ui_address, without_password

pytestmark = pytest.mark.xdist_group("half_done")

PHONE, DESK, PRINTED = (390, "screen"), (1280, "screen"), (680, "print")
"""Width in CSS pixels and medium; A4 between margins of 15 mm is 680 pixels wide."""

TOO_WIDE = """
const limit = document.documentElement.clientWidth + 1;
return [...document.querySelectorAll("body, body *")].filter(element => {
  const box = element.getBoundingClientRect();
  const holds = getComputedStyle(element).display !== "inline";
  return box.width > 0
    && (box.right > limit || box.left < -1
      || (holds && element.scrollWidth > element.clientWidth + 1));
}).map(element => element.outerHTML.slice(0, 200));
"""


@pytest.fixture(scope="module")
def browser(program):
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium", "chromium chromium-driver")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(
        options=options, service=Service(program("chromedriver", "chromium-driver"))
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(half_done_report):
    """The report on a study of which much is missing."""
    return half_done_report / "report.html"


@pytest.fixture(scope="module")
def compared_page(client, store, ledger, shipped, tmp_path_factory):
    """The report on a study whose settings are compared, with networks of long names."""
    only = dict.fromkeys(("prune", "finetune", "hessian", "cka", "importance"))
    document = study_document(**{**only, "kernel_size": [2], "seed": [0, 1, 2], "width": [1, 0.25]})
    document["axes"]["train.learning_rate"] = [0.1, 0.01]
    writer = Writer(client, "compared", document, store)
    for width in (1.0, 0.25):
        for rate in (0.1, 0.01):
            for seed in (0, 1, 2):
                params = {**cell(seed=seed, width=width), "train.learning_rate": rate}
                if (width, rate, seed) != (0.25, 0.01, 2):
                    values = {"test_accuracy": 80.0 + 100 * rate * seed + width}
                    writer.run("train", params, values)
    out = tmp_path_factory.mktemp("compared")
    return analyze(ledger, "compared", load_report(shipped), out).out / "report.html"


@pytest.fixture(scope="module")
def long_page(client, store, ledger, tmp_path_factory):
    """The report on two networks at four kernel sizes: a table of eight rows in two blocks."""
    only = dict.fromkeys(("prune", "finetune", "hessian", "cka", "importance"))
    document = study_document(
        **{**only, "kernel_size": [2, 3, 4, 5], "seed": [0], "arch": ["vgg19_rf", "resnet50"]}
    )
    writer = Writer(client, "long", document, store)
    for arch in ("vgg19_rf", "resnet50"):
        for k in (2, 3, 4, 5):
            writer.run("train", cell(arch=arch, k=k), {"test_accuracy": 90.0 - k})
    out = tmp_path_factory.mktemp("long")
    (out / "report.yaml").write_text(
        "title: T\ntables:\n  - id: one\n    title: One\n    columns:\n"
        "      - {name: d, title: Dense, stage: train, metric: test_accuracy}\n"
    )
    return analyze(ledger, "long", load_report(out / "report.yaml"), out).out / "report.html"


def requested(browser):
    """Addresses that the browser asked for since it was last asked."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def show(browser, page, width, medium):
    """Opens a page and returns what leaves this file."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium})
    requested(browser)
    browser.get(page.as_uri())
    addresses = requested(browser)
    assert page.as_uri() in addresses
    return [a for a in addresses if a != page.as_uri() and not a.startswith("data:")]


@pytest.mark.parametrize(("width", "medium"), [PHONE, DESK, PRINTED])
def test_nothing_overflows_and_no_request_leaves_the_machine(browser, page, width, medium):
    asked = show(browser, page, width, medium)

    assert asked == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(TOO_WIDE) == []


@pytest.mark.parametrize(("width", "medium"), [PHONE, DESK, PRINTED])
def test_comparisons_do_not_overflow(browser, compared_page, width, medium):
    show(browser, compared_page, width, medium)

    assert browser.execute_script(TOO_WIDE) == []
    text = browser.find_element("id", "comparisons").text
    assert "train.learning_rate 0.01 against 0.1" in text
    assert "2 seeds with both, a test needs 3" in text


def test_every_picture_is_shown_and_is_a_drawing(browser, page):
    show(browser, page, *DESK)

    sources = browser.execute_script("return [...document.images].map(i => i.src.slice(0, 19))")
    assert set(sources) == {"data:image/svg+xml;"}
    widths = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(widths) == 8
    assert min(widths) > 300


def test_these_checks_would_see_a_request_and_an_overflow(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<body><img src="http://127.0.0.1:9/x.png"><pre style="width:3000px">wide</pre></body>'
    )

    assert show(browser, bad, *PHONE) == ["http://127.0.0.1:9/x.png"]
    assert any("wide" in found for found in browser.execute_script(TOO_WIDE))


def test_page_asks_for_nothing_but_itself(page):
    text = re.sub(r"data:image/svg\+xml;base64,[^\"]*", "data:", page.read_text())

    assert "default-src 'none'" in text
    assert not re.search(r"<script[^>]*src=|<link rel=\"style|@import|url\(|src=\"(?!data:)", text)


def test_only_the_reports_own_script_may_run(browser, page, tmp_path):
    injected = tmp_path / "injected.html"
    injected.write_text(page.read_text().replace("<main>", "<main><script>window.ran = 1</script>"))

    show(browser, injected, *DESK)

    assert browser.execute_script("return window.ran") is None
    assert browser.execute_script("return document.querySelectorAll('thead button').length") > 0


def test_text_of_runs_is_shown_as_text(page):
    text = page.read_text()

    assert "&lt;script&gt;alert(" in text
    assert "<script>" not in text


def test_every_number_and_every_failure_links_to_its_runs(page, half_done, ledger):
    frame = read_frame(ledger, half_done)
    linked = {
        run_id
        for address in re.findall(r'href="([^"#]*#/[^"]*)"', page.read_text())
        for run_id in re.findall(r"[0-9a-f]{32}", unquote(address))
    }

    measured = {
        record.run_id
        for slot, record in frame.kept.items()
        if slot.stage in ("train", "prune", "finetune", "importance")
    }
    assert measured | {entry.record.run_id for entry in frame.dropped} <= linked
    assert linked <= {record.run_id for record in ledger.runs(half_done)}


def test_study_provenance_and_reasons_are_told(page):
    text = re.sub(r"<[^>]*>", "", page.read_text())

    for said in (
        "Study half-done:",
        "rfray0.1.0",
        "gitf9be4cc",
        "Hardware8 threads",
        "kernel_size2, 3, 4, 5",
        "stage prunerates 0.9",
        "vgg19_rf cifar10 k=5 seed 0: train: not run yet",
        "vgg19_rf cifar10 k=3 seed 2: train: has test_accuracy = nan",
        "seed 1: train has 2 finished runs, the latest counts",
        "k=4 seed 2: train: running since",
        "Runs left out (3)",
        "Dense (%) falls with the receptive field: p = ",
        "paper: 93.50 ± 0.11",
        "author: 93.52 ± 0.11",
    ):
        assert said in text, said


def test_links_lead_to_the_server_or_to_the_pages_of_this_machine(ledger, realistic):
    frame = read_frame(ledger, realistic)

    assert ui_address("sqlite:////home/me/mlflow.db") == "http://127.0.0.1:5000"
    assert ui_address("https://me:secret@mlflow.example:8443/") == "https://mlflow.example:8443"
    one = runs_link(frame, ["a1"])
    assert one == f"http://127.0.0.1:5000/#/experiments/{frame.experiment_id}/runs/a1"
    assert "compare-runs?runs=%5B%22a1%22%2C%22b2%22%5D" in runs_link(frame, ["a1", "b2"])


def test_no_password_stands_in_a_report():
    uri = "postgresql://me:secret@db.example:5432/mlflow"

    assert without_password(uri) == "postgresql://db.example:5432/mlflow"
    assert without_password("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def column(browser, section, place):
    """Numbers of a column of the first table of a section, as they stand below each other."""
    return browser.execute_script(
        "return [...document.querySelector(arguments[0] + ' .cells').tBodies[0].rows]"
        ".filter(row => !row.hidden).map(row => row.cells[arguments[1]].dataset.value ?? null)",
        f"[id='{section}']",
        place,
    )


def heading(browser, section, place):
    return browser.find_elements("css selector", f"[id='{section}'] .cells thead button")[place]


def sorted_as(browser, section, place):
    cell = heading(browser, section, place).find_element("xpath", "..")
    return cell.get_attribute("aria-sort")


def test_a_click_on_a_heading_sorts_by_number_and_a_third_one_undoes_it(browser, page):
    show(browser, page, *DESK)
    written = column(browser, "table1", 1)
    known = [value for value in written if value is not None]
    assert None in written, "a cell without a number is a part of this test"

    orders = {"ascending": sorted(known, key=float)}
    orders["descending"] = orders["ascending"][::-1]
    for order, expected in orders.items():
        heading(browser, "table1", 1).click()
        assert sorted_as(browser, "table1", 1) == order
        assert column(browser, "table1", 1) == [*expected, *[None] * (len(written) - len(known))]
    heading(browser, "table1", 1).click()

    assert sorted_as(browser, "table1", 1) == "none"
    assert column(browser, "table1", 1) == written


def test_headings_sort_by_keyboard(browser, compared_page):
    show(browser, compared_page, *DESK)

    heading(browser, "comparisons", 1).send_keys(Keys.ENTER)

    assert sorted_as(browser, "comparisons", 1) == "ascending"


def shown(browser, selector):
    return [one for one in browser.find_elements("css selector", selector) if one.is_displayed()]


def test_rows_are_filtered_by_words_of_their_own_and_of_their_heading(browser, long_page):
    show(browser, long_page, *DESK)
    field = browser.find_element("css selector", "#one input[type=search]")
    counted = browser.find_element("css selector", "#one output")

    field.send_keys("K=3 RESNET50")
    assert [row.text.split()[:4] for row in shown(browser, "#one tbody tr")] == [
        ["213", "k", "=", "3"]
    ]
    assert [one.text for one in shown(browser, "#one h4")] == ["resnet50, digits, width 0.125"]
    assert counted.text == "1 of 8 rows"

    field.send_keys(" nothing")
    assert counted.text == "0 of 8 rows"
    field.clear()
    field.send_keys(" ")
    assert counted.text == ""
    assert len(shown(browser, "#one tbody tr")) == 8


def test_a_phone_without_headings_sorts_by_a_choice(browser, long_page):
    show(browser, long_page, *PHONE)

    choice = Select(browser.find_element("css selector", "#one .sort select"))
    choice.select_by_visible_text("RF ↓")

    assert column(browser, "one", 0) == ["715", "537", "359", "181"]
    assert browser.execute_script(TOO_WIDE) == []


def test_a_figure_opens_in_detail_and_closes(browser, page):
    asked = show(browser, page, *DESK)
    picture = browser.find_element("css selector", "figure img")
    picture.send_keys(Keys.ENTER)
    view = "dialog.figure img"

    def width():
        return browser.find_element("css selector", view).size["width"]

    whole = width()
    for title in ("Larger", "Larger", "Smaller"):
        browser.find_element("css selector", f"dialog button[title^={title}]").click()
    assert width() == pytest.approx(1.25 * whole, abs=1)
    browser.execute_script(
        "const at = document.querySelector(arguments[0]).getBoundingClientRect();"
        "document.querySelector('dialog .view').dispatchEvent(new WheelEvent('wheel',"
        "{deltaY: -1, clientX: at.left + 300, clientY: at.top + 200, cancelable: true}))",
        view,
    )
    assert width() == pytest.approx(1.25**2 * whole, abs=1)
    browser.switch_to.active_element.send_keys("0")
    assert width() == whole
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)

    assert browser.find_elements("css selector", "dialog") == []
    assert browser.switch_to.active_element == picture
    assert [*asked, *(a for a in requested(browser) if not a.startswith("data:"))] == []


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_a_click_on_a_number_names_its_runs(browser, page, ledger, half_done, size):
    show(browser, page, *size)
    number = browser.find_element("css selector", "#table1 .cells td a")
    text = number.text

    number.click()

    opened = browser.find_element("css selector", "dialog.runs")
    assert opened.find_element("tag name", "h2").text.startswith(f"{text}: Dense (%), vgg19_rf")
    names = {run.run_id: run.name for run in ledger.runs(half_done)}
    listed = {
        item.find_element("tag name", "code").text: item.find_element("tag name", "a").text
        for item in opened.find_elements("tag name", "li")
    }
    assert len(listed) == 2
    assert listed.items() <= names.items()
    link = opened.find_element("css selector", "li a").get_attribute("href")
    assert link.endswith(f"/runs/{next(iter(listed))}")
    assert "mlflow ui --backend-store-uri" in opened.text
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
