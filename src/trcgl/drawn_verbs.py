"""The verbs about drawn radiographs: what draws them, what is drawn, and what it is worth."""

from pathlib import Path
from typing import Annotated

from trcgl.verb import Chosen, Done, chosen_recipe


def train_generator(arguments: list[str]) -> Chosen:
    """The command of `trcgl train-generator`, whose flags depend on the recipe."""
    import tyro

    from trcgl.core.generator_recipe import GeneratorRecipe
    from trcgl.recipes import GENERATORS

    name, base, about, example = chosen_recipe(arguments, "generator_phantom", GENERATORS, GeneratorRecipe)
    settings_of = Annotated[GeneratorRecipe, tyro.conf.arg(name="")]

    def command(dataset: Path, /, *, out: Path, recipe: str = name, settings: settings_of = base) -> Done:
        from trcgl.generate import train_generator as stage

        info = stage.train_generator(dataset, settings, out)
        following = f"next: trcgl synthesize {out} --dataset {dataset} --screener RUN --out SYNTHETIC"
        return Done(info, f"generator: {out} ({info['digest'][:12]})\n{following}" if info else following)

    command.__doc__ = f"""Train a generator with the recipe {name}; every setting is overridden by its path.

    {about}

    Args:
        dataset: A dataset folder with images; only its train patients are shown.
        out: The generator folder to write; new, or an interrupted one of the same recipe.
        recipe: One of {", ".join(GENERATORS)}, or the path of a recipe.json.
    """
    return command, arguments, example


def synthesize(arguments: list[str]) -> Chosen:
    """The command of `trcgl synthesize`."""
    import tyro

    from trcgl.generate import synthesize as stage

    shared = Annotated[stage.SynthesizeOptions, tyro.conf.arg(name="")]
    default = stage.SynthesizeOptions()

    def command(
        generator: Path, /, *, dataset: Path, out: Path, screener: Path | None = None, options: shared = default
    ) -> Done:
        told = stage.synthesize(generator, dataset, screener, out, options)
        lines = [f"{name}: {count:,}" for name, count in told["counts"].items()] if told else []
        return Done(told, "\n".join([*lines, f"report: {out / 'report.html'}"]))

    command.__doc__ = """Draw radiographs of rare findings, and screen them.

    Args:
        generator: A generator folder that was trained on the dataset.
        dataset: The real dataset.
        out: The synthetic folder to write; new, or an interrupted one of the same settings.
        screener: A run trained on the dataset's real rows alone, whose classifier screens what is drawn.
            Needed unless --unscreened is given.
    """
    return command, arguments, None


def audit(arguments: list[str]) -> Chosen:
    """The command of `trcgl audit`."""
    import tyro

    from trcgl.audit import audit as stage

    shared = Annotated[stage.AuditOptions, tyro.conf.arg(name="")]
    default = stage.AuditOptions()

    def command(
        synthetic: Path,
        /,
        *,
        dataset: Path,
        auditor: Path,
        generator: Path | None = None,
        out: Path | None = None,
        ratings: Path | None = None,
        options: shared = default,
    ) -> Done:
        told = stage.audit(synthetic, dataset, auditor, generator, out, options, ratings)
        rows = [(name, one["verdict"], one["status"]) for name, one in told["findings"].items()]
        width = max(len(name) for name, _, _ in rows)
        lines = [f"{name.ljust(width)}  {one['word']} ({status}): {one['why']}" for name, one, status in rows]
        lines += [f"{' ' * width}  {caution}" for _, one, _ in rows for caution in one["cautions"]]
        folder = synthetic / "audit" if out is None else out
        return Done(told, "\n".join([*lines, f"page: {folder / 'audit.html'}", f"reader kit: {folder / 'reader_kit'}"]))

    command.__doc__ = """Ask whether drawn radiographs show what they claim, and whether they are copies.

    Args:
        synthetic: A synthetic folder.
        dataset: The real dataset that it was drawn for.
        auditor: A run trained on real patients that the screening classifier did not see.
        generator: The generator that drew it; where it was when it drew, by default.
        out: The audit folder to write; `audit` within the synthetic folder by default.
        ratings: Ratings of the reader kit (CSV), to be read into a finished audit.
    """
    return command, arguments, None
