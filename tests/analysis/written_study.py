"""Writes runs by the public schema through MLflow's own client, as any other program could."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

FIELDS = {
    "vgg19_rf": {2: 181, 3: 359, 4: 537, 5: 715},
    "resnet50": {2: 108, 3: 213, 4: 318, 5: 423},
}
LAYERS = {
    "vgg19_rf": [
        f"features.{i}" for i in (0, 4, 8, 11, 15, 18, 21, 24, 28, 31, 34, 37, 40, 43, 46, 49)
    ],
    "resnet50": [
        "conv1",
        *(
            f"layer{stage}.{block}.conv{conv}"
            for stage, blocks in enumerate((3, 4, 6, 3), start=1)
            for block in range(blocks)
            for conv in (1, 2, 3)
        ),
    ],
}
START = 1_760_000_000_000


@dataclass
class Writer:
    """Writes the runs of one study, each a minute later than the one before."""

    client: MlflowClient
    study: str
    document: dict | None
    folder: Path
    clock: int = START
    experiment: str = field(init=False)

    def __post_init__(self):
        tags = {"rfray.study": json.dumps(self.document)} if self.document else {}
        location = (self.folder / "artifacts" / self.study).as_uri()
        self.experiment = self.client.create_experiment(
            self.study, artifact_location=location, tags=tags
        )

    def run(
        self, stage, params, metrics=None, *, tags=None, status="FINISHED", parent=None, files=None
    ):
        """One run; a metric that is a list is logged by step. Returns its id."""
        self.clock += 60_000
        own = {k: v for k, v in params.items() if k in ("rate", "at")}
        tags = {
            "rfray.stage": stage,
            "rfray.key": "-".join([stage, *(str(v) for v in params.values())]),
            "rfray.version": "0.1.0",
            "rfray.git": "f9be4cc",
            "rfray.hardware": "8 threads",
            "rfray.seconds": "30.0",
            **({"mlflow.parentRunId": parent} if parent else {}),
            **(tags or {}),
        }
        name = "-".join(
            f"{prefix}{params[key]}"
            for key, prefix in (
                ("arch", ""),
                ("dataset", ""),
                ("kernel_size", "k"),
                ("seed", "seed"),
            )
            if key in params
        )
        name += "/" + "-".join([stage, *(str(value) for value in own.values())])
        run = self.client.create_run(
            self.experiment, start_time=self.clock, tags=tags, run_name=name
        )
        entries = [
            Metric(key, value, self.clock, step)
            for key, values in (metrics or {}).items()
            for step, value in enumerate(values if isinstance(values, list) else [values])
        ]
        self.client.log_batch(
            run.info.run_id,
            metrics=entries,
            params=[Param(key, str(value)) for key, value in params.items()],
        )
        for file, content in (files or {}).items():
            path = self.folder / "artifacts" / self.study / run.info.run_id / "artifacts" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if status != "RUNNING":
            self.client.set_terminated(run.info.run_id, status, end_time=self.clock + 30_000)
        return run.info.run_id


def cell(arch="vgg19_rf", dataset="digits", k=2, seed=0, width=0.125):
    """The params of a cell."""
    return {
        "dataset": dataset,
        "arch": arch,
        "kernel_size": k,
        "receptive_field": FIELDS[arch][k],
        "seed": seed,
        "width": width,
    }


def study_document(**changes):
    """A study document; keyword arguments replace axes, or drop a stage with None."""
    document = {
        "name": "hand",
        "axes": {
            "dataset": ["digits"],
            "arch": ["vgg19_rf"],
            "kernel_size": [2, 3],
            "seed": [0, 1],
            "width": [0.125],
        },
        "train": {"epochs": 2},
        "prune": {"rates": [0.9]},
        "finetune": {"epochs": 1},
        "hessian": {"at": ["init", "trained"]},
        "cka": {},
        "importance": {"draws": 3},
    }
    for key, value in changes.items():
        if key in document["axes"]:
            document["axes"][key] = value
        elif value is None:
            document.pop(key)
        else:
            document[key] = value
    return document


def npz(layers, pairs, matrices, **more):
    """The bytes of a `cka.npz`; `shuffled` stands in those of a run that has the baseline."""
    stream = io.BytesIO()
    np.savez(
        stream,
        layers=np.asarray(layers),
        pairs=np.asarray(pairs, dtype=np.int64),
        matrices=np.asarray(matrices, dtype=np.float64),
        **more,
    )
    return stream.getvalue()


def npy(array):
    """The bytes of a `pattern.npy`."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_realistic(writer, document):
    """Every stage of every cell of `document`, with curves and maps of realistic shape."""
    axes = document["axes"]
    for dataset in axes["dataset"]:
        for arch in axes["arch"]:
            for k in axes["kernel_size"]:
                for seed in axes["seed"]:
                    _write_cell(writer, document, cell(arch, dataset, k, seed, axes["width"][0]))
                _write_cka(writer, axes["seed"], cell(arch, dataset, k, 0, axes["width"][0]))
    for arch in axes["arch"]:
        for k in axes["kernel_size"]:
            _write_importance(writer, cell(arch, "", k, 0, axes["width"][0]))


