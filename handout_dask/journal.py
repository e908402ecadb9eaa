"""Journal: what happened in a run, as records <-> bytes. Pure: no clock, no IO.

A file begins with a line that names the format; each further line holds records that
were written at once, behind a checksum. Who dies while writing tears the last line.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from handout_dask.errors import JournalError

MAGIC = b"handout-journal "
VERSION = 1
HEADER = MAGIC + b"%d\n" % VERSION

# A record is [kind, function, ...]; functions go by the names of their results.
ENDED = "ended"  # function, outcome, node, start, end, attempt, nbytes, error
CRASHED = "crashed"  # function, how often it has, whether it is to run alone


def to_line(records: Sequence[Any]) -> bytes:
    """Records that are written at once, as one line."""
    text = json.dumps(records, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def from_bytes(data: bytes, name: str) -> list[Any]:
    """The records of a file; without those of a last line that is torn.

    Raises
    ------
    JournalError
        If it is no journal, of another version, or torn before its last line; names the
        file, and where.
    """
    if HEADER.startswith(data):  # torn in the header, or nothing was written
        return []
    if not data.startswith(HEADER):
        first = data.partition(b"\n")[0]
        if first.startswith(MAGIC):
            version = first[len(MAGIC) :][:20].decode("ascii", "replace")
            raise JournalError(
                f"journal {name!r} is of version {version}; this handout_dask reads "
                f"{VERSION}"
            )
        raise JournalError(f"file {name!r} is no journal of handout_dask")
    records: list[Any] = []
    at, torn = len(HEADER), None
    while at < len(data):
        end = data.find(b"\n", at)
        found = None if end < 0 else _records(data[at:end])
        if found is None:
            torn = at if torn is None else torn
        elif torn is not None:
            raise JournalError(
                f"journal {name!r} is corrupt at byte {torn}, and goes on behind it; "
                "it was changed, or its disk fails"
            )
        else:
            records += found
        at = len(data) if end < 0 else end + 1
    return records


def _records(line: bytes) -> list[Any] | None:
    """What a line holds; None if it is torn."""
    check, _, text = line.partition(b" ")
    if check != b"%08x" % zlib.crc32(text):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


@dataclass
class Past:
    """What a journal tells of a run's functions, by the names of their results.

    Attributes
    ----------
    outcome : dict of str to str
        How each ended last.
    nbytes : dict of str to int
        Sizes of results that are known.
    crashes : dict of str to (int, bool)
        How often functions that have not ended brought down what they ran in, and
        whether they are to run alone, so that it is known who does.
    """

    outcome: dict[str, str] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)
    crashes: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def take(self, records: Iterable[Any]) -> None:
        """Take in further records; kinds that are not known are left out."""
        for kind, name, *about in records:
            if kind == ENDED:
                outcome, nbytes = about[0], about[5]
                self.outcome[name] = outcome
                self.crashes.pop(name, None)  # if it failed, the user has it tried anew
                if nbytes is not None:
                    self.nbytes[name] = nbytes
            elif kind == CRASHED:
                self.crashes[name] = about[0], about[1]
