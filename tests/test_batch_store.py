"""Folders and URLs are alike to a batch."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import fsspec
import pytest

from ssimrdo.batch.store import (
    FsspecStore,
    LocalStore,
    common_place,
    place_below,
    relative_name,
    store_of,
)
from ssimrdo.errors import InputError


@pytest.fixture(params=["path", "file", "memory"])
def place(request, tmp_path):
    """A place of each kind."""
    if request.param == "memory":
        store = fsspec.filesystem("memory")
        yield "memory://box"
        if store.exists("/box"):
            store.rm("/box", recursive=True)
    else:
        yield f"{'file://' if request.param == 'file' else ''}{tmp_path}/box"


@pytest.fixture
def store(place):
    return store_of(place)


def fill(store, *names):
    for name in names:
        with store.written(name) as path:
            path.write_bytes(name.encode())
            path.with_suffix(".json").write_text(f'"{name}"')


def test_one_function_chooses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_of("a") == LocalStore(tmp_path / "a")
    assert store_of(tmp_path) == LocalStore(tmp_path)
    assert store_of("s3://bucket/a") == FsspecStore("s3://bucket/a")
    assert store_of(f"file://{tmp_path}/a") == LocalStore(tmp_path / "a")


def test_places_mean_the_same_in_other_processes(store):
    assert pickle.loads(pickle.dumps(store)) == store
    assert store_of(store.place) == store


def test_folder_is_known_for_what_is_on_this_machine(store, tmp_path):
    on_disk = not store.place.startswith("memory:")
    assert store.folder == (tmp_path / "box" if on_disk else None)


def test_outputs_come_back(store):
    assert store.finished("a/x.mp4") == ("", None)
    assert not store.holds("a/x.mp4")
    fill(store, "a/x.mp4", "b.mp4")
    assert store.finished("a/x.mp4") == ('"a/x.mp4"', 7)
    assert store.holds("a/x.mp4")
    assert store.holds("a/x.json")
    with store.local("a/x.mp4") as path:
        assert path.read_bytes() == b"a/x.mp4"
    fill(store, "a/x.mp4")
    assert store.finished("a/x.mp4") == ('"a/x.mp4"', 7)


def test_output_that_was_not_made_leaves_nothing(store):
    fill(store, "b.mp4")
    with store.written("a/x.mp4"):
        pass

    def fail():
        with store.written("a/y.mp4") as path:
            assert not path.exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not store.holds("a/x.mp4")
    assert not store.holds("a/y.mp4")


def test_walk_names_folders_and_visible_files_in_order(store):
    fill(store, "b/y.mp4", "b/deep/z.mp4", "a.mp4", ".hidden/x.mp4", "b/.x.mp4")
    found = [
        (relative_name(folder, store.place), names, is_leaf)
        for folder, names, is_leaf in store.walk()
    ]
    assert found == [
        ("box", ["a.json", "a.mp4"], False),
        ("b", ["y.json", "y.mp4"], False),
        ("b/deep", ["z.json", "z.mp4"], True),
    ]
    # Each is a place of its own.
    folders = [store_of(folder) for folder, _, _ in store.walk()]
    assert folders[1].read("y.mp4", lambda stream, name: (name, stream.read())) == (
        "y.mp4",
        b"b/y.mp4",
    )


def test_place_that_is_missing(store):
    with pytest.raises(InputError, match="box: no such file or folder"):
        next(iter(store.walk()))
    assert store.facts(("x",)) in ([], [(0, "unreadable")])


def test_facts_change_with_the_files(store):
    fill(store, "a.mp4", "b.mp4")
    everything, one = store.facts(None), store.facts(("a.mp4",))
    assert sorted(size for size, _ in everything) == [5, 5, 7, 7]
    assert one[0] in everything
    with store.written("a.mp4") as path:
        path.write_bytes(b"longer")
        path.with_suffix(".json").write_text("")
    assert store.facts(("a.mp4",)) != one


def test_series_is_there_as_files(store):
    fill(store, "a.mp4", "b.mp4")
    with store.series(("b.mp4",)) as (folder, names):
        files = [folder / name for name in names or map(Path, folder.iterdir())]
        assert [path.read_bytes() for path in files] == [b"b.mp4"]
    with store.series(None) as (folder, names):
        assert names is None
        assert len(list(folder.iterdir())) == 4


def test_own_files_come_back_also_after_an_error(store):
    with store.own_files(("r.csv", "s.csv")) as folder:
        (folder / "r.csv").write_text("1")

    def fail():
        with store.own_files(("r.csv", "s.csv")) as folder:
            assert (folder / "r.csv").read_text() == "1"
            (folder / "r.csv").write_text("2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.local("r.csv") as path:
        assert path.read_text() == "2"
    assert not store.holds("s.csv")


def test_leftovers_go_and_nothing_else(tmp_path):
    store = LocalStore(tmp_path)
    (tmp_path / "a").mkdir()
    keep = [tmp_path / "a/x.mp4", tmp_path / "a/.x.partial", tmp_path / ".y.0123.partial"]
    go = [tmp_path / f"{folder}.x.{'ab' * 8}.partial" for folder in ("", "a/")]
    for path in (*keep, *go):
        path.write_bytes(b"")
    folder = tmp_path / f"a/.report.{'01' * 8}.partial"
    folder.mkdir()
    (folder / "file").write_bytes(b"")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / f"a/.link.{'02' * 8}.partial"
    link.symlink_to(elsewhere)
    store.remove_leftovers(["a/x.mp4", "missing/y.mp4"])
    assert all(path.exists() for path in (*keep, elsewhere))
    assert not any(os.path.lexists(path) for path in (*go, folder, link))


@pytest.mark.parametrize("place", ["nonsense://x/y", "s4://x"])
def test_url_of_an_unknown_kind(place):
    store = store_of(place)
    with pytest.raises(InputError, match="this kind of URL cannot be used"):
        store.check()
    # Encoding the series will say why.
    assert store.facts(None) == []


@pytest.mark.parametrize(
    ("base", "place", "found"),
    [
        ("/in", "a/b", "/in/a/b"),
        ("/in", "/a", "/a"),
        ("s3://x/in/", "a", "s3://x/in/a"),
        ("/in", "s3://x/a", "s3://x/a"),
    ],
)
def test_places_below(base, place, found):
    assert place_below(base, place) == found


def test_common_places():
    assert common_place(["/a/b/c", "/a/b/d/e"]) == "/a/b"
    assert common_place(["s3://x/a/b", "s3://x/a/c"]) == "s3://x/a"
    assert relative_name("s3://x/a/b", "s3://x") == "a/b"
    assert relative_name("/a/b", "/a/b") == "b"
    assert relative_name("/c", "/a") == "c"
