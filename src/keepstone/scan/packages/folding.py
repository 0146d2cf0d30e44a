"""Records that speak of one weakness, folded into one: a CVE is one finding, whoever reports it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keepstone.scan.packages.osv.record import Record

_ORDER = ("CVE-", "GHSA-", "PYSEC-")


def fold(records: Iterable[Record]) -> list[tuple[tuple[str, ...], list[Record]]]:
    """Groups of records with all their ids, CVE first; each record is in one group.

    Records are one where they share an id or an alias, or where a distribution's record names one
    upstream id. An advisory that fixes several at once (a DSA, a USN) stays by itself, unless each
    of them is there already: then its id is told beside theirs.
    """
    several: list[Record] = []
    single: list[Record] = []
    for record in sorted(records, key=lambda record: record.id):
        many = len(record.upstream or ()) > 1 and not record.aliases
        (several if many else single).append(record)
    groups = _joined(single)
    holder = {one: group for group in groups for one in group.ids}
    alone: list[_Group] = []
    for record in several:
        named = record.upstream or ()
        if all(one in holder for one in named):
            for group in {id(holder[one]): holder[one] for one in named}.values():
                group.ids.add(record.id)
                group.records.append(record)
        else:
            alone.append(_Group({record.id}, [record]))
    folded = [(tuple(sorted(one.ids, key=_rank)), one.records) for one in (*groups, *alone)]
    return sorted(folded, key=lambda group: [_rank(one) for one in group[0]])


@dataclass(slots=True)
class _Group:
    ids: set[str]
    records: list[Record]


def _joined(records: Iterable[Record]) -> list[_Group]:
    """Records that are linked by an id, however far the chain goes."""
    holder: dict[str, _Group] = {}
    for record in records:
        upstream = record.upstream or ()
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
