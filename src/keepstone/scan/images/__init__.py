"""Container images: read where they lie, layer by layer, without running or unpacking them."""
