"""Where sealed artifacts can lie: the workspace's folder, S3, a repository of an OCI registry.

`open_store` opens what an address names. The libraries of the last two are imported only where
such a store is opened.
"""

from __future__ import annotations

from collections.abc import Mapping

from keepstone.vault.stores.address import S3Address, StoreAddress, parse_store_address
from keepstone.vault.stores.port import BlobStore


def open_store(address: StoreAddress, environment: Mapping[str, str]) -> BlobStore:
    """The store at `address`, with what an environment says about logins; close it.

    Nothing is asked of it yet. Raises OperationalError `extra.aws`, `extra.http`,
    `store.no_credentials`, `oci.logins_unreadable`; InputError `oci.bad_logins`.
    """
    if isinstance(address, S3Address):
        from keepstone.vault.stores.s3 import open_s3

        return open_s3(address)
    from keepstone.vault.stores.oci.store import open_oci

    return open_oci(address, environment)


__all__ = ["BlobStore", "StoreAddress", "open_store", "parse_store_address"]
