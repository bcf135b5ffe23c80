"""Context tokens: label fidelity with the learned tokens and with the handwritten prompt alone, on the same seeds."""

from typing import Any

from trcgl.audit.check import Check, Evidence
from trcgl.audit.checks.guidance import difference, pooled_fidelity_of
from trcgl.audit.sample_plan import WITH

_OWN_STAGE = (
    "The tokens were trained in a stage of their own, after the network: without them the network gets the prompts it "
    "was trained on."
)
_TOGETHER = (
    "The tokens were trained together with the network, which has never seen a prompt without them: this shows how "
    "much it relies on them, not what handwritten prompts could reach."
)


def of_all(evidence: Evidence) -> dict[str, Any] | None:
    """Learned tokens against the prompt alone; None if the generator has none, or the comparison was skipped."""
    images = evidence.images
    if f"handwritten-{WITH}" not in images.sheets:
        return None
    each = evidence.options.handwritten_each
    learned, handwritten = (pooled_fidelity_of(evidence, prefix, each) for prefix in ("", "handwritten-"))
    own_stage = bool(images.inputs.generator.info["recipe"]["fit"]["context_steps"])
    return {
        "learned": learned.summary,
        "handwritten": handwritten.summary,
        "difference": difference(learned, handwritten),
        "tokens_trained": "in their own stage" if own_stage else "with the network",
        "why": _OWN_STAGE if own_stage else _TOGETHER,
    }


CHECK = Check(
    key="context_tokens",
    order=90,
    title="Context tokens",
    null="the handwritten prompt alone, on the same label sets and seeds",
    of_all=of_all,
)
