"""Ray's absence, said before anything of it is imported."""

import os


def check_installed() -> None:
    """Imports Ray, as this package uses it.

    Raises:
        ValueError: it is not installed.
    """
    # Read while Ray is imported: it tells its makers nothing, and Train is its second version.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    try:
        import ray.train  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ValueError("--engine ray needs Ray; install tidegate[ray]") from error
