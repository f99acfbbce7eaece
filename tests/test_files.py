"""Files and folders that appear whole or not at all, and never over what came first."""

import errno
import os
import stat
import threading

import pytest

from ssimrdo import files
from ssimrdo.errors import InputError
from ssimrdo.files import (
    PARTIAL,
    check_folder_free,
    check_free,
    scratch_folder,
    temporary_for,
    whole_files,
    whole_folder,
    write_whole,
)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(params=[None, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def links(request, monkeypatch):
    """Let hard links fail as on file systems that have none."""
    if request.param is not None:

        def refuse(source, target):
            raise OSError(request.param, os.strerror(request.param), source, None, target)

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
def test_a_file_appears_when_it_is_finished(tmp_path):
    path = tmp_path / "a.txt"
    with whole_files(path, overwrite=False) as (temporary,):
        assert temporary.parent == tmp_path
        assert PARTIAL.fullmatch(temporary.name)
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert contents(tmp_path) == {"a.txt": b"whole"}


@pytest.mark.usefixtures("links")
def test_a_file_that_came_first_stays(tmp_path):
    path = tmp_path / "a.txt"

    def lose_the_race():
        with whole_files(path, overwrite=False) as (temporary,):
            temporary.write_bytes(b"late")
            path.write_bytes(b"first")

    with pytest.raises(InputError, match=r"a\.txt: exists already: use overwrite or another name"):
        lose_the_race()
    assert contents(tmp_path) == {"a.txt": b"first"}


@pytest.mark.usefixtures("links")
def test_a_dangling_link_that_came_first_stays(tmp_path):
    path = tmp_path / "a.txt"

    def lose_the_race():
        with whole_files(path, overwrite=False) as (temporary,):
            temporary.write_bytes(b"late")
            path.symlink_to("nowhere")

    with pytest.raises(InputError, match="exists already"):
        lose_the_race()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert path.is_symlink()


@pytest.mark.usefixtures("links")
def test_a_file_that_comes_at_the_last_moment_stays(tmp_path, monkeypatch):
    """Between the check and the publishing there is no moment at which it would be replaced."""
    path = tmp_path / "a.txt"
    flush = files._flush

    def flush_and_lose_the_race(temporary):
        flush(temporary)
        path.write_bytes(b"first")

    monkeypatch.setattr(files, "_flush", flush_and_lose_the_race)
    with pytest.raises(InputError, match="exists already"):
        write_whole(path, b"late", overwrite=False)
    assert contents(tmp_path) == {"a.txt": b"first"}


def test_a_name_that_cannot_be_given_leaves_no_empty_file(tmp_path, monkeypatch):
    """Without hard links the name is taken first, and given back if the file does not get it."""

    def refuse(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(files.Path, "replace", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "a", b"whole", overwrite=False)
    assert contents(tmp_path) == {}


@pytest.mark.usefixtures("links")
def test_of_many_writers_one_wins_and_none_mixes(tmp_path):
    path = tmp_path / "a.txt"
    start = threading.Barrier(8)
    outcomes = []

    def write(number):
        start.wait()
        try:
            write_whole(path, bytes([number]) * 10_000, overwrite=False)
        except InputError:
            outcomes.append(None)
        else:
            outcomes.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (number for number in outcomes if number is not None)
    assert len(outcomes) == 8
    assert contents(tmp_path) == {"a.txt": bytes([winner]) * 10_000}


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("taken", ["a", "b", "c"])
def test_several_files_appear_all_or_none(tmp_path, taken):
    paths = [tmp_path / name for name in ("a", "b", "c")]

    def lose_the_race():
        with whole_files(*paths, overwrite=False) as temporaries:
            for temporary in temporaries:
                temporary.write_bytes(b"late")
            (tmp_path / taken).write_bytes(b"first")

    with pytest.raises(InputError, match=f"{taken}: exists already"):
        lose_the_race()
    assert contents(tmp_path) == {taken: b"first"}


@pytest.mark.usefixtures("links")
def test_several_files_appear_in_order(tmp_path):
    """Whoever finds the last one finds all others beside it."""
    paths = [tmp_path / name for name in ("a", "b")]
    with whole_files(*paths, overwrite=False) as temporaries:
        for number, temporary in enumerate(temporaries):
            temporary.write_bytes(bytes([number]))
    assert contents(tmp_path) == {"a": b"\0", "b": b"\1"}


def test_the_last_file_is_never_seen_beside_an_old_first_one(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("video", "sidecar")]
    for path in paths:
        path.write_bytes(b"old")
    seen = []
    publish = files._publish

    def watched(*arguments):
        seen.append(contents(tmp_path))
        publish(*arguments)

    monkeypatch.setattr(files, "_publish", watched)
    with whole_files(*paths, overwrite=True) as temporaries:
        for temporary in temporaries:
            temporary.write_bytes(b"new")
    (before,) = seen
    assert before.get("video") == b"old"
    assert "sidecar" not in before
    assert contents(tmp_path) == {"video": b"new", "sidecar": b"new"}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError, SystemExit])
def test_nothing_is_left_behind_after_an_exception(tmp_path, error, overwrite):
    (tmp_path / "old").write_bytes(b"old")
    paths = tmp_path / ("old" if overwrite else "new"), tmp_path / "b"

    def fail():
        with whole_files(*paths, overwrite=overwrite) as temporaries:
            for temporary in temporaries:
                temporary.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(tmp_path) == {"old": b"old"}


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    paths = tmp_path / "video.mp4", tmp_path / "video.json"

    def shown(filename_of):
        with (
            pytest.raises(OSError, match="No space left") as caught,
            whole_files(*paths, overwrite=False) as temporaries,
        ):
            raise OSError(errno.ENOSPC, "No space left on device", filename_of(temporaries))
        assert caught.value.errno == errno.ENOSPC
        return caught.value.filename

    assert shown(lambda temporaries: str(temporaries[0])) == str(paths[0])
    assert shown(lambda temporaries: str(temporaries[1])) == str(paths[1])
    assert shown(lambda _: None) == str(paths[0])
    assert shown(lambda _: "/elsewhere") == "/elsewhere"
    assert contents(tmp_path) == {}


def test_a_folder_that_takes_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot write to this folder"):
        write_whole(tmp_path / "none" / "a", b"", overwrite=False)


def test_files_can_be_put_into_different_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    paths = tmp_path / "a/x", tmp_path / "b/y"
    with whole_files(*paths, overwrite=False) as temporaries:
        assert [path.parent for path in temporaries] == [path.parent for path in paths]
    assert contents(tmp_path) == {"a/x": b"", "b/y": b""}


def test_overwriting_replaces_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "a").symlink_to("mine")
    write_whole(tmp_path / "a", b"new", overwrite=True)
    assert contents(tmp_path) == {"a": b"new", "mine": b"mine"}


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("overwrite", [True, False])
def test_files_get_the_permissions_of_the_umask(tmp_path, overwrite):
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", b"", overwrite=overwrite)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_check_free(tmp_path):
    path = tmp_path / "a"
    check_free(path, overwrite=False)
    path.touch()
    with pytest.raises(InputError, match="exists already: use overwrite or another name"):
        check_free(path, overwrite=False)
    check_free(path, overwrite=True)
    with pytest.raises(InputError, match="is a folder: name a file"):
        check_free(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="no such folder: create it first"):
        check_free(tmp_path / "none" / "a", overwrite=True)
    with pytest.raises(InputError, match="cannot be written"):
        check_free(tmp_path / ("x" * 300), overwrite=False)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="exists already"):
        check_free(tmp_path / "link", overwrite=False)


