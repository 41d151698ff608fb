from __future__ import annotations

import json
import logging
import os
import platform
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree

import pytest

from orchestrator.cli.main import run as command
from orchestrator.errors import StorageError, UsageError
from orchestrator.reading.loading import load_runs
from orchestrator.recording import stores
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.stores import Mirror, Place, locate, mirrored, pull
from orchestrator.recording.stores import mirror as mirror_module
from orchestrator.recording.stores.drivers import OBJECT, Claim, Driver
from orchestrator.recording.stores.objects import Store
from orchestrator.recording.sweep_directory import Run, check_root, create_run, find_run, find_runs
from tests.object_store import BUCKET, CREDENTIALS, ask, endpoint
from trainable.features.store import FOLDER_VARIABLE

__all__ = ["endpoint"]

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SECRET = "se/cret"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder on a machine; another one is another machine."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=["s3", "file"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place in a store."""
    if request.param == "file":
        yield _place(f"file://{tmp_path}/store")
    else:
        found = request.getfixturevalue("endpoint")
        yield _place(f"s3://{BUCKET}/{tmp_path.name}?endpoint_override={found}")


@pytest.fixture
def s3(endpoint: str, tmp_path: Path) -> Place:
    return _place(f"s3://{BUCKET}/{tmp_path.name}?endpoint_override={endpoint}")


def _place(text: str) -> Place:
    found = locate(text)
    assert isinstance(found, Place)
    return found


def _sweep(root: Place) -> Run:
    """A sweep that was just begun, on this machine alone."""
    run = create_run(root, "pets", now=NOON)
    run.space.write_text("name: pets\n")
    run.journal.write_bytes(b"one\n")
    run.manifest.write_text(json.dumps({"sweep_id": run.path.name, "created_at": "2026"}))
    (run.path / "trials.parquet").write_bytes(b"table")
    run.checkpoints.mkdir()
    (run.checkpoints / "b5-0000.checkpoint").write_bytes(b"weights")
    (run.path / ".half.tmp").write_bytes(b"half")
    (run.path / "journal.log.lock").write_bytes(b"")
    return run


def _objects(place: Place) -> set[str]:
    return {name for name, (size, _) in Store(place).list().items() if size >= 0}


def _contents(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.suffix != ".lock"
    }


