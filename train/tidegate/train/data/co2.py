"""The weekly carbon dioxide record of Mauna Loa, 1958 to 2001, from statsmodels."""

import numpy as np

from tidegate.train.data.calendar import position
from tidegate.train.data.series import Series


def load_co2() -> Series:
    """Loads the series, with the position in the year as two further features.

    59 of the 2284 weeks are missing. Each takes the last value observed before
    it: interpolation would draw on the week after the gap, which a forecaster
    cannot know. The calendar of a week is known at the time of its observation.

    Source: Keeling and Whorf, Scripps Institution of Oceanography, as packaged
    by ``statsmodels.datasets.co2``.

    Returns:
        Features ``co2`` in ppm, ``week_sin`` and ``week_cos``.

    Raises:
        ImportError: statsmodels is not installed.
    """
    try:
        from statsmodels.datasets import co2
    except ImportError as error:
        raise ImportError(
            "the data set 'co2' comes with statsmodels: pip install 'tidegate[demo]'"
        ) from error
    frame = co2.load_pandas().data
    times = frame.index.to_numpy().astype("datetime64[ns]")
    level = frame["co2"].ffill().to_numpy(dtype=np.float64)
    return Series(
        name="co2",
        timestamps=times,
        values=np.column_stack([level, *position("day_of_year", times)]),
        features=("co2", "week_sin", "week_cos"),
        frequency="W-SAT",
        units=("ppm", "", ""),
    )
