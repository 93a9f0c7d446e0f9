"""The messages between driver and worker: plain data, sent as JSON."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict

from rfray.cell import Cell
from rfray.parameters import Parameters


class _Message(Parameters):
    """A measured value may be infinite or NaN, and must arrive unchanged."""

    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="constants")


class JobInput(_Message):
    """A finished run that the job reads.

    Attributes:
        run_id: MLflow's identifier of the run.
        metrics: The last value of each metric.
        digest: `digest_of` its artifacts, as recorded by the run; empty if not recorded.
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
        variant: Which of the stage's nodes it is.
        run_id: The MLflow run that the driver opened for it.
        attempt: Number of this attempt, from 1.
        time_limit: Seconds that the stage may take; None sets no limit.
        checkpoint_every: Epochs between checkpoints.
        checkpoint: Folder of its checkpoint, which the next attempt reads.
        earlier: Checkpoint folder of the same training with fewer epochs; None if there is none.
        data_root: Folder of the data sets; None takes the worker's RFRAY_DATA.
        background: Colour behind images with transparent parts; None refuses such images.
        fingerprint: Fingerprint of the data set in the plan. A worker with another one refuses.
        network_folders: Where to look for files of networks.
        code: Digest of the code of a network from outside, in the plan; else empty. A worker with
            another one refuses.
        stage_code: The same for the stage.
        plugins: Texts of the study's plug-in files, by their paths on the driver's machine.
        tracking_uri: URI of the tracking store, for artifacts on a server.
        threads: Threads that PyTorch may use.
        share: The share of the card that the job was given, 0 to 1.
        processes: How many processes compute it together, each on its own card.
        metered: Whether to measure what the stage uses of its card.
        remarks: Sentences for the reader of the result, on how the job was started.
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
    """What a stage uses of its card.

    Attributes:
        peak: The most bytes that its process has held there.
        total: Memory of the card, in bytes.
        utilisation: The part of the time in which the card computed, 0 to 1; None if not known.
    """

    peak: float
    total: float
    utilisation: float | None


class Progress(_Message):
    """The progress of a running job.

    Attributes:
        measurements: What it has measured, in order.
        doing: What it is doing, such as `reading cifar10: 4,096 of 60,000 pictures`; empty if it
            has measured something since.
        use: What it uses of its card; None if that is not measured.
    """

    measurements: list[Measurement] = []
    doing: str = ""
    use: CardUse | None = None


NOTHING_TOLD = Progress()


class Outcome(_Message):
    """How a job ended.

    Attributes:
        seconds: Wall time of the stage itself.
        reason: Why it failed, in one line; else empty.
        traceback: Where it failed; else empty.
        host: The machine that ran it.
        hardware: The CPU or GPU.
        digests: SHA-256 of each artifact.
        settled: Settings whose values the stage found while it ran, by name.
        remarks: Sentences of the stage for the reader of its result.
        unreadable: The data set that could not be read, if it failed because of that; else empty.
        no_card: Whether it failed because it was given a GPU but PyTorch found none.
        out_of_card_memory: Whether it failed because the card's memory was used up.
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
