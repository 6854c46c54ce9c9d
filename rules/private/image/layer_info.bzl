"""LayerInfo: layers of an image."""

LayerInfo = provider(
    doc = "One or more layers, and what the layers above need to know of them.",
    fields = {
        "layers": "list of struct(blob, metadata, mtree): the layers' files, from the lowest to the highest. mtree lists the content.",
        "state": """File or None: the paths, packages and accounts up to the highest of these layers. None when nothing
above can depend on them.""",
    },
)
