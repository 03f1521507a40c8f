"""Check that runs which are scored as seeds of one recipe differ in nothing but the seed.

A store's manifest says how it was sampled, the sampled model's run.json how it was trained, and the
run.json next to filtered data how that was made, from other stores. Seeds may have other paths and
random numbers at each of these places, but the same settings.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from screl.core.io import UserError, file_sha256, sibling
from screl.core.run_info import recorded_config, training_config
from screl.samples.store import is_store, read_manifest

# Settings that are not part of a recipe: paths, which are followed instead, random seeds, and what
# does not affect the result.
NOT_SAMPLING = frozenset(
    {
        "model_name_or_path", "model_sha256", "data_path", "data_sha256", "questions_sha256",
        "n_problems", "n_samples", "finished", "seed", "shots_seed", "versions",
    }
)  # fmt: skip
NOT_TRAINING = frozenset(
    {
        "model_name_or_path", "data_path", "output_dir", "seed", "save_steps", "save_total_limit",
        "world_size", "gpu_memory_gib", "gpu_tflops", "dry_run",
    }
)  # fmt: skip
NOT_FILTERING = frozenset(
    {
        "data_path", "samples", "output_path", "seed", "compare", "explain", "n_workers", "dry_run",
    }
)  # fmt: skip
UNRECORDED = {"prompt": "alpaca"}  # in older manifests and run.json
# A control that is trained for as many steps as each seed's RFT has other epochs for each seed.
SIMILAR_EPOCHS = 0.1

SHOWN = 3  # differences in a message
Recipe = dict[str, Any]  # setting -> value; earlier stages have "model: " or "data: " in front


def check_recipe(runs: Sequence[Path]) -> None:
    """Raise UserError, naming the differences, unless all ``runs`` may be seeds of one recipe.

    Prints a line if this is not known: samples in other layouts than a store's have no manifest,
    and a model that train.py did not make has no recorded training.
    """
    recipes = {run: sampling_recipe(run, ()) for run in runs if is_store(run)}
    for run, recipe in recipes.items():
        first = next(iter(recipes))
        if found := list(differences(recipes[first], recipe)):
            more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise UserError(
                f"{run}: is not another seed of the recipe of {first} "
                f"({'; '.join(found[:SHOWN])}{more}); leave it out, or compare them without --seeds"
            )
    unknown = [run for run in runs if "model: num_train_epochs" not in recipes.get(run, {})]
    if unknown:
        print(
            f"{', '.join(map(str, unknown))}: no record of the training; whether these are seeds "
            "of one recipe is not checked",
            file=sys.stderr,
        )


def differences(first: Recipe, second: Recipe) -> Iterator[str]:
    """Yield the settings in which two recipes differ, with both values.

    A setting that one of them lacks was unknown to the version that recorded it.
    """
    for key in [key for key in first if key in second]:
        old, new = first[key], second[key]
        are_epochs = key.endswith("num_train_epochs")
        if old != new and not (are_epochs and abs(old - new) <= SIMILAR_EPOCHS * old):
            yield f"{key} {_shown(old)} and {_shown(new)}"


def sampling_recipe(store: Path, inside: tuple[Path, ...]) -> Recipe:
    """Return how a store was sampled and how its model was made.

    ``inside`` holds the models whose recipes include this one; a reused path could make a cycle.
    """
    manifest = UNRECORDED | read_manifest(store)
    model = Path(str(manifest.get("model_name_or_path")))
    return _settings(manifest, NOT_SAMPLING) | _of("model", training_recipe(model, inside))


def training_recipe(model: Path, inside: tuple[Path, ...]) -> Recipe:
    """Return how train.py made a model; {} for any other model."""
    config = training_config(model)
    if not config or model in inside:
        return {}
    inside, base = (*inside, model), Path(config["model_name_or_path"])
    made = training_recipe(base, inside) or {"name": os.path.normpath(base)}
    data = data_recipe(Path(config["data_path"]), inside)
    return _of("data", data) | _settings(UNRECORDED | config, NOT_TRAINING) | _of("base", made)


def data_recipe(data: Path, inside: tuple[Path, ...]) -> Recipe:
    """Return how training data was made: from which samples by which filter, or its content."""
    config = recorded_config(sibling(data, ".run.json"))
    if "samples" not in config:
        content = {"sha256": file_sha256(data)} if data.is_file() else {}
        return {"kind": "not filtered", **content}
    recipe = {"kind": "filtered samples", "runs": len(config["samples"])}
    for number, store in enumerate(map(Path, config["samples"]), start=1):
        if is_store(store):
            recipe |= _of(f"samples {number}", sampling_recipe(store, inside))
    return recipe | _settings(config, NOT_FILTERING)


def _settings(config: dict[str, Any], left_out: frozenset[str]) -> Recipe:
    return {key: value for key, value in config.items() if key not in left_out}


def _of(stage: str, recipe: Recipe) -> Recipe:
    return {f"{stage}: {key}": value for key, value in recipe.items()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}..."
