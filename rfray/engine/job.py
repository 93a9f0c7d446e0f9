"""What the driver sends to a worker, and what comes back: plain data, JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict

from rfray.cell import Cell
from rfray.parameters import Parameters


class _Message(Parameters):
    """What is measured may be infinite or no number at all, and must arrive as it is."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")


class JobInput(_Message):
    """A finished stage that the job reads.

    Attributes:
        stage: Its stage's name.
        cell: Its cell.
        run_id: Its run.
        artifact_uri: Where its artifacts lie.
        metrics: The last value of each metric.
        digest: `digest_of` its artifacts as its run recorded it; empty if it did not.
    """

    stage: str
    cell: Cell
    run_id: str
    artifact_uri: str
    metrics: dict[str, float]
    digest: str


class Job(_Message):
    """One node of the plan, ready to run.

    Attributes:
        key: The node's content key.
        name: The run's name.
        stage: The stage's name.
        variant: Which of the stage's nodes it is.
        parameters: The stage's parameters.
        cells: The node's cells.
        inputs: What it reads.
        run_id: The MLflow run that the driver opened for it.
        artifact_uri: Where its artifacts go.
        attempt: 1, or how often the run has been taken up.
        time_limit: Seconds that the stage may take; None sets no limit.
        checkpoint_every: Epochs between checkpoints.
        checkpoint: Folder for what an interrupted attempt leaves to the next.
        earlier: Folder that the same training with fewer epochs has left; None if there is none.
        data_root: Folder of the data sets; None leaves it to the worker's RFRAY_DATA.
        background: Colour that pictures with transparent parts are laid on; None refuses them.
        fingerprint: Of the data set as it was planned; a worker that finds another one refuses.
        network_folders: Where files of networks are looked for.
        code: Digest of the code of a network from outside as it was planned, else empty; a worker
            that finds another one refuses.
        stage_code: Likewise of the stage.
        plugins: Texts of the study's plug-in files, by their paths where it was planned.
        tracking_uri: Of the MLflow store, for artifacts that lie behind a server.
        threads: Threads that PyTorch may use.
        device: "cpu" or "cuda".
        share: The part of the card that the job was given, 0 to 1.
        processes: How many compute it together, each on a card of its own.
        metered: Whether to tell what the stage takes of its card.
        remarks: What whoever reads the result should know of how it was started.
    """

    key: str
    name: str
    stage: str
    variant: dict[str, float | str]
    parameters: dict[str, Any]
    cells: list[Cell]
    inputs: list[JobInput]
    run_id: str
    artifact_uri: str
    attempt: int
    time_limit: float | None
    checkpoint_every: int
    checkpoint: str
    earlier: str | None = None
    data_root: str | None
    fingerprint: str
    tracking_uri: str
    threads: int
    device: Literal["cpu", "cuda"]
    background: str | None = None
    network_folders: list[str] = []
    code: str = ""
    share: float = 1.0
    processes: int = 1
    metered: bool = False
    remarks: list[str] = []
    stage_code: str = ""
    plugins: dict[str, str] = {}


class Measurement(_Message):
    """One value of one metric, as MLflow keeps it."""

    metric: str
    step: int
    value: float
    timestamp: int


class CardUse(_Message):
    """What a stage takes of its card.

    Attributes:
        peak: The most bytes that its process has held there.
        total: What the card has, bytes.
        utilisation: The part of the time in which the card computed, 0 to 1; None if nobody knows.
    """

    peak: float
    total: float
    utilisation: float | None


class Progress(_Message):
    """What a running job tells.

    Attributes:
        measurements: What it has measured, in order.
        doing: What it does besides, in words, such as `reading cifar10: 4,096 of 60,000 pictures`;
            empty where it has measured something since.
        use: What it takes of its card; None where it is not metered.
    """

    measurements: list[Measurement] = []
    doing: str = ""
    use: CardUse | None = None


NOTHING_TOLD = Progress()


class Outcome(_Message):
    """How a job ended.

    Attributes:
        key: The job's.
        status: Whether it ended well.
        measurements: Everything that it reported, in order.
        seconds: Wall time of the stage itself.
        reason: Why it failed, in one line; empty if it did not.
        traceback: Where it failed; empty if it did not.
        host: The machine that ran it.
        hardware: The processor or GPU.
        digests: SHA-256 of each artifact.
        settled: Settings that the stage found as it ran, by name.
        remarks: Sentences that the stage left for whoever reads its result.
        unreadable: The data set that could not be read, if that is why it failed; else empty.
        no_card: Whether it failed because PyTorch found no GPU where it was given one.
        out_of_card_memory: Whether it failed because the memory of its card was used up.
    """

    key: str
    status: Literal["finished", "failed"]
    measurements: list[Measurement] = []
    seconds: float = 0
    reason: str = ""
    traceback: str = ""
    host: str = ""
    hardware: str = ""
    digests: dict[str, str] = {}
    settled: dict[str, Any] = {}
    remarks: list[str] = []
    unreadable: str = ""
    no_card: bool = False
    out_of_card_memory: bool = False

    @property
    def last_metrics(self) -> Mapping[str, float]:
        """The last value of each metric."""
        return {entry.metric: entry.value for entry in self.measurements}
