"""Which archives are refused, and which file of an archive is the workflow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runomics.domain.packaging import ArchiveLimits, Choice, Entry, EntryKind, Refused, check_entries, choose

LIMITS = ArchiveLimits(entries=10, unpacked_bytes=1000, file_bytes=600, ratio=10, ratio_from_bytes=100, name_bytes=300)


def refusal(*entries: Entry) -> str:
    with pytest.raises(Refused) as caught:
        check_entries(entries, LIMITS)
    return str(caught.value)


def test_files_are_kept_in_order_and_folders_left_out() -> None:
    files = (Entry("main.wdl", 10, 5), Entry("tasks/a.wdl", 10, 5))
    assert check_entries((Entry("tasks/", kind=EntryKind.DIRECTORY), *files), LIMITS) == files


@pytest.mark.parametrize(
    "name",
    [
        "../main.wdl",
        "a/../../main.wdl",
        "/etc/passwd",
        "a\\b.wdl",
        "C:/main.wdl",
        "C:main.wdl",
        "a//b.wdl",
        "./main.wdl",
        "",
        "..",
        "a/..",
    ],
)
def test_an_entry_that_leaves_the_root_is_refused_by_name(name: str) -> None:
    assert repr(name)[1:-1].replace("\\\\", "\\") in refusal(Entry(name, 1, 1))


@pytest.mark.parametrize("name", ["a\nb.wdl", "a\0b.wdl", "a\x1b[31m.wdl"])
def test_a_control_character_in_a_name_is_refused(name: str) -> None:
    assert "control character" in refusal(Entry(name, 1, 1))


def test_a_name_longer_than_a_file_name_may_be_is_refused() -> None:
    assert "longer name" in refusal(Entry("é" * 128 + ".wdl", 1, 1))
    assert "longer name" in refusal(Entry("a/" * 150 + "b", 1, 1))


@pytest.mark.parametrize("kind", [EntryKind.SYMLINK, EntryKind.SPECIAL])
def test_links_and_special_files_are_refused(kind: EntryKind) -> None:
    assert refusal(Entry("link.wdl", 1, 1, kind=kind)).startswith(f"The archive entry 'link.wdl' is a {kind}.")


def test_encrypted_entries_are_refused() -> None:
    assert "'secret.wdl' is encrypted" in refusal(Entry("secret.wdl", 1, 1, readable=False))


def test_an_archive_without_files_is_refused() -> None:
    assert refusal() == "The archive has no files. Put the workflow's definition files into it."
    assert "no files" in refusal(Entry("a/", kind=EntryKind.DIRECTORY))


def test_too_many_entries_are_refused() -> None:
    assert "11 entries; the limit is 10" in refusal(*(Entry(f"{n}.wdl", 1, 1) for n in range(11)))


def test_a_file_an_archive_and_a_ratio_have_their_own_limits() -> None:
    assert "'big' unpacks to 601 bytes; the limit is 600" in refusal(Entry("big", 601, 600))
    assert "unpacks to 1200 bytes; the limit is 1000" in refusal(Entry("a", 600, 600), Entry("b", 600, 600))
    assert "decompression bomb" in refusal(Entry("a", 101, 10))
    assert check_entries((Entry("a", 100, 1),), LIMITS), "small archives may be as dense as they like"


def test_the_same_name_twice_is_refused() -> None:
    assert "two entries named 'a.wdl'" in refusal(Entry("a.wdl", 1, 1), Entry("a.wdl", 1, 1))


def test_a_name_that_is_both_file_and_folder_is_refused() -> None:
    assert "'a' both as a file and as a folder" in refusal(Entry("a", 1, 1), Entry("a/b.wdl", 1, 1))
    assert "'a' both as a file and as a folder" in refusal(Entry("a/", kind=EntryKind.DIRECTORY), Entry("a", 1, 1))


@given(st.text(max_size=30))
def test_what_is_accepted_stays_below_the_root(name: str) -> None:
    try:
        accepted = check_entries((Entry(name, 1, 1),), LIMITS)
    except Refused:
        return
    parts = accepted[0].name.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert not any(part.startswith("/") or "\\" in part or "\0" in part for part in parts)


# ---- engine and main ---------------------------------------------------------------------------------------------


@pytest.mark.source("guide")
@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["anything.wdl"], Choice("WDL", "anything.wdl")),
        (["main.wdl", "other.wdl", "tasks/main.wdl"], Choice("WDL", "main.wdl")),
        (
            ["pipeline/main.nf", "pipeline/nextflow.config", "pipeline/modules/a.nf"],
            Choice("NEXTFLOW", "pipeline/main.nf"),
        ),
        (["wrap/flow.cwl", "wrap/tools/a.cwl"], Choice("CWL", "wrap/flow.cwl")),
        ([".hidden.wdl", "__MACOSX/._main.wdl", ".git/x.wdl", "flow.wdl"], Choice("WDL", "flow.wdl")),
        (["README.md", "a/b/deep.wdl"], Choice("WDL", "a/b/deep.wdl")),
        (["main.nf", "sub/x.wdl"], Choice("NEXTFLOW", "main.nf")),
    ],
)
def test_the_definition_nearest_the_root_is_main(names: list[str], chosen: Choice) -> None:
    assert choose(names, engine=None, main=None) == chosen


def test_a_given_engine_is_looked_for_below_files_of_others() -> None:
    assert choose(["main.nf", "wdl/main.wdl"], engine="WDL", main=None) == Choice("WDL", "wdl/main.wdl")


@pytest.mark.source("model")
def test_the_lenient_engine_reads_wdl_and_keeps_its_name() -> None:
    assert choose(["main.wdl", "main.nf"], engine="WDL_LENIENT", main=None) == Choice("WDL_LENIENT", "main.wdl")


@pytest.mark.source("model")
def test_a_given_main_wins_over_every_rule() -> None:
    names = ["main.wdl", "workflow-definition/main-file.wdl"]
    assert choose(names, engine=None, main="workflow-definition/main-file.wdl") == Choice(
        "WDL", "workflow-definition/main-file.wdl"
    )
    assert choose(names, engine=None, main="./main.wdl") == Choice("WDL", "main.wdl")
    assert choose(["flow.json"], engine="CWL", main="flow.json") == Choice("CWL", "flow.json")


@pytest.mark.parametrize(
    ("names", "engine", "main", "says"),
    [
        (
            ["a.wdl", "b.wdl"],
            None,
            None,
            "multiple definition files at the top level ('a.wdl', 'b.wdl') and none is named main.wdl",
        ),
        (
            ["x/main.wdl", "y/main.wdl"],
            None,
            None,
            "several files named main.wdl at the same level ('x/main.wdl', 'y/main.wdl')",
        ),
        (["main.wdl", "main.nf"], None, None, "definition files of NEXTFLOW and WDL at the same level"),
        (["README.md"], None, None, "no definition (.wdl, .nf, .cwl) file. It holds 'README.md'"),
        (["main.nf"], "CWL", None, "no .cwl file"),
        (["wrap/main.wdl"], None, "main.wdl", "'main.wdl' is not in the archive. Did you mean 'wrap/main.wdl'?"),
        (["main.wdl"], None, "other.wdl", "'other.wdl' is not in the archive. It holds 'main.wdl'."),
        (["flow.json"], None, "flow.json", "Say it with 'engine'"),
        (["main.nf"], "WDL", "main.nf", "is a NEXTFLOW definition, but the engine asked for is WDL"),
        (["a/" * 100 + "m.wdl"], None, None, "longer than 200 bytes"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_to_do(
    names: list[str], engine: str | None, main: str | None, says: str
) -> None:
    with pytest.raises(Refused) as caught:
        choose(names, engine=engine, main=main)
    assert says in str(caught.value)


def test_a_refusal_shows_a_few_names_and_counts_the_rest() -> None:
    with pytest.raises(Refused, match=r"'05.wdl' and 3 more"):
        choose([f"{n:02}.wdl" for n in range(1, 9)], engine=None, main=None)
