"""The options of `golf`."""

from oracles.options import SEED, Table, option, whole

OPTIONS: Table = {
    "": (
        option("--wind", "metres by which it blows a ball aside", float, default=1.5, decides=True),
        option("--steps", "steps of the search", whole, default=20),
        SEED,
    )
}
