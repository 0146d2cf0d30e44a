"""Records that speak of one weakness, folded into one: a CVE is one finding, whoever reports it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.scan.packages.osv.record import Record

_ORDER = ("CVE-", "GHSA-", "PYSEC-")
# What distributions call a CVE: `DEBIAN-CVE-2024-1`, `UBUNTU-CVE-2024-1`.
_CVE = re.compile(r"(?:[A-Z]+-)?(CVE-\d+-\d+)")


@dataclass(frozen=True, slots=True)
class Folded:
    """One weakness: all its ids, CVE first, and the records about it.

    `about` are the weaknesses that an advisory over several of them names, where it stands alone.
    """

    ids: tuple[str, ...]
    records: tuple[Record, ...]
    about: tuple[str, ...] = ()


def fold(records: Iterable[Record]) -> list[Folded]:
    """Every record in one group, in order.

    Records are one where they share an id or an alias, or where a distribution's record names one
    upstream weakness. An advisory that fixes several at once (a DSA, a USN) joins them to none: its
    id is told beside theirs where each of them is there already, else it stands alone.
    """
    several: list[Record] = []
    single: list[Record] = []
    for record in sorted(records, key=lambda record: record.id):
        (several if len(_upstream(record)) > 1 and not record.aliases else single).append(record)
    groups = _joined(single)
    holder = {one: group for group in groups for one in group.ids}
    alone: dict[str, Folded] = {}
    for record in several:
        named = _upstream(record)
        if all(one in holder for one in named):
            for group in {id(holder[one]): holder[one] for one in named}.values():
                group.ids.add(record.id)
                group.records.append(record)
        else:
            alone[record.id] = Folded((record.id,), (record,), tuple(sorted(named)))
    folded = [Folded(tuple(sorted(one.ids, key=_rank)), tuple(one.records)) for one in groups]
    return sorted((*folded, *alone.values()), key=lambda one: [_rank(name) for name in one.ids])


def cve_of(one: str) -> str | None:
    """The CVE that an id means, by its own name or by a distribution's."""
    match = _CVE.fullmatch(one)
    return match[1] if match else None


def _upstream(record: Record) -> set[str]:
    """The weaknesses that a record is about by way of others' ids; a distribution's is the CVE."""
    return {cve_of(one) or one for one in record.upstream or ()}


@dataclass(slots=True)
class _Group:
    ids: set[str]
    records: list[Record]


def _joined(records: Iterable[Record]) -> list[_Group]:
    """Records that are linked by an id, however far the chain goes."""
    holder: dict[str, _Group] = {}
    for record in records:
        upstream = _upstream(record)
        ids = {record.id, *(record.aliases or ()), *(upstream if len(upstream) == 1 else ())}
        group = _Group(ids, [record])
        for other in {id(holder[one]): holder[one] for one in ids if one in holder}.values():
            group.ids |= other.ids
            group.records += other.records
        holder.update(dict.fromkeys(group.ids, group))
    return list({id(group): group for group in holder.values()}.values())


def _rank(one: str) -> tuple[int, str]:
    for place, prefix in enumerate(_ORDER):
        if one.startswith(prefix):
            return place, one
    return len(_ORDER), one