def test_check_folder_free(tmp_path):
    check_folder_free(tmp_path / "new", overwrite=False)
    check_folder_free(tmp_path, overwrite=False)
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="is not empty: use overwrite or another name"):
        check_folder_free(tmp_path, overwrite=False)
    check_folder_free(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is not a folder: name another"):
        check_folder_free(tmp_path / "a", overwrite=True)
    with pytest.raises(InputError, match="no such folder"):
        check_folder_free(tmp_path / "none" / "new", overwrite=False)


def test_a_folder_appears_whole(tmp_path):
    folder = tmp_path / "out"
    with whole_folder(folder, overwrite=False) as staged:
        assert PARTIAL.fullmatch(staged.name)
        (staged / "a").write_bytes(b"a")
        (staged / "b").write_bytes(b"b")
        assert not folder.exists()
    assert contents(tmp_path) == {"out/a": b"a", "out/b": b"b"}


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out", overwrite=False) as staged:
        (staged / "a").write_bytes(b"a")
    assert contents(tmp_path) == {"out/a": b"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_of_a_folder_are_replaced_and_others_stay(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    (folder / "mine").write_bytes(b"mine")
    with whole_folder(folder, overwrite=True) as staged:
        (staged / "a").write_bytes(b"new")
    assert contents(tmp_path) == {"out/a": b"new", "out/mine": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_can_be_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    with whole_folder(folder, overwrite=True, replace=True) as staged:
        (staged / "new").write_bytes(b"new")
        assert contents(folder) == {"old": b"old"}
    assert contents(tmp_path) == {"out/new": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    rename = files.Path.rename

    def fail_for_the_new_one(path, target):
        if (path / "new").exists():
            raise OSError(errno.ENOTEMPTY if folder.exists() else errno.EIO, "failed")
        return rename(path, target)

    def replace():
        with whole_folder(folder, overwrite=True, replace=True) as staged:
            (staged / "new").write_bytes(b"new")

    monkeypatch.setattr(files.Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="failed"):
        replace()
    assert contents(tmp_path) == {"out/old": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_came_first_stays(tmp_path, overwrite):
    folder = tmp_path / "out"

    def write():
        with whole_folder(folder, overwrite=overwrite) as staged:
            (staged / "b").write_bytes(b"late")
            folder.mkdir()
            (folder / "a").write_bytes(b"first")

    if overwrite:
        write()
        assert contents(tmp_path) == {"out/a": b"first", "out/b": b"late"}
    else:
        with pytest.raises(InputError, match="is not empty"):
            write()
        assert contents(tmp_path) == {"out/a": b"first"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_came_in_place_of_the_folder_stays(tmp_path):
    folder = tmp_path / "out"

    def lose_the_race():
        with whole_folder(folder, overwrite=True) as staged:
            (staged / "a").write_bytes(b"late")
            folder.write_bytes(b"first")

    with pytest.raises(InputError, match="is not a folder"):
        lose_the_race()
    assert contents(tmp_path) == {"out": b"first"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_no_folder_is_left_behind_after_an_exception(tmp_path, error):
    def fail():
        with whole_folder(tmp_path / "out", overwrite=False) as staged:
            (staged / "a").write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [".", "../here", "a:b", "x" * 255, "größe" * 40, "line\nbreak"])
def test_temporary_names_are_known_and_fit_beside_the_path(tmp_path, name, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    temporary = temporary_for(files.Path(name))
    assert PARTIAL.fullmatch(temporary.name)
    assert len(os.fsencode(temporary.name)) <= 255
    assert temporary.is_absolute()
    assert temporary != temporary_for(files.Path(name))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["slice.mp4", ".hidden", ".a.partial", "a.0123456789abcdef.partial"]
)
def test_other_names_are_no_leftovers(name):
    assert not PARTIAL.fullmatch(name)


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_a_scratch_folder_is_private_and_goes_with_the_block(tmp_path, monkeypatch, error):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        with scratch_folder() as folder:
            assert folder.parent == tmp_path
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "sub").mkdir()
            (folder / "sub" / "a").touch()
            if error:
                raise error
    except RuntimeError:
        assert error
    assert list(tmp_path.iterdir()) == []
