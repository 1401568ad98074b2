"""Markets over a grid of their arguments and data: in parallel, resumable, labelled."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Final

import pypsa
import xarray as xr

from pypsa_p2p.common.errors import MarketError
from pypsa_p2p.common.given import Range
from pypsa_p2p.common.progress import progress_bar
from pypsa_p2p.common.pypsa_state import model_of
from pypsa_p2p.common.values import require_network
from pypsa_p2p.studies.sweep_dimensions import kept_names, points_of, read_dimensions
from pypsa_p2p.studies.sweep_joining import joined
from pypsa_p2p.studies.sweep_points import (
    Apply,
    Job,
    Markets,
    Outcome,
    Point,
    by_model,
    solve_points,
)
from pypsa_p2p.studies.sweep_shards import asked_shard, require_all, require_kept
from pypsa_p2p.studies.sweep_store import PointStore

#: Most points of one network that a process solves in one go.
_PIECE: Final = 20

Solved = Callable[[int, Outcome], None]


def sweep(
    n: pypsa.Network,
    markets: Markets,
    over: Mapping[str, Iterable[Any]] | None = None,
    *,
    apply: Apply | None = None,
    keep: Sequence[str] = (),
    store: str | os.PathLike[str] | None = None,
    shard: tuple[int, int] | str | None = None,
    collect: bool = False,
    workers: int = 1,
    client: Any = None,
    progress: bool = True,
) -> xr.Dataset:
    """Solve markets at every combination of values of their arguments or data.

    Parameters
    ----------
    n : pypsa.Network
        With prosumers and trades. It stays as it is: every point is solved on a copy.
    markets : market, mapping from names to markets, or callable
        Several markets are the dimension ``market`` of what comes back. A callable gets the
        point, ``{dimension: value}``, and returns its market.
    over : mapping from dimensions to values
        Numbers or text; or, where a value is neither, a mapping from labels to values. These
        dimensions are known, all others need `apply` or a callable `markets`:

        =================== ====================================================================
        ``attitude``        of risk measures, `CVaR`: a number, or by prosumer
        ``weight``          of CVaR against the expectation
        ``insurance_price`` of `Contracts`
        ``contract_limit``  of `Contracts`
        ``renewables``      factor on the capacity of must-take generators
        ``trade_capacity``  factor on the capacity of trade edges
        ``congestion``      coefficient of every trade edge, EUR/MW2h
        ``fees``            factor on the fees of every trade edge
        =================== ====================================================================

        The first four leave markets without risk measure or without contracts as they are.
    apply : callable, or mapping from dimensions to callables, optional
        ``apply(n, point)`` changes the copy it is given, or returns another network (drawn by a
        ``seed``, say). It comes after the known dimensions. In a mapping, as ``{"draw": prices}``
        or ``{("rule", "draw"): prices}``, each gets the part of the point with its dimensions;
        points that are alike in all of these share a network, which is read and compiled once.
    keep : sequence of str
        Further variables of `results` to keep, as ``nodal_price``; NaN where a market has none.
    store : path, optional
        A folder. Each point goes there as soon as it is solved, under a fingerprint of its
        network and market; a sweep that was interrupted, or that grows by points, takes from there
        what it has. Points that are refused are kept as well, those that break down are not.
        Several processes and machines may share the folder.
    shard : (int, int), optional
        ``(3, 40)``, or ``"3/40"``: solve the third of 40 parts, every 40th point, into the store.
        The points of the others are NaN in what comes back, with an ``error`` that says so.
    collect : bool
        Solve nothing, and take all points from the store. They are found by the same fingerprints:
        with the same call, and the same versions, that solved them.
    workers : int
        Processes. With more than one, `apply` and `markets` must be importable (functions at the
        top of a module, not lambdas), and a script that sweeps needs the usual
        ``if __name__ == "__main__":``.
    client : dask.distributed.Client, optional
        Solves the points on a cluster instead.
    progress : bool
        Whether a bar on stderr tells how far it is, on a terminal or in a notebook.

    Returns
    -------
    xarray.Dataset
        Over the swept dimensions: ``social_cost``, ``expected_social_cost``, ``cost_gini``,
        ``traded_energy``, ``price_min``, ``price_mean``, ``price_max``, with contracts also
        ``contracts_traded`` and ``insurance_bought``; by prosumer, scenario or both also ``cost``,
        ``expected_cost``, ``value_at_risk``, ``risk_adjusted_cost``, ``risk_adjusted_probability``,
        ``contract``, ``insurance``, ``contract_price``. Units are in ``attrs``. ``error`` says
        why a point has no solution, and its figures are NaN; it is "" where all went well.

    Raises
    ------
    MarketError
        No markets, dimensions that cannot be swept, names that `results` does not know, or
        processes that cannot start or died. What goes wrong at a single point does not end the
        sweep. A `shard` that is none, or that has points which broke down, once the others are
        kept; points missing where they are to be collected, with their number and shards.

    Examples
    --------
    >>> import pypsa_p2p as p2p
    >>> n = p2p.load_grid("three_node")
    >>> markets = {"alone": p2p.PeerToPeerMarket(risk=p2p.CVaR()),
    ...            "contracts": p2p.PeerToPeerMarket(risk=p2p.CVaR(), contracts=p2p.Contracts())}
    >>> d = p2p.sweep(n, markets, {"attitude": [0.1, 0.6]}, progress=False)
    >>> d.social_cost.to_pandas().round(3)
    attitude    0.1     0.6
    market
    alone      8.47  16.428
    contracts  8.21  12.718
    """
    require_network(n)
    wanted = kept_names(keep)
    dimensions = read_dimensions(markets, {} if over is None else over, apply, wanted)
    points = points_of(dimensions)
    own = asked_shard(shard, collect=collect, stored=store is not None)
    kept = PointStore(store, parts=None if shard is None else own.of)
    job = Job(
        markets=markets,
        apply=apply,
        keep=wanted,
        stored=store is not None,
        known=kept.known(),
        collect=collect,
    )
    outcomes, places = own.left(len(points)), own.places(len(points))
    asked = [points[place] for place in places]
    with progress_bar(len(places), "sweep", "point", shown=progress) as bar:

        def solved(at: int, outcome: Outcome) -> None:
            outcomes[places[at]] = _kept_outcome(kept, job, asked[at], outcome)
            bar.update()

        _solve(pickle.dumps(_without_model(n)), job, asked, solved, workers, client)
    if collect:
        require_all(outcomes, points, store, kept.parts)
    if shard is not None:
        require_kept(own, outcomes)
    return joined(dimensions, [outcomes[place] for place in range(len(points))])


def _kept_outcome(kept: PointStore, job: Job, point: Point, outcome: Outcome) -> Outcome:
    """Keep what came of a point, or take it from where it is kept already."""
    if outcome.key in job.known:
        return kept.load(outcome.key)
    if not job.collect:
        kept.save(outcome, point)
    return outcome


def _without_model(n: pypsa.Network) -> pypsa.Network:
    """The network without the model of its last solve, whose solver cannot be pickled."""
    if model_of(n) is None:
        return n
    return n.copy()


def _solve(
    network: bytes, job: Job, points: list[Point], solved: Solved, workers: int, client: Any
) -> None:
    """Solve all points, here or elsewhere, and hand over each when it is solved."""
    Range(1, whole=True, why="a number of processes").require("workers:", workers)
    if client is not None:
        if not hasattr(client, "scatter") or not hasattr(client, "get_executor"):
            raise MarketError(f"client must be a dask.distributed.Client, not {client!r}.")
        network = client.scatter(network, broadcast=True)
        _spread(client.get_executor(), network, job, points, solved)
    elif workers > 1:
        _require_importable(job)
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
        try:
            _spread(pool, network, job, points, solved)
        except BrokenProcessPool as error:
            raise MarketError(
                "A process of the sweep died. If none ever started: a script that sweeps with "
                'workers needs `if __name__ == "__main__":` around what it does. If memory ran '
                "out, take fewer workers. Points already in store are not solved again."
            ) from error
    else:
        for places in by_model(points, job.apply):
            outcomes = solve_points(network, job, [points[place] for place in places])
            for place, outcome in zip(places, outcomes, strict=True):
                solved(place, outcome)


def _spread(
    executor: Executor, network: Any, job: Job, points: list[Point], solved: Solved
) -> None:
    """Solve points on an executor; what has not begun when this ends is called off."""
    pieces = [
        whole[start : start + _PIECE]
        for whole in by_model(points, job.apply)
        for start in range(0, len(whole), _PIECE)
    ]
    futures = {
        executor.submit(_solve_piece, network, job, [points[place] for place in piece]): piece
        for piece in pieces
    }
    try:
        for future in as_completed(futures):
            for place, outcome in zip(futures[future], future.result(), strict=True):
                solved(place, outcome)
    except CancelledError as error:
        raise MarketError(
            "Workers of the sweep are gone, and points with them. Those in store are not solved "
            "again: sweep once more with workers."
        ) from error
    finally:
        for future in futures:
            future.cancel()
        executor.shutdown()


def _solve_piece(network: bytes, job: Job, points: list[Point]) -> list[Outcome]:
    return list(solve_points(network, job, points))


def _require_importable(job: Job) -> None:
    """Refuse functions that other processes cannot import."""
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise MarketError(
            "apply and markets must be functions at the top of a module to be used in several "
            f"processes ({error}); move them there, or leave workers at 1."
        ) from error
