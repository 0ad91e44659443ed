"""GAP, the other baseline: a global average pool of the stride-32 map and one linear layer."""

from mlclib.models.gmp import GMP


class GAP(GMP):
    """Global average pool of layer 4, then Linear(channels -> labels). Loss: multi-label soft margin."""

    pool = "mean"