def test_a_sweep_comes_back_on_another_machine_as_it_was_sent(
    root: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _sweep(root)
    Mirror(run.path, root / run.path.name).push()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    found = pull(root / run.path.name, checkpoints=True)
    assert found != run.path
    assert _contents(found) == _contents(run.path)
    assert _objects(root / run.path.name) == set(_contents(run.path))


def test_readers_fetch_no_checkpoints_and_nothing_twice(
    root: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _sweep(root)
    Mirror(run.path, root / run.path.name).push()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    found = pull(root / run.path.name)
    assert not (found / "checkpoints").exists()
    before = (found / "trials.parquet").stat().st_ino
    pull(root / run.path.name)
    assert (found / "trials.parquet").stat().st_ino == before


def test_only_what_has_changed_is_sent_and_removed_checkpoints_go(root: Place) -> None:
    run = _sweep(root)
    place = root / run.path.name
    mirror = Mirror(run.path, place)
    assert mirror.push() == [
        "space.yaml",
        "trials.parquet",
        "journal.log",
        "checkpoints/b5-0000.checkpoint",
        "manifest.json",
    ]
    assert mirror.push() == []
    with run.journal.open("ab") as journal:
        journal.write(b"two\n")
    (run.checkpoints / "b5-0000.checkpoint").unlink()
    (run.checkpoints / "b5-0001.checkpoint").write_bytes(b"others")
    Store(place).write("notes.txt", b"of the user's own")
    assert mirror.push() == ["journal.log", "checkpoints/b5-0001.checkpoint"]
    assert _objects(place) == set(_contents(run.path)) | {"notes.txt"}


def test_a_new_mirror_removes_the_checkpoints_of_one_that_died(root: Place) -> None:
    run = _sweep(root)
    Mirror(run.path, root / run.path.name).push()
    (run.checkpoints / "b5-0000.checkpoint").unlink()
    Mirror(run.path, root / run.path.name).push()
    assert not any(name.startswith("checkpoints/") for name in _objects(root / run.path.name))


@pytest.mark.parametrize("fails_at", ["space.yaml", "trials.parquet", "journal.log"])
def test_a_first_push_that_fails_leaves_no_manifest(
    root: Place, fails_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _sweep(root)
    write = Store.write

    def failing(self: Store, name: str, content: bytes) -> None:
        if name == fails_at:
            raise StorageError("the store fails")
        write(self, name, content)

    mirror = Mirror(run.path, root / run.path.name)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", failing)
        with pytest.raises(StorageError, match="the store fails"):
            mirror.push()
    assert stores.names_in(root) == []
    assert mirror.push()[-1] == "manifest.json"


@pytest.mark.parametrize(
    ("mine", "theirs", "kept"),
    [
        (b"one\ntwo\n", b"one\n", b"one\ntwo\n"),
        (b"one\n", b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\nother\n", b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\nother\nmore\n", b"one\ntwo\n", b"one\ntwo\n"),
    ],
)
def test_a_local_journal_is_kept_if_it_goes_on_where_the_stores_ends(
    root: Place, mine: bytes, theirs: bytes, kept: bytes
) -> None:
    run = _sweep(root)
    place = root / run.path.name
    Mirror(run.path, place).push()
    Store(place).write("journal.log", theirs)
    Store(place).write("trials.parquet", b"other table")
    run.journal.write_bytes(mine)
    assert pull(place, checkpoints=True) == run.path
    assert run.journal.read_bytes() == kept
    table = b"table" if kept == mine else b"other table"
    assert (run.path / "trials.parquet").read_bytes() == table


def test_a_sweep_that_runs_here_is_read_as_it_is_here_and_not_resumed(root: Place) -> None:
    run = _sweep(root)
    place = root / run.path.name
    Mirror(run.path, place).push()
    run.journal.write_bytes(b"")
    journal = SweepJournal(run.journal)
    try:
        assert find_run(str(place)).journal.read_bytes() == b""
        found = find_run(str(place), resuming=True)
        with pytest.raises(UsageError, match="another process is running this sweep"):
            SweepJournal(found.journal)
    finally:
        journal.close()


def test_a_sweep_that_was_never_copied_is_found_by_its_url(root: Place) -> None:
    run = _sweep(root)
    assert find_run(str(root / run.path.name), resuming=True) == run
    assert run.given == str(root / run.path.name)
    assert Run(run.path.resolve()).given == run.given


def test_sweeps_are_listed_and_read_by_url(root: Place) -> None:
    runs = [_sweep(root) for _ in range(2)]
    for run in runs:
        Mirror(run.path, root / run.path.name).push()
        rmtree(run.path)
    assert [run.given for run in find_runs(root)] == [
        f"{root / name}" for name in ("pets-20260131-120000", "pets-20260131-120000-2")
    ]
    names = [str(root / run.path.name) for run in runs]
    assert [run.sweep_id for run in load_runs([*names, names[0]])] == [
        run.path.name for run in runs
    ]


def test_a_name_that_the_store_has_is_not_given_again(root: Place) -> None:
    first = _sweep(root)
    Mirror(first.path, root / first.path.name).push()
    rmtree(first.path)
    assert create_run(root, "pets", now=NOON).path.name == "pets-20260131-120000-2"


def test_no_sweep_at_a_url(root: Place) -> None:
    with pytest.raises(UsageError, match=r"/none.*: no sweep here .* list --out "):
        find_run(str(root / "none"))


def test_a_sweep_from_elsewhere_does_not_say_where_it_goes(root: Place, tmp_path: Path) -> None:
    folder = tmp_path / "downloaded"
    (folder / "pets").mkdir(parents=True)
    (folder / ".store").write_text(str(root))
    assert stores.home_of(folder / "pets") is None


@pytest.mark.parametrize("name", ["..", "../x", ".ssh", "a/b", "checkpoints/../x", "driver.json"])
def test_objects_of_other_names_are_not_fetched(
    root: Place, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _sweep(root)
    place = root / run.path.name
    Mirror(run.path, place).push()
    before = _contents(run.path)
    listed = Store.list
    monkeypatch.setattr(
        Store,
        "list",
        lambda self, *, recursive=True: {**listed(self, recursive=recursive), name: (3, 1)},
    )
    monkeypatch.setattr(Store, "changed_ns", lambda self, name: 1)
    pull(place, checkpoints=True)
    assert _contents(run.path) == before


def test_checking_a_root_leaves_nothing_behind(root: Place) -> None:
    check_root(root)
    assert _objects(root) == set()


def test_a_bucket_that_is_not_there(endpoint: str) -> None:
    for check in (check_root, find_runs):
        with pytest.raises(
            StorageError, match=r"s3://nobucket/x.*: there is no such bucket, or these credentials"
        ):
            check(_place(f"s3://nobucket/x?endpoint_override={endpoint}"))


def test_an_endpoint_that_nobody_answers_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:{1}".format(*free.getsockname()))
        with pytest.raises(StorageError, match=r"http://127.0.0.1:\d+ cannot be reached; check"):
            check_root(_place(f"s3://{BUCKET}/unreachable"))
        assert command(["status", f"s3://{BUCKET}/unreachable"]) == 4


def test_an_endpoint_that_takes_calls_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.recording.stores.objects.ANSWER_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = "s3://results/silent?endpoint_override=http://127.0.0.1:{1}"
        with pytest.raises(StorageError, match="cannot be reached"):
            check_root(_place(url.format(*silent.getsockname())))


def test_no_permission(s3: Place, endpoint: str) -> None:
    """The server checks who asks from the first request on: nobody is known to it."""
    ask(f"{endpoint}/moto-api/reset-auth", "POST", b"0")
    try:
        with pytest.raises(StorageError, match=r"credentials .*AWS_ACCESS_KEY_ID") as raised:
            check_root(s3)
    finally:
        ask(f"{endpoint}/moto-api/reset-auth", "POST", b"inf")
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)
    assert CREDENTIALS["AWS_ACCESS_KEY_ID"] not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("AWS Error ACCESS_DENIED during PutObject operation: user AKIA1 may not", "no permission"),
        ("AWS Error SIGNATURE_DOES_NOT_MATCH: AKIA1", "does not accept the credentials"),
        ("AWS Error SLOW_DOWN during X: AKIA1", r"the store refused \(AWS Error SLOW_DOWN\)"),
    ],
)
def test_answers_of_a_store_are_not_repeated(
    s3: Place, answer: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def get_file_info(self, selector: object) -> None:
            raise OSError(answer)

    monkeypatch.setattr(Store, "_fs", Refusing())
    with pytest.raises(StorageError, match=words) as raised:
        Store(s3).list()
    assert "AKIA1" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://x/y", "http://: no such kind of store; allowed: s3://, gs://, file://, or a dir"),
        ("s3://", "s3://: incomplete; the form is s3://BUCKET/PREFIX"),
        ("file://host/x", "file://host/x: incomplete; the form is file:///FOLDER"),
        ("s3://b/x?retry=1", "unknown option: retry; allowed: endpoint_override, scheme, region"),
        ("s3://b/x/../y", r"a part that is \. or \.\."),
    ],
)
def test_urls_that_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        locate(text)


