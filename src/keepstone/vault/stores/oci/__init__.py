"""A client of OCI registries: what it returns is verified, whoever answers.

    from keepstone.vault.stores.oci.reference import Reference
    from keepstone.vault.stores.oci.registry import open_registry

    registry = open_registry(os.environ)
    reference = Reference.parse("registry.example.org/team/image:1.4")
    manifest = registry.manifest(reference)
    registry.blob(reference, manifest.layers[0].digest, sink, size=manifest.layers[0].size)

Source: OCI Distribution Specification 1.1, OCI Image Specification 1.1, RFC 7235, and Docker's
token authentication (distribution/docs/spec/auth/token).

Nothing is imported here: whoever only reads an address of a store needs no client.
"""
