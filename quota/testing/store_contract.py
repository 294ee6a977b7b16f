"""What every checkpoint store promises, as tests that an adapter's author inherits.

class TestMyStore(CheckpointStoreContract):
    @pytest.fixture
    def store_root_uri(self) -> str: ...

    @pytest.fixture
    def store(self, store_root_uri: str) -> CheckpointStore: ...

    def write_checkpoint(self, store, uri, files): ...

    def read_checkpoint(self, store, uri): ...
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from quota.domain.manifest import Manifest, ManifestEntry
from quota.errors import CheckpointChanged, CheckpointGone, PathRefused, StoreError
from quota.ports import CheckpointStore

Files = Mapping[str, bytes]

FILES: Files = {"model.pt": b"weights", "optimizer/state.bin": b"\x00" * 1_000, "optimizer/empty": b""}
LATER_FILES: Files = {"model.pt": b"WEIGHTS", "optimizer/state.bin": b"\x01" * 1_000, "optimizer/empty": b""}
CLAIM = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"
OTHER_CLAIM = "019953f2-5d6c-7c3e-8a41-0b6f9d2e7a11"
BAD_CLAIM_IDS = ("", ".", "..", "a/b", "../claim", "/claim", "claim\0", "Claim", ".hidden", "x" * 300)


def expect(actual: object, expected: object, promise: str) -> None:
    """Compare. A plain `assert` would say nothing here: pytest rewrites those of test modules only.

    Raises:
        AssertionError: they differ; the message says which promise was broken.
    """
    if actual != expected:
        raise AssertionError(f"{promise}: expected {expected!r}, got {actual!r}")


def promised(kept: object, promise: str) -> None:
    """Require.

    Raises:
        AssertionError: `kept` is false; the message says which promise was broken.
    """
    if not kept:
        raise AssertionError(f"{promise}: it is not so")


def _files(store: CheckpointStore, *, in_order: bool = False) -> list[tuple[bytes, int]]:
    listed = [(item.path, item.size_bytes) for item in store.survey() if not item.is_directory]
    return listed if in_order else sorted(listed)


class CheckpointStoreContract:
    """Inherit as `Test…`, and supply the two fixtures and two methods that raise `NotImplementedError` here."""

    @pytest.fixture
    def store_root_uri(self) -> str:
        """Return the root of an empty store that no other test uses."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, store_root_uri: str) -> CheckpointStore:
        """Return the store under test, opened on `store_root_uri`."""
        raise NotImplementedError

    def write_checkpoint(self, store: CheckpointStore, uri: str, files: Files) -> None:
        """Write `files` at `uri` as a tuner would, in place of what lies there: other content, other version."""
        raise NotImplementedError

    def read_checkpoint(self, store: CheckpointStore, uri: str) -> dict[str, bytes] | None:
        """Return the files at `uri` as a tuner would find them; None where nothing is there."""
        raise NotImplementedError

    def checkpoint_uri(self, store_root_uri: str, name: str) -> str:
        """Return the URI of the checkpoint `name`: it ends in `/` unless its scheme is `file`."""
        slash = "" if store_root_uri.startswith("file:") else "/"
        return f"{store_root_uri.rstrip('/')}/{name}{slash}"

    @pytest.fixture
    def uri(self, store: CheckpointStore, store_root_uri: str) -> str:
        """Return where a checkpoint of `FILES` was written."""
        uri = self.checkpoint_uri(store_root_uri, "experiment/trial-1")
        self.write_checkpoint(store, uri, FILES)
        return uri

    def test_manifest_lists_every_file_in_order_of_paths(self, store: CheckpointStore, uri: str) -> None:
        """A manifest names each file with its size, sorted."""
        listed = [(entry.path, entry.size_bytes) for entry in store.manifest(uri).entries]
        expected = [("model.pt", 7), ("optimizer/empty", 0), ("optimizer/state.bin", 1_000)]
        expect(listed, expected, "a manifest lists every file")

    def test_manifest_stays_the_same_while_nothing_changes(self, store: CheckpointStore, uri: str) -> None:
        """Looking twice tells the same, and looking changes nothing."""
        expect(store.manifest(uri), store.manifest(uri), "a manifest is repeatable")
        expect(self.read_checkpoint(store, uri), FILES, "listing leaves the checkpoint alone")

    def test_manifest_tells_content_of_equal_size_apart(self, store: CheckpointStore, uri: str) -> None:
        """Each version differs after a file was written anew, though no size does."""
        before = store.manifest(uri)
        self.write_checkpoint(store, uri, LATER_FILES)
        after = store.manifest(uri)
        expect(after.size_bytes, before.size_bytes, "the sizes are equal")
        expect(set(after.entries) & set(before.entries), set(), "a rewritten file has another version")

    def test_manifest_spells_any_name_in_printable_ascii(self, store: CheckpointStore, store_root_uri: str) -> None:
        """Names are percent-encoded where they are no printable ASCII, and survive JSON."""
        uri = self.checkpoint_uri(store_root_uri, "names")
        self.write_checkpoint(store, uri, {"modèle 1.pt": b"1", "50%/x~": b"2"})
        manifest = store.manifest(uri)
        expect([entry.path for entry in manifest.entries], ["50%25/x~", "mod%C3%A8le 1.pt"], "names are encoded")
        again = msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
        expect(again, manifest, "a manifest survives the log")

    def test_manifest_of_nothing_is_gone(self, store: CheckpointStore, store_root_uri: str) -> None:
        """Nothing at the location is an error of its own."""
        with pytest.raises(CheckpointGone):
            store.manifest(self.checkpoint_uri(store_root_uri, "experiment/never"))

    @pytest.mark.parametrize("where", ["root", "root/", "outside", "sibling", "dots", "double", "trash", "no-uri"])
    def test_refuses_what_is_not_strictly_below_its_root(
        self, store: CheckpointStore, store_root_uri: str, where: str
    ) -> None:
        """Nothing but what the operator gave to the store can be looked at, moved or restored."""
        root = store_root_uri.rstrip("/")
        uri = {
            "root": root,
            "root/": f"{root}/",
            "outside": "other://elsewhere/trial-1",
            "sibling": f"{root}-2/trial-1",
            "dots": f"{root}/a/../../b",
            "double": f"{root}//a",
            "trash": self.checkpoint_uri(root, f".trash/{CLAIM}"),
            "no-uri": "trial-1",
        }[where]
        with pytest.raises(PathRefused):
            store.manifest(uri)
        with pytest.raises(PathRefused):
            store.trash(uri, CLAIM, Manifest())
        with pytest.raises(PathRefused):
            store.restore(uri, CLAIM)

    @pytest.mark.parametrize("claim_id", BAD_CLAIM_IDS)
    def test_refuses_a_claim_id_that_is_no_plain_name(self, store: CheckpointStore, uri: str, claim_id: str) -> None:
        """A claim's id names a place in the trash, so it must not be able to name another place."""
        manifest = store.manifest(uri)
        with pytest.raises(StoreError):
            store.trash(uri, claim_id, manifest)
        with pytest.raises(StoreError):
            store.restore(uri, claim_id)
        with pytest.raises(StoreError):
            store.purge(claim_id, manifest)
        with pytest.raises(StoreError):
            store.trashed(claim_id)
        expect(self.read_checkpoint(store, uri), FILES, "a refused call leaves the checkpoint alone")

    def test_trash_moves_the_checkpoint_out_of_sight(self, store: CheckpointStore, uri: str) -> None:
        """What was trashed is no longer at its location, and the trash says that it has it."""
        promised(not store.trashed(CLAIM), "the trash is empty at first")
        store.trash(uri, CLAIM, store.manifest(uri))
        expect(self.read_checkpoint(store, uri), None, "a trashed checkpoint is gone for the tuner")
        promised(store.trashed(CLAIM), "the trash holds the claim")
        promised(not store.trashed(OTHER_CLAIM), "the trash holds no other claim")
        with pytest.raises(CheckpointGone):
            store.manifest(uri)

    def test_trash_takes_no_neighbour_along(self, store: CheckpointStore, store_root_uri: str, uri: str) -> None:
        """`trial-1` never takes `trial-10` along, through trash and purge."""
        neighbours = [self.checkpoint_uri(store_root_uri, name) for name in ("experiment/trial-10", "trial-1")]
        for neighbour in neighbours:
            self.write_checkpoint(store, neighbour, FILES)
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        for neighbour in neighbours:
            expect(self.read_checkpoint(store, neighbour), FILES, f"{neighbour} is left alone")

    def test_trash_twice_leaves_a_later_checkpoint_alone(self, store: CheckpointStore, uri: str) -> None:
        """After a crash the claim is finished, and what was written to its path since is not its own."""
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        self.write_checkpoint(store, uri, LATER_FILES)
        store.trash(uri, CLAIM, manifest)
        store.trash(uri, CLAIM, store.manifest(uri))
        expect(self.read_checkpoint(store, uri), LATER_FILES, "a claim takes one checkpoint only")

    def test_trash_of_nothing_is_gone(self, store: CheckpointStore, store_root_uri: str) -> None:
        """Where neither the location nor the trash has anything, the caller is told."""
        with pytest.raises(CheckpointGone):
            store.trash(self.checkpoint_uri(store_root_uri, "experiment/never"), CLAIM, Manifest())
        promised(not store.trashed(CLAIM), "nothing was trashed")

    @pytest.mark.parametrize(
        "files",
        [LATER_FILES, {**FILES, "new.pt": b"!"}, {"model.pt": FILES["model.pt"]}],
        ids=["rewritten", "one more", "fewer"],
    )
    def test_trash_refuses_what_the_manifest_does_not_name(
        self, store: CheckpointStore, uri: str, files: Files
    ) -> None:
        """A checkpoint that was written to since its eviction was decided is not the one that was given up."""
        manifest = store.manifest(uri)
        self.write_checkpoint(store, uri, files)
        with pytest.raises(CheckpointChanged):
            store.trash(uri, CLAIM, manifest)
        expect(self.read_checkpoint(store, uri), files, "nothing was moved")
        promised(not store.trashed(CLAIM), "nothing was trashed")

    def test_restore_brings_back_every_byte(self, store: CheckpointStore, uri: str) -> None:
        """Files, contents and versions are as before."""
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        promised(store.restore(uri, CLAIM), "the restore says that it happened")
        expect(self.read_checkpoint(store, uri), FILES, "the restored checkpoint is byte for byte the same")
        expect(store.manifest(uri), manifest, "its manifest is the same")
        promised(not store.trashed(CLAIM), "the trash is empty again")

    def test_restore_twice_happens_once(self, store: CheckpointStore, uri: str) -> None:
        """The second call says that there was nothing to do, and undoes nothing."""
        store.trash(uri, CLAIM, store.manifest(uri))
        store.restore(uri, CLAIM)
        promised(not store.restore(uri, CLAIM), "the second restore has nothing to move")
        expect(self.read_checkpoint(store, uri), FILES, "the restored checkpoint stays")

    def test_restore_of_what_was_never_trashed(self, store: CheckpointStore, uri: str) -> None:
        """A claim that was cancelled before the store acted has nothing to restore."""
        promised(not store.restore(uri, CLAIM), "there is nothing to restore")
        expect(self.read_checkpoint(store, uri), FILES, "the checkpoint is left alone")

    def test_restore_never_replaces_a_later_checkpoint(self, store: CheckpointStore, uri: str) -> None:
        """The later checkpoint stays where it is, the evicted one in the trash."""
        store.trash(uri, CLAIM, store.manifest(uri))
        self.write_checkpoint(store, uri, LATER_FILES)
        with pytest.raises(CheckpointChanged):
            store.restore(uri, CLAIM)
        expect(self.read_checkpoint(store, uri), LATER_FILES, "the later checkpoint stays")
        promised(store.trashed(CLAIM), "the evicted checkpoint stays in the trash")

    def test_a_restored_checkpoint_can_be_evicted_again(self, store: CheckpointStore, uri: str) -> None:
        """A claim's id is free again once its checkpoint was restored."""
        manifest = store.manifest(uri)
        for claim_id in (CLAIM, CLAIM, OTHER_CLAIM):
            store.trash(uri, claim_id, manifest)
            promised(store.restore(uri, claim_id), "it can be restored each time")
        expect(self.read_checkpoint(store, uri), FILES, "it is still whole")

    def test_purge_is_final(self, store: CheckpointStore, uri: str) -> None:
        """After it there is nothing left, in the trash or anywhere."""
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        promised(not store.trashed(CLAIM), "the trash is empty again")
        promised(not store.restore(uri, CLAIM), "there is nothing left to restore")
        expect(self.read_checkpoint(store, uri), None, "the checkpoint is gone")

    def test_purge_twice_is_purge_once(self, store: CheckpointStore, uri: str) -> None:
        """A second call after a crash finds nothing left to do, and says nothing."""
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        store.purge(CLAIM, manifest)
        promised(not store.trashed(CLAIM), "nothing of the claim is left")

    def test_purge_works_in_the_trash_alone(self, store: CheckpointStore, uri: str) -> None:
        """What lies at the location is never purged: before it was trashed, or written there since."""
        manifest = store.manifest(uri)
        store.purge(CLAIM, manifest)
        expect(self.read_checkpoint(store, uri), FILES, "the checkpoint is left alone")
        store.trash(uri, CLAIM, manifest)
        self.write_checkpoint(store, uri, LATER_FILES)
        store.purge(CLAIM, manifest)
        expect(self.read_checkpoint(store, uri), LATER_FILES, "the later checkpoint is left alone")

    def test_purge_of_one_claim_leaves_the_others(self, store: CheckpointStore, uri: str) -> None:
        """Two checkpoints that lay at one location have nothing to do with each other in the trash."""
        first = store.manifest(uri)
        store.trash(uri, CLAIM, first)
        self.write_checkpoint(store, uri, LATER_FILES)
        store.trash(uri, OTHER_CLAIM, store.manifest(uri))
        store.purge(CLAIM, first)
        promised(store.restore(uri, OTHER_CLAIM), "the other claim is still in the trash")
        expect(self.read_checkpoint(store, uri), LATER_FILES, "and whole")

    @pytest.mark.parametrize("fault", ["path", "size_bytes", "version", "empty"])
    def test_purge_keeps_what_the_manifest_does_not_name(self, store: CheckpointStore, uri: str, fault: str) -> None:
        """One file that is not named exactly is enough to keep the whole checkpoint restorable."""
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        *others, last = manifest.entries
        wrong = {
            "path": [*others, _with(last, path="other.bin")],
            "size_bytes": [*others, _with(last, size_bytes=last.size_bytes + 1)],
            "version": [*others, _with(last, version="another")],
            "empty": [],
        }[fault]
        for refusing in (store.require_purgeable, store.purge):
            with pytest.raises(CheckpointChanged, match=r"state\.bin"):
                refusing(CLAIM, Manifest.of(wrong))
        promised(store.restore(uri, CLAIM), "it was kept")
        expect(self.read_checkpoint(store, uri), FILES, "all of it was kept")

    def test_what_can_be_purged_is_not_touched_by_asking(self, store: CheckpointStore, uri: str) -> None:
        """Asking whether the trash holds anything else changes nothing; one that holds nothing at all is fine."""
        manifest = store.manifest(uri)
        store.require_purgeable(CLAIM, manifest)
        store.trash(uri, CLAIM, manifest)
        store.require_purgeable(CLAIM, manifest)
        promised(store.restore(uri, CLAIM), "it is still in the trash")
        expect(self.read_checkpoint(store, uri), FILES, "and whole")

    def test_a_survey_lists_all_that_does_not_lie_in_the_trash(
        self, store: CheckpointStore, uri: str, store_root_uri: str
    ) -> None:
        """Each file is listed once, with its size and its path below the root; what was trashed is not."""
        self.write_checkpoint(
            store, self.checkpoint_uri(store_root_uri, "experiment/trial-10"), {"mod%\u00e8le 1": b"1"}
        )
        store.mark(OTHER_CLAIM)
        at_first = [("experiment/trial-10/mod%\u00e8le 1".encode(), 1)]
        own = [(f"experiment/trial-1/{name}".encode(), len(content)) for name, content in FILES.items()]
        expect(_files(store), sorted(at_first + own), "a survey lists every file")
        store.trash(uri, CLAIM, store.manifest(uri))
        expect(_files(store), at_first, "and nothing of the trash")
        store.restore(uri, CLAIM)
        expect(_files(store), sorted(at_first + own), "and what was restored")

    def test_a_survey_lists_each_directory_in_one_piece(self, store: CheckpointStore, store_root_uri: str) -> None:
        """What lies in one directory is listed in a row, also where other names sort in between."""
        for name in ("a", "a-b", "a b", "a/c", "b/a", "b-"):
            checkpoint = self.checkpoint_uri(store_root_uri, name.replace("/", "/x/").replace(" ", "%20"))
            self.write_checkpoint(store, checkpoint, {f"{name[-1]}{number}/weights": b"w" for number in range(3)})
        listed = [path for path, _ in _files(store, in_order=True)]
        for depth in range(1, 5):
            tops = [b"/".join(path.split(b"/")[:depth]) for path in listed if path.count(b"/") >= depth]
            runs = [top for top, before in zip(tops, [b"", *tops], strict=False) if top != before]
            expect(sorted(runs), sorted(set(runs)), "a directory is listed in one piece")

    def test_space_is_told_or_there_is_no_end_to_it(self, store: CheckpointStore, uri: str) -> None:
        """What is free is part of what there is, and asking changes nothing."""
        before, space = self.read_checkpoint(store, uri), store.space()
        if space is not None:
            promised(0 <= space.free_bytes <= space.total_bytes, "what is free is part of what there is")
            promised(space.total_bytes > 0, "there is room at all")
            again = store.space()
            promised(again is not None and again.file_system == space.file_system, "a file system keeps its name")
        expect(self.read_checkpoint(store, uri), before, "asking leaves the checkpoint alone")

    def test_places_are_told_apart(self, store: CheckpointStore, uri: str, store_root_uri: str) -> None:
        """A name leads to one place, and another name to another, whether or not anything lies there."""
        other = self.checkpoint_uri(store_root_uri, "experiment/trial-10")
        expect(store.place(uri), store.place(uri), "a place has one name")
        promised(store.place(uri) != store.place(other), "two places have two")

    def test_claims_are_listed_while_the_trash_holds_them(self, store: CheckpointStore, uri: str) -> None:
        """What was trashed is listed until it is restored or purged, and nothing else is."""
        store.mark(OTHER_CLAIM)
        expect(store.claims(), frozenset(), "a new trash is empty")
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        expect(store.claims(), frozenset({CLAIM}), "what was trashed is listed")
        store.restore(uri, CLAIM)
        expect(store.claims(), frozenset(), "what was restored is not")
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        expect(store.claims(), frozenset(), "nor is what was purged")

    def test_a_root_is_marked_and_marked_anew(self, store: CheckpointStore, uri: str) -> None:
        """A new root has no mark, the last mark counts, and no mark is part of a checkpoint."""
        expect((store.own_mark(), store.marks().own), (None, None), "a new root has no mark")
        before = store.manifest(uri)
        for mark in (f"{CLAIM} {'0123456789' * 11}", OTHER_CLAIM):
            store.mark(mark)
            expect((store.own_mark(), store.marks().own), (mark, mark), "the last mark is the root's")
        expect(store.manifest(uri), before, "marking leaves checkpoints alone")
        promised(not store.trashed(CLAIM), "a mark is nothing that was evicted")

    def test_a_mark_outlives_what_is_done_to_the_trash(self, store: CheckpointStore, uri: str) -> None:
        """Evicting, restoring and purging leave the mark where it is."""
        store.mark(OTHER_CLAIM)
        manifest = store.manifest(uri)
        store.trash(uri, CLAIM, manifest)
        store.restore(uri, CLAIM)
        store.trash(uri, CLAIM, manifest)
        store.purge(CLAIM, manifest)
        expect(store.own_mark(), OTHER_CLAIM, "the mark is still there")


def _with(entry: ManifestEntry, **changes: object) -> ManifestEntry:
    return msgspec.structs.replace(entry, **changes)