@pytest.mark.parametrize(
    "text",
    [
        f"s3://key:{SECRET}@b/x",
        f"s3://key:{SECRET.replace('/', '%2F')}@b/x",
        f"s3://b/x?endpoint_override=http://key:{SECRET}@host",
        f"s3://key:{SECRET}",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command(["status", text]) == 2
    shown = capsys.readouterr()
    assert "write s3://BUCKET/PREFIX" in shown.err
    for part in ("key", "cret"):
        assert part not in shown.err + shown.out
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_tidied_and_told_as_a_shell_takes_it() -> None:
    found = _place("S3://b//x/?scheme=http&endpoint_override=localhost:9000")
    assert str(found) == "s3://b/x?endpoint_override=localhost:9000&scheme=http"
    assert (found / "y").argument == "'s3://b/x/y?endpoint_override=localhost:9000&scheme=http'"
    assert (found / "y").parent == found
    assert locate("runs/a@b") == Path("runs/a@b")


def _drive(place: Place, host: str, pid: int = 1) -> None:
    data = {"host": host, "pid": pid, "token": "theirs", "time": "2026"}
    Store(place).write(OBJECT, json.dumps(data).encode())


def test_a_driver_that_is_alive_elsewhere_is_not_disturbed(
    root: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _sweep(root)
    place = root / run.path.name
    Mirror(run.path, place).push()
    _drive(place, "elsewhere", 7)
    with pytest.raises(UsageError, match="process 7 on elsewhere runs this sweep, and was heard"):
        find_run(str(place), resuming=True)
    with pytest.raises(UsageError, match="process 7 on elsewhere"), mirrored(run.path):
        raise AssertionError("not reached")
    assert find_run(str(place)) == run  # looking is not disturbing
    monkeypatch.setattr("orchestrator.recording.stores.drivers.LIVE_S", 0.0)
    assert find_run(str(place), resuming=True) == run


def test_a_driver_that_died_on_this_machine_is_not_waited_for(root: Place) -> None:
    run = _sweep(root)
    place = root / run.path.name
    Mirror(run.path, place).push()
    _drive(place, platform.node(), 2**22 + 1)  # beyond the largest process id
    assert find_run(str(place), resuming=True) == run
    _drive(place, platform.node(), os.getppid())
    with pytest.raises(UsageError, match="runs this sweep"):
        find_run(str(place), resuming=True)


def test_a_driver_that_was_taken_for_dead_copies_nothing_more(root: Place) -> None:
    run = _sweep(root)
    place = root / run.path.name
    mirror = Mirror(run.path, place)
    mirror.open()
    _drive(place, "elsewhere", 7)
    with pytest.raises(UsageError, match="process 7 on elsewhere has taken this sweep over"):
        mirror.push()
    assert _objects(place) == {OBJECT}


def test_a_claim_is_renewed_and_given_back(root: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(root / "pets")
    claim = Claim(store)
    claim.take()
    first = store.changed_ns(OBJECT)
    claim.renew()
    assert store.changed_ns(OBJECT) == first
    monkeypatch.setattr("orchestrator.recording.stores.drivers.BEAT_S", 0.0)
    written: list[str] = []
    monkeypatch.setattr(Store, "write", lambda self, name, content: written.append(name))
    claim.renew()
    assert written == [OBJECT]
    claim.give_back()
    assert _objects(root / "pets") == set()


def test_nobody_is_dead_whom_nobody_can_ask() -> None:
    assert not Driver("elsewhere", 2**22 + 1, "x").is_dead


def test_a_sweep_is_copied_while_it_runs_and_at_its_end(
    root: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "PUSH_EVERY_S", 0.0)
    run = _sweep(root)
    place = root / run.path.name
    with mirrored(run.path):
        assert "manifest.json" in _objects(place)
        assert OBJECT in _objects(place)
        run.journal.write_bytes(b"one\ntwo\n")
        while Store(place).read("journal.log") != b"one\ntwo\n":
            pass
        run.report.write_text("report")
    assert Store(place).read("report.html") == b"report"
    assert OBJECT not in _objects(place)


def test_a_sweep_that_ends_with_an_error_is_copied_too(root: Place) -> None:
    run = _sweep(root)

    def fail() -> None:
        run.journal.write_bytes(b"one\ntwo\n")
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"), mirrored(run.path):
        fail()
    assert Store(root / run.path.name).read("journal.log") == b"one\ntwo\n"


def test_a_store_that_fails_meanwhile_is_warned_of_once_and_tried_again(
    root: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror_module, "PUSH_EVERY_S", 0.0)
    run = _sweep(root)
    place = root / run.path.name
    tries: list[str] = []
    check = Claim.check

    def failing(self: Claim) -> None:
        tries.append("")
        if len(tries) < 4:
            raise StorageError("the store is away")
        check(self)

    with caplog.at_level(logging.INFO, "sft_sweep"), mirrored(run.path):
        monkeypatch.setattr(Claim, "check", failing)
        run.journal.write_bytes(b"one\ntwo\n")
        while "copied to the store again" not in caplog.text:
            pass
    assert caplog.text.count("the store is away. The sweep goes on, and it is tried again") == 1
    assert Store(place).read("journal.log") == b"one\ntwo\n"


def test_a_last_copy_that_fails_says_where_the_sweep_is(
    root: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _sweep(root)

    def failing(self: Claim) -> None:
        raise StorageError("the store is away")

    with (
        pytest.raises(StorageError, match="the store is away\nThe end of") as raised,
        mirrored(run.path),
    ):
        monkeypatch.setattr(Claim, "check", failing)
    assert f"All of it is in {run.path}" in str(raised.value)
    assert f"sft-sweep resume {run.argument}" in str(raised.value)


def test_a_directory_of_no_store_is_left_alone(tmp_path: Path) -> None:
    with mirrored(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
