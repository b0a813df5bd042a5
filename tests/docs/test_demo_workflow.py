"""The demo's facts, computed here a second time by a program that knows nothing of its WDL."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import WDL

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STOPS = {"TAA", "TAG", "TGA"}
SHORTEST_ORF_CODONS = 100
WINDOW_BP = 500


def genome() -> str:
    """The sequence, upper case."""
    with gzip.open(EXAMPLES / "data" / "lambda_virus.fa.gz", "rt") as lines:
        return "".join(line.strip() for line in lines if not line.startswith(">")).upper()


def open_reading_frames(sequence: str) -> list[tuple[int, int, str]]:
    """(start, end, strand) on the forward strand, from 1, of each ATG…stop of enough codons in six frames."""
    reverse = sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    found = []
    for strand, text in (("+", sequence), ("-", reverse)):
        for frame in range(3):
            start = None
            for place in range(frame, len(text) - 2, 3):
                codon = text[place : place + 3]
                if start is None and codon == "ATG":
                    start = place
                if codon not in STOPS:
                    continue
                if start is not None and (place - start) // 3 >= SHORTEST_ORF_CODONS:
                    ends = (start + 1, place + 3)
                    found.append(
                        (*ends, strand) if strand == "+" else (len(text) - ends[1] + 1, len(text) - ends[0] + 1, strand)
                    )
                start = None
    return found


def test_the_expected_facts_are_those_of_the_genome() -> None:
    expected = json.loads((EXAMPLES / "demo" / "expected.json").read_text())
    sequence = genome()
    frames = open_reading_frames(sequence)
    longest = max(frames, key=lambda frame: frame[1] - frame[0])
    gc = sequence.count("G") + sequence.count("C")
    computed = {
        "length_bp": len(sequence),
        "gc_percent": round(100 * gc / len(sequence), 2),
        "orf_count": len(frames),
        "longest_orf": f"{longest[0]}..{longest[1]}",
        "windows": -(-len(sequence) // WINDOW_BP),
    }
    assert {name: expected[name] for name in computed} == computed


def test_the_examples_are_valid_wdl() -> None:
    for main in sorted(EXAMPLES.glob("*/main.wdl")):
        document = WDL.load(str(main))
        inputs = json.loads((main.parent / "inputs.json").read_text())
        names = {binding.name for binding in document.workflow.available_inputs}
        required = {binding.name for binding in document.workflow.required_inputs}
        assert required <= set(inputs) <= names, main


def test_the_demo_makes_as_many_tasks_as_expected() -> None:
    expected = json.loads((EXAMPLES / "demo" / "expected.json").read_text())
    workflow = WDL.load(str(EXAMPLES / "demo" / "main.wdl")).workflow
    defaults = {decl.name: decl.expr.literal for decl in workflow.inputs if decl.expr is not None}
    lists = {decl.name: len(decl.expr.items) for decl in workflow.inputs if hasattr(decl.expr, "items")}
    assert defaults["chunks"].value + lists["frames"] + lists["word_lengths"] + 2 == expected["tasks"]
