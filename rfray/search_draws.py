"""The samples of a search, drawn by Ray Tune's own search spaces."""

from __future__ import annotations

from typing import Any

from rfray.search_space import Choice, Domain, Space
from rfray.seeding import stream_seed

_SEED = 0


def draws(space: Space, samples: int) -> list[Choice]:
    """What so many samples try, each combination once.

    The i-th value of a setting hangs on its domain, its name and i alone: more samples, or one more
    setting, leave what was drawn as it was.

    Args:
        space: What each setting is drawn from.
        samples: How many to draw; there are fewer where some are alike.
    """
    domains = {name: _tune_domain(domain) for name, domain in space.items()}
    found: list[Choice] = []
    for number in range(samples):
        choice = {
            name: _plain(domain.sample(random_state=_random(name, number)))
            for name, domain in domains.items()
        }
        if choice not in found:
            found.append(choice)
    return found


def _tune_domain(domain: Domain) -> Any:
    # Imported where a search is given: other plans must not wait seconds for Ray.
    from ray import tune

    match domain.kind:
        case "uniform":
            return tune.uniform(*domain.values)
        case "log_uniform":
            return tune.loguniform(*domain.values)
        case "integers":
            low, high = domain.values
            return tune.randint(low, high + 1)
    return tune.choice(domain.values)


def _random(name: str, number: int) -> Any:
    import numpy as np

    return np.random.default_rng(stream_seed(_SEED, "search", name, number))


def _plain(value: Any) -> Any:
    """Numbers of numpy's as Python's, which YAML, JSON and keys know."""
    return value.item() if hasattr(value, "item") else value
