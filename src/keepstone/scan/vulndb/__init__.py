"""A folder of OSV records: fetched for those with a network, recorded, and held to its digest."""
