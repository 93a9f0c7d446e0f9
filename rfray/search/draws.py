"""The samples of a search: drawn by Ray Tune's search spaces, or proposed by Optuna."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import chain, count, islice
from typing import Any

from rfray.errors import UserError
from rfray.search.space import METRICS, Choice, Domain, Proposal, Space, Tried
from rfray.seeding import stream_seed

INSTALL_OPTUNA = "pip install 'rfray[optuna]' on every machine, or search.algorithm=random"

_SEED = 0
_SEEDS = 2**32
"""Number of seeds that numpy's RandomState takes, which Optuna uses."""

_ASKED_AT_MOST = 50
"""Optuna may propose what was already tried. After so many proposals, samples are drawn."""


def draws(space: Space, samples: int) -> list[Choice]:
    """The settings that samples try, each combination once.

    The i-th value of a setting depends only on its domain, its name and i. So more samples, or one
    more setting, do not change the values that were drawn before.

    Args:
        space: What each setting is drawn from.
        samples: How many to draw; the result is shorter if some are equal.
    """
    found: list[Choice] = []
    for choice in islice(_endless_draws(space), samples):
        if choice not in found:
            found.append(choice)
    return found


def proposed(proposal: Proposal, tried: Sequence[Tried], metric: str) -> Choice:
    """The settings of a sample that learns from earlier samples. Deterministic.

    Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), through Ray Tune's
    OptunaSearch, gets the settings and the result of each earlier sample; a diverged sample counts
    as failed. It is asked once for each sample of the round. Nothing is proposed twice, unless the
    space has nothing else.

    Args:
        proposal: The space, and the sample's place in its round.
        tried: Settings and results of the samples of earlier rounds.
        metric: The metric of the results.

    Raises:
        UserError: Optuna is not installed.
    """
    ask = _optuna(proposal, tried, metric)
    asked = (ask(number) for number in range(_ASKED_AT_MOST))
    further = chain(asked, _endless_draws(proposal.space))
    taken = [dict(choice) for choice, _ in tried]
    for choice in further:
        if choice not in taken:
            taken.append(choice)
        if len(taken) > len(tried) + proposal.place:
            break
    return taken[-1]


def optuna_problem() -> str | None:
    """Why Optuna cannot be used here; None if it can."""
    return None if find_spec("optuna") else "the search asks for Optuna, which is not installed"


def _optuna(
    proposal: Proposal, tried: Sequence[Tried], metric: str
) -> Callable[[int], dict[str, Any]]:
    """A function that asks Optuna for one more choice; each call needs another number."""
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


def _endless_draws(space: Space) -> Iterator[dict[str, Any]]:
    domains = {name: _tune_domain(domain) for name, domain in space.items()}
    for number in count():
        yield {
            name: _plain(domain.sample(random_state=_random(name, number)))
            for name, domain in domains.items()
        }


def _tune_domain(domain: Domain) -> Any:
    # Imported only for a study with a search: other plans must not wait seconds for Ray.
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
    """A number of numpy as a number of Python, for YAML, JSON and keys."""
    return value.item() if hasattr(value, "item") else value
