"""The verb `study`: controlled experiments, `trcgl study KIND DATASET`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trcgl.cli.verb import Chosen, Done, Verb, chosen_recipe
from trcgl.core.errors import RecipeError
from trcgl.core.recipe import Recipe
from trcgl.core.registry import unknown
from trcgl.recipes import RECIPES


@dataclass(frozen=True, kw_only=True)
class AblationOptions:
    """Measure what each part of a recipe adds: add the parts one by one, then leave out each part in turn."""

    seeds: int = 3
    """Training runs of each arm."""
    synthetic: Path | None = None
    """Synthetic folder of this dataset, for the arms that train with synthetic images."""


@dataclass(frozen=True, kw_only=True)
class PeersOptions(AblationOptions):
    """Compare long-tail methods with the same data, steps, augmentation and selection rule."""

    arms: tuple[str, ...] = ()
    """Arms to compare, by name; default: all."""
    over: Literal["plain", "base"] = "plain"
    """Loss and row sampling of the arms that change the head or backbone: cross-entropy and every row once per epoch
    (`plain`), or those of the base recipe (`base`)."""
    baseline: str = "trcgl"
    """Arm that the others are compared with."""
    primary: str | None = None
    """Arm of the primary contrast, which is not adjusted for the number of contrasts. Default: the arm
    recorded in --out if the study exists, else linear."""


@dataclass(frozen=True, kw_only=True)
class UtilityOptions:
    """Compare synthetic images with the same number of duplicates of real images."""

    synthetic: Path
    """Synthetic folder of this dataset."""
    doses: tuple[float, ...] = (0.25, 1.0, 4.0)
    """Synthetic images per real training image of the finding; of several values, the best on val is used."""
    schedules: tuple[Literal["mix", "pretrain"], ...] = ("mix", "pretrain")
    """Show synthetic images together with real images (mix) or before them (pretrain); the best on val is used."""
    seeds: int = 3
    """Training runs of each arm."""
    choosing_seeds: int = 1
    """Further runs of each dose and schedule, used only to choose the best setting on val."""
    generator: Path | None = None
    """Generator folder, for the round trip through its autoencoder; default: the path recorded in the synthetic
    folder."""
    handwritten: Path | None = None
    """Synthetic folder generated from text only: `trcgl synthesize --prompt handwritten`."""
    shared_tokens: Path | None = None
    """Synthetic folder generated with shared context tokens: `--prompt shared_tokens`."""
    per_finding_tokens: Path | None = None
    """Synthetic folder generated with the tokens of each finding: `--prompt per_finding_tokens`."""


KINDS: dict[str, type] = {"peers": PeersOptions, "ablation": AblationOptions, "utility": UtilityOptions}
EXAMPLES = {
    "peers": "trcgl study peers phantom --recipe phantom --arms trcgl linear asl --out study",
    "ablation": "trcgl study ablation phantom --recipe phantom --out ablation",
    "utility": "trcgl study utility phantom --synthetic synthetic --recipe phantom --out utility",
}


def study(arguments: list[str]) -> Chosen:
    """The command of `trcgl study`; its options depend on kind and recipe."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"Example: {VERB.example}\n\nusage: trcgl study KIND DATASET --out STUDY [OPTIONS]\n")
        print(f"{VERB.what} `trcgl study KIND --help` shows all options.\n")
        print("\n".join(f"  {kind:<10} {options.__doc__}" for kind, options in KINDS.items()))
        raise SystemExit(0)
    if not arguments:
        raise RecipeError(f"name the kind first: trcgl study KIND DATASET; there are {', '.join(KINDS)}.")
    kind, rest = arguments[0], arguments[1:]
    if kind not in KINDS:
        raise RecipeError(unknown("kind", kind, KINDS))
    name, base, about, _ = chosen_recipe(rest, "trcgl", RECIPES, Recipe)

    def command(
        dataset: Path,
        /,
        *,
        out: Path,
        recipe: str = name,
        options: KINDS[kind],  # type: ignore[valid-type]
        settings: Recipe = base,
    ) -> Done:
        from trcgl.study.tables import markdown

        table = _run(kind, dataset, settings, out, dict(vars(options)))
        return Done(table, f"{markdown(table)}\ntable: {out / 'table.md'}\npage: {out / 'study.html'}")

    about = f"\n\n    {about}" if kind == "ablation" else ""
    arms = ""
    if kind == "peers":
        from trcgl.study.peers import PEERS

        arms = f" Arms: {', '.join(PEERS)}."
    command.__doc__ = f"""{KINDS[kind].__doc__}

    The base recipe is {name}. Each setting of the recipe is an option.{arms}{about}

    Args:
        dataset: Dataset folder with images and a test split.
        out: Study folder to write. The same command resumes it; several processes can share it.
        recipe: Recipe that all arms share: {", ".join(RECIPES)}, or the path of a recipe.json.
    """
    return command, rest, EXAMPLES[kind]


def _run(kind: str, dataset: Path, base: Recipe, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    from trcgl.study import study as stage
    from trcgl.study.utility import PROMPTS, utility

    if kind == "peers":
        return stage.peers(dataset, base, out, **options)
    if kind == "ablation":
        return stage.ablate(dataset, base, out, **options)
    prompts = {prompt: options.pop(prompt) for prompt in PROMPTS}
    return utility(dataset, base, out, prompts={name: path for name, path in prompts.items() if path}, **options)


VERB = Verb("Train several methods with several seeds and compare them on test.", EXAMPLES["peers"], study)
