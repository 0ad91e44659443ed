"""GAP, the other baseline: a global average pool of a map and one linear layer."""

from mlclib.models.gmp import GMP


class GAP(GMP):
    """Global average pool of the map, then Linear(channels -> labels). Loss: multi-label soft margin."""

    pool = "mean"