def _write_cell(writer, document, params):
    rng = np.random.default_rng([params["kernel_size"], params["seed"], len(params["arch"])])
    dense = 97.5 - 2.2 * params["kernel_size"] + rng.normal(0, 0.4)
    train = writer.run(
        "train",
        {**params, "epochs": 2},
        {"test_accuracy": [dense - 9, dense], "train_loss": [1.2, 0.3]},
    )
    for rate in document["prune"]["rates"]:
        lost = (rate**8) * 90 / (params["kernel_size"] - 1) ** 2 + abs(rng.normal(0, 0.3))
        values = {"accuracy_drop": lost, "sparsity": rate, "live_sparsity": rate - 0.04}
        pruned = {**values, "test_accuracy": dense - lost}
        writer.run("prune", {**params, "rate": rate}, pruned, parent=train)
        tuned = {**values, "test_accuracy": dense - lost / 10, "accuracy_drop": lost / 10}
        writer.run("finetune", {**params, "rate": rate, "epochs": 1}, tuned, parent=train)
    for at in document["hessian"]["at"]:
        eigenvalues, residuals, density = _spectrum(rng, params["kernel_size"], at)
        converged = [r < 1e-3 for r in residuals]
        lines = ["rank,eigenvalue,residual,converged"]
        lines += [
            f"{i},{value},{residual},{ok}"
            for i, (value, residual, ok) in enumerate(
                zip(eigenvalues, residuals, converged, strict=True), start=1
            )
        ]
        grid = ["eigenvalue,density", *(f"{x},{p}" for x, p in density)]
        writer.run(
            "hessian",
            {**params, "at": at},
            {"eigenvalue": list(eigenvalues), "residual": list(residuals), "trace": 3.0},
            parent=train,
            files={
                "spectrum.csv": "\n".join(lines).encode(),
                "density.csv": "\n".join(grid).encode(),
            },
        )


def _spectrum(rng, k, at):
    scale = {"init": 6.0, "trained": 180.0}[at] / (k - 1) ** 1.3
    top = scale * np.exp(-np.arange(90) / 9) * np.exp(rng.normal(0, 0.08, 90)) + 0.01 * scale
    top = np.sort(top)[::-1]
    residuals = 1e-6 * 10 ** (np.arange(90) / 25 + rng.normal(0, 0.2, 90))
    grid = np.linspace(-0.15 * scale, 1.15 * scale, 2000)
    sigma = 0.006 * scale
    bulk = np.exp(-np.abs(grid) / (0.004 * scale)) / (0.008 * scale)
    peaks = sum(
        1e-4 * np.exp(-(((grid - value) / sigma) ** 2) / 2) / (sigma * 2.5) for value in top[:30]
    )
    negative = 3e-4 * np.exp(-(((grid + 0.06 * scale) / (2 * sigma)) ** 2) / 2) / (sigma * 5)
    return top, residuals, np.stack([grid, bulk + peaks + negative], axis=1)


def _write_cka(writer, seeds, params):
    layers = LAYERS[params["arch"]]
    count = len(layers)
    rng = np.random.default_rng(params["kernel_size"])
    row, column = np.mgrid[0:count, 0:count] / (count - 1)
    pairs = [(a, b) for i, a in enumerate(seeds) for b in seeds[i + 1 :]]
    width = 0.15 + 0.06 * params["kernel_size"]
    matrices = [
        np.clip(
            0.95 * np.exp(-(((row - column) / width) ** 2)) * (1 - 0.35 * (row + column) / 2)
            + rng.normal(0, 0.015, (count, count)),
            0,
            1,
        )
        for _ in pairs
    ]
    if params["kernel_size"] == 5:
        for matrix in matrices:
            matrix[-2] = np.nan
            matrix[:, -2] = np.nan
    params = {key: value for key, value in params.items() if key != "seed"}
    writer.run(
        "cka",
        {**params, "seeds": list(seeds)},
        {
            "cka_diagonal_mean": float(np.nanmean([np.diag(m) for m in matrices])),
            "cka_shuffled_mean": 0.2,
        },
        files={"cka.npz": npz(layers, pairs, matrices, shuffled=np.full((len(pairs), count), 0.2))},
    )


def _write_importance(writer, params):
    k = params["kernel_size"]
    rng = np.random.default_rng(k)
    peak, spread = {
        "vgg19_rf": ({2: 1.2e-5, 3: 2.5e-6, 4: 1.3e-7, 5: 7e-8}[k], 3.2),
        "resnet50": ({2: 0.32, 3: 0.18, 4: 0.11, 5: 0.064}[k], 4.5),
    }[params["arch"]]
    y, x = np.mgrid[0:64, 0:64] - 31.5
    width = spread * (k - 1) ** 0.7 + 2
    pattern = peak * np.exp(-(x**2 + y**2) / (2 * width**2))
    phase = (np.mgrid[0:64, 0:64] % max(k - 1, 1) == 0).all(axis=0)
    pattern = pattern * (0.7 + 0.3 * phase) * np.exp(rng.normal(0, 0.15, pattern.shape))
    draws = list(peak * np.exp(rng.normal(0, 0.17, 3)))
    params = {key: value for key, value in params.items() if key not in ("dataset", "seed")}
    writer.run(
        "importance",
        {**params, "draws": 3, "backward": "linear"},
        {
            "max_importance": draws,
            "max_importance_mean": float(np.mean(draws)),
            "max_importance_std": float(np.std(draws, ddof=1)),
        },
        files={"pattern.npy": npy(pattern)},
    )
