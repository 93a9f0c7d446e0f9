"""The samples of a search: drawn by Ray Tune's own search spaces, or proposed by its Optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import chain, count
from typing import Any

from rfray.errors import UserError
from rfray.search.space import METRICS, Choice, Domain, Proposal, Space, Tried
from rfray.seeding import stream_seed

INSTALL_OPTUNA = "pip install 'rfray[optuna]' on every machine, or search.algorithm=random"

_SEED = 0
_SEEDS = 2**32
"""Of numpy's RandomState, which Optuna draws from."""

_ASKED_AT_MOST = 50
"""Optuna may propose what was tried already; then the draws go on."""


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
        choice = _draw(domains, number)
        if choice not in found:
            found.append(choice)
    return found


def proposed(proposal: Proposal, tried: Sequence[Tried], metric: str) -> Choice:
    """What a sample tries that learns from those before it; the same again for the same ones.

    Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) through Ray Tune's OptunaSearch
    is told what each of them tried and came to, a diverged one as failed, and asked once for each
    sample of the round. Nothing is proposed twice while the space holds something else.

    Args:
        proposal: The space, and the sample's place in its round.
        tried: What the samples of earlier rounds tried and came to.
        metric: What they are compared by.

    Raises:
        UserError: Optuna is not installed.
    """
    ask = _optuna(proposal, tried, metric)
    further = chain((ask(number) for number in range(_ASKED_AT_MOST)), _endless_draws(proposal))
    taken = [dict(choice) for choice, _ in tried]
    for choice in further:
        if choice not in taken:
            taken.append(choice)
        if len(taken) > len(tried) + proposal.place:
            break
    return taken[-1]


def optuna_problem() -> str | None:
    """Why Optuna cannot propose anything here; None if it can."""
    return None if find_spec("optuna") else "the search asks for Optuna, which is not installed"


def _optuna(
    proposal: Proposal, tried: Sequence[Tried], metric: str
) -> Callable[[int], dict[str, Any]]:
    """What asks Optuna for one more choice, by a number of its own."""
    problem = optuna_problem()
    if problem is not None:
        raise UserError(problem, do=INSTALL_OPTUNA)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _tune_domain(domain) for name, domain in proposal.space.items()}
    sampler = optuna.samplers.TPESampler(
        seed=stream_seed(_SEED, "proposal", len(tried)) % _SEEDS, n_startup_trials=proposal.startup
    )
    search = OptunaSearch(
        OptunaSearch.convert_search_space(space),
        metric=metric,
        mode=METRICS[metric],
        sampler=sampler,
    )
    for choice, value in tried:
        search.add_evaluated_point(dict(choice), value, error=value is None)
    return lambda number: {
        name: _plain(value) for name, value in search.suggest(str(number)).items()
    }


def _endless_draws(proposal: Proposal) -> Iterator[dict[str, Any]]:
    domains = {name: _tune_domain(domain) for name, domain in proposal.space.items()}
    for number in count():
        yield _draw(domains, number)


def _draw(domains: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {
        name: _plain(domain.sample(random_state=_random(name, number)))
        for name, domain in domains.items()
    }


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
