"""``tidegate-train tune``: search for better settings."""

import argparse

from tidegate.train.commands.command import Command, add_recipe_options
from tidegate.train.commands.printing import print_line


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tidegate-train tune CONFIG [--output DIR] [--SECTION.KEY VALUE ...]"
    parser.epilog = (
        "Takes trials of the recipe's [tune] until the study has enough. Several workers "
        "run the same command, on one machine or several, with one tune.storage."
    )
    add_recipe_options(parser, config="a TOML file with [tune.space]", output="NAME/best.toml")


def _run(options: argparse.Namespace) -> int:
    from tidegate.train.tune import tune

    tuned = tune(options.config, options.output, options.settings)
    print_line(f"{tuned.study}: {tuned.trials} trials; best {tuned.metric} {tuned.score:.6g} with")
    for name, value in tuned.settings.items():
        print_line(f"  {name} = {value!r}")
    print_line(f"wrote {tuned.recipe}; train it with tidegate-train fit {tuned.recipe}")
    return 0


TUNE = Command(
    "tune",
    "search for better settings; needs tidegate[tune]",
    _add_options,
    _run,
    takes_settings=True,
)
