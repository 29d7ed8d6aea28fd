"""A pair whose Thai node has officers, made with the commands that its operator uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.cli import provision
from exchange.cli.templates import make_clause
from exchange.core.keys import read_card
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROLES: Final = {
    "sok": ("officer",),
    "dara": ("officer",),
    "vanna": ("officer", "supervisor"),
    "admin": ("operator",),
    "audit": ("auditor",),
}


@dataclass
class Staff:
    """Who runs commands for whom; passphrases are files beside the homes."""

    call: homes.Caller
    pair: homes.Pair

    @property
    def home(self) -> Path:
        """The home that has officers."""
        return self.pair.home("TH")

    @property
    def personnel(self) -> Path:
        """The home of the personnel keys."""
        return self.pair.folder / "personnel-TH"

    def passphrase(self, name: str) -> Path:
        """A file with an officer's own passphrase."""
        path = self.pair.folder / f"passphrase-{name}"
        path.write_text(f"testonly {name}\n")
        path.chmod(0o600)
        return path

    def __call__(self, *words: str | Path, by: str | None = None) -> homes.Done:
        """A command at the home, as an officer where one is named."""
        acting = () if by is None else ("--as", by, "--officer-passphrase-file", self.passphrase(by))
        return self.call(*words, "--home", self.home, *acting)

    def done(self, *words: str | Path, by: str | None = None) -> homes.Done:
        """The same, where it must succeed."""
        done = self(*words, by=by)
        assert done.code == 0, done.err
        return done

    def offline(self, *words: str | Path) -> homes.Done:
        """A command at the personnel's home."""
        done = self.call(*words, "--home", self.personnel, "--passphrase-file", self.pair.passphrase())
        assert done.code == 0, done.err
        return done


def appoint(staff: Staff) -> None:
    """Personnel keys into the card, both nodes know it, five people on the list."""
    folder, pair = staff.pair.folder, staff.pair
    words = ("personnel", "create", "--country", "TH", "--network", homes.NETWORK, "--keys", "3", "--threshold", "2")
    staff.offline(*words)
    staff.offline("personnel", "card", staff.home / "card.json", "--out", folder / "card.unsigned.json")
    secret = ("--passphrase-file", pair.passphrase())
    assert (
        staff.call("authority", "sign", folder / "card.unsigned.json", "--home", pair.authority("TH"), *secret).code
        == 0
    )
    for country in pair.ports:
        assert staff.call("card", "import", folder / "card.json", "--home", pair.home(country)).code == 0
    draft = folder / "officers.draft.json"
    for name, roles in ROLES.items():
        staff.done("officer", "new", name, "--officer-passphrase-file", staff.passphrase(name))
        staff.done("officer", "add", name, "--draft", draft, *(word for role in roles for word in ("--role", role)))
    staff.offline("officer", "sign", draft)
    staff.done("officer", "install", folder / "officers.json")


def four_eyes(staff: Staff, senders: Sequence[str] = ("TH",)) -> Path:
    """The file of an agreement for coordination: two officers must approve, one of them a supervisor."""
    pair = staff.pair
    signers = [provision.unlock_authority(pair.authority(country), homes.PASSPHRASE) for country in pair.ports]
    cards = [read_card(provision.parse_draft(data)) for data in pair.cards.values()]
    clause = make_clause(
        "4-eyes",
        "Two officers, one of them a supervisor.",
        kinds=("*",),
        sender=[pair.node(country) for country in senders],
        to=[card.node for card in cards],
        purposes=("coordination",),
    )
    requires = clause["requires"]
    assert isinstance(requires, dict)
    requires["approvals"] = {"count": 2, "supervisors": 1}
    document = provision.encode_readable({**homes.agreement_of(cards, [clause]), "id": "four-eyes"})
    for signer in signers:
        document = provision.sign_document(signer, document)
    path = pair.folder / "four-eyes.json"
    path.write_bytes(document)
    return path


def agree(staff: Staff) -> None:
    """Both nodes use that agreement; only the one with officers sends under it."""
    path = four_eyes(staff)
    for country in staff.pair.ports:
        assert staff.call("agreement", "install", path, "--home", staff.pair.home(country)).code == 0
