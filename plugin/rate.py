"""How fast this machine is, learnt from finished jobs."""

from ..engine.contract import Edit, Generate, Job, ModelCard, Request, Result, WireError, estimate, loads

#: Jobs shorter than this say more about start-up than about speed, in seconds.
_SHORTEST = 10.0
_RANGE = (0.5, 1e6)


def learn(gflops: float, result: Result, card: ModelCard) -> float:
    """The rate in GFLOP/s after one more undisturbed job; half old, half new, so that one busy hour is forgotten."""
    try:
        request: Request = loads(Job, result.provenance.job).request
        if isinstance(request, Edit) and request.mask is not None:
            return gflops  # how much of the raster was drawn stands nowhere
        if isinstance(request, Generate) and request.regions is not None:
            return gflops  # nor how many texts met
        source = result.provenance.inputs[0].grid if result.provenance.inputs else None
        first = result.outputs[0]
        whole = estimate(request, card, source, len(first.bands), 1, gflops)
    except (WireError, ValueError, IndexError):
        return gflops
    at_rate = whole.gflop / gflops
    networks = result.seconds - (whole.seconds - at_rate)
    if result.seconds < _SHORTEST or networks < result.seconds / 4 or whole.gflop <= 0:
        return gflops
    measured = min(max(whole.gflop / networks, _RANGE[0]), _RANGE[1])
    return 0.5 * gflops + 0.5 * measured
