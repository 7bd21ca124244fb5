"""The published sets of judged comparisons that can be imported, by name."""

from pathlib import Path

from records.errors import RecordError
from records.graded import GradedImport, GradedSet
from records.graded_pairs import read_fine_grained, read_pandalm, read_tulu
from records.graded_rankings import read_hhh, read_llmbar, read_oasst
from records.imports import ImportReport

GRADED_SETS: dict[str, GradedSet] = {
    item.name: item
    for item in (
        GradedSet(
            "tulu1", "Tülu human evaluation", "tulu1-human-eval", 2, read_tulu, "Apache-2.0", True
        ),
        GradedSet(
            "pandalm",
            "PandaLM test set",
            "pandalm",
            1,
            read_pandalm,
            "Apache-2.0",
            names_models=True,
        ),
        GradedSet(
            "fine-grained-rlhf",
            "Fine-Grained RLHF questions",
            "fine-grained-rlhf",
            1,
            read_fine_grained,
            "Apache-2.0",
        ),
        GradedSet("oasst", "OpenAssistant trees", "oasst", 1, read_oasst, "Apache-2.0"),
        GradedSet("hhh", "HHH alignment", "hhh_alignment", 1, read_hhh, "Apache-2.0"),
        GradedSet("llmbar", "LLMBar", "llmbar", 1, read_llmbar, "MIT"),
    )
}


def read_graded_set(name: str, folder: Path) -> GradedImport:
    """Begin to read a set from its own folder, or from the folder that holds all sets.

    Raises:
        RecordError: There is no such set or folder. Reading on raises it for a bad row, with file,
            line and field.
    """
    if name not in GRADED_SETS:
        raise RecordError("set", f"{name!r} is not one of {', '.join(GRADED_SETS)}")
    source = GRADED_SETS[name]
    if (folder / source.folder).is_dir():
        folder = folder / source.folder
    if not folder.is_dir():
        raise RecordError("folder", f"there is no folder {folder}")
    report = ImportReport()
    return GradedImport(source=source, comparisons=source.read(folder, report), report=report)
