"""rfray: sweeps over a network's receptive field, on Ray, tracked in MLflow."""

__version__ = "0.1.0"
